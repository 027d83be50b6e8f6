"""Mixed precision: the type that the network computes in, the dynamic loss scale for float16, and
what is not finite.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
PyTree = Any

_COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


@dataclasses.dataclass(frozen=True)
class Policy:
    """The type that the network computes in; parameters, statistics, losses and moments stay
    float32.

    Attributes:
      compute: the type of activations and of the parameters' copies inside the forward pass.
        "float16" needs a `LossScale`; "bfloat16" has float32's range and needs none.

    Raises:
      ValueError: `compute` is none of the three.
    """

    compute: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self):
        if self.compute not in _COMPUTE_DTYPES:
            raise ValueError(
                f"compute={self.compute!r}: expected one of {', '.join(_COMPUTE_DTYPES)}"
            )

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(_COMPUTE_DTYPES[self.compute])

    def cast_params(self, params: PyTree) -> PyTree:
        """Floating leaves in the compute type; the gradient through the cast is float32 again."""
        return cast_floating(params, self.compute_dtype)

    def cast_inputs(self, inputs: PyTree) -> PyTree:
        """Floating leaves in the compute type; images in uint8 and labels pass unchanged."""
        return cast_floating(inputs, self.compute_dtype)

    def cast_outputs(self, outputs: PyTree) -> PyTree:
        """Floating leaves in float32, for losses and metrics."""
        return cast_floating(outputs, jnp.float32)


def cast_floating(tree: PyTree, dtype: Any) -> PyTree:
    """Casts the floating leaves of `tree`; all others (uint8, int32, bool) stay as they are."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x,
        jax.tree.map(jnp.asarray, tree),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScaleState:
    """The state of the dynamic loss scale.

    Attributes:
      scale: float32 scalar by which the loss is multiplied before the backward pass.
      growth_tracker: int32 scalar, finite steps since the last change of the scale.
    """

    scale: Array
    growth_tracker: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """The dynamic loss scale of PyTorch's `torch.amp.GradScaler`, step for step.

    After a step with non-finite gradients (whose update must be skipped) the scale is multiplied by
    `backoff_factor`; after `growth_interval` finite steps in a row by `growth_factor`, unless the
    product is beyond float32. The attributes may be traced.
    """

    init_scale: float = 65536.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000

    def init(self) -> LossScaleState:
        return LossScaleState(jnp.asarray(self.init_scale, jnp.float32), jnp.zeros((), jnp.int32))

    def update(self, state: LossScaleState, grads_finite: Array) -> LossScaleState:
        """The state after a step.

        Args:
          state: before the step.
          grads_finite: bool scalar: no gradient is NaN or infinite.
        """
        successful = state.growth_tracker + 1
        grows = successful == self.growth_interval
        grown = _multiply(state.scale, self.growth_factor)
        grown = jnp.where(grows & jnp.isfinite(grown), grown, state.scale)
        scale = jnp.where(grads_finite, grown, _multiply(state.scale, self.backoff_factor))
        tracker = jnp.where(grads_finite & ~grows, successful, 0)
        return LossScaleState(scale, tracker.astype(jnp.int32))

    def unscale(self, state: LossScaleState, grads: PyTree) -> PyTree:
        """Float32 gradients of the loss itself, from those of the scaled loss."""
        inverse = 1.0 / state.scale
        return jax.tree.map(lambda g: g.astype(jnp.float32) * inverse, grads)


def _multiply(scale: Array, factor: Array | float) -> Array:
    """`scale * factor`, also correct for subnormal numbers, which XLA treats as zero on a CPU.

    Tiny scales are enlarged by 2^100 for the multiplication. The bits of a subnormal number count
    multiples of 2^-149, the smallest float32; 2^23 of them make the first normal number.
    """
    bits = jax.lax.bitcast_convert_type(scale, jnp.uint32)
    enlarged = jnp.where(bits < 2**23, bits.astype(jnp.float32) * 2.0**-49, scale * 2.0**100)
    product = jnp.asarray(enlarged * factor, jnp.float32)
    count = jnp.round(jnp.minimum(product * 2.0**49, 2.0**23)).astype(jnp.uint32)
    subnormal = jax.lax.bitcast_convert_type(count, jnp.float32)
    tiny = jnp.where(count < 2**23, subnormal, product * 2.0**-100)
    return jnp.where(scale < 2.0**-60, tiny, scale * factor).astype(jnp.float32)


def is_floating(leaf: Any) -> bool:
    """Whether an array holds floating-point numbers; false for counters and PRNG keys."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def first_nonfinite(tree: Any) -> str | None:
    """The path of the first array that holds a NaN or an infinity, keys joined by "/"; None if all
    numbers are finite.

    Waits for the arrays. All processes get the same answer for arrays that they share.

    Args:
      tree: jax or numpy arrays.
    """
    leaves = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if is_floating(leaf)
    ]
    finite = jax.device_get([_all_finite(leaf) for _, leaf in leaves])
    return next((path for (path, _), good in zip(leaves, finite, strict=True) if not good), None)


def _all_finite(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and not _in_host_memory(leaf):
        return _all_finite_on_device(leaf)
    return np.isfinite(np.asarray(leaf)).all()


def _in_host_memory(leaf: jax.Array) -> bool:
    return leaf.is_fully_addressable and all(d.platform == "cpu" for d in leaf.devices())


@jax.jit
def _all_finite_on_device(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()
