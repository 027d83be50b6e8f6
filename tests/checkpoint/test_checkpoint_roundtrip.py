"""What is saved comes back bit for bit, in the structure and on the devices asked for."""

import dataclasses
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipes.checkpoint import CheckpointManager, CheckpointMismatch, CheckpointWriteError
from jaxrecipes.checkpoint import arrays as checkpoint_arrays

LARGE = (600, 700)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
    values: Any
    kind: str = dataclasses.field(metadata={"static": True})


class State(NamedTuple):
    step: Any
    params: Any
    opt_state: Any
    ema_params: Any
    schedules: Any
    key: Any
    flags: Any


def make_state(seed: int = 0) -> State:
    draw = np.random.default_rng(seed)

    def floats(*shape):
        return jnp.asarray(draw.normal(size=shape), jnp.float32)

    params = {
        "Dense_0": {"kernel": floats(*LARGE), "bias": floats(700)},
        "half": {
            "scale": floats(33).astype(jnp.bfloat16),
            "kernel": floats(*LARGE).astype("bfloat16"),
        },
        "empty": jnp.zeros((0, 3)),
    }
    return State(
        step=jnp.int32(7),
        params=params,
        opt_state=optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params),
        ema_params=jax.tree.map(lambda x: x.astype(jnp.float32) * 0.5, params),
        schedules=[Schedule(floats(3), "cosine"), Schedule(floats(2), "step")],
        key={"train": jax.random.key(3), "trials": jax.random.split(jax.random.key(4), 5)},
        flags=(
            jnp.bool_(True),
            jnp.uint8(255),
            jnp.float16(0.1),
            jnp.float32(jnp.nan),
            -jnp.zeros(2),
        ),
    )


def bits(leaf) -> bytes:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def assert_same_bits(actual, expected) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        assert bits(a) == bits(e)


def abstract(tree):
    return jax.eval_shape(lambda: tree)


@pytest.fixture
def manager(tmp_path):
    with CheckpointManager(tmp_path / "run" / "checkpoints") as manager:
        yield manager


@pytest.mark.parametrize("of", [abstract, lambda tree: tree], ids=["shapes", "arrays"])
def test_a_state_comes_back_bit_for_bit(manager, of):
    state = make_state()
    metadata = {"config": {"lr": 0.1, "presets": ["a", None]}, "history": [0.5, float("nan")]}
    assert manager.save(7, state, metadata=metadata, score=0.5)
    restored = manager.restore(of(make_state(seed=1)))
    assert restored.step == 7
    assert_same_bits(restored.tree, state)
    assert repr(restored.metadata) == repr(metadata)
    assert repr(manager.metadata(7)) == repr(metadata)


def test_a_restored_state_can_be_donated_and_split(manager):
    manager.save(0, make_state())
    state = manager.restore(make_state()).tree
    jax.random.split(state.key["train"])
    doubled = jax.jit(lambda p: jax.tree.map(lambda x: x * 2, p), donate_argnums=0)(state.params)
    expected = jax.tree.map(lambda x: x * 2, make_state().params)
    assert_same_bits(doubled, expected)


def test_numpy_leaves_come_back_as_numpy_and_64_bit(manager):
    tree = {"f": np.arange(5, dtype=np.float64) / 3, "i": np.int64(2**40), "big": np.ones(LARGE)}
    manager.save(0, tree)
    restored = manager.restore(tree).tree
    assert all(isinstance(leaf, np.ndarray) for leaf in restored.values())
    assert_same_bits(restored, jax.tree.map(np.asarray, tree))


def test_64_bit_is_not_cut_to_32_in_silence(manager):
    manager.save(0, {"f": np.arange(5) / 3})
    with pytest.raises(CheckpointMismatch, match=r"float64\[5\] in the checkpoint, float32\[5\]"):
        manager.restore({"f": jax.ShapeDtypeStruct((5,), np.float64)})


def test_arrays_without_a_device_stay_uncommitted(manager):
    device = jax.devices()[0]
    tree = {"free": jnp.ones(3), "bound": jax.device_put(jnp.ones(3), device)}
    manager.save(0, tree)
    restored = manager.restore(tree).tree
    assert not restored["free"].committed
    assert restored["bound"].committed


def test_buffers_may_be_donated_and_overwritten_right_after_save(manager):
    state, host = make_state(), {"small": np.zeros(10), "large": np.zeros(LARGE)}
    expected = (
        jax.tree.map(lambda x: jnp.array(x, copy=True), state.params),
        jax.tree.map(np.copy, host),
    )
    step = jax.jit(lambda p: jax.tree.map(lambda x: x + 1, p), donate_argnums=0)
    manager.save(0, (state.params, host))
    params = step(state.params)
    for _ in range(20):
        params = step(params)
        host["small"] += 1
        host["large"] += 1
    jax.block_until_ready(params)
    assert_same_bits(manager.restore(expected).tree, expected)


def test_save_returns_before_the_checkpoint_is_written(manager, monkeypatch):
    gate, start = threading.Event(), checkpoint_arrays.save

    class Slow:
        def __init__(self, response):
            self.response = response

        def result(self):
            assert gate.wait(30)
            return self.response.result()

    def slow_save(path, tree):
        response, records = start(path, tree)
        return Slow(response), records

    monkeypatch.setattr(checkpoint_arrays, "save", slow_save)
    manager.save(3, {"a": jnp.ones(2)})
    assert manager.all_steps == []
    gate.set()
    manager.wait()
    assert manager.all_steps == [3]


def test_a_part_is_read_alone(manager):
    state = make_state()
    manager.save(1, state)
    wanted = abstract({"params": state.params, "step": state.step})
    restored = manager.restore(wanted, partial=True)
    assert_same_bits(restored.tree, {"params": state.params, "step": state.step})
    with pytest.raises(CheckpointMismatch, match=r"not wanted \(\d+\):\n  opt_state"):
        manager.restore(wanted)


def test_nothing_saved_restores_nothing(manager, tmp_path):
    assert manager.restore({"a": jnp.ones(2)}) is None
    assert (manager.latest_step, manager.best_step, manager.all_steps) == (None, None, [])
    assert list(tmp_path.iterdir()) == []


def test_a_mismatch_names_keys_shapes_and_dtypes(manager):
    manager.save(
        1, {"a": jnp.ones((2, 3)), "b": jnp.ones(2), "gone": jnp.ones(1), "k": jax.random.key(0)}
    )
    manager.wait()
    other = {
        "a": jnp.ones((3, 2)),
        "b": jnp.ones(2, jnp.bfloat16),
        "new": {f"leaf{i:02}": jnp.ones(1) for i in range(13)},
        "k": jax.random.key(0, impl="rbg"),
    }
    with pytest.raises(CheckpointMismatch) as caught:
        manager.restore(other)
    message = str(caught.value)
    assert "wanted but not in the checkpoint (13):\n  new/leaf00\n" in message
    assert "new/leaf09\n  ... and 3 more\n" in message
    assert "in the checkpoint but not wanted (1):\n  gone\n" in message
    assert "a: float32[2,3] in the checkpoint, float32[3,2] wanted" in message
    assert "b: float32[2] in the checkpoint, bfloat16[2] wanted" in message
    assert "k: key<fry>[] in the checkpoint, key<rbg>[] wanted" in message
    assert isinstance(caught.value, ValueError)
    assert manager.all_steps == [1]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"lr": 0.1}}, "leaf 'a/lr' is 0.1"),
        ({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, "two leaves have the path 'a/b'"),
        ({}, "no leaf"),
    ],
)
def test_a_tree_that_cannot_be_stored_is_refused(manager, tree, message):
    with pytest.raises(ValueError, match=message):
        manager.save(1, tree)
    assert list(manager.directory.iterdir()) == []
    assert manager.save(1, {"a": jnp.ones(1)})


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match="keep_latest is 0"):
        CheckpointManager(tmp_path, keep_latest=0)
    with pytest.raises(ValueError, match="keep_best is -1"):
        CheckpointManager(tmp_path, keep_best=-1)
    with pytest.raises(ValueError, match="mode is 'best'"):
        CheckpointManager(tmp_path, mode="best")
    with CheckpointManager(tmp_path) as manager:
        with pytest.raises(ValueError, match="step is -1"):
            manager.save(-1, {"a": jnp.ones(1)})
        with pytest.raises(TypeError, match="not JSON serializable"):
            manager.save(1, {"a": jnp.ones(1)}, metadata={"x": object()})
        manager.save(4, {"a": jnp.ones(1)})
        manager.wait()
        with pytest.raises(ValueError, match=r"no checkpoint of step 3 in .*; there: 4"):
            manager.restore({"a": jnp.ones(1)}, step=3)


def test_an_error_in_the_background_is_raised_by_the_next_save(manager, monkeypatch):
    manager.save(1, {"a": jnp.ones(1)})
    manager.wait()
    with monkeypatch.context() as patch:
        patch.setattr(
            "os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        manager.save(2, {"a": jnp.ones(1)})
        with pytest.raises(CheckpointWriteError, match=r"step 2 in .*No space left on device"):
            manager.save(3, {"a": jnp.ones(1)})
    assert [path.name for path in manager.directory.iterdir()] == ["1"]
    assert manager.save(2, {"a": jnp.ones(1)})
