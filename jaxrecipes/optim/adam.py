"""Adam's moments, with a separate count for each parameter that began to train late."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrecipes.optim.rules import parameter_paths

Array = jax.Array
PyTree = Any
Number = Array | float


class AdamState(NamedTuple):
    """Adam's moments and how many updates they have seen.

    Attributes:
      count: int32 scalar, updates so far, for all parameters that `late` does not name.
      mu, nu: first and second moments, like the parameters.
      nu_max: the largest second moments so far, or None without amsgrad.
      late: path of a parameter -> int32 scalar, the count when it began to train: PyTorch corrects
        each parameter's bias by its own number of updates.
    """

    count: Array  # type: ignore[assignment]
    mu: PyTree
    nu: PyTree
    nu_max: PyTree
    late: dict[str, Array]


def scale_by_adam(
    b1: Number, b2: Number, eps: Number, *, amsgrad: bool = False
) -> optax.GradientTransformation:
    """PyTorch's Adam. With amsgrad the maximum is taken before the bias correction (optax takes it
    after).
    """

    def init(params: PyTree) -> AdamState:
        mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        nu_max = jax.tree.map(jnp.zeros_like, params) if amsgrad else None
        return AdamState(jnp.zeros((), jnp.int32), mu, nu, nu_max, {})

    def update(grads: PyTree, state: AdamState, params: PyTree | None = None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else None

        def corrections(own_count: Array) -> tuple[Array, Array]:
            return 1 - _power(b1, own_count), jnp.sqrt(1 - _power(b2, own_count))

        shared = corrections(count)
        own = {path: corrections(count - start) for path, start in state.late.items()}

        def step(path: str, m: Array, v: Array) -> Array:
            first, second = own.get(path, shared)
            return (m / first) / (jnp.sqrt(v) / second + eps)

        updates = jax.tree.map(step, parameter_paths(mu), mu, nu_max if amsgrad else nu)
        return updates, AdamState(count, mu, nu, nu_max, state.late)

    return optax.GradientTransformation(init, update)


def _power(base: Number, count: Array) -> Array:
    return jax.lax.pow(jnp.asarray(base, jnp.float32), count)


def with_late(opt_state: PyTree, paths: Iterable[str]) -> PyTree:
    """The state with a separate count, starting at 0, for each of these parameters that it has."""

    def add(node: Any, _: str) -> Any:
        known = set(paths) & set(jax.tree.leaves(parameter_paths(node.mu)))
        return node._replace(late={path: jnp.zeros_like(node.count) for path in known})

    return _map_adam(add, opt_state)


def late_paths(opt_state_paths: Iterable[str]) -> set[str]:
    """Which parameters have a separate count, according to the paths of a state's leaves."""
    matches = (re.search(r"(?:^|/)late/(.+)$", path) for path in opt_state_paths)
    return {match[1] for match in matches if match}


def carry_over(old: Mapping[str, Array], new: PyTree) -> PyTree:
    """The optimizer's state after a change of what is frozen.

    Parameters that continue to train keep their moments and counts; newly released ones take the
    moments of `new` and count from now on; the rest is dropped.

    Args:
      old: the leaves of the previous state by path, see `leaves_by_path`.
      new: the same optimizer's initial state for the parameters that train from now on.

    Raises:
      ValueError: `old` is the state of another optimizer.
    """

    def start_late(node: AdamState, at: str) -> AdamState:
        late = {}
        for path in jax.tree.leaves(parameter_paths(node.mu)):
            own, is_new = f"{at}late/{path}", f"{at}mu/{path}" not in old
            if is_new or own in old:
                # A copy, because a donated state must not contain the same array twice.
                late[path] = jnp.copy(old[f"{at}count" if is_new else own])
        return node._replace(late=late)

    wanted = leaves_by_path(new)
    if any(path.endswith("count") and path not in old for path in wanted) or (
        wanted and not wanted.keys() & old.keys()
    ):
        raise ValueError(
            "the moments so far are of another kind of optimizer; go on with the one that the run "
            "was started with (optim.optimizer), or start another run from its weights (init_from)"
        )
    adopted = [old.get(path, leaf) for path, leaf in wanted.items()]
    return _map_adam(start_late, jax.tree.unflatten(jax.tree.structure(new), adopted))


def leaves_by_path(tree: PyTree) -> dict[str, Array]:
    """The leaves by their keys joined by "/", in the order of `jax.tree.leaves`."""
    paths = jax.tree.leaves(parameter_paths(tree))
    return dict(zip(paths, jax.tree.leaves(tree), strict=True))


def _map_adam(function: Callable[[AdamState, str], AdamState], opt_state: PyTree) -> PyTree:
    """Applies `function(state, path/)` to each Adam state inside an optax state."""

    def visit(path: Any, node: Any) -> Any:
        if not isinstance(node, AdamState):
            return node
        prefix = jax.tree_util.keystr(path, simple=True, separator="/")
        return function(node, f"{prefix}/" if prefix else "")

    return jax.tree_util.tree_map_with_path(
        visit, opt_state, is_leaf=lambda node: isinstance(node, AdamState)
    )
