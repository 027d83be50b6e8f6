"""Rotations as unit quaternions `[..., 4]`, the real part first; numpy, any float type."""

import numpy as np


def turn_about(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """The turn by `angle` `[...]` radians about the unit vector `axis` `[..., 3]`."""
    half = 0.5 * angle[..., None]
    return np.concatenate([np.cos(half), np.sin(half) * axis], axis=-1)


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """First `b`, then `a`; leading axes are broadcast."""
    a, b = np.broadcast_arrays(a, b)
    real = a[..., :1] * b[..., :1] - np.sum(a[..., 1:] * b[..., 1:], axis=-1, keepdims=True)
    rest = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + np.cross(a[..., 1:], b[..., 1:])
    return np.concatenate([real, rest], axis=-1)


def rotate(turn: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """`vector` `[..., 3]` after the turn; leading axes are broadcast."""
    twice = 2.0 * np.cross(turn[..., 1:], vector)
    return vector + turn[..., :1] * twice + np.cross(turn[..., 1:], twice)


def to_axis_angle(turn: np.ndarray) -> np.ndarray:
    """`[..., 3]`: the axis times the angle, which is at most half a turn."""
    turn = np.where(turn[..., :1] < 0, -turn, turn)
    sine = np.linalg.norm(turn[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, turn[..., :1])
    return turn[..., 1:] * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 2.0)
