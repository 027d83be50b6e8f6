import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.losses import (
    bce_with_logits,
    focal_label_smooth_ce,
    prob_open,
    prob_open_from_focal,
)


def cases(arrays):
    return range(int(arrays["n_cases"]))


@jax.jit
def bce_and_gradient(logits, labels, pos_weight):
    each, pullback = jax.vjp(lambda z: bce_with_logits(z, labels, pos_weight=pos_weight), logits)
    return each, pullback(jnp.ones_like(each))[0]


@pytest.fixture(scope="module")
def bce_cases(golden):
    """Each case with our losses and gradients, which were computed at one padded shape."""
    arrays = golden("torch_semantics/bce_with_logits")
    found = []
    for i in cases(arrays):
        names = ("logits", "targets", "pos_weight", "loss_each", "loss_mean", "grad_of_mean")
        case = {name: arrays[f"{i}/{name}"] for name in names}
        size = case["logits"].size
        padded = (np.pad(case[name], (0, 64 - size)) for name in ("logits", "targets"))
        ours = bce_and_gradient(*padded, case["pos_weight"])
        found.append((case, *(np.asarray(x)[:size] for x in ours)))
    return found


def test_bce_and_its_gradient_equal_torch(bce_cases):
    for case, each, grad in bce_cases:
        # PyTorch's own float32 is off by 2e-7 (loss) and 2e-8 (gradient), as two terms cancel.
        np.testing.assert_allclose(each, case["loss_each"], rtol=1e-6, atol=5e-7)
        np.testing.assert_allclose(each.mean(), case["loss_mean"], rtol=1e-6, atol=1e-7)
        expected = case["grad_of_mean"]
        np.testing.assert_allclose(grad / len(grad), expected, rtol=2e-6, atol=2e-8)


def test_bce_is_right_to_float32_rounding(bce_cases):
    for case, each, grad in bce_cases:
        z, y, weight = (np.float64(case[n]) for n in ("logits", "targets", "pos_weight"))
        expected = weight * y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)
        slope = (1 - y) / (1 + np.exp(-z)) - weight * y / (1 + np.exp(z))
        np.testing.assert_allclose(each, expected, rtol=2e-6, atol=1e-37)
        np.testing.assert_allclose(grad, slope, rtol=1e-5, atol=1e-37)


def test_bce_is_finite_and_right_at_logits_of_200():
    logits = jnp.array([200.0, -200.0, 200.0, -200.0])
    labels = jnp.array([1, 0, 0, 1])
    np.testing.assert_allclose(bce_with_logits(logits, labels), [0, 0, 200, 200], atol=1e-30)
    grad = jax.grad(lambda z: bce_with_logits(z, labels).sum())(logits)
    np.testing.assert_allclose(grad, [0, 0, 1, -1], atol=1e-30)


@settings(deadline=None, max_examples=50)
@given(st.floats(-30, 30), st.floats(0, 1), st.floats(0.01, 50))
def test_bce_is_not_negative_and_linear_in_the_label(logit, label, pos_weight):
    logits = jnp.float32([logit] * 3)
    soft, one, zero = bce_with_logits(logits, jnp.float32([label, 1, 0]), pos_weight=pos_weight)
    assert soft >= 0
    assert float(soft) == pytest.approx(label * float(one) + (1 - label) * float(zero), abs=1e-3)


def test_focal_loss_and_its_gradient_equal_torch_in_float64(golden):
    arrays = golden("torch_semantics/focal_label_smooth_ce")

    @jax.jit
    def loss_and_grad(logits, labels, smoothing, gamma):
        def mean(logits):
            return focal_label_smooth_ce(logits, labels, smoothing=smoothing, gamma=gamma).mean()

        return jax.value_and_grad(mean)(logits)

    for i in cases(arrays):
        names = ("logits", "labels", "smoothing", "gamma")
        loss, grad = loss_and_grad(**{name: arrays[f"{i}/{name}"] for name in names})
        np.testing.assert_allclose(loss, arrays[f"{i}/loss_f64"], rtol=1e-6)
        np.testing.assert_allclose(grad, arrays[f"{i}/grad_f64"], rtol=1e-5, atol=1e-6)
        if f"{i}/prob_open" in arrays:
            probs = prob_open_from_focal(arrays[f"{i}/logits"])
            np.testing.assert_allclose(probs, arrays[f"{i}/prob_open"], rtol=1e-6, atol=1e-30)


def test_focal_loss_takes_a_column_of_logits():
    logits, labels = jnp.array([0.3, -2.0]), jnp.array([1, 0])
    flat = focal_label_smooth_ce(logits, labels, smoothing=0.05, gamma=2.0)
    column = focal_label_smooth_ce(logits[:, None], labels, smoothing=0.05, gamma=2.0)
    np.testing.assert_array_equal(flat, column)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradients_are_finite_at_certain_predictions(gamma):
    labels = jnp.array([1, 0, 1, 0])

    def total(logits, smoothing, gamma):
        return focal_label_smooth_ce(logits, labels, smoothing=smoothing, gamma=gamma).sum()

    logits = jnp.array([200.0, -200.0, -200.0, 200.0])
    grads = jax.grad(total, argnums=(0, 1, 2))(logits, 0.05, gamma)
    assert all(np.isfinite(g).all() for g in grads)


def test_focal_loss_without_smoothing_and_focus_is_cross_entropy():
    logits, labels = jnp.linspace(-3, 3, 7), jnp.array([0, 1, 0, 1, 0, 1, 0])
    focal = focal_label_smooth_ce(logits, labels, smoothing=0.0, gamma=0.0)
    np.testing.assert_allclose(focal, bce_with_logits(2 * logits, labels), rtol=1e-3)


def test_permuting_the_batch_permutes_the_losses():
    logits, labels = jnp.linspace(-3, 3, 7), jnp.array([0, 1, 0, 1, 0, 1, 0])
    order = jnp.array([3, 1, 6, 0, 2, 5, 4])
    for loss in (
        bce_with_logits,
        lambda z, y: focal_label_smooth_ce(z, y, smoothing=0.05, gamma=2.0),
    ):
        np.testing.assert_array_equal(
            loss(logits, labels)[order], loss(logits[order], labels[order])
        )


def test_probability_of_a_tiny_negative_logit_is_exactly_one_half():
    assert float(prob_open(jnp.float32(-1e-9))) == 0.5
    assert float(prob_open_from_focal(jnp.float32(0.0))) == 0.5


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        bce_with_logits(jnp.zeros(3), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        focal_label_smooth_ce(jnp.zeros((4, 3)), jnp.zeros(4), smoothing=0.0, gamma=0.0)
    with pytest.raises(ValueError, match=r"\(5,\)"):
        focal_label_smooth_ce(jnp.zeros((4, 2)), jnp.zeros(5), smoothing=0.0, gamma=0.0)
