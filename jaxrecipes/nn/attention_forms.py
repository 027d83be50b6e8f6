"""Scaled dot-product attention: one function for all transformers, in the form that suits the
devices.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import jax
from jax import numpy as jnp

from jaxrecipes.nn.dropout import Rate, dropout
from jaxrecipes.nn.softmax import softmax

AttentionForm = Literal["plain", "recomputed", "cudnn"]

_form: contextvars.ContextVar[AttentionForm] = contextvars.ContextVar("form", default="plain")
_CUDNN_MULTIPLE = 8  # what cuDNN's kernels want the numbers of tokens and of channels to be


@contextlib.contextmanager
def attention_form(form: AttentionForm) -> Iterator[None]:
    """What is traced in the block computes attention in this form.

    Args:
      form: "plain" keeps the probabilities for the backward pass, `[B, N, T, S]` in float32.
        "recomputed" keeps queries, keys and values alone, and computes the probabilities once more
        in the backward pass. "cudnn" is NVIDIA's fused kernel, which never holds all probabilities
        at once; it takes float16 and bfloat16 and heads of up to 128 channels, and has no dropout
        with a traced rate. Attention that it does not take is "recomputed".
    """
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    scale: float | None = None,
    mask: jax.Array | None = None,
    causal: bool = False,
    dropout_rate: Rate = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """`softmax(scale * query key^T) value` of each head, the softmax in float32 (Vaswani et al.,
    "Attention Is All You Need", 2017).

    Args:
      query: `[B, N, T, D]`, N heads of T tokens.
      key: `[B, N, S, D]`.
      value: `[B, N, S, D]`.
      scale: of the scores; None: 1 / sqrt(D).
      mask: bool, of a shape that broadcasts to `[B, N, T, S]`: whether the query sees the key. A
        query that sees no key attends to all alike.
      causal: whether token t sees the keys up to t alone.
      dropout_rate: of the probabilities, traced or not.
      dropout_key: what dropout draws with; None: no dropout.

    Returns:
      `[B, N, T, D]` in the dtype of `value`.
    """
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    form = _form.get()
    if form == "cudnn" and dropout_key is None and _cudnn_takes(query, value):
        return _cudnn(query, key, value, mask, scale=scale, causal=causal)
    plain = partial(_plain, scale=scale, causal=causal)
    attend = plain if form == "plain" else jax.checkpoint(plain)
    return attend(query, key, value, mask, dropout_rate, dropout_key)


def _plain(query, key, value, mask, dropout_rate, dropout_key, *, scale, causal):
    query = query * scale  # queries are fewer than scores
    scores = (query @ key.swapaxes(-1, -2)).astype(jnp.float32)
    if causal:
        before = jnp.tri(scores.shape[-2], scores.shape[-1], dtype=bool)
        mask = before if mask is None else before & mask
    if mask is not None:  # finite, so that a query without any key gives no NaN
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    probs = softmax(scores).astype(value.dtype)
    if dropout_key is not None:
        probs = dropout(dropout_key, probs, dropout_rate)
    return probs @ value


def _cudnn_takes(query: jax.Array, value: jax.Array) -> bool:
    channels = query.shape[-1]
    return (
        query.dtype in (jnp.float16, jnp.bfloat16)
        and channels == value.shape[-1]
        and channels <= 128
        and channels % _CUDNN_MULTIPLE == 0
    )


def _cudnn(query, key, value, mask, *, scale, causal):
    """On tokens padded to what cuDNN takes; padding is never seen, and cut off."""
    (batch, _, tokens, _), keys = query.shape, key.shape[2]
    query, key, value = (_padded(x, 2).swapaxes(1, 2) for x in (query, key, value))
    if mask is not None:
        mask = jnp.broadcast_to(mask, (*mask.shape[:-2], tokens, keys))
        mask = _padded(_padded(mask, -1), -2)
    mixed = jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=mask,
        scale=scale,
        is_causal=causal,
        query_seq_lengths=jnp.full(batch, tokens, jnp.int32),
        key_value_seq_lengths=jnp.full(batch, keys, jnp.int32),
        implementation="cudnn",
    )
    return mixed[:, :tokens].swapaxes(1, 2)


def _padded(x: jax.Array, axis: int) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % _CUDNN_MULTIPLE)
    return jnp.pad(x, widths)


def has_cudnn_attention() -> bool:
    """Whether JAX finds cuDNN, without which the form "cudnn" cannot even be traced."""
    tokens = jax.ShapeDtypeStruct((1, 8, 1, 8), jnp.bfloat16)
    attend = partial(jax.nn.dot_product_attention, implementation="cudnn")
    try:
        jax.eval_shape(attend, tokens, tokens, tokens)
    except RuntimeError:
        return False
    return True
