"""Rules over parameter paths: learning-rate factors, decay masks, freezing.

A parameter's path is its keys joined by "/", such as "stem/conv/kernel". A rule is a regular
expression that is searched for in the path (`re.search`), so anchor it where that matters:
"^stem/", "/bias$". A rule that matches no parameter is an error: it is misspelt or outdated.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import optax

from jaxrecipes.errors import shortened

Array = jax.Array
PyTree = Any
Params = Mapping[str, Any]


def parameter_paths(tree: PyTree) -> PyTree:
    """A tree of the same structure in which each leaf is its path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), tree
    )


def match_factors(
    tree: PyTree, rules: Sequence[tuple[str, Array | float]], *, default: Array | float = 1.0
) -> PyTree:
    """The value of the first rule that matches each leaf's path, or `default` if none does.

    Args:
      tree: parameters or gradients.
      rules: (regular expression, value) pairs; values may be traced.
      default: of the leaves that no rule matches.

    Raises:
      ValueError: a rule matches no path.
    """
    paths = parameter_paths(tree)
    _check_rules([pattern for pattern, _ in rules], jax.tree.leaves(paths))

    def first(path: str) -> Array | float:
        return next((value for pattern, value in rules if re.search(pattern, path)), default)

    return jax.tree.map(first, paths)


def layerwise_decay(
    layers: Sequence[str], decay: float, *, rest: str | None = None
) -> dict[str, float]:
    """Learning-rate factors that shrink from the last layer to the first.

    Args:
      layers: a regular expression for each layer, from the input to the output, such as
        `[rf"^encoder/layers_{i}/" for i in range(12)]`.
      decay: the ratio of each layer's factor to the next one's: the last layer has factor 1, the
        one before it `decay`, the first `decay ** (len(layers) - 1)`.
      rest: rule for what lies before the first layer (embeddings), which gets one more power.

    Returns:
      rules for `learning_rate_factors`; parameters that none matches keep the full rate.

    Raises:
      ValueError: no layers, or a decay outside (0, 1].

    Source: Howard and Ruder 2018 (discriminative fine-tuning); Clark et al. 2020.
    """
    if not layers or not 0 < decay <= 1:
        raise ValueError(f"expected layers and a decay in (0, 1]; got {len(layers)} and {decay}")
    rules = {rule: decay**power for power, rule in enumerate(reversed(layers))}
    return rules if rest is None else rules | {rest: decay ** len(layers)}


def scale_by_rules(rules: Sequence[tuple[str, Array | float]]) -> optax.GradientTransformation:
    """Parameter groups: multiplies each update by its group's factor, see `match_factors`.

    As the last link before the learning rate it gives each group its own rate, as in PyTorch: the
    decoupled weight decay is scaled too.
    """

    def scale(updates: PyTree, params: PyTree | None = None) -> PyTree:
        del params
        return jax.tree.map(lambda u, factor: u * factor, updates, match_factors(updates, rules))

    return optax.stateless(scale)


def no_decay(*patterns: str) -> Callable[[PyTree], PyTree]:
    """A decay mask: True for each parameter whose path none of `patterns` matches.

    For example `adamw(h, decay_mask=no_decay("/bias$", "/scale$"))`.

    Raises:
      ValueError: when it is used, and a pattern matches no path.
    """

    def mask(params: PyTree) -> PyTree:
        return match_factors(params, [(pattern, False) for pattern in patterns], default=True)

    return mask


def split_frozen(params: Params, rules: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a nested dict into what trains and what the rules freeze.

    Differentiate, clip, decay and update the first part only: the frozen leaves get no gradient
    (their backward pass is not computed) and no moments. `merge` reunites the parts.

    Args:
      params: nested dict of arrays.
      rules: regular expressions over paths; a parameter is frozen when any of them matches.

    Returns:
      (trainable, frozen), nested dicts that share `params`' leaves, without empty branches.

    Raises:
      ValueError: a rule matches no path, or nothing is left to train.
    """
    rules = list(rules)
    frozen_by_path = match_factors(params, [(pattern, True) for pattern in rules], default=False)
    trainable = _select(params, frozen_by_path, False)
    if params and not trainable:
        raise ValueError(f"the rules {rules} freeze every parameter; leave something to train")
    return trainable, _select(params, frozen_by_path, True)


def merge(trainable: Params, frozen: Params) -> dict[str, Any]:
    """The nested dict that `split_frozen` took apart.

    Raises:
      ValueError: a path is in both parts.
    """
    merged = dict(trainable)
    for name, branch in frozen.items():
        if name not in merged:
            merged[name] = branch
        elif isinstance(branch, Mapping) and isinstance(merged[name], Mapping):
            merged[name] = merge(merged[name], branch)
        else:
            raise ValueError(f"{name!r} is in both parts; every parameter must be in one of them")
    return merged


def _select(params: Params, marks: Params, wanted: bool) -> dict[str, Any]:
    selected = {}
    for name, branch in params.items():
        if isinstance(branch, Mapping):
            if below := _select(branch, marks[name], wanted):
                selected[name] = below
        elif marks[name] == wanted:
            selected[name] = branch
    return selected


def _check_rules(patterns: Sequence[str], paths: Sequence[str]) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"the rule {shortened(pattern, 80)!r} is not a regular expression: {error}; put a "
                "backslash before characters that are meant literally"
            ) from None
        if not any(re.search(pattern, path) for path in paths):
            close = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
            raise ValueError(
                f"the rule {shortened(pattern, 80)!r} matches no parameter; nearest paths: {close}"
            )
