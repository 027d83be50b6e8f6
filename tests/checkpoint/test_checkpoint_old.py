"""Folders that version 0.1 wrote are read, and become today's.

`version_0_1.zip` holds the steps 2 and 4 of `state()` as its CheckpointManager saved them; step 4
twice, the second time with `sums`, so its folder is called `4.1`.
"""

import pathlib
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.checkpoint import CheckpointCorrupt, CheckpointManager, CheckpointMismatch

HERE = pathlib.Path(__file__).parent


def state(step):
    return {
        "step": jnp.int32(step),
        "num_skipped_in_row": jnp.int32(0),
        "params": {
            "Dense_0": {
                "kernel": jnp.arange(12.0).reshape(3, 4),
                "bias": jnp.arange(4, dtype=jnp.bfloat16),
            }
        },
        "large": jnp.arange(263_000, dtype=jnp.float32) % 7,  # was an array of its own
        "empty": jnp.zeros((0, 3)),
        "key": jax.random.key(5),
    }


@pytest.fixture
def old(tmp_path):
    with zipfile.ZipFile(HERE / "version_0_1.zip") as file:
        file.extractall(tmp_path / "old")
    return tmp_path / "old"


def assert_equal(tree, expected):
    def words(leaf):
        return (
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        )

    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(words(a), words(b)), tree, expected)


def test_the_newest_of_an_old_folder_is_read_under_todays_names(old):
    with CheckpointManager(old) as manager:
        restored = manager.restore(state(0) | {"sums": {"loss": jnp.float32(0)}})
        assert (restored.step, restored.metadata) == (4, {"n": 2})
        assert manager.shapes(4)["params/Dense_0/kernel"].shape == (3, 4)
        assert manager.best_step == 2
        assert_equal(manager.restore(state(0), step=2).tree, state(2))
    sums = restored.tree.pop("sums")
    assert float(sums["loss"]) == 2.5
    assert_equal(restored.tree, state(4))


def test_a_part_of_an_old_step_is_read_alone_and_a_mismatch_is_named(old):
    manager = CheckpointManager(old)
    wanted = {"params": state(0)["params"]}
    assert_equal(manager.restore(wanted, partial=True).tree, {"params": state(4)["params"]})
    with pytest.raises(CheckpointMismatch, match=r"not wanted \(\d+\):\n  (empty|key)"):
        manager.restore(wanted)


def test_damage_of_an_old_step_is_noticed(old):
    largest = max((old / "4.1").rglob("d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match="is altered"):
        CheckpointManager(old).restore(state(0), step=4, partial=True)
    assert CheckpointManager(old).restore(state(0)).step == 2


def test_going_on_gives_old_steps_their_plain_names_and_saves_todays(old):
    shutil.copytree(old / "4.1", old / "4")  # as a kill left it, before the first was deleted
    with CheckpointManager(old, keep_latest=3) as manager:
        manager.sweep()
        assert sorted(path.name for path in old.iterdir()) == ["2", "4"]
        assert_equal(manager.restore(state(0), step=4, partial=True).tree, state(4))
        manager.save(4, state(9), metadata={"n": 9}, replace=True)
        manager.save(6, state(6))
        assert_equal(manager.restore(state(0), step=4).tree, state(9))
        assert manager.restore(state(0)).step == 6
    assert sorted(path.name for path in old.iterdir()) == ["2", "4", "6"]
