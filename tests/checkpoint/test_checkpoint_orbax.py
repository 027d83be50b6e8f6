"""What lies in a step's folder is restored by Orbax alone, in each of its ways."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from checkpoint_trees import device_tree, host_tree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrecipes.checkpoint import CheckpointManager

PARAMS = {
    "Dense_0": {"kernel": jnp.arange(12.0).reshape(3, 4), "bias": jnp.zeros(4, jnp.bfloat16)},
    "scale": jnp.float32(0.5),
}
TREE = {
    "params": PARAMS,
    "batch_stats": {},
    "ema_params": None,
    "opt_state": optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(PARAMS),
    "key": jax.random.key(3),
    "late": {"Dense_0/kernel": jnp.int32(7)},
}
STEP = 20


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    with CheckpointManager(directory) as manager:
        for step in (3, STEP):
            manager.save(step, TREE, metadata={"step": step})
    (directory / "9.corrupt").mkdir()  # as a run may leave them
    (directory / ".saving-21-host-1.1").mkdir()
    return directory


def assert_is_the_tree(restored):
    assert restored["batch_stats"] == {}
    assert restored["ema_params"] is None
    np.testing.assert_array_equal(restored["key"], jax.random.key_data(TREE["key"]))
    assert int(restored["late"]["Dense_0"]["kernel"]) == 7
    clip, (adam, scale) = restored["opt_state"]["0"], restored["opt_state"]["1"].values()
    assert (clip, scale) == ({}, {})
    assert adam["count"].shape == ()
    assert set(adam) == {"count", "mu", "nu"}
    for tree in (restored["params"], adam["mu"]):
        assert jax.tree.structure(tree) == jax.tree.structure(PARAMS)
    jax.tree.map(np.testing.assert_array_equal, restored["params"], PARAMS)
    assert restored["params"]["Dense_0"]["bias"].dtype == jnp.bfloat16


def by_manager(directory, args=None):
    with ocp.CheckpointManager(directory) as manager:
        assert list(manager.all_steps()) == [3, STEP]
        return manager.restore(manager.latest_step(), args=args)


WHOLE = {
    "CheckpointManager": by_manager,
    "CheckpointManager, StandardRestore": lambda d: by_manager(d, ocp.args.StandardRestore()),
    "CheckpointManager, PyTreeRestore": lambda d: by_manager(d, ocp.args.PyTreeRestore()),
    "PyTreeCheckpointer": lambda d: ocp.PyTreeCheckpointer().restore(d / str(STEP)),
    "StandardCheckpointer": lambda d: ocp.StandardCheckpointer().restore(d / str(STEP)),
    "PyTreeCheckpointHandler": lambda d: ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
        d / str(STEP)
    ),
    "the item's folder": lambda d: ocp.PyTreeCheckpointer().restore(d / str(STEP) / "default"),
    "v1.load": lambda d: ocp.v1.load(d / str(STEP)),
    "v1.load_checkpointables": lambda d: ocp.v1.load_checkpointables(d / str(STEP))["default"],
}


@pytest.mark.parametrize("way", WHOLE)
def test_orbax_restores_the_whole_tree(directory, way):
    assert_is_the_tree(WHOLE[way](directory))


def v1_part(directory, wanted):
    context = ocp.v1.Context()
    context.pytree.loading.partial_load = True
    with context:
        return ocp.v1.load(directory / str(STEP), wanted)


def pytree_part(wanted):
    restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
    return ocp.args.PyTreeRestore(wanted, restore_args=restore_args, partial_restore=True)


PART = {
    "CheckpointManager": lambda d, wanted: by_manager(d, pytree_part(wanted)),
    "PyTreeCheckpointer": lambda d, wanted: ocp.PyTreeCheckpointer().restore(
        d / str(STEP), args=pytree_part(wanted)
    ),
    "v1.load": v1_part,
}


@pytest.mark.parametrize("way", PART)
def test_orbax_restores_a_subtree_onto_given_devices(directory, way):
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec())
    wanted = {
        "params": jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), PARAMS
        )
    }
    restored = PART[way](directory, wanted)
    jax.tree.map(np.testing.assert_array_equal, restored, {"params": PARAMS})
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(restored))


def test_orbax_restores_a_copy_of_the_folder(directory, tmp_path):
    (directory / str(STEP)).rename(tmp_path / "moved")
    try:
        assert_is_the_tree(ocp.PyTreeCheckpointer().restore(tmp_path / "moved"))
    finally:
        (tmp_path / "moved").rename(directory / str(STEP))


def test_the_items_data_is_stored_once(tmp_path):
    tree = {"a": np.random.default_rng(0).normal(size=100_000)}
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, tree)
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert on_disk < 1.1 * tree["a"].nbytes


def test_a_name_that_would_hide_another_for_orbax_is_refused(tmp_path):
    for tree in ({"a.b": np.ones(1), "a": {"b": np.ones(1)}}, {"a": np.ones(1), "a/b": np.ones(1)}):
        with pytest.raises(ValueError, match="would hide another one"):
            CheckpointManager(tmp_path).save(1, tree)


def test_an_array_over_devices_is_restored_without_them(tmp_path):
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, device_tree())
    restored = ocp.PyTreeCheckpointer().restore(tmp_path / "1")
    for name, expected in host_tree().items():
        np.testing.assert_array_equal(restored[name], expected)
