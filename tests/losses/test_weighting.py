"""Learned loss weights against their formulas, computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.losses import LossWeighting

NAMES = ("a", "b", "c")
HPARAMS = {
    "loss_weight/a": jnp.float32(2.0),
    "loss_weight/b": jnp.float32(0.5),
    "loss_weight/c": jnp.float32(1.0),
    "loss_weighting_rate": jnp.float32(0.1),
    "loss_weighting_alpha": jnp.float32(1.5),
    "learning_rate": jnp.float32(7.0),
}
LOSSES = {"a": jnp.float32(0.8), "b": jnp.float32(3.0), "c": jnp.float32(0.1)}
NORMS = {"a": jnp.float32(1.0), "b": jnp.float32(4.0), "c": jnp.float32(0.2)}


def adams_first_move(gradient):
    return gradient / (np.sqrt(np.square(gradient)) + 1e-8)  # both corrections cancel


def weights(weighting, state):
    hparams = weighting.weighed(HPARAMS, state)
    return np.array([hparams[f"loss_weight/{name}"] for name in NAMES])


@pytest.mark.parametrize("kind", ["uncertainty", "gradnorm"])
def test_the_first_step_weighs_as_given(kind):
    weighting = LossWeighting(kind)
    state = weighting.init(NAMES)
    assert weights(weighting, state).tolist() == [2.0, 0.5, 1.0]
    assert weighting.weighed(HPARAMS, state)["learning_rate"] == 7.0


def test_uncertainty_descends_the_loss_of_the_paper():
    weighting = LossWeighting("uncertainty")
    state = weighting.init(NAMES)

    def paper(values):
        return sum(
            jnp.exp(-values[n]) * HPARAMS[f"loss_weight/{n}"] * LOSSES[n] + values[n] / 2
            for n in NAMES
        )

    gradients = jax.grad(paper)(state.values)
    moved = weighting.update(state, HPARAMS, LOSSES)
    for name in NAMES:
        wanted = -0.1 * adams_first_move(gradients[name])
        np.testing.assert_allclose(moved.values[name], wanted, rtol=1e-5)


def test_uncertainty_comes_to_rest_where_each_term_weighs_half_its_inverse():
    weighting, update = LossWeighting("uncertainty"), jax.jit(LossWeighting("uncertainty").update)
    state = weighting.init(NAMES)
    for step in range(400):
        rate = jnp.float32(0.1 * 0.98**step)
        state = update(state, HPARAMS | {"loss_weighting_rate": rate}, LOSSES)
    wanted = [1 / (2 * LOSSES[name]) for name in NAMES]
    np.testing.assert_allclose(weights(weighting, state), wanted, rtol=0.01)


def test_gradnorm_follows_the_formula_of_the_paper():
    weighting = LossWeighting("gradnorm")
    state = weighting.update(weighting.init(NAMES), HPARAMS, LOSSES, NORMS)
    assert {n: float(x) for n, x in state.first.items()} == {n: float(x) for n, x in LOSSES.items()}
    later = {"a": jnp.float32(0.4), "b": jnp.float32(2.7), "c": jnp.float32(0.1)}
    moved = weighting.update(state, HPARAMS, later, NORMS)

    factors = np.array([state.values[n] for n in NAMES])
    norms = np.array([HPARAMS[f"loss_weight/{n}"] * NORMS[n] for n in NAMES])
    ratios = np.array([later[n] / LOSSES[n] for n in NAMES])
    target = (factors * norms).mean() * (ratios / ratios.mean()) ** 1.5

    def paper(factors):
        return jnp.abs(factors * norms - target).sum()

    gradient = np.array(jax.grad(paper)(jnp.asarray(factors)))
    first = np.sign(norms - norms.mean()) * norms  # of the first step, where all ratios are 1
    mu = (0.9 * 0.1 * first + 0.1 * gradient) / (1 - 0.9**2)
    nu = (0.999 * 0.001 * first**2 + 0.001 * gradient**2) / (1 - 0.999**2)
    wanted = factors - 0.1 * mu / (np.sqrt(nu) + 1e-8)
    wanted *= 3 / wanted.sum()
    np.testing.assert_allclose([moved.values[n] for n in NAMES], wanted, rtol=1e-5)


def test_gradnorm_with_alpha_0_equalises_the_norms():
    weighting = LossWeighting("gradnorm")
    hparams, update = (
        HPARAMS | {"loss_weighting_alpha": jnp.float32(0.0)},
        jax.jit(weighting.update),
    )
    state = weighting.init(NAMES)
    for step in range(600):
        hparams["loss_weighting_rate"] = jnp.float32(0.05 * 0.99**step)
        state = update(state, hparams, LOSSES, NORMS)
    norms = weights(weighting, state) * np.array([NORMS[n] for n in NAMES])
    np.testing.assert_allclose(norms / norms.mean(), 1.0, rtol=0.05)
    np.testing.assert_allclose(sum(state.values.values()), 3.0, rtol=1e-5)


@pytest.mark.parametrize("kind", ["uncertainty", "gradnorm"])
def test_a_term_that_is_switched_off_stays_out_of_it(kind):
    weighting, off = LossWeighting(kind), HPARAMS | {"loss_weight/b": jnp.float32(0.0)}
    wrong = LOSSES | {"b": jnp.float32(1e6)}
    state = weighting.init(NAMES)
    for losses in (LOSSES, wrong):
        state = weighting.update(state, off, losses, NORMS)
    assert state.values["b"] == weighting.init(NAMES).values["b"]
    again = weighting.init(NAMES)
    for losses in (LOSSES, LOSSES):
        again = weighting.update(again, off, losses, NORMS)
    assert state.values["a"] == again.values["a"]


def test_a_single_term_has_nothing_to_balance():
    with pytest.raises(ValueError, match="the loss has bce alone"):
        LossWeighting("gradnorm").init(["bce"])
