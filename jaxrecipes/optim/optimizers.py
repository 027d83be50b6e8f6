"""PyTorch's optimizers as functions of hyperparameters, and its clipping of gradients.

Each optimizer takes `h`, the hyperparameters at this step: scalars that may be traced, so that a
schedule, a change in mid-run or a population needs no compilation. Building a chain inside the step
is free. If `h` lacks an optional one, the keyword argument is used. Moments and updates are
float32, whatever the type of the gradients and parameters. `optax.tree.get(opt_state, "mu")` finds
Adam's moments, "nu" and "count" likewise, and SGD's "trace".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrecipes.optim.adam import scale_by_adam
from jaxrecipes.optim.rules import parameter_paths, scale_by_rules

Array = jax.Array
PyTree = Any
Number = Array | float
HParams = Mapping[str, Number]
Mask = PyTree | Callable[[PyTree], PyTree]
Factors = Sequence[tuple[str, Number]]


def global_norm(tree: PyTree) -> Array:
    """The Euclidean norm over all leaves, a float32 scalar; an empty tree has norm 0."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float32)))


def clip_by_global_norm(
    grads: PyTree, max_norm: Array | float, *, norm: Array | None = None
) -> tuple[PyTree, Array]:
    """Multiplies all gradients by `min(1, max_norm / (norm + 1e-6))`.

    Args:
      grads: any tree of gradients; leave frozen parameters out, because all of it counts.
      max_norm: may be traced; infinity switches clipping off.
      norm: `global_norm(grads)`, if it is already known.

    Returns:
      the clipped tree, in the leaves' own types, and the norm before clipping, a float32 scalar.
      A non-finite norm makes the gradients non-finite, as in PyTorch; skip such steps.

    Source: torch.nn.utils.clip_grad_norm_.
    """
    norm = global_norm(grads) if norm is None else norm
    factor = jnp.minimum(1.0, max_norm / (norm + 1e-6)).astype(jnp.float32)
    return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), grads), norm


def adamw(
    h: HParams,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    decay_mask: Mask | None = None,
    learning_rate_factors: Factors | None = None,
    inert: Sequence[str] = (),
) -> optax.GradientTransformation:
    """torch.optim.AdamW: Adam with decoupled weight decay, `learning_rate * weight_decay`.

    Args:
      h: needs learning_rate and weight_decay; may have b1, b2, eps.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      decay_mask: a tree of bools over the parameters (True = decay) or a function that makes one,
        such as `no_decay("/bias$")`; by default everything decays, as in PyTorch.
      learning_rate_factors: parameter groups, see `scale_by_rules`.
      inert: regular expressions over the paths of parameters whose gradient is always 0. They decay
        like the others; their moments, which would stay 0, are neither kept nor computed.

    Raises:
      ValueError: `h` lacks a hyperparameter.
    """
    moments = scale_by_adam(h.get("b1", b1), h.get("b2", b2), h.get("eps", eps))
    return _in_float32(
        optax.masked(moments, _moves(inert)) if inert else moments,
        optax.add_decayed_weights(_get(h, "weight_decay"), decay_mask),
        *_learning_rate(h, learning_rate_factors),
    )


def adam(
    h: HParams,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    amsgrad: bool = False,
    decay_mask: Mask | None = None,
    learning_rate_factors: Factors | None = None,
) -> optax.GradientTransformation:
    """torch.optim.Adam: the weight decay is L2, added to the gradient before the moments.

    Args:
      h: needs learning_rate; may have weight_decay (else none), b1, b2, eps.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      amsgrad: divide by the root of the largest second moment so far.
      decay_mask: as in `adamw`.
      learning_rate_factors: parameter groups, see `scale_by_rules`.

    Raises:
      ValueError: `h` lacks the learning rate.
    """
    return _in_float32(
        *_l2(h, decay_mask),
        scale_by_adam(h.get("b1", b1), h.get("b2", b2), h.get("eps", eps), amsgrad=amsgrad),
        *_learning_rate(h, learning_rate_factors),
    )


def sgd(
    h: HParams,
    *,
    momentum: Number | None = None,
    nesterov: bool = False,
    decay_mask: Mask | None = None,
    learning_rate_factors: Factors | None = None,
) -> optax.GradientTransformation:
    """torch.optim.SGD without dampening; the weight decay is L2, added to the gradient.

    Args:
      h: needs learning_rate; may have weight_decay (else none) and momentum.
      momentum: if it is neither here nor in `h`, no trace is kept.
      nesterov: as in PyTorch; needs a momentum.
      decay_mask: as in `adamw`.
      learning_rate_factors: parameter groups, see `scale_by_rules`.

    Raises:
      ValueError: `h` lacks the learning rate, or nesterov without momentum.
    """
    momentum = h.get("momentum", momentum)
    if nesterov and momentum is None:
        raise ValueError("nesterov needs a momentum: give h['momentum'] or momentum=")
    return _in_float32(
        *_l2(h, decay_mask),
        *([] if momentum is None else [optax.trace(momentum, nesterov=nesterov)]),
        *_learning_rate(h, learning_rate_factors),
    )


def _get(h: HParams, name: str) -> Number:
    if name not in h:
        raise ValueError(f"the optimizer needs h[{name!r}]; h has {', '.join(h) or 'nothing'}")
    return h[name]


def _moves(inert: Sequence[str]) -> Callable[[PyTree], PyTree]:
    """A mask that is False for each parameter whose path matches one of `inert`."""

    def mask(params: PyTree) -> PyTree:
        paths = parameter_paths(params)
        return jax.tree.map(lambda path: not any(re.search(p, path) for p in inert), paths)

    return mask


def _l2(h: HParams, mask: Mask | None) -> list[optax.GradientTransformation]:
    return [optax.add_decayed_weights(h["weight_decay"], mask)] if "weight_decay" in h else []


def _learning_rate(h: HParams, factors: Factors | None) -> list[optax.GradientTransformation]:
    scale = optax.scale(-jnp.asarray(_get(h, "learning_rate"), jnp.float32))
    return [scale_by_rules(factors), scale] if factors else [scale]


def _in_float32(*links: optax.GradientTransformation) -> optax.GradientTransformation:
    """A chain that sees gradients and parameters in float32, so that its state is float32 too."""
    chain = optax.chain(*links)

    def cast(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        return chain.update(cast(updates), state, None if params is None else cast(params))

    return optax.GradientTransformation(lambda params: chain.init(cast(params)), update)
