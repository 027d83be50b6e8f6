import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.losses import composite_loss

TERMS = {"bce": jnp.array([1.0, 2.0, 6.0]), "margin": jnp.array([0.0, 4.0, 8.0])}
HPARAMS = {"loss_weight/bce": 1.0, "loss_weight/margin": 0.5, "learning_rate": 1e-3}


def test_total_is_the_weighted_sum_and_the_log_has_every_unweighted_mean():
    total, log = composite_loss(TERMS, HPARAMS)
    assert float(total) == 5.0
    assert log == {"loss/bce": 3.0, "loss/margin": 4.0, "loss": 5.0}


def test_masked_examples_change_nothing_even_when_they_are_nan():
    mask = jnp.array([1.0, 1.0, 0.0])
    spoiled = {name: term.at[2].set(jnp.nan) for name, term in TERMS.items()}
    total, log = composite_loss(spoiled, HPARAMS, mask=mask)
    expected, _ = composite_loss({name: term[:2] for name, term in TERMS.items()}, HPARAMS)
    assert float(total) == float(expected)
    assert float(log["loss/margin"]) == 2.0


def test_an_empty_mask_gives_zero_and_finite_gradients():
    value, grad = jax.value_and_grad(
        lambda x: composite_loss({"bce": x}, HPARAMS, mask=jnp.zeros(3))[0]
    )(TERMS["bce"])
    assert float(value) == 0.0
    np.testing.assert_array_equal(grad, np.zeros(3))


def test_scalar_terms_are_taken_as_they_are():
    hparams = HPARAMS | {"loss_weight/l2": 2.0}
    total, log = composite_loss({"l2": jnp.float32(3.0)}, hparams, mask=jnp.array([1.0, 0.0]))
    assert (float(total), float(log["loss/l2"])) == (6.0, 3.0)


def test_weights_are_data_traced_and_under_vmap():
    weights = jnp.array([0.0, 1.0, 2.0])
    totals = jax.jit(
        jax.vmap(lambda w: composite_loss(TERMS, HPARAMS | {"loss_weight/bce": w})[0])
    )(weights)
    np.testing.assert_allclose(totals, [2.0, 5.0, 8.0])


@pytest.mark.parametrize(
    ("terms", "hparams", "mask", "message"),
    [
        ({"bcee": TERMS["bce"]}, HPARAMS, None, r"loss_weight/bcee.*mean 'loss_weight/bce'"),
        (TERMS, {}, None, r"loss_weight/bce.*none"),
        ({}, HPARAMS, None, "at least one"),
        ({"bce": jnp.zeros((2, 2))}, HPARAMS, None, r"\(2, 2\)"),
        (TERMS, HPARAMS, jnp.ones(2), r"'bce' has shape \(3,\), the mask \(2,\)"),
    ],
)
def test_bad_terms_are_named(terms, hparams, mask, message):
    with pytest.raises(ValueError, match=message):
        composite_loss(terms, hparams, mask=mask)
