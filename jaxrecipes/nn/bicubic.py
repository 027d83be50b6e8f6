"""Bicubic resampling along one axis as a matrix, with PyTorch's arithmetic."""

import numpy as np


def bicubic_matrix(
    old: int, new: int, *, step: float | None = None, antialias: bool = False
) -> np.ndarray:
    """Weights `[new, old]` float64 that resample `old` values at `new` positions, with half-pixel
    centres.

    Equals `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`, which differs
    from `jax.image.resize`.

    Args:
      old: values along the axis.
      new: values to compute.
      step: distance between positions, in old values; `old / new` by default.
      antialias: False: cubic convolution with a = -0.75 over four values, edges repeated. True:
        a = -0.5, the kernel widened by the step if that is above 1, and the weights of the values
        in range scaled to sum to one.
    """
    step = old / new if step is None else step
    centres = (np.arange(new) + 0.5) * step - 0.5
    if antialias:
        distances = np.abs(np.arange(old) - centres[:, None]) / max(step, 1.0)
        weights = _cubic(distances, -0.5)
        return weights / weights.sum(1, keepdims=True)
    taps = np.floor(centres)[:, None] + np.arange(-1, 3)
    weights = np.zeros((new, old))
    columns = np.clip(taps, 0, old - 1).astype(int)
    np.add.at(
        weights, (np.arange(new)[:, None], columns), _cubic(np.abs(taps - centres[:, None]), -0.75)
    )
    return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """The kernel of cubic convolution (Keys, 1981) at distances `x >= 0`; zero beyond 2."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
