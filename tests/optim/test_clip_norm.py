import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.optim import clip_by_global_norm, global_norm


def test_norm_and_clipped_gradients_equal_torch(golden):
    arrays = golden("torch_semantics/clip_grad_norm")
    clip = jax.jit(clip_by_global_norm)
    for i in range(int(arrays["n_cases"])):
        grads = {j: arrays[f"{i}/grad/{j}"] for j in "0123"}
        clipped, norm = clip(grads, jnp.float32(arrays[f"{i}/max_norm"]))
        np.testing.assert_allclose(norm, arrays[f"{i}/total_norm"], rtol=1e-6)
        for j in grads:
            np.testing.assert_allclose(clipped[j], arrays[f"{i}/clipped/{j}"], rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4), st.floats(1e-2, 1e3))
def test_clipped_norm_never_exceeds_the_limit_and_small_gradients_pass_unchanged(values, limit):
    grads = {"a": jnp.float32(values[:3]), "b": jnp.float32(values[3])}
    clipped, norm = clip_by_global_norm(grads, limit)
    assert float(global_norm(clipped)) <= limit * (1 + 1e-5)
    if float(norm) < 0.99 * limit:
        assert jax.tree.map(jnp.array_equal, grads, clipped) == {"a": True, "b": True}


def test_an_infinite_limit_switches_clipping_off_and_types_are_kept():
    grads = {"a": jnp.full(3, 100.0, jnp.bfloat16)}
    clipped, norm = clip_by_global_norm(grads, jnp.inf)
    np.testing.assert_array_equal(clipped["a"], grads["a"])
    assert clipped["a"].dtype == jnp.bfloat16
    assert norm.dtype == jnp.float32


def test_an_empty_tree_has_norm_zero():
    clipped, norm = clip_by_global_norm({}, 1.0)
    assert clipped == {}
    assert float(norm) == 0.0
