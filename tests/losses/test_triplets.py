import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.losses import angle_triplet, angle_triplets

CASES = [
    *("default", "with_orig", "wide", "close_angles", "two_people"),
    *("no_triplets_all_distinct", "no_triplets_one_person"),
]


@pytest.fixture(scope="module", params=CASES)
def case(request, golden):
    arrays, prefix = golden("face3d/losses"), f"angle_triplet/{request.param}/"
    found = {key.removeprefix(prefix): x for key, x in arrays.items() if key.startswith(prefix)}
    return found | {"params": golden.json(found["params"])}


@jax.jit
def loss_and_gradient(features, labels, angles, features_original, mask, params):
    def loss(x):
        return angle_triplet(
            x, labels, angles, features_original=features_original, mask=mask, **params
        )

    return jax.value_and_grad(loss)(features)


@functools.partial(jax.jit, static_argnames="angle_threshold")
def triplets(features, labels, angles, alpha, beta, angle_threshold):
    return angle_triplets(
        features, labels, angles, alpha=alpha, beta=beta, angle_threshold=angle_threshold
    )


def test_triplets_and_their_weights_equal_the_original(case):
    params = {name: case["params"][name] for name in ("alpha", "beta", "angle_threshold")}
    found = triplets(case["features"], case["labels"], case["angles"], **params)
    valid = np.asarray(found.valid)
    rows = np.stack([np.arange(len(valid)), found.positive, found.negative], axis=1)
    np.testing.assert_array_equal(rows[valid], case["triplets"])
    np.testing.assert_array_equal(found.weight[valid], case["weights"])


def test_value_and_gradient_equal_the_original_with_padding(case):
    size = len(case["labels"])
    padding, mask = 16 - size, np.arange(16) < size
    features, angles = (
        np.pad(case[name], ((0, padding), (0, 0)), constant_values=1)
        for name in ("features", "angles")
    )
    original = case.get("features_orig")
    if original is not None:
        original = np.pad(original, ((0, padding), (0, 0)))
    labels = np.pad(case["labels"], (0, padding))
    value, grad = loss_and_gradient(features, labels, angles, original, mask, case["params"])
    np.testing.assert_allclose(value, case["value"], rtol=1e-6)
    slope = case.get("grad", np.zeros_like(case["features"]))
    np.testing.assert_allclose(grad[:size], slope, atol=1e-6 * max(np.abs(slope).max(), 1e-6))
    np.testing.assert_array_equal(grad[size:], 0)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="features"):
        angle_triplets(jnp.ones((3, 4)), jnp.zeros(2, jnp.int32), jnp.ones((2, 3)))
