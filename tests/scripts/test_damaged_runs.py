"""A run's folder that another config, a damaged disk or a full one got at."""

import pathlib
import shutil
import subprocess

import pytest
from script_runs import assert_same_end


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the undisturbed run, with the checkpoints of steps 30 and 32 and the best."""
    return shutil.copytree(trained[0], tmp_path / "copy")


def largest_file(folder: pathlib.Path) -> pathlib.Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_a_bit(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_another_config_is_refused_and_told(copy, tiny, script):
    flags = [*tiny, "--optim.learning_rate", 1e-3, "--model.dropout", 0.1, "--workdir", copy]
    outcome = script("train", *flags)
    assert outcome.code == 2
    assert "optim.learning_rate: 0.003 -> 0.001\n" in outcome.err
    assert "model.dropout: 0.2 -> 0.1\n" in outcome.err
    assert "Give --allow_config_change" in outcome.err


def test_a_checkpoint_of_another_shape_is_refused_and_told(copy, tiny, script):
    flags = [*tiny, "--model.base_channels", 12, "--allow_config_change", "--workdir", copy]
    outcome = script("train", *flags)
    assert outcome.code == 2
    error = outcome.err[outcome.err.index("error: ") :]
    assert "batch_stats/blocks_0/depthwise_norm/mean: float32[8] in the checkpoint" in error
    assert "float32[12] wanted" in error


def test_a_run_goes_on_under_a_changed_config_when_allowed(copy, tiny, script):
    flags = [*tiny, "--epochs", 5, "--optim.weight_decay", 0.05, "--workdir", copy]
    outcome = script("train", *flags, "--allow_config_change")
    assert outcome.code == 0, outcome.err
    assert "optim.weight_decay: 0.01 -> 0.05" in outcome.err
    assert "epoch 5  step 40" in outcome.err


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_run_ends_the_same(
    trained, copy, tiny, script
):
    flip_a_bit(largest_file(copy / "checkpoints" / "32"))
    done = script("train", *tiny, "--workdir", copy)
    assert done.code == 0, done.err
    assert "the checkpoint of step 32" in done.err
    assert "Going back to step 30" in done.err
    assert (copy / "checkpoints" / "32.corrupt").is_dir()
    assert_same_end(copy, trained[0])


def test_only_damaged_checkpoints_are_an_error(copy, tiny, script):
    for folder in (copy / "checkpoints").iterdir():
        flip_a_bit(largest_file(folder))
    before = sorted((copy / "checkpoints").iterdir())
    outcome = script("train", *tiny, "--workdir", copy)
    assert outcome.code == 2
    assert "error: every checkpoint in" in outcome.err
    assert sorted((copy / "checkpoints").iterdir()) == before


def test_a_damaged_checkpoint_is_not_evaluated(copy, script):
    flip_a_bit(largest_file(copy / "checkpoints" / "32"))
    outcome = script("evaluate", "--checkpoint", copy, "--step", 32)
    assert (outcome.code, outcome.out) == (2, "")
    assert "the checkpoint of step 32" in outcome.err
    assert "is damaged" in outcome.err


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 200 kB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told(small_disk, tiny, script):
    done = script("train", *tiny, "--workdir", small_disk / "run")
    assert done.code == 2, done.err
    assert "No space left on device" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
