import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipes.optim import (
    adam,
    adamw,
    carry_over,
    late_paths,
    leaves_by_path,
    merge,
    sgd,
    split_frozen,
)

H = {"learning_rate": 0.03, "weight_decay": 0.1, "b1": 0.8, "b2": 0.95, "eps": 1e-6}
PARAMS = {"body": {"w": jnp.linspace(-1.0, 1.0, 4)}, "head": {"b": jnp.ones(2), "w": jnp.zeros(3)}}
STAGES = (("^body/", "/b$"), ("^body/",), ())  # steps 0-2, 3-5, 6-8


def grads_at(step):
    return jax.tree.map(lambda x: jnp.cos(3.0 * x + step) + 0.1 * step, PARAMS)


def adamw_by_tensor(x, name, steps):
    """AdamW of one tensor in numpy that counts its own updates."""
    x, (m, v) = np.asarray(x, np.float64), np.zeros((2, *x.shape))
    outer, inner = name
    for count, step in enumerate(steps, start=1):
        g = np.asarray(grads_at(step)[outer][inner], np.float64)
        m, v = H["b1"] * m + (1 - H["b1"]) * g, H["b2"] * v + (1 - H["b2"]) * g * g
        m_hat, v_hat = m / (1 - H["b1"] ** count), v / (1 - H["b2"] ** count)
        decayed = x * (1 - H["learning_rate"] * H["weight_decay"])
        x = decayed - H["learning_rate"] * m_hat / (np.sqrt(v_hat) + H["eps"])
    return x


def train(make_tx, stages, *, steps=3):
    """Trains `steps` steps in each stage and carries the state over."""
    params, tx, opt_state = PARAMS, make_tx(H), None
    for stage, rules in enumerate(stages):
        trainable, frozen = split_frozen(params, rules)
        started = tx.init(trainable)
        opt_state = carry_over(leaves_by_path(opt_state), started) if stage else started
        for step in range(stage * steps, (stage + 1) * steps):
            grads, _ = split_frozen(grads_at(step), rules)
            updates, opt_state = tx.update(grads, opt_state, trainable)
            trainable = optax.apply_updates(trainable, updates)
        params = merge(trainable, frozen)
    return params, opt_state


def test_a_tensor_that_is_released_late_corrects_its_bias_by_its_own_updates():
    params, opt_state = train(adamw, STAGES)
    for name, steps in (
        (("head", "w"), range(9)),
        (("head", "b"), range(3, 9)),
        (("body", "w"), range(6, 9)),
    ):
        want = adamw_by_tensor(PARAMS[name[0]][name[1]], name, steps)
        np.testing.assert_allclose(params[name[0]][name[1]], want, rtol=1e-5, atol=1e-6)
    late = optax.tree.get(opt_state, "late")
    assert {path: int(start) for path, start in late.items()} == {"body/w": 6, "head/b": 3}
    assert late_paths(leaves_by_path(opt_state)) == {"body/w", "head/b"}
    assert int(optax.tree.get(opt_state, "count")) == 9


@pytest.mark.parametrize("make_tx", [adam, functools.partial(adam, amsgrad=True), sgd])
def test_moments_are_dropped_while_frozen_and_begin_anew_after_it(make_tx):
    params, opt_state = train(make_tx, ((), ("^body/",), ()), steps=1)
    trainable = {"body": PARAMS["body"]}
    tx = make_tx(H)
    first, _ = tx.update({"body": grads_at(0)["body"]}, tx.init(trainable), trainable)
    trainable = optax.apply_updates(trainable, first)
    again, _ = tx.update({"body": grads_at(2)["body"]}, tx.init(trainable), trainable)
    want = optax.apply_updates(trainable, again)["body"]["w"]
    np.testing.assert_allclose(params["body"]["w"], want, rtol=1e-6)
    assert late_paths(leaves_by_path(opt_state)) == (set() if make_tx is sgd else {"body/w"})


def test_the_state_of_another_optimizer_is_refused():
    old = leaves_by_path(adamw(H).init(PARAMS))
    new = sgd(H, momentum=0.9).init(PARAMS)
    with pytest.raises(ValueError, match="another kind of optimizer"):
        carry_over(old, new)
    with pytest.raises(ValueError, match="another kind of optimizer"):
        carry_over(leaves_by_path(new), adamw(H).init(PARAMS))
