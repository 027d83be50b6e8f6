"""In which dtype FSDP gathers parameters, and how often."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from jaxrecipes.fsdp import used_dtypes, with_gathered_params

SIZE = 128  # so large that it is split


def network(params, batch_stats, inputs, *, hparams, train, key):
    del hparams, train, key
    x = inputs.astype(jnp.bfloat16)
    x = x @ params["half"].astype(jnp.bfloat16)
    x = jax.checkpoint(lambda kernel, x: jnp.tanh(x @ kernel.astype(jnp.bfloat16)))(
        params["recomputed"], x
    )
    return x.astype(jnp.float32) @ params["whole"], batch_stats


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    names = ("half", "recomputed", "whole")
    return {name: rng.standard_normal((SIZE, SIZE), np.float32) for name in names}


def gathered(jaxpr):
    """How often whole parameters are asked for, by dtype."""
    found = collections.Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "sharding_constraint":
            found[str(equation.outvars[0].aval.dtype)] += equation.params[
                "sharding"
            ].is_fully_replicated
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += gathered(inner)
    return found


def test_a_parameter_that_is_converted_first_and_once_counts_in_that_dtype(params):
    found = used_dtypes(
        lambda params: network(params, {}, jnp.ones((2, SIZE)), hparams={}, train=True, key=None),
        params,
    )
    assert found == {"half": jnp.bfloat16, "recomputed": jnp.bfloat16, "whole": jnp.float32}
    twice = used_dtypes(lambda p: [p.astype(jnp.bfloat16), p.astype(jnp.bfloat16)], jnp.ones(3))
    assert twice == jnp.float32
    assert used_dtypes(lambda p: p, jnp.ones(3)) == jnp.float32


def test_each_parameter_is_gathered_in_its_dtype_for_both_passes_and_kept_by_neither(params):
    mesh = AbstractMesh((1, 8), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    apply_fn = with_gathered_params(network, mesh)

    def loss(params):
        outputs, _ = apply_fn(
            params, {}, jnp.ones((2, SIZE)), hparams={}, train=True, key=jax.random.key(0)
        )
        return outputs.sum()

    assert gathered(jax.make_jaxpr(loss)(params).jaxpr) == {"bfloat16": 2, "float32": 1}
    # The first layer's kernel has no part in the backward pass.
    assert gathered(jax.make_jaxpr(jax.grad(loss))(params).jaxpr) == {"bfloat16": 3, "float32": 2}
