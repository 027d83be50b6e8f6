"""Rule tables between the tensors of an original network and ours, with a full coverage report.

A rule joins one key of the original's state dict and one path of our variables (or several keys,
where we keep one tensor for them); every tensor on either side must have exactly one.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxrecipes.convert.torch_objects import Unread

_WRAPPERS = frozenset(
    {
        "module",  # of DataParallel and AveragedModel
        "_orig_mod",  # of torch.compile
        "_fsdp_wrapped_module",
        "_fpw_module",  # of older FSDP
        "_checkpoint_wrapped_module",
    }
)
_LIGHTNING = "model."
_COUNTER = "n_averaged"
_MOST_NAMED = 4  # tensors in a message, of each kind of problem
_LONGEST_VALUE = 40


class Layout(NamedTuple):
    """How one kind of tensor is laid out on both sides."""

    to_jax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda a: a, lambda a: a)
LINEAR = Layout(lambda a: a.T, lambda a: a.T)
"""`[out, in]` and `[in, out]`."""
CONV = Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
"""`[out, in, h, w]` and `[h, w, in, out]`."""
POINTWISE = Layout(lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
"""`[out, in, 1, 1]` and `[in, out]`."""
DEPTHWISE = Layout(lambda a: a[:, 0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[:, None])
"""`[channels, 1, h, w]` and `[h, w, channels]`."""
FIRST = Layout(lambda a: a[0], lambda a: a[None])
"""`[1, ...]` and `[...]`."""

_BATCH_NORM = (
    ("weight", "params", "scale"),
    ("bias", "params", "bias"),
    ("running_mean", "batch_stats", "mean"),
    ("running_var", "batch_stats", "var"),
    ("num_batches_tracked", "batch_stats", "num_batches_tracked"),
)  # the original's name, and our collection and name


@dataclasses.dataclass(frozen=True)
class Rule:
    """One tensor on both sides: `source` is the original's key, `target` our "a/b/c" path.

    With `followed_by`, our tensor is the original's tensors of all these keys, stacked along their
    first axis, that of `source` first; they have one shape. With `more_targets`, the original's
    tensor is those of ours at all these paths, stacked in the same way.
    """

    source: str
    target: str
    layout: Layout = SAME
    followed_by: tuple[str, ...] = ()
    more_targets: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """All keys of the original."""
        return (self.source, *self.followed_by)

    @property
    def targets(self) -> tuple[str, ...]:
        """All our paths."""
        return (self.target, *self.more_targets)

    def source_shape(self, *target_shapes: Sequence[int]) -> tuple[int, ...]:
        """The shape that the original's tensor, or each of them, must have."""
        shapes = [
            self.layout.to_torch(np.broadcast_to(np.int8(0), tuple(shape))).shape
            for shape in target_shapes
        ]
        if not self.followed_by and not self.more_targets:
            return shapes[0]
        return (sum(shape[0] for shape in shapes) // len(self.sources), *shapes[0][1:])

    def gather(
        self, state_dict: Mapping[str, np.ndarray], leaves: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Our tensors from the original's, still in its dtype; `leaves` have their shapes."""
        arrays = [np.asarray(state_dict[key]) for key in self.sources]
        array = np.concatenate(arrays) if self.followed_by else arrays[0]
        if not self.more_targets:
            return {self.target: self.layout.to_jax(array)}
        rows = [self.source_shape(leaves[target].shape)[0] for target in self.targets]
        parts = np.split(array, np.cumsum(rows)[:-1])
        return {
            target: self.layout.to_jax(part)
            for target, part in zip(self.targets, parts, strict=True)
        }

    def scatter(self, leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The original's tensors from ours; the inverse of `gather`."""
        arrays = [self.layout.to_torch(np.asarray(leaves[target])) for target in self.targets]
        array = np.concatenate(arrays) if self.more_targets else arrays[0]
        parts = np.split(array, len(self.sources)) if self.followed_by else [array]
        return dict(zip(self.sources, parts, strict=True))


def weight_rules(
    source: str, target: str, layout: Layout = LINEAR, *, bias: bool = True
) -> Iterator[Rule]:
    """Those of a linear layer or a convolution: `weight` and `kernel`, and the biases."""
    yield Rule(f"{source}.weight", f"{target}/kernel", layout)
    if bias:
        yield Rule(f"{source}.bias", f"{target}/bias")


def packed_rules(sources: Sequence[str], target: str) -> Iterator[Rule]:
    """Those of linear layers that are one of ours, such as queries, keys and values."""
    for theirs, ours, layout in (("weight", "kernel", LINEAR), ("bias", "bias", SAME)):
        first, *others = (f"{source}.{theirs}" for source in sources)
        yield Rule(first, f"{target}/{ours}", layout, followed_by=tuple(others))


def norm_rules(source: str, target: str) -> Iterator[Rule]:
    """Those of a layer normalisation: `weight` and `scale`, and the biases."""
    yield Rule(f"{source}.weight", f"{target}/scale")
    yield Rule(f"{source}.bias", f"{target}/bias")


def batch_norm_rules(source: str, target: str) -> Iterator[Rule]:
    """Those of a batch normalisation; `target` without "params/" or "batch_stats/"."""
    for theirs, collection, ours in _BATCH_NORM:
        yield Rule(f"{source}.{theirs}", f"{collection}/{target}/{ours}")


def attention_rules(source: str, target: str) -> Iterator[Rule]:
    """Those of PyTorch's attention over one key, where queries and keys are inert.

    The original packs queries, keys and values in one tensor; ours are `query_key` and `value`.
    """
    for theirs, ours, layout in (("weight", "kernel", LINEAR), ("bias", "bias", SAME)):
        parts = [f"{target}/{part}/{ours}" for part in ("query_key", "value")]
        packed = f"{source}.in_proj_{theirs}"
        yield Rule(packed, parts[0], layout, more_targets=(parts[1],))
    yield from weight_rules(f"{source}.out_proj", f"{target}/out_proj")


def feed_forward_rules(source: str, target: str, *, norms: int = 2) -> Iterator[Rule]:
    """What follows the attention in PyTorch's transformer layers: two linear layers, the norms."""
    for name in ("linear1", "linear2"):
        yield from weight_rules(f"{source}.{name}", f"{target}/{name}")
    for i in range(1, norms + 1):
        yield from norm_rules(f"{source}.norm{i}", f"{target}/norm{i}")


def prefixed(rules: Iterable[Rule], source: str, target: str) -> list[Rule]:
    """The rules of a network inside another one, with prefixes of its keys and of our paths."""
    return [
        dataclasses.replace(
            _moved(rule, lambda path: target + path),
            source=source + rule.source,
            followed_by=tuple(source + key for key in rule.followed_by),
        )
        for rule in rules
    ]


def in_params(rules: Iterable[Rule]) -> list[Rule]:
    """The rules with "params/" before each target that names no collection."""
    collections = ("params/", "batch_stats/")
    return [
        rule if rule.target.startswith(collections) else _moved(rule, lambda t: f"params/{t}")
        for rule in rules
    ]


def parameter_rules(rules: Iterable[Rule]) -> list[Rule]:
    """Those whose target is in "params/", as paths inside of it: what an optimizer numbers."""
    return [
        _moved(rule, lambda target: target.removeprefix("params/"))
        for rule in rules
        if rule.target.startswith("params/")
    ]


def _moved(rule: Rule, moved: Callable[[str], str]) -> Rule:
    target, *more = map(moved, rule.targets)
    return dataclasses.replace(rule, target=target, more_targets=tuple(more))


class ConversionError(ValueError):
    """Tensors do not fit the rule table; the message names the first problems of each kind."""


def unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict with the names that the network itself has.

    What wraps a network, or a part of it, puts a name into the paths of its tensors: DataParallel,
    torch.compile, FSDP, activation checkpoints, AveragedModel (which also counts, in `n_averaged`)
    and Lightning (a leading "model."). No network here has parts of these names.

    Raises:
      ConversionError: it is not a dict with strings as keys, or two of its tensors become one.
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(key, str) for key in state_dict):
        raise ConversionError(f"expected names and tensors, got {described(state_dict)}")
    origins: dict[str, str] = {}
    for key in state_dict:
        bare = _bare(key)
        if bare in origins:
            raise ConversionError(
                f"{origins[bare]} and {key} are both {bare!r} without the names of wrappers; "
                "keep one of them"
            )
        if key != _COUNTER or not any(other.startswith("module.") for other in state_dict):
            origins[bare] = key
    return {bare: state_dict[key] for bare, key in origins.items()}


def _bare(key: str) -> str:
    bare = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
    return bare.removeprefix(_LIGHTNING)


def described(value: Any) -> str:
    """A value of a file in a few words, for messages."""
    if isinstance(value, Unread):
        return value.kind
    if isinstance(value, np.ndarray):
        return f"a tensor {value.shape} of {value.dtype}"
    text = repr(value) if isinstance(value, bool | int | float | None) else ""
    return text if 0 < len(text) < _LONGEST_VALUE else f"a value of kind {type(value).__name__}"


def _report(title: str, problems: Mapping[str, Sequence[str]]) -> None:
    found = [
        f"{kind} ({len(items)}): {', '.join(items[:_MOST_NAMED])}"
        + (", ..." if len(items) > _MOST_NAMED else "")
        for kind, items in problems.items()
        if items
    ]
    if found:
        raise ConversionError(f"{title} {'; '.join(found)}")


def _duplicates(names: Sequence[str]) -> list[str]:
    return [name for name, count in collections.Counter(names).items() if count > 1]


def _as_target(array: np.ndarray, dtype: Any) -> np.ndarray:
    return np.ascontiguousarray(array.astype(dtype)).reshape(array.shape)


def load_tensors(
    rules: Sequence[Rule], state_dict: Mapping[str, np.ndarray], template: Mapping[str, Any]
) -> dict[str, Any]:
    """Our nested tree from the original's tensors.

    Args:
      rules: one rule per tensor.
      state_dict: the original's arrays by key.
      template: nested dict whose leaves have `shape` and `dtype`, as `jax.eval_shape` gives.

    Returns:
      The tree of `template` with numpy arrays in its dtypes.

    Raises:
      ConversionError: missing, unexpected or wrongly shaped tensors, some of another kind of dtype
        or with values that are not finite, or a table that does not name each exactly once; all
        kinds of problems together.
    """
    leaves = flatten_dict(template, sep="/")
    sources = [source for rule in rules for source in rule.sources]
    targets = [target for rule in rules for target in rule.targets]
    problems: dict[str, list[str]] = {
        "missing": [s for s in sources if s not in state_dict],
        "unexpected": sorted(set(state_dict) - set(sources)),
        "named by two rules": _duplicates(sources) + _duplicates(targets),
        "of ours without a rule": sorted(set(leaves) - set(targets)),
        "rules for nothing of ours": sorted(set(targets) - set(leaves)),
    }
    for rule in rules:
        if any(target not in leaves for target in rule.targets):
            continue
        want = rule.source_shape(*(leaves[target].shape for target in rule.targets))
        dtype = np.dtype(leaves[rule.target].dtype)
        for source in rule.sources:
            if source in state_dict:
                kind, problem = _problem(state_dict[source], want, dtype)
                if kind:
                    problems.setdefault(kind, []).append(f"{source}: {problem}")
    _report("the state dict does not fit the network:", problems)
    return unflatten_dict(
        {
            target: _as_target(array, leaves[target].dtype)
            for rule in rules
            for target, array in rule.gather(state_dict, leaves).items()
        },
        sep="/",
    )


def load_variables(
    rules: Sequence[Rule], state_dict: Mapping[str, np.ndarray], template: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(params, batch_stats) as `load_tensors` makes them of rules whose targets name both."""
    variables = load_tensors(rules, state_dict, template)
    return variables["params"], variables.get("batch_stats", {})


def _problem(value: Any, shape: tuple[int, ...], dtype: np.dtype) -> tuple[str, str]:
    """(kind, description) of what keeps a tensor from having this shape and dtype, or ("", "")."""
    if not isinstance(value, np.ndarray | np.generic):
        return "no tensors", f"got {described(value)}"
    if value.shape != shape:
        return "wrong shape", f"expected {shape}, got {value.shape}"
    number = np.inexact if jax.dtypes.issubdtype(dtype, np.inexact) else np.integer
    if not jax.dtypes.issubdtype(value.dtype, number) or value.dtype.kind == "c":
        return "wrong dtype", f"expected one like {dtype}, got {value.dtype}"
    with np.errstate(over="ignore"):
        cast = value.astype(dtype)
    if number is np.inexact and not np.isfinite(cast).all():
        return "not finite", f"NaN or infinity in {dtype}"
    if number is np.integer and not (cast == value).all():
        return "too large", f"beyond {dtype}"
    return "", ""


def dump_tensors(rules: Sequence[Rule], tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The original's tensors, in the order of the rules, from our nested tree.

    Raises:
      ConversionError: tensors without a rule or rules without a tensor; all problems together.
    """
    leaves = flatten_dict(tree, sep="/")
    targets = [target for rule in rules for target in rule.targets]
    _report(
        "our variables do not fit the rule table:",
        {
            "missing": [t for t in targets if t not in leaves],
            "unexpected": sorted(set(leaves) - set(targets)),
        },
    )
    return {
        source: _dumped(array) for rule in rules for source, array in rule.scatter(leaves).items()
    }


def _dumped(array: np.ndarray) -> np.ndarray:
    dtype = np.int64 if array.dtype.kind == "i" else array.dtype  # torch counts in int64
    return _as_target(array, dtype)
