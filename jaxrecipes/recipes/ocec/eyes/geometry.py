"""The procedural eyes' parameters, coordinates and brushes.

`u` runs from the inner corner of the eye (-1) to the outer one (1), `v` points down; planes are
`[N, H, W]` float32, pictures `[3, N, H, W]`.
"""

from dataclasses import dataclass, fields

import numpy as np

from jaxrecipes.data.indexed_random import IndexedRandom
from jaxrecipes.recipes.ocec.eyes.ranges import CHANCES, CLOSED_RANGES, OPEN_RANGES, RANGES

LINE_CENTRING = 0.8  # how far the crop of a shut eye follows its line below the corners


class Draws:
    """The parameters of `N` scenes, each `[N, 1, 1]`, looked up in the tables by name."""

    def __init__(self, random: IndexedRandom, labels: np.ndarray):
        self.random = random
        self.labels = labels
        self.is_open = (labels == 1)[:, None, None]

    def __getitem__(self, name: str) -> np.ndarray:
        """The draw of one entry of `RANGES`, or of the two class tables."""
        if name in RANGES:
            return self.random.uniform(name, *RANGES[name])
        return np.where(
            self.is_open,
            self.random.uniform(name, *OPEN_RANGES[name]),
            self.random.uniform(name, *CLOSED_RANGES[name]),
        )

    def chance(self, name: str) -> np.ndarray:
        """Whether the entry of `CHANCES` happens: `[N, 1, 1]` bool."""
        return self.random.happens(name, CHANCES[name])

    def rows(self, rows: np.ndarray) -> "Draws":
        """The draws of some of the scenes."""
        return Draws(self.random.rows(rows), self.labels[rows])

    def colour(self, name: str, palette: np.ndarray) -> np.ndarray:
        """`[3, N, 1, 1]` colours between neighbours of the `[K, 3]` palette."""
        place = self.random.uniform(name)[:, 0, 0] * (len(palette) - 1)
        low = np.minimum(place.astype(np.int64), len(palette) - 2)
        share = (place - low)[:, None].astype(np.float32)
        return (palette[low] * (1 - share) + palette[low + 1] * share).T[:, :, None, None]


@dataclass(frozen=True)
class Geometry:
    """The position of each pixel in the eye's coordinates, and the curves of the lids there."""

    u: np.ndarray
    v: np.ndarray
    pixel: np.ndarray  # [N, 1, 1] the larger side of a pixel
    upper: np.ndarray  # v of the upper lid's edge
    lower: np.ndarray
    bow: np.ndarray  # the upper lid's profile: 1 at its peak, 0 at and beyond the corners

    def rows(self, rows: np.ndarray) -> "Geometry":
        """The geometry of some of the scenes."""
        return Geometry(*(getattr(self, field.name)[rows] for field in fields(self)))


def ridge(distance: np.ndarray, width: np.ndarray | float, pixel: np.ndarray) -> np.ndarray:
    """A soft line of the given half width; one thinner than a pixel fades instead of breaking."""
    seen = np.maximum(width, 0.5 * pixel)
    return (width / seen) * np.exp(-np.square(distance / seen))


def cover(inside: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """The share of a pixel that lies inside an edge at distance `inside` (positive: within)."""
    return np.clip(inside / pixel + np.float32(0.5), 0.0, 1.0)


def blend(picture: np.ndarray, colour: np.ndarray | float, alpha: np.ndarray) -> None:
    """Lays a colour over the `[3, N, H, W]` picture, in place."""
    step = colour - picture
    step *= alpha
    picture += step


def sag(draws: Draws) -> np.ndarray:
    """How far the lower lid hangs below the corners; an open eye's grows with its opening."""
    return np.where(draws.is_open, draws["gap"] * draws["sag"], draws["sag"])


def place(draws: Draws, *, height: int, width: int) -> Geometry:
    """Crops, rolls and mirrors the eye's coordinates and lays the lids into them."""
    aspect = np.where(
        draws.chance("square_crop"), draws["crop_aspect_square"], draws["crop_aspect_tight"]
    )
    half_width = draws["crop_wide"]
    half_height = half_width * aspect
    across = ((np.arange(width, dtype=np.float32) + 0.5) * (2.0 / width) - 1.0)[None, None, :]
    down = ((np.arange(height, dtype=np.float32) + 0.5) * (2.0 / height) - 1.0)[None, :, None]
    x = half_width * (across - draws["offset_x"])
    y = half_height * (down - draws["offset_y"])
    cosine, sine = np.cos(draws["roll"]), np.sin(draws["roll"])
    u = (cosine * x + sine * y) * draws.random.sign("mirror")
    # Crops are centred on the corners of an open eye, but on the line of a shut one.
    v = (
        cosine * y
        - sine * x
        + np.where(draws.is_open, 0.0, LINE_CENTRING * draws["sag"]).astype(np.float32)
    )
    pixel = np.maximum(2.0 * half_width / width, 2.0 * half_height / height)

    def bow(skew: np.ndarray) -> np.ndarray:
        inside = np.clip(1.0 - u * u, 0.0, 1.0)
        leaned = np.clip(u + skew * inside, -1.0, 1.0)
        arch = 1.0 - leaned * leaned
        return arch * (1.0 + draws["lid_round"] * (1.0 - arch))

    upper_bow = bow(draws["lid_skew"])
    # Shut lids meet along one curve.
    lower_skew = np.where(draws.is_open, draws["lid_skew_lower"], draws["lid_skew"])
    gap, hang = draws["gap"], sag(draws)
    wing = draws["wing_slope"] * np.maximum(np.abs(u) - 1.0, 0.0)
    upper = (hang - gap) * upper_bow + wing
    lower = hang * bow(lower_skew) + wing
    return Geometry(u=u, v=v, pixel=pixel, upper=upper, lower=lower, bow=upper_bow)
