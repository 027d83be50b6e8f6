"""Loss weights that set themselves while the network trains.

Both methods multiply the weights that the hyperparameters give, so these say where the learned ones
start and how the terms' scales compare. The factors live in the training state and are moved by
Adam at a rate of their own.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import optax

_PREFIX = "loss_weight/"
_LEAST = 1e-3  # a factor of GradNorm stays above it: the method has no meaning for negative ones
_ADAM = optax.scale_by_adam()


@flax.struct.dataclass
class WeightingState:
    """What the learned weights carry from one step to the next.

    Attributes:
      values: a float32 scalar of each term: the log variance s (uncertainty) or the factor
        (gradnorm).
      first: gradnorm: each term's loss at the first update, 0 before that; otherwise empty.
      adam: moments of the values.
    """

    values: dict[str, jax.Array]
    first: dict[str, jax.Array]
    adam: Any


@dataclasses.dataclass(frozen=True)
class LossWeighting:
    """How the terms of a composite loss are weighed.

    "uncertainty" (Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh
    Losses for Scene Geometry and Semantics", CVPR 2018) minimises `sum_i exp(-s_i) L_i + s_i / 2`
    over the s_i too, where `L_i` is a term times its given weight: at rest a term weighs
    1 / (2 L_i). It is derived for likelihoods, which most losses are not. The weight of a term that
    falls towards 0 grows without bound, which favours easy and overfitted terms; a negative term
    drives its weight to infinity at once; and rescaling all terms changes the effective learning
    rate.

    "gradnorm" (Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep
    Multitask Networks", ICML 2018) pulls the norm of each weighted term's gradient towards the mean
    of all, times the term's relative inverse training rate to the power alpha; the factors sum to
    the number of terms. It costs a backward pass for each term. The rate compares each loss with
    its value on the first batch, so an unlucky or pretrained start misleads it, and a term that
    cannot fall (noise, a regulariser) is given ever more weight if alpha is large.

    Both change what is minimised, and neither knows which term matters to you: compare them with
    weights set by hand.

    Attributes:
      kind: which.
      shared: gradnorm: regular expressions over the paths of the parameters whose gradients are
        compared; none: all that are trained. Those of the last layer that all terms share are
        cheaper, and what the authors chose.
    """

    kind: Literal["uncertainty", "gradnorm"]
    shared: tuple[str, ...] = ()

    def init(self, names: Iterable[str]) -> WeightingState:
        """The state in which the given weights count as they are.

        Args:
          names: of the terms.

        Raises:
          ValueError: fewer than two terms.
        """
        names = list(names)
        if len(names) < 2:
            raise ValueError(
                f"loss_weighting.kind is {self.kind}, but the loss has "
                f"{names[0] if names else 'no term'} alone: there is nothing to balance"
            )
        start = 0.0 if self.kind == "uncertainty" else 1.0
        values = {name: jnp.float32(start) for name in names}
        first = {name: jnp.float32(0.0) for name in names} if self.kind == "gradnorm" else {}
        return WeightingState(values=values, first=first, adam=_ADAM.init(values))

    def weighed(
        self, hparams: Mapping[str, jax.Array], state: WeightingState
    ) -> dict[str, jax.Array]:
        """The hyperparameters with every `loss_weight/NAME` times its factor."""
        factors = {f"{_PREFIX}{name}": self._factor(x) for name, x in state.values.items()}
        return {
            name: value * factors[name] if name in factors else value
            for name, value in hparams.items()
        }

    def update(
        self,
        state: WeightingState,
        hparams: Mapping[str, jax.Array],
        losses: Mapping[str, jax.Array],
        norms: Mapping[str, jax.Array] | None = None,
    ) -> WeightingState:
        """The state after a step; terms whose given weight is 0 stay out of it.

        Args:
          state: before.
          hparams: as given, not weighed: `loss_weight/NAME`, `loss_weighting_rate` and, for
            gradnorm, `loss_weighting_alpha`.
          losses: each term's mean, not weighed.
          norms: gradnorm: of the gradient of each such mean with respect to the shared parameters.
        """
        given = {name: hparams[f"{_PREFIX}{name}"] for name in state.values}
        first = state.first
        if self.kind == "uncertainty":
            weighed = {n: self._factor(s) * given[n] * losses[n] for n, s in state.values.items()}
            gradients = {n: jnp.where(given[n] > 0, 0.5 - x, 0.0) for n, x in weighed.items()}
        else:
            assert norms is not None
            first = {name: jnp.where(x == 0, losses[name], x) for name, x in first.items()}
            norms = {name: given[name] * norms[name] for name in given}
            rates = {name: _ratio(losses[name], x) for name, x in first.items()}
            gradients = _gradnorm_gradients(
                state.values, norms, rates, given, hparams["loss_weighting_alpha"]
            )
        moves, adam = _ADAM.update(gradients, state.adam)
        values = {
            name: x - hparams["loss_weighting_rate"] * moves[name]
            for name, x in state.values.items()
        }
        if self.kind == "gradnorm":
            values = {name: jnp.maximum(x, _LEAST) for name, x in values.items()}
            values = _summing_to_their_count(values, given)
        return WeightingState(values=values, first=first, adam=adam)

    def _factor(self, value: jax.Array) -> jax.Array:
        return jnp.exp(-value) if self.kind == "uncertainty" else value


def _ratio(loss: jax.Array, first: jax.Array) -> jax.Array:
    return jnp.maximum(loss, 0.0) / jnp.maximum(first, 1e-12)


def _gradnorm_gradients(
    factors: Mapping[str, jax.Array],
    norms: Mapping[str, jax.Array],
    rates: Mapping[str, jax.Array],
    given: Mapping[str, jax.Array],
    alpha: jax.Array,
) -> dict[str, jax.Array]:
    """The gradient of `sum_i |G_i - mean(G) r_i^alpha|` with respect to the factors, in which the
    target is held constant, as in the paper: `sign(G_i - target_i) norm_i`.
    """
    active = {name: (weight > 0).astype(jnp.float32) for name, weight in given.items()}
    count = jnp.maximum(sum(active.values()), 1.0)
    mean_norm = sum(active[name] * factors[name] * norms[name] for name in given) / count
    mean_rate = sum(active[name] * rates[name] for name in given) / count
    gradients = {}
    for name in given:
        relative = rates[name] / jnp.maximum(mean_rate, 1e-12)
        difference = factors[name] * norms[name] - mean_norm * relative**alpha
        gradients[name] = active[name] * jnp.sign(difference) * norms[name]
    return gradients


def _summing_to_their_count(
    factors: Mapping[str, jax.Array], given: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    active = {name: weight > 0 for name, weight in given.items()}
    total = sum(jnp.where(active[name], x, 0.0) for name, x in factors.items())
    count = sum(x.astype(jnp.float32) for x in active.values())
    return {name: jnp.where(active[name], x * count / total, x) for name, x in factors.items()}
