import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.losses import cosine_loss, cosine_similarity, mean_squared_error, unit


@jax.jit
def combined_and_gradient(pred, target, mse_weight, cosine_weight):
    def loss(pred):
        mse, cosine = mean_squared_error(pred, target), cosine_loss(pred, target)
        return (mse_weight * mse + cosine_weight * cosine).mean()

    return jax.value_and_grad(loss)(pred)


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_combined_loss_equals_the_original_at_seven_weight_pairs(golden, case):
    arrays = golden("face3d/losses")
    pred, target = (arrays[f"combined/{case}/{name}"] for name in ("pred", "target"))
    pairs = [key.split("/")[2] for key in arrays if key.startswith(f"combined/{case}/")]
    pairs = sorted({pair for pair in pairs if "_" in pair})
    assert len(pairs) == 7
    for pair in pairs:
        value, grad = combined_and_gradient(pred, target, *map(float, pair.split("_")))
        np.testing.assert_allclose(value, arrays[f"combined/{case}/{pair}/value"], rtol=1e-6)
        expected = arrays[f"combined/{case}/{pair}/grad"]
        np.testing.assert_allclose(grad, expected, atol=1e-6 * np.abs(expected).max())


def test_zero_rows_cost_as_in_the_original(golden):
    arrays = golden("face3d/losses")
    pred, target = (arrays[f"combined/zero_rows/{name}"] for name in ("pred", "target"))
    cosine, mse = cosine_loss(pred, target).mean(), mean_squared_error(pred, target).mean()
    np.testing.assert_allclose(cosine, arrays["combined/zero_rows/cosine"], rtol=1e-6)
    np.testing.assert_allclose(mse, arrays["combined/zero_rows/mse"], rtol=1e-6)


def test_a_zero_vector_has_cosine_zero_and_no_gradient():
    zero, other = jnp.zeros((1, 4)), jnp.array([[1.0, 2.0, 3.0, 4.0]])
    value, grad = jax.value_and_grad(lambda x: cosine_similarity(x, other).sum())(zero)
    assert value == 0
    np.testing.assert_array_equal(grad, zero)


def test_short_vectors_are_divided_by_eps():
    x = jnp.array([3e-9, 4e-9])
    np.testing.assert_allclose(unit(x, eps=1e-8), [0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose(unit(x), [0.6, 0.8], rtol=1e-6)


def test_half_precision_is_computed_in_float32():
    x = jnp.full((1, 512), 100.0, jnp.float16)
    assert cosine_similarity(x, x).dtype == jnp.float32
    np.testing.assert_allclose(cosine_similarity(x, x), 1.0, rtol=1e-6)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        cosine_similarity(jnp.ones((2, 3)), jnp.ones((2, 4)))
