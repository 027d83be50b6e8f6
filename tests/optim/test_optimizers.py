import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipes.optim import adam, adamw, clip_by_global_norm, no_decay, sgd

LIMIT = 5e-6  # absolute, after up to 25 steps; reached: AdamW 3.1e-6, Adam 2.4e-7, SGD 6e-8


MAKE = {
    "AdamW": adamw,
    "Adam": adam,
    "amsgrad": functools.partial(adam, amsgrad=True),
    "SGD": functools.partial(sgd, nesterov=True),
}


@functools.partial(jax.jit, static_argnums=0)
@chex.assert_max_traces(n=len(MAKE))  # nine runs in four programs: every hyperparameter is data
def follow(kind, hparams, params, grads, rates):
    """The parameters after each step, and the gradients' norms before clipping."""

    def step(carry, inputs):
        params, state = carry
        grads, learning_rate = inputs
        grads, norm = clip_by_global_norm(grads, hparams["clip_norm"])
        tx = MAKE[kind](hparams | {"learning_rate": learning_rate})
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, norm)

    state = MAKE[kind](hparams | {"learning_rate": 0.0}).init(params)
    return jax.lax.scan(step, (params, state), (grads, rates))[1]


def test_every_run_follows_pytorch_over_the_golden_trajectory(golden):
    arrays = golden("torch_semantics/optimizers")
    names = [str(j) for j in range(int(arrays["n_params"]))]
    params, grads = ({j: arrays[f"{part}/{j}"] for j in names} for part in ("init", "grads"))
    runs = golden.json(arrays["runs_json"])
    assert len(runs) == 9
    for run in runs:
        kind = "amsgrad" if run.get("amsgrad") else run["kind"]
        b1, b2 = run.get("betas", (0.9, 0.999))
        decay = 0.01 if kind == "AdamW" else 0.0  # PyTorch's defaults
        hparams = {
            "weight_decay": run.get("weight_decay", decay),
            "clip_norm": run["clip_max_norm"] or np.inf,
            "b1": b1,
            "b2": b2,
            "eps": run.get("eps", 1e-8),
            "momentum": run.get("momentum", 0.0),
        }
        rates = np.float32(arrays["lr_per_step"])
        trajectory, norms = follow(kind, hparams, params, grads, rates)
        for j in names:
            expected = arrays[f"{run['name']}/params/{j}"]
            np.testing.assert_allclose(trajectory[j], expected, rtol=0, atol=LIMIT)
        if run["clip_max_norm"]:
            np.testing.assert_allclose(norms, arrays[f"{run['name']}/norm_before_clip"], rtol=1e-6)


PARAMS = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "head": {"bias": jnp.ones(1)}}
H = {"learning_rate": jnp.float32(0.1), "weight_decay": jnp.float32(0.5)}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def updates_of(tx, grads=ZEROS):
    return jax.jit(lambda grads: tx.update(grads, tx.init(PARAMS), PARAMS)[0])(grads)


def test_decay_mask_spares_what_its_rules_match():
    updates = updates_of(adamw(H, decay_mask=no_decay("/bias$")))
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.05)
    np.testing.assert_array_equal(updates["dense"]["bias"], 0)
    np.testing.assert_array_equal(updates["head"]["bias"], 0)


def test_parameter_groups_scale_step_and_decay_and_the_first_match_wins():
    factors = [("^head/", jnp.float32(10.0)), ("bias", 0.0)]
    for tx in (
        adamw(H, learning_rate_factors=factors),
        sgd(H, learning_rate_factors=factors),
    ):
        updates = updates_of(tx)
        np.testing.assert_allclose(updates["dense"]["kernel"], -0.05)
        np.testing.assert_array_equal(updates["dense"]["bias"], 0)
        np.testing.assert_allclose(updates["head"]["bias"], -0.5)


def test_no_hyperparameter_is_in_the_state_and_changing_one_does_not_retrace():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(h, params, state):
        updates, state = adamw(h).update(ZEROS, state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, adamw(H).init(PARAMS)
    structure = jax.tree.structure(state)
    for learning_rate, decay, b1 in ((0.1, 0.5, 0.9), (0.2, 0.1, 0.8), (0.3, 0.0, 0.95)):
        h = {"learning_rate": learning_rate, "weight_decay": decay, "b1": b1}
        params, state = step(h, params, state)
    assert structure == jax.tree.structure(state)
    np.testing.assert_allclose(params["head"]["bias"], 0.95 * 0.98, rtol=1e-6)


def test_a_population_under_vmap_equals_separate_runs():
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    population = {
        "learning_rate": jnp.array([0.1, 0.01, 1e-3]),
        "weight_decay": jnp.array([0.0, 0.1, 0.01]),
        "b1": jnp.array([0.9, 0.8, 0.5]),
    }

    def one_update(h):
        return updates_of(adamw(h), grads)

    together = jax.jit(jax.vmap(one_update))(population)
    for k in range(3):
        alone = one_update(jax.tree.map(lambda x, k=k: x[k], population))
        chex.assert_trees_all_close(jax.tree.map(lambda x, k=k: x[k], together), alone, rtol=1e-6)


@pytest.mark.parametrize("make", [adamw, lambda h: adam(h, amsgrad=True), adam, sgd])
def test_moments_of_bfloat16_parameters_are_float32(make):
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    tx = make(H | {"momentum": 0.9})
    updates, state = jax.jit(tx.update)(params, tx.init(params), params)
    moments = [x for x in jax.tree.leaves((updates, state)) if x.ndim]
    assert {x.dtype for x in moments} == {jnp.dtype("float32")}


def test_sgd_keeps_a_trace_only_with_momentum():
    assert not jax.tree.leaves(sgd(H).init(PARAMS))
    assert len(jax.tree.leaves(sgd(H, momentum=0.9).init(PARAMS))) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adamw({"learning_rate": 0.1}), "weight_decay"),
        (lambda: adam({"lr": 0.1}), r"learning_rate.*has lr"),
        (lambda: sgd(H, nesterov=True), "momentum"),
        (lambda: updates_of(adamw(H, decay_mask=no_decay("/scale$"))), "'/scale\\$' matches no"),
        (lambda: updates_of(sgd(H, learning_rate_factors=[("stem", 1.0)])), "'stem' matches no"),
    ],
)
def test_bad_use_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_inert_parameters_decay_as_before_and_keep_no_moments():
    params = {"live": {"kernel": jnp.arange(3.0)}, "query_key": {"kernel": jnp.ones((2, 2))}}
    grads = {"live": {"kernel": jnp.ones(3)}, "query_key": {"kernel": jnp.zeros((2, 2))}}
    hparams = {"learning_rate": 0.1, "weight_decay": 0.5}
    states, results = {}, {}
    for name, inert in (("all", ()), ("lean", ("^query_key/",))):
        tx = adamw(hparams, inert=inert)
        updates, states[name] = tx.update(grads, tx.init(params), params)
        results[name] = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(results["lean"], results["all"], rtol=1e-6)
    kept = jax.tree.leaves(optax.tree.get(states["lean"], "mu"))
    assert [leaf.shape for leaf in kept] == [(3,)]
