"""Painting the scenes of `synthetic_scenes`, and spoiling them."""

import io

import numpy as np
from PIL import Image, ImageFilter

from jaxrecipes.data.indexed_random import IndexedRandom

SHAPES = ("circle", "square", "triangle", "ring", "cross")
COLOURS = (
    ("red", (215, 40, 40)),
    ("green", (40, 165, 60)),
    ("blue", (45, 75, 215)),
    ("yellow", (235, 210, 50)),
    ("purple", (150, 50, 190)),
    ("orange", (240, 130, 30)),
)
BACKGROUNDS = (
    ("black", (25, 25, 28)),
    ("white", (238, 238, 235)),
    ("gray", (128, 128, 130)),
    ("brown", (105, 70, 45)),
    ("pink", (240, 175, 190)),
    ("cyan", (140, 215, 225)),
)
_RADIUS = (0.14, 0.2)  # of the image's side
_CELLS = np.array([(0.27, 0.27), (0.27, 0.73), (0.73, 0.27), (0.73, 0.73)], np.float32)
_JITTER = 0.05
_GRAIN = 18.0  # levels of a texture that blur, compression and fading take away


def paint(rng: IndexedRandom, shown: np.ndarray, size: int) -> np.ndarray:
    """`[N, size, size, 3]` float32 levels of scenes.

    Args:
      rng: of the N scenes.
      shown: `[N, 4]` number of objects less 1, colour, shape, background.
      size: pixels.
    """
    count, colour, shape, background = shown.T
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = axis[:, None], axis[None, :]
    covered = np.zeros((len(shown), size, size), np.float32)
    order = np.argsort(np.stack([rng.bits(f"cell {k}") for k in range(4)]), axis=0)
    for k in range(4):
        rows = np.flatnonzero(count >= k)
        some = rng.rows(rows)
        top, left = (
            _CELLS[order[k, rows], i][:, None, None]
            + some.uniform(f"{k} at {i}", -_JITTER, _JITTER)
            for i in range(2)
        )
        radius = some.uniform(f"{k} radius", *_RADIUS)
        turn = some.uniform(f"{k} turn", -0.4, 0.4)
        cos, sin = np.cos(turn) / radius, np.sin(turn) / radius
        u, v = cos * (x - left) + sin * (y - top), cos * (y - top) - sin * (x - left)
        for s in range(len(SHAPES)):
            of = shape[rows] == s
            inside = np.clip(0.5 - _distance(s, u[of], v[of]) * radius[of] * size, 0.0, 1.0)
            covered[rows[of]] = np.maximum(covered[rows[of]], inside)
    light = (
        1.0
        + rng.uniform("light", -0.15, 0.15) * (x - 0.5)
        + rng.uniform("tilt", -0.15, 0.15) * (y - 0.5)
    )
    colours, backgrounds = (
        np.array([levels for _, levels in names], np.float32) for names in (COLOURS, BACKGROUNDS)
    )
    planes = rng.noise("grain", size, size)
    image = np.empty((*covered.shape, 3), np.float32)
    for c in range(3):
        back = backgrounds[background, c][:, None, None]
        front = colours[colour, c][:, None, None] - back
        image[..., c] = (back + covered * front) * light + _GRAIN * planes[0]
    return image


def _distance(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance from a shape's edge in units of its radius, negative inside."""
    a, b = np.abs(u), np.abs(v)
    match SHAPES[shape]:
        case "circle":
            return np.hypot(u, v) - 0.9
        case "square":
            return np.maximum(a, b) - 0.8
        case "triangle":
            return np.maximum(0.866 * a - 0.5 * v, v) - 0.55
        case "ring":
            return np.abs(np.hypot(u, v) - 0.75) - 0.25
        case _:  # cross
            return np.minimum(np.maximum(a - 1.0, b - 0.28), np.maximum(a - 0.28, b - 1.0))


def distort(
    rng: IndexedRandom, image: np.ndarray, kind: np.ndarray, severity: np.ndarray
) -> np.ndarray:
    """`[N, S, S, 3]` uint8: blur, noise, compression or loss of colour, from none to all.

    Args:
      rng: of the N scenes.
      image: float32 levels; overwritten.
      kind: `[N]` 0 to 3.
      severity: `[N]` in [0, 1].
    """
    size = image.shape[1]
    noisy, faded = np.flatnonzero(kind == 1), np.flatnonzero(kind == 3)
    planes = rng.rows(noisy).noise("noise", size, size)[:3]
    image[noisy] += np.moveaxis(planes, 0, -1) * (90.0 * severity[noisy])[:, None, None, None]
    grey = image[faded].mean(axis=(1, 2, 3), keepdims=True)
    image[faded] += (grey - image[faded]) * (0.9 * severity[faded])[:, None, None, None]
    levels = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    for row in np.flatnonzero(kind == 0):
        blur = ImageFilter.GaussianBlur(float(severity[row]) * size / 16)
        levels[row] = np.asarray(Image.fromarray(levels[row]).filter(blur))
    for row in np.flatnonzero(kind == 2):
        stream = io.BytesIO()
        quality = round(1 + 60 * (1.0 - float(severity[row])) ** 2)
        Image.fromarray(levels[row]).save(stream, "JPEG", quality=quality)
        levels[row] = np.asarray(Image.open(stream).convert("RGB"))
    return levels
