import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipes.optim import adam, adamw, clip_by_global_norm, no_decay, sgd

LIMIT = 5e-6  # absolute, after up to 25 steps; reached: AdamW 3.1e-6, Adam 2.4e-7, SGD 6e-8


def make_tx(run, learning_rate):
    decay = 0.01 if run["kind"] == "AdamW" else 0.0  # PyTorch's defaults
    h = {"learning_rate": learning_rate, "weight_decay": run.get("weight_decay", decay)}
    if "betas" in run:
        h["b1"], h["b2"] = run["betas"]
    if "eps" in run:
        h["eps"] = run["eps"]
    if run["kind"] == "SGD":
        return sgd(h | {"momentum": run["momentum"]}, nesterov=run["nesterov"])
    if run["kind"] == "Adam":
        return adam(h, amsgrad=run.get("amsgrad", False))
    return adamw(h)


def test_every_run_follows_pytorch_over_the_golden_trajectory(golden):
    arrays = golden("torch_semantics/optimizers")
    names = [str(j) for j in range(int(arrays["n_params"]))]
    grads = {j: jnp.asarray(arrays[f"grads/{j}"]) for j in names}
    rates = jnp.asarray(arrays["lr_per_step"], jnp.float32)
    for run in golden.json(arrays["runs_json"]):

        def step(carry, inputs, run=run):
            params, state = carry
            grads, learning_rate = inputs
            norm = jnp.float32(0)
            if run["clip_max_norm"]:
                grads, norm = clip_by_global_norm(grads, run["clip_max_norm"])
            tx = make_tx(run, learning_rate)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), (params, norm)

        params = {j: jnp.asarray(arrays[f"init/{j}"]) for j in names}
        start = (params, make_tx(run, 0.1).init(params))
        _, (trajectory, norms) = jax.lax.scan(jax.jit(step), start, (grads, rates))
        for j in names:
            expected = arrays[f"{run['name']}/params/{j}"]
            np.testing.assert_allclose(trajectory[j], expected, rtol=0, atol=LIMIT)
        if run["clip_max_norm"]:
            np.testing.assert_allclose(norms, arrays[f"{run['name']}/norm_before_clip"], rtol=1e-6)


PARAMS = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "head": {"bias": jnp.ones(1)}}
H = {"learning_rate": jnp.float32(0.1), "weight_decay": jnp.float32(0.5)}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def updates_of(tx, grads=ZEROS):
    return tx.update(grads, tx.init(PARAMS), PARAMS)[0]


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
