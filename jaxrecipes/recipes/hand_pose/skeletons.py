"""Joints and bones drawn onto images."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

TRUE, PREDICTED, BONE = (0, 200, 60), (235, 40, 30), (150, 155, 160)
_SMOOTH = 3  # drawn this much larger, so that lines come out smooth


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Joints of one image.

    Attributes:
      points: `[J, 2]` x and y in pixels of the image; the centre of its first pixel is (0.5, 0.5).
        What is not finite is not drawn.
      color: of the joints, RGB.
      shown: `[J]` bool, which joints are drawn; None: all.
    """

    points: np.ndarray
    color: tuple[int, int, int]
    shown: np.ndarray | None = None


def draw_skeletons(
    image: np.ndarray,
    skeletons: Sequence[Skeleton],
    *,
    edges: Sequence[tuple[int, int]],
    size: int,
) -> np.ndarray:
    """The image, fitted into a white square, with all bones under all joints.

    Args:
      image: uint8 `[H, W, 3]`.
      skeletons: what is drawn, the last one on top.
      edges: pairs of joints that a bone joins.
      size: height and width of the result in pixels.

    Returns:
      uint8 `[size, size, 3]`.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    large = (shape[0] * _SMOOTH, shape[1] * _SMOOTH)
    canvas = Image.fromarray(image).resize(large, Image.Resampling.BICUBIC)
    draw, unit = ImageDraw.Draw(canvas), _SMOOTH * size / 100
    drawn = [(_drawable(s, scale * _SMOOTH, 10 * max(large)), s) for s in skeletons]
    for points, _ in drawn:
        for start, end in edges:
            if start in points and end in points:
                line = (*points[start], *points[end])
                draw.line(line, fill=BONE, width=max(1, round(1.1 * unit)))
    for points, skeleton in drawn:
        for x, y in points.values():
            dot = (x - 1.3 * unit, y - 1.3 * unit, x + 1.3 * unit, y + 1.3 * unit)
            draw.ellipse(dot, fill=skeleton.color)
    square = np.full((size, size, 3), 255, np.uint8)
    square[: shape[1], : shape[0]] = np.asarray(canvas.resize(shape, Image.Resampling.LANCZOS))
    return square


def _drawable(skeleton: Skeleton, scale: float, limit: float) -> dict[int, tuple[float, float]]:
    """Points on the canvas by joint, without those that would be very far off it."""
    points = scale * np.asarray(skeleton.points, np.float64)
    usable = (np.abs(points) < limit).all(axis=-1)
    if skeleton.shown is not None:
        usable &= skeleton.shown
    return {int(j): (float(points[j, 0]), float(points[j, 1])) for j in np.flatnonzero(usable)}
