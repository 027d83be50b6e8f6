import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.precision import LossScale, Policy

TRACES = ("torch_defaults", "interval4", "interval1_to_overflow", "all_inf_to_zero")


@jax.jit
def run(loss_scale, found_inf):
    def update(state, inf):
        state = loss_scale.update(state, ~inf)
        return state, state

    return jax.lax.scan(update, loss_scale.init(), found_inf)[1]


@pytest.mark.parametrize("name", TRACES)
def test_loss_scale_equals_gradscaler_at_every_step(golden, name):
    arrays = golden("face3d/gradscaler")
    settings = golden.json(arrays[f"{name}/kwargs"])
    states = run(LossScale(**settings), arrays[f"{name}/found_inf"])
    # Exactly, down to the smallest subnormal number and zero.
    np.testing.assert_array_equal(
        np.asarray(states.scale, np.float64), arrays[f"{name}/scale_after"]
    )
    np.testing.assert_array_equal(states.growth_tracker, arrays[f"{name}/growth_tracker_after"])


def test_loss_scales_of_a_population_under_vmap():
    population = LossScale(growth_interval=jnp.array([1, 2]))
    states = jax.vmap(run, in_axes=(LossScale(None, None, None, 0), None))(
        population, jnp.zeros(3, bool)
    )
    np.testing.assert_array_equal(states.scale[:, -1] / 65536, [8, 2])


def test_unscaled_gradients_are_those_of_the_loss():
    loss_scale = LossScale()
    state = loss_scale.init()
    grads = {"w": jnp.array([0.5, -3.0], jnp.float16)}
    scaled = jax.tree.map(lambda g: (g * state.scale / 2**10).astype(jnp.float16), grads)
    unscaled = loss_scale.unscale(state, scaled)
    assert unscaled["w"].dtype == jnp.float32
    np.testing.assert_allclose(unscaled["w"] * 2**10, grads["w"], rtol=1e-3)


@pytest.mark.parametrize("compute", ["float32", "bfloat16", "float16"])
def test_policy_casts_floating_leaves_only_and_outputs_to_float32(compute):
    policy = Policy(compute)
    inputs = {"image": jnp.ones(2), "label": jnp.ones(2, jnp.int32), "raw": jnp.ones(2, jnp.uint8)}
    cast = policy.cast_inputs(inputs)
    assert [str(cast[k].dtype) for k in inputs] == [compute, "int32", "uint8"]
    assert policy.cast_params({"w": np.ones(2, np.float32)})["w"].dtype == policy.compute_dtype
    assert policy.cast_outputs(cast)["image"].dtype == jnp.float32


def test_gradients_through_a_cast_are_float32():
    policy = Policy("bfloat16")
    grad = jax.grad(lambda p: policy.cast_outputs(policy.cast_params(p)["w"] * 2).sum())
    assert grad({"w": jnp.ones(3)})["w"].dtype == jnp.float32


def test_unknown_compute_type_is_named():
    with pytest.raises(ValueError, match=r"'fp16'.*float16"):
        Policy("fp16")
