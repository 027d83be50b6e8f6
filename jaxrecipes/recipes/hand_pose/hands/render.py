"""Shaded images of the procedural hand: 24 capsules, one light, a plain background."""

from collections.abc import Iterator

import numpy as np

from jaxrecipes.data.indexed_random import IndexedRandom
from jaxrecipes.models.hand.joints import CHAINS
from jaxrecipes.models.hand.procedural import FINGERS

_AMBIENT = 0.35
_LIGHT_DEPTH = (0.35, 1.0)  # cosine between the light and the direction to the camera
_HUE, _SATURATION, _VALUE = (0.02, 0.09), (0.25, 0.65), (0.5, 1.0)  # of the skin
_PALM_COLOUR = np.array([1.0, 0.82, 0.76], np.float32)
_PALM_SHARE = 0.4  # of that colour, on the palm's side
_PALM_EDGE = 3.0  # how sharply the palm's side begins
_GREY, _TINT, _GRADIENT = (0.1, 0.9), 0.25, 0.35  # level, colour and change of the background
_NOISE = 0.03  # standard deviation
_CHUNK_PIXELS = 2**17  # painted at a time, so that the planes stay in the cache


def _capsules() -> Iterator[tuple[int, int, float, float, int]]:
    """Joints at both ends, radii in mm, and which of the 16 palm directions is the capsule's."""
    chains = tuple(CHAINS.values())
    for f, (chain, finger) in enumerate(zip(chains, FINGERS, strict=True)):
        yield 0, chain[0], 14.0, 13.0, 0
        for k in range(3):
            yield chain[k], chain[k + 1], finger.radii[k], finger.radii[k + 1], 1 + 3 * f + k
    yield chains[0][0], chains[1][0], 10.0, 8.0, 0
    for f in (1, 2, 3):
        yield chains[f][0], chains[f + 1][0], 10.0, 10.0, 0


_TABLE = np.array(tuple(_capsules()))
_ENDS, _RADII, _SIDES = _TABLE[:, :2].astype(int), _TABLE[:, 2:4], _TABLE[:, 4].astype(int)


def render_hands(
    rng: IndexedRandom,
    joints: np.ndarray,
    palms: np.ndarray,
    thickness: np.ndarray,
    *,
    focal: np.ndarray,
    princpt: np.ndarray,
    image_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Renders N clips of T frames; the colours and the light are the same throughout a clip.

    Args:
      rng: of the N clips.
      joints: `[N, T, 21, 3]` mm in the camera's frame.
      palms: `[N, T, 16, 3]` unit vectors out of the palm's side of the wrist and the 15 bones.
      thickness: `[N]` what radii are multiplied by.
      focal: `[N]` px.
      princpt: `[N, 2]` px; whole numbers are the centres of pixels.
      image_size: side S in pixels.

    Returns:
      `[N, T, S, S, 3]` uint8 images, and `[N, T, S, S]` bool silhouettes, true on the hand.
    """
    count, frames = joints.shape[:2]
    images = np.empty((count, frames, image_size, image_size, 3), np.uint8)
    silhouettes = np.empty(images.shape[:-1], bool)
    skin, light = _skin(rng), _light(rng)
    chunk = max(1, _CHUNK_PIXELS // image_size**2)
    for start in range(0, count, chunk):
        rows = np.arange(start, min(start + chunk, count))
        some = rng.rows(rows)
        background = _background(some, image_size)
        for t in range(frames):
            pictures = background.copy()
            for i, row in enumerate(rows):
                hand = _Hand(joints[row, t], thickness[row], focal[row], princpt[row], image_size)
                silhouettes[row, t] = hand.paint(
                    pictures[:, i], palms[row, t, _SIDES], skin[row], light[row]
                )
            pictures += _NOISE * some.noise(f"grain {t}", image_size, image_size)[:3]
            levels = np.clip(pictures * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
            images[rows, t] = levels.transpose(1, 2, 3, 0)
    return images, silhouettes


class _Hand:
    """The capsules in the image; all arrays are float32.

    Along a capsule's axis in the image, its radius in pixels and the inverse of its depth are
    linear, so both are exact for any perspective.
    """

    def __init__(
        self,
        joints: np.ndarray,
        thickness: float,
        focal: float,
        princpt: np.ndarray,
        image_size: int,
    ):
        ends = joints[_ENDS]
        inverse_depth = 1.0 / ends[..., 2]
        points = focal * ends[..., :2] * inverse_depth[..., None] + princpt
        radii = focal * thickness * _RADII * inverse_depth
        self.focal = np.float32(focal)
        self.points = points.astype(np.float32)  # [24, 2, 2]
        self.radii = radii.astype(np.float32)  # [24, 2] px
        self.inverse_depth = inverse_depth.astype(np.float32)
        reach = radii[..., None] + 1.0
        low = np.floor((points - reach).min(axis=(0, 1)))
        high = np.ceil((points + reach).max(axis=(0, 1))) + 1
        self.low, self.high = (np.clip(corner, 0, image_size).astype(int) for corner in (low, high))

    def paint(
        self, picture: np.ndarray, palms: np.ndarray, skin: np.ndarray, light: np.ndarray
    ) -> np.ndarray:
        """Paints over `[3, S, S]`, in place, and returns the `[S, S]` silhouette."""
        silhouette = np.zeros(picture.shape[1:], bool)
        if (self.low >= self.high).any():
            return silhouette
        box = slice(self.low[1], self.high[1]), slice(self.low[0], self.high[0])
        capsule, normal, cover = self._seen()
        side = np.sum(normal * palms.astype(np.float32).T[:, capsule], axis=0)
        palm = _PALM_SHARE * (0.5 + 0.5 * np.clip(_PALM_EDGE * side, -1.0, 1.0))
        lit = _AMBIENT + (1.0 - _AMBIENT) * np.maximum(np.tensordot(light, normal, 1), 0.0)
        under = picture[:, *box]
        for channel in range(3):
            colour = skin[channel] + palm * (_PALM_COLOUR[channel] * skin.max() - skin[channel])
            under[channel] += cover * (colour * lit - under[channel])
        silhouette[box] = cover > 0.5
        return silhouette

    def _seen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the box's pixels: the nearest capsule, its normal `[3, h, w]`, how much is covered."""
        x, y = (np.arange(a, b, dtype=np.float32) for a, b in zip(self.low, self.high, strict=True))
        start, along = self.points[:, 0], self.points[:, 1] - self.points[:, 0]
        from_x, from_y = x - start[:, :1], y - start[:, 1:]
        slope = along / np.maximum(np.sum(along * along, axis=1, keepdims=True), 1e-6)
        share = (slope[:, :1] * from_x)[:, None] + (slope[:, 1:] * from_y)[..., None]
        np.clip(share, 0.0, 1.0, out=share)  # [24, h, w] of the way along the axis
        off_x = from_x[:, None] - share * along[:, 0, None, None]
        off_y = from_y[..., None] - share * along[:, 1, None, None]
        distance = np.sqrt(off_x * off_x + off_y * off_y)
        radius = _between(self.radii, share)
        height = np.sqrt(np.maximum(radius * radius - distance * distance, 0.0))
        nearness = _between(self.inverse_depth, share) * (1.0 + height / self.focal)
        inside = radius - distance
        nearness[inside < -0.5] = 0.0

        capsule = nearness.argmax(axis=0)
        off_x, off_y, height, radius = (
            np.take_along_axis(a, capsule[None], 0)[0] for a in (off_x, off_y, height, radius)
        )
        normal = np.stack([off_x, off_y, -height]) / radius
        return capsule, normal, np.clip(inside.max(axis=0) + 0.5, 0.0, 1.0)


def _between(ends: np.ndarray, share: np.ndarray) -> np.ndarray:
    return ends[:, :1, None] + share * (ends[:, 1:] - ends[:, :1])[..., None]


def _flat(rng: IndexedRandom, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return rng.uniform(name, low, high)[:, 0, 0]


def _skin(rng: IndexedRandom) -> np.ndarray:
    """`[N, 3]` RGB, from orange to yellow hues."""
    hue, saturation, value = (
        _flat(rng, f"skin {k}", *limits) for k, limits in enumerate((_HUE, _SATURATION, _VALUE))
    )
    green = 1.0 - saturation * (1.0 - 6.0 * hue)
    return np.stack([value, value * green, value * (1.0 - saturation)], axis=1)


def _light(rng: IndexedRandom) -> np.ndarray:
    """`[N, 3]` unit vectors to the light, on the camera's side of the hand."""
    depth, turn = _flat(rng, "light depth", *_LIGHT_DEPTH), _flat(rng, "light turn", 0.0, 2 * np.pi)
    aside = np.sqrt(1.0 - depth * depth)
    return np.stack([aside * np.cos(turn), aside * np.sin(turn), -depth], axis=1)


def _background(rng: IndexedRandom, size: int) -> np.ndarray:
    """`[3, N, S, S]`: a dull colour that changes evenly across the image."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = axis[None, :], axis[:, None]
    return np.stack(
        [
            rng.uniform("ground", *_GREY)
            + rng.uniform(f"ground {c}", -_TINT, _TINT)
            + rng.uniform(f"ground {c} x", -_GRADIENT, _GRADIENT) * x
            + rng.uniform(f"ground {c} y", -_GRADIENT, _GRADIENT) * y
            for c in range(3)
        ]
    )
