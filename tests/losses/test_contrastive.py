import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.losses import info_nce

CASES = [
    *("pairs_T0p07", "mixed_T0p07", "nopos_T0p07", "allsame_T0p07", "duplicates_T0p07"),
    *("pairs_T0p1", "mixed_T0p1", "nopos_T0p1", "allsame_T0p1", "duplicates_T0p1"),
    *("onepair_B2", "single_B1", "unit_T1"),
]
FEATURES = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
LABELS = np.array([0, 0, 1, 1, 1, 2, 3, 3])


@jax.jit
def loss_and_gradient(x, labels, temperature, mask):
    return jax.value_and_grad(lambda x: info_nce(x, labels, temperature=temperature, mask=mask))(x)


@jax.jit
def plain(x, labels, temperature):
    return info_nce(x, labels, temperature=temperature)


@jax.jit
def without_self(x, labels, temperature):
    return info_nce(x, labels, temperature=temperature, exclude_self=True)


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_equal_the_original(golden, case):
    arrays = golden("universal_face/losses")
    x, labels, temperature, expected, slope = (
        arrays[f"infonce/{case}/{name}"] for name in ("x", "labels", "temperature", "value", "grad")
    )
    # One shape for all: what pads the batch must not count.
    padding = 8 - len(x)
    padded = np.pad(x, ((0, padding), (0, 0)), constant_values=1.0)
    mask = np.arange(8) < len(x)
    value, grad = loss_and_gradient(padded, np.pad(labels, (0, padding)), temperature, mask)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grad[: len(x)], slope, atol=2e-6 * np.abs(slope).max())
    np.testing.assert_array_equal(grad[len(x) :], 0)


def test_without_a_mask_all_rows_count():
    masked, _ = loss_and_gradient(FEATURES, LABELS, 0.1, np.ones(8))
    np.testing.assert_allclose(plain(FEATURES, LABELS, 0.1), masked, rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(8)))
def test_the_order_of_rows_does_not_matter(order):
    expected = plain(FEATURES, LABELS, 0.07)
    order = np.array(order)
    np.testing.assert_allclose(plain(FEATURES[order], LABELS[order], 0.07), expected, rtol=1e-5)


def test_finite_at_temperatures_where_the_exponentials_would_overflow():
    for temperature in (1e-3, 1e3):
        value, grad = loss_and_gradient(FEATURES, LABELS, temperature, np.ones(8))
        assert np.isfinite(value)
        assert np.isfinite(grad).all()


def test_one_perfect_positive_costs_log_2_and_nothing_when_the_row_itself_is_left_out():
    # At a low temperature orthogonal rows do not count, and e ** (1 / temperature) swamps the 1.
    x, labels = np.repeat(np.eye(4, 10, dtype=np.float32), 2, axis=0), np.repeat(np.arange(4), 2)
    np.testing.assert_allclose(plain(x, labels, 0.05), np.log(2), rtol=1e-5)
    np.testing.assert_allclose(without_self(x, labels, 0.05), 0, atol=1e-6)


def test_leaving_the_row_itself_out_is_the_usual_form():
    normal = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    each = np.exp(normal.astype(np.float64) @ normal.T / 0.5) * ~np.eye(8, dtype=bool)
    positives = (each * (LABELS[:, None] == LABELS)).sum(1)
    rows = positives > 0
    expected = -np.log(positives[rows] / each.sum(1)[rows]).mean()
    np.testing.assert_allclose(without_self(FEATURES, LABELS, 0.5), expected, rtol=1e-5)


def test_temperatures_in_one_vmapped_program():
    temperatures = jnp.array([0.07, 0.1, 1.0])
    many = jax.vmap(plain, (None, None, 0))(FEATURES, LABELS, temperatures)
    one_by_one = [plain(FEATURES, LABELS, t) for t in temperatures]
    np.testing.assert_allclose(many, one_by_one, rtol=1e-6)


def test_a_zero_row_leaves_the_gradient_finite():
    x = FEATURES.copy()
    x[0] = 0
    _, grad = loss_and_gradient(x, LABELS, 0.1, np.ones(8))
    assert np.isfinite(grad).all()


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"labels \[B\].*\(8, 10\), \(7,\)"):
        info_nce(FEATURES, LABELS[:7], temperature=0.1)
