"""All forms of attention compute the same; they differ in what they keep for the backward pass."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from jaxrecipes.nn.attention import attention_form, dot_product_attention, has_cudnn_attention
from jaxrecipes.train import apply_fn

BATCH, HEADS, TOKENS, KEYS, CHANNELS = 2, 3, 5, 11, 8
MASKS = {
    "all": {},
    "keys": {"mask": (np.arange(BATCH * KEYS) % 3 > 0).reshape(BATCH, 1, 1, KEYS)},
    "pairs": {"mask": np.arange(TOKENS * KEYS).reshape(TOKENS, KEYS) % 4 > 0},
    "causal": {"causal": True},
    "causal keys": {"causal": True, "mask": np.arange(KEYS)[None, None, None] != 1},
    "dropout": {"dropout_rate": 0.4, "dropout_key": jax.random.key(3)},
    "scale": {"scale": 0.7},
}


def arrays(dtype=jnp.float32, tokens=TOKENS):
    rng = np.random.default_rng(0)
    return [
        jnp.asarray(rng.standard_normal((BATCH, HEADS, count, CHANNELS)), dtype)
        for count in (tokens, KEYS, KEYS)
    ]


def outputs_and_gradients(form, inputs, options):
    def total(*inputs):
        mixed = dot_product_attention(*inputs, **options).astype(jnp.float32)
        return (mixed * jnp.arange(CHANNELS)).sum(), mixed

    with attention_form(form):
        (_, mixed), gradients = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(*inputs)
    return mixed, *gradients


@pytest.fixture
def cudnn_on_cpu(monkeypatch):
    """cuDNN's place is taken by XLA, which takes the same padded tokens, lengths and masks."""
    fused = jax.nn.dot_product_attention

    def computed_by_xla(query, *others, implementation, **options):
        assert implementation == "cudnn"
        assert query.shape[1] % 8 == 0
        return fused(query, *others, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", computed_by_xla)


def test_plain_attention_is_the_formula():
    query, key, value = arrays()
    scores = np.einsum("bntd,bnsd->bnts", query, key) / np.sqrt(CHANNELS)
    powers = np.exp(scores)
    wanted = np.einsum("bnts,bnsd->bntd", powers / powers.sum(-1, keepdims=True), value)
    np.testing.assert_allclose(dot_product_attention(query, key, value), wanted, atol=1e-6)


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
def test_recomputed_attention_equals_plain_attention(options):
    wanted = outputs_and_gradients("plain", arrays(), options)
    given = outputs_and_gradients("recomputed", arrays(), options)
    for one, other in zip(given, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MASKS if name != "dropout"])
def test_attention_padded_for_cudnn_equals_plain_attention(name, cudnn_on_cpu):
    inputs, options = arrays(jnp.bfloat16), MASKS[name]
    wanted = outputs_and_gradients("plain", [x.astype(jnp.float32) for x in inputs], options)
    given = outputs_and_gradients("cudnn", inputs, options)
    for one, other in zip(given, wanted, strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=0.03 * np.abs(other).max())


@pytest.mark.parametrize(
    ("inputs", "options"),
    [(arrays(), {}), (arrays(jnp.bfloat16), MASKS["dropout"])],
    ids=["float32", "dropout"],
)
def test_what_cudnn_does_not_take_is_recomputed(inputs, options, cudnn_on_cpu):
    with attention_form("cudnn"):
        jaxpr = jax.make_jaxpr(functools.partial(dot_product_attention, **options))(*inputs)
    assert [equation.primitive.name for equation in jaxpr.eqns] == ["remat2"]


def test_recomputed_attention_keeps_no_probabilities():
    inputs = arrays(tokens=KEYS)

    def kept(form):
        with attention_form(form):
            pullback = jax.eval_shape(lambda *x: jax.vjp(dot_product_attention, *x)[1], *inputs)
        return [leaf.shape for leaf in jax.tree.leaves(pullback)]

    square = (BATCH, HEADS, KEYS, KEYS)
    assert square in kept("plain")
    assert square not in kept("recomputed")


@pytest.mark.parametrize("options", [{}, {"causal": True}], ids=["all", "causal"])
def test_a_program_for_nvidia_gpus_calls_cudnn(options, monkeypatch):
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)

    def pulled_back(*inputs):
        with attention_form("cudnn"):
            return jax.grad(lambda *x: dot_product_attention(*x, **options).sum(), (0, 1, 2))(
                *inputs
            )

    traced = jax.jit(pulled_back).trace(*arrays(jnp.bfloat16))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "fmhaSoftmax" in text
    assert "fmhaSoftmaxBackward" in text
    assert "exponential" not in text


def mesh_of(platform, capability="9.0"):
    device = types.SimpleNamespace(
        platform=platform, compute_capability=capability, device_kind="the device"
    )
    return types.SimpleNamespace(devices=np.array([device]))


@pytest.mark.parametrize(
    ("mesh", "cudnn", "form"),
    [
        (mesh_of("cpu"), False, "plain"),
        (mesh_of("tpu"), False, "recomputed"),
        (mesh_of("gpu"), True, "cudnn"),
        (mesh_of("gpu"), False, "recomputed"),
        (mesh_of("gpu", "7.5"), True, "recomputed"),
    ],
    ids=["cpu", "tpu", "nvidia", "no cudnn", "old nvidia"],
)
def test_the_form_suits_the_devices(mesh, cudnn, form, monkeypatch):
    monkeypatch.setattr(apply_fn, "has_cudnn_attention", lambda: cudnn)
    assert apply_fn._attention_form("auto", mesh) == form
    assert apply_fn._attention_form("plain", mesh) == "plain"


def test_cudnn_is_refused_where_it_is_not():
    assert not has_cudnn_attention()
    with pytest.raises(ValueError, match="attention is cudnn, which the device cannot compute"):
        apply_fn._attention_form("cudnn", mesh_of("cpu"))
