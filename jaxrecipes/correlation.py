"""How well predictions agree with opinion scores: rank and linear correlations, errors.

Computed on the host in float64 over whole splits, with ties treated as in SciPy. An undefined
correlation (fewer than two values, constant or non-finite values) is NaN.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from jaxrecipes.errors import unknown_name

LogisticFit = Literal["logistic4", "logistic5"]


def srocc(pred: ArrayLike, target: ArrayLike) -> float:
    """Spearman's rank correlation; tied values share their mean rank.

    Args:
      pred: `[N]`.
      target: `[N]`.

    Raises:
      ValueError: not two vectors of one length.
    """
    x, y = _pair(pred, target)
    return float(stats.spearmanr(x, y).statistic) if _defined(x, y) else float("nan")


def plcc(pred: ArrayLike, target: ArrayLike, *, fit: LogisticFit | None = None) -> float:
    """Pearson's linear correlation, optionally after a logistic fit of the predictions.

    Args:
      pred: `[N]`.
      target: `[N]`.
      fit: None, or the kind of `fit_logistic`; published results often use one.

    Raises:
      ValueError: not two vectors of one length, or an unknown fit.
    """
    x, y = _pair(pred, target)
    if fit is not None:
        x = fit_logistic(x, y, kind=fit)
    return float(stats.pearsonr(x, y).statistic) if _defined(x, y) else float("nan")


def krocc(pred: ArrayLike, target: ArrayLike) -> float:
    """Kendall's rank correlation tau-b; arguments as `srocc`."""
    x, y = _pair(pred, target)
    return float(stats.kendalltau(x, y).statistic) if _defined(x, y) else float("nan")


def rmse(pred: ArrayLike, target: ArrayLike) -> float:
    """Root of the mean squared error; arguments as `srocc`."""
    x, y = _pair(pred, target)
    return float(np.sqrt(np.mean((x - y) ** 2))) if x.size else float("nan")


def mae(pred: ArrayLike, target: ArrayLike) -> float:
    """Mean absolute error; arguments as `srocc`."""
    x, y = _pair(pred, target)
    return float(np.mean(np.abs(x - y))) if x.size else float("nan")


def agreement(
    pred: ArrayLike, target: ArrayLike, *, fit: LogisticFit | None = None
) -> dict[str, float]:
    """All five measures by name; `fit` is passed to `plcc`."""
    return {
        "srocc": srocc(pred, target),
        "plcc": plcc(pred, target, fit=fit),
        "krocc": krocc(pred, target),
        "rmse": rmse(pred, target),
        "mae": mae(pred, target),
    }


def fit_logistic(
    pred: ArrayLike, target: ArrayLike, *, kind: LogisticFit = "logistic4"
) -> np.ndarray:
    """Predictions mapped onto the scale of the targets by the least-squares logistic curve.

    With s the logistic function, "logistic4" is `low + (high - low) * s(slope * (x - centre))` and
    "logistic5" is `height * (s(slope * (x - centre)) - 1/2) + tilt * x + level` (Sheikh et al.,
    2006).

    Args:
      pred: `[N]`.
      target: `[N]`.
      kind: which of the two.

    Returns:
      `[N]` float64; all NaN if there are fewer values than parameters to fit, if the correlation is
      undefined, or if the fit does not converge.

    Raises:
      ValueError: not two vectors of equal length, or an unknown kind.
    """
    if kind not in get_args(LogisticFit):
        raise unknown_name("fit", kind, get_args(LogisticFit))
    x, y = _pair(pred, target)
    if not _defined(x, y) or x.size < int(kind[-1]):
        return np.full_like(x, np.nan)
    curve, start = _CURVES[kind]
    z, w = stats.zscore(x), stats.zscore(y)  # so that one start fits all scales
    slope = np.copysign(1.0, stats.spearmanr(x, y).statistic)
    fitted = optimize.least_squares(lambda p: curve(z, *p) - w, [slope, *start], max_nfev=10_000)
    return curve(z, *fitted.x) * y.std() + y.mean() if fitted.success else np.full_like(x, np.nan)


def _logistic4(x, slope, centre, low, high):
    return low + (high - low) * special.expit(slope * (x - centre))


def _logistic5(x, slope, centre, height, tilt, level):
    return height * (special.expit(slope * (x - centre)) - 0.5) + tilt * x + level


# each with the initial values of its parameters after the slope
_CURVES: dict[LogisticFit, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
    "logistic4": (_logistic4, (0.0, -2.0, 2.0)),
    "logistic5": (_logistic5, (0.0, 4.0, 0.0, 0.0)),
}


def _pair(pred: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"expected two vectors of equal length, got shapes {x.shape} and {y.shape}"
        )
    return x, y


def _defined(x: np.ndarray, y: np.ndarray) -> bool:
    finite = bool(np.isfinite(x).all() and np.isfinite(y).all())
    return x.size > 1 and finite and np.ptp(x) > 0 and np.ptp(y) > 0
