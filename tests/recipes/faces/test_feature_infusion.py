"""Feature infusion against the original: both modes, running statistics, gradients, conversion."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxrecipes.convert.rules import dump_tensors, load_tensors, parameter_rules
from jaxrecipes.models.dinov2.network import Dinov2, Dinov2Config
from jaxrecipes.models.dinov2.weights import from_torch
from jaxrecipes.recipes.faces.feature_infusion import FeatureInfusion
from jaxrecipes.recipes.faces.feature_infusion_rules import infusion_rules

CONFIG = Dinov2Config(width=16, depth=2, num_heads=2, mlp_ratio=2.0, image_size=70)
RULES = list(infusion_rules(2))


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("hand_pose/backbone_infusion")


@pytest.fixture(scope="module")
def state_dict(arrays):
    return {
        key[3:]: array
        for key, array in arrays.items()
        if key.startswith("sd/") and not key.startswith("sd/backbone.")
    }


@pytest.fixture(scope="module")
def variables(state_dict):
    states = [jax.ShapeDtypeStruct((2, 5, 16), jnp.float32)] * 2
    init = functools.partial(FeatureInfusion().init, train=False)
    return load_tensors(RULES, state_dict, jax.eval_shape(init, jax.random.key(0), states))


@pytest.fixture(scope="module")
def states(arrays):
    backbone = {key[3:]: array for key, array in arrays.items() if key.startswith("sd/backbone.")}
    model, params, _ = from_torch(backbone, CONFIG)
    hidden = jax.jit(functools.partial(model.apply, method=Dinov2.with_hidden_states))
    _, states = hidden({"params": params}, arrays["in/pixel_values"].transpose(0, 2, 3, 1))
    return [states[i] for i in arrays["cfg/layers"]]


@jax.jit
def train(variables, states):
    return FeatureInfusion().apply(variables, states, train=True, mutable="batch_stats")


@functools.partial(jax.jit, static_argnames="dtype")
def predict(variables, states, dtype=jnp.float32):
    return FeatureInfusion(dtype=dtype).apply(variables, states, train=False)


def assert_statistics(updates, theirs):
    rules = [rule for rule in RULES if rule.target.startswith("batch_stats/")]
    ours = dump_tensors(rules, updates)
    for key, array in theirs.items():
        if key.startswith("after/"):
            np.testing.assert_allclose(ours[key[6:]], array, atol=2e-6, err_msg=key)


def test_both_modes_and_the_running_statistics_equal_the_original(arrays, variables, states):
    np.testing.assert_allclose(predict(variables, states), arrays["out/eval"], atol=5e-6)
    tokens, updates = train(variables, states)
    np.testing.assert_allclose(tokens, arrays["out/train"], atol=1e-5)
    assert_statistics(updates, arrays)


def test_gradients_equal_pytorch(golden, variables):
    theirs = golden("hand_pose/infusion_grads")
    states = [theirs["in/state_0"], theirs["in/state_1"]]

    @jax.jit
    def gradients(params, states, cotangent):
        def tokens(params, states):
            updated = {**variables, "params": params}
            return FeatureInfusion().apply(updated, states, train=True, mutable="batch_stats")

        out, pullback, updates = jax.vjp(tokens, params, states, has_aux=True)
        return out, pullback(cotangent), updates

    out, (params, inputs), updates = gradients(variables["params"], states, theirs["in/cotangent"])
    np.testing.assert_allclose(out, theirs["out/train"], atol=1e-5)
    assert_statistics(updates, theirs)
    ours = dump_tensors(parameter_rules(RULES), params)
    assert len(ours) == 24
    for key, array in ours.items():
        np.testing.assert_allclose(array, theirs[f"grad/{key}"], atol=2e-5, err_msg=key)
    for i, array in enumerate(inputs):
        np.testing.assert_allclose(array, theirs[f"grad_in/state_{i}"], atol=2e-5)


def test_its_tensors_go_back_to_the_bit(state_dict, variables):
    ours = dump_tensors(RULES, variables)
    assert sorted(ours) == sorted(state_dict)
    for key, array in state_dict.items():
        assert ours[key].dtype == array.dtype
        np.testing.assert_array_equal(ours[key], array)


def test_bfloat16_gives_bfloat16_tokens(arrays, variables, states):
    tokens = predict(variables, states, jnp.bfloat16)
    assert tokens.dtype == jnp.bfloat16
    np.testing.assert_allclose(tokens.astype(jnp.float32), arrays["out/eval"], atol=0.1)


def test_registers_and_no_states_are_refused(variables):
    with pytest.raises(ValueError, match="got 9 tokens: take registers away"):
        predict(variables, [jnp.zeros((2, 9, 16))] * 2)
    with pytest.raises(ValueError, match="at least one hidden state, got none"):
        predict(variables, [])
