import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.optim import (
    adamw,
    clip_by_global_norm,
    layerwise_decay,
    match_factors,
    merge,
    parameter_paths,
    split_frozen,
)

PARAMS = {
    "stem": {"conv": {"kernel": jnp.ones(3)}, "norm": {"scale": jnp.ones(2)}},
    "head": {"kernel": jnp.ones(4), "bias": jnp.ones(1)},
}


def test_paths_are_keys_joined_by_slashes():
    paths = parameter_paths(PARAMS)
    assert paths["stem"]["conv"]["kernel"] == "stem/conv/kernel"
    assert paths["head"]["bias"] == "head/bias"


def test_a_rule_that_is_no_regular_expression_is_an_error():
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression.*unterminated"):
        match_factors(PARAMS, [("(", 2.0)])


def test_first_matching_rule_wins_and_the_rest_gets_the_default():
    factors = match_factors(PARAMS, [("kernel$", 2.0), ("^head/", 3.0)], default=0.5)
    assert factors["stem"] == {"conv": {"kernel": 2.0}, "norm": {"scale": 0.5}}
    assert factors["head"] == {"kernel": 2.0, "bias": 3.0}


def test_split_takes_apart_and_merge_puts_together():
    trainable, frozen = split_frozen(PARAMS, ["^stem/", "bias$"])
    assert parameter_paths(trainable) == {"head": {"kernel": "head/kernel"}}
    assert set(frozen) == {"stem", "head"}
    merged = merge(trainable, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)
    assert all(
        a is b for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(PARAMS), strict=True)
    )


def test_without_rules_everything_trains():
    trainable, frozen = split_frozen(PARAMS, [])
    assert jax.tree.structure(trainable) == jax.tree.structure(PARAMS)
    assert frozen == {}


trees = st.recursive(
    st.just(1.0),
    lambda below: st.dictionaries(st.sampled_from("abc"), below, min_size=1, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


@settings(deadline=None, max_examples=60)
@given(trees, st.sampled_from(["a", "b$", "^c/"]))
def test_every_leaf_is_in_exactly_one_part(tree, rule):
    try:
        trainable, frozen = split_frozen(tree, [rule])
    except ValueError:
        return  # the rule matches no leaf, or every leaf
    count = len(jax.tree.leaves(tree))
    assert len(jax.tree.leaves(trainable)) + len(jax.tree.leaves(frozen)) == count
    assert jax.tree.structure(merge(trainable, frozen)) == jax.tree.structure(tree)


def test_frozen_leaves_have_no_gradient_no_moments_and_are_outside_the_norm():
    trainable, frozen = split_frozen(PARAMS, ["^stem/"])

    def loss(trainable):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(merge(trainable, frozen)))

    grads = jax.jit(jax.grad(loss))(trainable)
    _, norm = clip_by_global_norm(grads, 1.0)
    assert float(norm) == pytest.approx((5 * 2.0**2) ** 0.5)
    state = adamw({"learning_rate": 0.1, "weight_decay": 0.1}).init(trainable)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert len(moments) == 2 * len(jax.tree.leaves(trainable))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: split_frozen(PARAMS, ["^steam/"]), r"'\^steam/' matches no parameter.*stem/"),
        (lambda: split_frozen(PARAMS, [""]), "freeze every parameter"),
        (lambda: match_factors(PARAMS, [("nothing", 1.0)]), "'nothing' matches no parameter"),
        (lambda: merge(PARAMS, {"head": {"bias": 1}}), "'bias' is in both"),
    ],
)
def test_bad_rules_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()


def test_layerwise_decay_gives_each_layer_the_rate_of_the_next_times_the_decay():
    params = {"embed": 0, "layer_0": 0, "layer_1": 0, "layer_2": 0, "head": 0}
    rules = layerwise_decay([f"^layer_{i}$" for i in range(3)], 0.5, rest="^embed$")
    factors = match_factors(params, list(rules.items()))
    assert factors == {"embed": 0.125, "layer_0": 0.25, "layer_1": 0.5, "layer_2": 1, "head": 1}
    with pytest.raises(ValueError, match=r"decay in \(0, 1\]; got 1 and 0"):
        layerwise_decay(["a"], 0.0)
