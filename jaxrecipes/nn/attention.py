"""Attention, in the form that suits the devices, and the pre-norm transformer encoder layer; as
PyTorch computes them.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import jax
from flax import linen as nn
from flax.typing import Initializer
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn.activations import gelu
from jaxrecipes.nn.dropout import Dropout, Rate, dropout
from jaxrecipes.nn.initializers import xavier_uniform
from jaxrecipes.nn.layer_norm import LayerNorm
from jaxrecipes.nn.linear import Linear

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


@jax.custom_vjp
def softmax(x: jax.Array) -> jax.Array:
    """`exp(x) / sum(exp(x))` over the last axis; any shape, in the dtype of `x`.

    Only the result is kept for the pullback. With `jax.nn.softmax`, XLA on CPU keeps more, which
    for the attention scores of a vision transformer is a third of a block's memory.
    """
    powers = jnp.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _fwd(x):
    probs = softmax(x)
    return probs, probs


def _bwd(probs, g):
    return (probs * (g - (probs * g).sum(-1, keepdims=True)),)


softmax.defvjp(_fwd, _bwd)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one packed projection, like `torch.nn.MultiheadAttention`.

    The columns of `in_proj/kernel` `[C, 3C]` are queries, keys and values in that order; the scale
    is 1/sqrt(C / num_heads); dropout acts on the attention probabilities.

    Attributes:
      num_heads: must divide the channels.
      in_proj_init: initialiser of the packed projection.
      dtype: of the computation (the softmax is in float32); parameters stay float32.
      out_proj_init: initialiser of the projection of the result.
    """

    num_heads: int
    in_proj_init: Initializer = xavier_uniform()
    dtype: DTypeLike = jnp.float32
    out_proj_init: Initializer = xavier_uniform()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        mask: jax.Array | None = None,
        causal: bool = False,
    ) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`.

        Args:
          x: the tokens.
          train: whether dropout acts.
          dropout_rate: of the attention probabilities, traced or not.
          mask: bool, of a shape that broadcasts to `[B, heads, T, T]`: whether the query (second to
            last axis) sees the key (last axis). Without a mask every query sees every key.
          causal: whether a token sees only itself and those before it.

        Raises:
          ValueError: the heads do not divide the channels.
        """
        batch, tokens, channels = x.shape
        if channels % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide {channels} channels")
        width = channels // self.num_heads
        packed = Linear(
            3 * channels, kernel_init=self.in_proj_init, dtype=self.dtype, name="in_proj"
        )(x)
        packed = packed.reshape(batch, tokens, 3, self.num_heads, width)
        query, key, value = packed.transpose(2, 0, 3, 1, 4)  # each B heads T width
        mixed = dot_product_attention(
            query,
            key,
            value,
            mask=mask,
            causal=causal,
            dropout_rate=dropout_rate,
            dropout_key=Dropout().key(dropout_rate, train=train),
        )
        mixed = mixed.swapaxes(1, 2).reshape(batch, tokens, channels)
        return Linear(channels, kernel_init=self.out_proj_init, dtype=self.dtype, name="out_proj")(
            mixed
        )


class EncoderLayer(nn.Module):
    """`torch.nn.TransformerEncoderLayer(norm_first=True, activation="gelu", batch_first=True)`.

    `x += drop(attention(norm1(x)))`, then `x += drop(linear2(drop(gelu(linear1(norm2(x))))))`.

    Attributes:
      num_heads: must divide the channels.
      hidden: width of the feed-forward part.
      in_proj_init: initialiser of the packed attention projection.
      dtype: of the computation; parameters stay float32.
    """

    num_heads: int
    hidden: int
    in_proj_init: Initializer = xavier_uniform()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate = 0.0) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`; one rate for all four dropouts."""
        channels = x.shape[-1]
        y = LayerNorm(dtype=self.dtype, name="norm1")(x)
        y = SelfAttention(self.num_heads, self.in_proj_init, self.dtype, name="self_attn")(
            y, train=train, dropout_rate=dropout_rate
        )
        x = x + Dropout()(y, dropout_rate, train=train)
        y = LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = gelu(Linear(self.hidden, dtype=self.dtype, name="linear1")(y))
        y = Dropout()(y, dropout_rate, train=train)
        y = Linear(channels, dtype=self.dtype, name="linear2")(y)
        return x + Dropout()(y, dropout_rate, train=train)
