"""Every kind of damage is noticed; the newest intact checkpoint is used, and the user is told."""

import json
import os
import random
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.checkpoint import (
    CheckpointCorrupt,
    CheckpointManager,
    CheckpointWriteError,
    folder,
)

TREE = {
    "large": jnp.asarray(np.random.default_rng(0).normal(size=(300_000,)), jnp.float32),
    "small": jnp.arange(100.0),
    "key": jax.random.key(0),
}
METADATA = {"config": {"learning_rate": 1e-05, "name": "é"}, "next_index": 7}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pristine")
    with CheckpointManager(directory) as manager:
        for step in (10, 20):
            manager.save(step, TREE, metadata=METADATA, score=0.5)
    return directory


@pytest.fixture
def saved(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "run")


def files_of(checkpoint):
    return sorted(p.relative_to(checkpoint) for p in checkpoint.rglob("*") if p.is_file())


def flip(path, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << bit % 8)]))


def noticed(checkpoint) -> bool:
    try:
        folder.verify(checkpoint)
    except CheckpointCorrupt:
        return True
    return False


def test_every_flipped_bit_is_noticed_or_harmless(saved):
    draw = random.Random(0)
    before = folder.verify(saved / "20")
    flips = 0
    for name in files_of(saved / "20"):
        path = saved / "20" / name
        size = path.stat().st_size * 8
        for bit in draw.sample(range(size), min(size, 400 if name.name == folder.MANIFEST else 12)):
            flip(path, bit)
            assert noticed(saved / "20") or folder.verify(saved / "20") == before, (name, bit)
            flip(path, bit)
            flips += 1
    assert flips > 450
    assert folder.verify(saved / "20") == before


def data_file(checkpoint):
    return max((checkpoint / "default").rglob("*"), key=lambda path: path.stat().st_size)


def flip_in_array(checkpoint):
    flip(data_file(checkpoint), 8 * 1234 + 5)


def flip_in_manifest(checkpoint):
    flip(checkpoint / folder.MANIFEST, 8 * 40)


def truncate(checkpoint):
    os.truncate(data_file(checkpoint), 1000)


def truncate_manifest(checkpoint):
    os.truncate(checkpoint / folder.MANIFEST, 100)


def empty_manifest(checkpoint):
    os.truncate(checkpoint / folder.MANIFEST, 0)


def delete_file(checkpoint):
    data_file(checkpoint).unlink()


def delete_manifest(checkpoint):
    (checkpoint / folder.MANIFEST).unlink()


def change_metadata(checkpoint):
    path = checkpoint / folder.MANIFEST
    document = json.loads(path.read_text())
    document["body"]["metadata"]["next_index"] = 8
    path.write_text(json.dumps(document))


def exchange_files(checkpoint):
    shutil.copy(checkpoint / "_CHECKPOINT_METADATA", data_file(checkpoint))


DAMAGES = {
    flip_in_array: "is altered",
    flip_in_manifest: "manifest.json is damaged",
    truncate: "has 1000 bytes instead of",
    truncate_manifest: "manifest.json is damaged",
    empty_manifest: "manifest.json is damaged",
    delete_file: "is missing",
    delete_manifest: "manifest.json is missing",
    change_metadata: "manifest.json is damaged: its checksum is wrong",
    exchange_files: "bytes instead of",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_newest_checkpoint_is_set_aside_with_a_warning(saved, damage, caplog):
    damage(saved / "20")
    with CheckpointManager(saved) as manager:
        restored = manager.restore(TREE)
        assert (restored.step, restored.metadata) == (10, METADATA)
        assert jnp.array_equal(restored.tree["large"], TREE["large"])
        (record,) = caplog.records
        message = record.getMessage()
        assert message.startswith("the checkpoint of step 20 in ")
        assert DAMAGES[damage] in message
        assert message.endswith("Going back to step 10. It is now called 20.corrupt.")
        assert manager.all_steps == [10]
        manager.save(20, TREE, score=0.1)
        assert manager.restore(TREE).step == 20
        damage(saved / "20")
        assert manager.restore(TREE).step == 10
    assert sorted(p.name for p in saved.iterdir()) == ["10", "20.corrupt", "20.corrupt-2"]


def test_all_damaged_is_an_error_and_stays_one(saved):
    truncate(saved / "10")
    delete_manifest(saved / "20")
    for _ in range(2):
        with pytest.raises(CheckpointCorrupt) as caught, CheckpointManager(saved) as manager:
            manager.restore(TREE)
        assert "step 20: manifest.json is missing" in str(caught.value)
        assert "step 10: default/" in str(caught.value)
    assert sorted(p.name for p in saved.iterdir()) == ["10", "20"]


def test_a_damaged_step_that_was_asked_for_is_an_error(saved):
    truncate(saved / "20")
    manager = CheckpointManager(saved)
    with pytest.raises(CheckpointCorrupt, match=r"step 20 in .* is damaged: default/.* has 1000"):
        manager.restore(TREE, step=20)
    assert manager.restore(TREE, step=10).step == 10
    assert manager.all_steps == [10, 20]


def test_retention_survives_a_damaged_neighbour(saved):
    delete_manifest(saved / "10")
    with CheckpointManager(saved, keep_latest=1) as manager:
        manager.save(30, TREE, score=0.1)
    assert manager.all_steps == [20, 30]
    assert manager.best_step == 20


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def save_and_wait(manager, step):
    manager.save(step, TREE)
    manager.wait()


@pytest.mark.parametrize("free", [0, 100_000, 1_000_000])
def test_a_full_disk_is_one_clear_error_and_harms_nothing(small_disk, free, caplog):
    with CheckpointManager(small_disk / "run") as manager:
        manager.save(1, TREE)
        manager.wait()
        filler = small_disk / "filler"
        with open(filler, "wb") as file:
            file.write(b"x" * max(0, shutil.disk_usage(small_disk).free - free))
        with pytest.raises(CheckpointWriteError) as caught:
            save_and_wait(manager, 2)
        assert "could not save the checkpoint of step 2" in str(caught.value)
        assert "No space left on device" in str(caught.value)
        assert "Free some space" in str(caught.value)
        assert [p.name for p in manager.directory.iterdir()] == ["1"]
        assert manager.restore(TREE).step == 1
        filler.unlink()
        manager.save(2, TREE)
        assert manager.restore(TREE).step == 2
    assert caplog.records == []  # the error says it; Orbax's tracebacks do not


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    manager = CheckpointManager(tmp_path / "file" / "run")
    assert manager.restore(TREE) is None
    with pytest.raises(CheckpointWriteError, match=r"step 1 in .*Not a directory"):
        manager.save(1, TREE)
