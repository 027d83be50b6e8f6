"""Paints the procedural eyes: geometry, skin, eyeball, lids, brow, glasses.

Every shape is a closed formula of the eye's own coordinates, evaluated at the pixel centres with an
edge as wide as a pixel, so that nothing has to be supersampled. `u` runs from the inner corner (-1)
to the outer one (1), `v` points down; planes are `[N, H, W]` float32, pictures `[3, N, H, W]`.
"""

from dataclasses import dataclass, fields

import numpy as np

from jaxrecipes.data.synthetic_eyes_random import IndexedRandom
from jaxrecipes.data.synthetic_eyes_ranges import (
    CHANCES,
    CLOSED_RANGES,
    HAIR_PALETTE,
    IRIS_PALETTE,
    OPEN_RANGES,
    RANGES,
    SKIN_PALETTE,
)


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
    """Where each pixel lies in the eye's coordinates, and the curves of the lids there."""

    u: np.ndarray
    v: np.ndarray
    pixel: np.ndarray  # [N, 1, 1] the larger side of a pixel
    upper: np.ndarray  # v of the upper lid's edge
    lower: np.ndarray
    bow: np.ndarray  # the upper lid's profile: 1 at its peak, 0 at and beyond the corners

    def rows(self, rows: np.ndarray) -> "Geometry":
        """The geometry of some of the scenes."""
        return Geometry(*(getattr(self, field.name)[rows] for field in fields(self)))


def _ridge(distance: np.ndarray, width: np.ndarray | float, pixel: np.ndarray) -> np.ndarray:
    """A soft line of the given half width; one thinner than a pixel fades instead of breaking."""
    seen = np.maximum(width, 0.5 * pixel)
    return (width / seen) * np.exp(-np.square(distance / seen))


def _cover(inside: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """How much of a pixel lies inside an edge that is `inside` away (positive: within)."""
    return np.clip(inside / pixel + np.float32(0.5), 0.0, 1.0)


def _blend(picture: np.ndarray, colour: np.ndarray | float, alpha: np.ndarray) -> None:
    step = colour - picture
    step *= alpha
    picture += step


def _sag(draws: Draws) -> np.ndarray:
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
    v = cosine * y - sine * x + np.where(draws.is_open, 0.0, 0.8 * draws["sag"]).astype(np.float32)
    pixel = np.maximum(2.0 * half_width / width, 2.0 * half_height / height)

    def bow(skew: np.ndarray) -> np.ndarray:
        inside = np.clip(1.0 - u * u, 0.0, 1.0)
        leaned = np.clip(u + skew * inside, -1.0, 1.0)
        arch = 1.0 - leaned * leaned
        return arch * (1.0 + draws["lid_round"] * (1.0 - arch))

    upper_bow = bow(draws["lid_skew"])
    # Shut lids meet along one curve.
    lower_skew = np.where(draws.is_open, draws["lid_skew_lower"], draws["lid_skew"])
    gap, sag = draws["gap"], _sag(draws)
    wing = draws["wing_slope"] * np.maximum(np.abs(u) - 1.0, 0.0)
    upper = (sag - gap) * upper_bow + wing
    lower = sag * bow(lower_skew) + wing
    return Geometry(u=u, v=v, pixel=pixel, upper=upper, lower=lower, bow=upper_bow)


def _skin_shade(draws: Draws, at: Geometry) -> np.ndarray:
    """Light on the skin: slopes, the socket, the lid's bulge, folds, mottling."""
    u, v = at.u, at.v
    shade = 1.0 + draws["shade_x"] * u + draws["shade_y"] * v
    socket = np.square((u - draws["socket_x"]) / 1.2) + np.square(v - draws["socket_y"])
    size = draws["socket_size"]
    shade -= draws.chance("socket") * draws["socket_dark"] * np.exp(-socket / (size * size))
    shade -= draws["around_dark"] * np.exp(-(u * u + np.square(v / 0.6)))
    above = at.upper - v
    crease_height = draws["crease_height"]
    skin_above = _cover(above, at.pixel) * np.clip(1.5 - np.abs(u), 0.0, 1.0)
    on_lid = skin_above * np.exp(-np.square(above / (crease_height + 0.15)))
    shade += (draws["lid_glow"] - draws.chance("makeup") * draws["makeup_dark"]) * on_lid
    bulge = np.square(u / 0.9) + np.square((above - draws["bulge_height"]) / 0.35)
    shade += draws["bulge_light"] * np.exp(-bulge)
    turned = skin_above * np.exp(-np.square(above / draws["turn_depth"]))
    shade -= draws["turn_dark"] * turned

    fade = np.clip((1.25 - np.abs(u)) / 0.4, 0.0, 1.0)
    crease = above + (draws["crease_round"] - 1.0) * at.bow - crease_height * (0.4 + 0.6 * at.bow)
    crease_dark = draws.chance("crease") * draws["crease_dark"] * fade
    shade -= crease_dark * _ridge(crease, draws["crease_width"], at.pixel)
    below = v - at.lower
    bag_depth = draws["bag_depth"] * (0.35 + 0.65 * at.bow)
    bag = draws["bag_dark"] * _ridge(below - bag_depth, draws["bag_width"], at.pixel)
    bag += draws["bag2_dark"] * _ridge(below - 1.8 * bag_depth, draws["bag_width"], at.pixel)
    shade -= draws.chance("bag") * fade * bag
    wrinkles = np.cos(13.0 * (v - 0.4 * (u - 1.0) * np.sign(v))) * np.exp(
        -np.square((u - 1.2) / 0.25)
    )
    shade -= draws.chance("wrinkles") * draws["wrinkle_dark"] * wrinkles
    shade += draws["nose_light"] * np.exp(-np.square((u - draws["nose_x"]) / 0.35))
    for wave in ("a", "b", "c"):
        angle = draws.random.uniform(f"mottle_angle_{wave}", 0.0, np.pi)
        phase = draws.random.uniform(f"mottle_phase_{wave}", 0.0, 2 * np.pi)
        frequency = draws.random.uniform(f"mottle_frequency_{wave}", *RANGES["mottle_frequency"])
        along = frequency * (np.cos(angle) * u + np.sin(angle) * v) + phase
        shade += draws["mottle"] * np.sin(along)
    return np.maximum(shade, 0.08)


def _paint_eyeball(picture: np.ndarray, draws: Draws, at: Geometry, skin: np.ndarray) -> None:
    """Sclera, iris, pupil and glints, seen through the opening of the lids."""
    opening = _cover(np.minimum(at.v - at.upper, at.lower - at.v), at.pixel)
    opening *= np.clip((1.0 - np.abs(at.u)) / at.pixel + 0.5, 0.0, 1.0)
    red = draws["sclera_red"] * (1.0 + 1.5 * np.clip(-at.u, 0.0, 1.0))
    # Cameras see little white: the sclera lies in shade and is seldom much lighter than the skin.
    white = draws["sclera_light"] * (0.3 + 0.75 * skin[1])
    light = white * (1.0 - draws["sclera_edge_dark"] * at.u * at.u)
    ball = np.stack([light, light * (1.0 - red), light * (1.0 - red)])

    # The iris stays behind the opening, a little below its upper edge, and follows the gaze.
    u = (at.u - draws["gaze_x"]) / draws["iris_squeeze"]
    v = at.v - (_sag(draws) - 0.5 * draws["gap"] + draws["gaze_y"])
    distance = np.sqrt(u * u + v * v)
    radius = draws["iris_radius"]
    iris_light = draws["iris_light"] * (
        1.0 - draws["limbus_dark"] * np.square(np.minimum(distance / radius, 1.0))
    )
    pupil = _cover(radius * draws["pupil_ratio"] - distance, at.pixel)
    iris = draws.colour("iris", IRIS_PALETTE) * (iris_light * (1.0 - 0.92 * pupil))
    _blend(ball, iris, _cover(radius - distance, at.pixel))
    depth = (at.v - at.upper) / draws["lid_shadow_depth"]
    ball *= 1.0 - draws["lid_shadow"] * np.exp(-np.square(np.maximum(depth, 0.0)))
    shine = np.zeros_like(distance)
    for glint, side in (("glint", 1.0), ("glint2", -1.0)):
        du, dv = u - side * draws["glint_x"], v - side * draws["glint_y"]
        spot = _ridge(np.sqrt(du * du + dv * dv), draws[f"{glint}_radius"], at.pixel)
        np.maximum(shine, draws.chance(glint) * draws["glint_light"] * spot, out=shine)
    _blend(ball, 1.0, shine)
    _blend(picture, ball, opening)


def _paint_lid_edges(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    """The dark edges of both lids and the lashes of the upper one."""
    from_middle = at.u - draws["line_middle"]
    reach = np.clip((draws["line_reach"] - np.abs(from_middle)) / 0.25 + 0.5, 0.0, 1.0)
    width = draws["line_width"] * np.maximum(1.0 + draws["line_outer"] * at.u, 0.3)
    clumps = 1.0 + draws["lash_clumps"] * np.sin(
        draws["lash_clump_count"] * np.pi * at.u + draws["lash_phase"]
    )
    edge = draws["line_dark"] * reach * clumps * _ridge(at.v - at.upper, width, at.pixel)
    lower = draws["lower_line_dark"] * reach
    lower = lower * _ridge(at.v - at.lower, draws["lower_line_width"], at.pixel)

    direction = np.where(draws["lash_droop"] > 0, np.float32(1.0), np.float32(-1.0))
    out = (at.v - at.upper) * direction  # along the lashes, which fan out
    foot = at.u - (draws["lash_slant"] + draws["lash_fan"] * at.u) * np.maximum(out, 0.0)
    count = draws["lash_count"]
    stripes = np.cos(2 * np.pi * count * foot + draws["lash_phase"])
    # Lashes finer than a pixel are seen as their mean.
    contrast = np.clip(1.6 - 2.4 * count * at.pixel, 0.0, 1.0)
    along = 1.0 - np.clip(out / (draws["lash_length"] * clumps), 0.0, 1.0)
    alpha = draws.chance("lashes") * draws["lash_dark"] * reach * (0.5 + 0.5 * contrast * stripes)
    lashes = alpha * along * _cover(out, at.pixel)
    seen_through = (1.0 - np.minimum(edge, 1.0)) * (1.0 - lower) * (1.0 - lashes)
    _blend(picture, 0.6 * hair, 1.0 - seen_through)


def _paint_brow(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    middle = draws["brow_y"] + draws["brow_tilt"] * at.u + draws["brow_arch"] * at.u * at.u
    thick = draws["brow_thick"] * np.clip(1.1 - 0.35 * at.u, 0.3, 1.5)
    band = _ridge(at.v - middle, thick, at.pixel) * np.clip((1.5 - np.abs(at.u)) / 0.3, 0.0, 1.0)
    texture = 0.85 + 0.15 * np.sin(17.0 * at.u + 9.0 * at.v)
    _blend(picture, hair, draws.chance("brow") * draws["brow_dark"] * band * texture)


def _paint_outline(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    """What lies beyond the outline of the face: hair or a background."""
    outline = draws["edge_distance"] + draws["edge_slope"] * at.v
    behind = np.where(draws.chance("light_background"), draws["edge_light"], hair)
    _blend(picture, behind, _cover(at.u - outline, 2.0 * at.pixel))


def _paint_strand(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    """A strand of hair across the eye."""
    across = at.u - draws["strand_x"] - draws["strand_slope"] * at.v
    _blend(picture, hair, draws["strand_dark"] * _ridge(across, draws["strand_width"], at.pixel))


def _paint_glasses(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    """Lens, reflection and frame."""
    u = (at.u - draws["frame_x"]) / draws["frame_wide"]
    v = (at.v - draws["frame_y"]) / draws["frame_high"]
    rim = (np.sqrt(np.sqrt(u * u * u * u + v * v * v * v)) - 1.0) * draws["frame_high"]
    lens = _cover(-rim, at.pixel)
    dark = np.where(draws.chance("sunglasses"), draws["sunglass_dark"], draws["lens_dark"])
    picture *= 1.0 - dark * lens
    streak = at.u - draws["reflection_x"] - draws["reflection_slope"] * at.v
    shine = draws["reflection_light"] * _ridge(streak, draws["reflection_width"], at.pixel)
    _blend(picture, 1.0, draws.chance("reflection") * lens * shine)
    frame = draws["frame_dark"] * _ridge(rim, draws["frame_thick"], at.pixel)
    _blend(picture, draws["frame_light"], frame)


# Painted only into the pictures where they happen; the order is from back to front.
_OBSTACLES = {"outline": _paint_outline, "strand": _paint_strand, "glasses": _paint_glasses}


def paint(draws: Draws, *, height: int, width: int) -> np.ndarray:
    """`[3, N, H, W]` float32 scenes before the camera, about 0 to 1."""
    at = place(draws, height=height, width=width)
    hair = draws.colour("hair_tone", HAIR_PALETTE)
    skin = draws.colour("skin_tone", SKIN_PALETTE)
    tint = np.stack([draws["skin_tint"], np.zeros_like(draws["skin_tint"]), -draws["skin_tint"]])
    picture = (skin + tint) * _skin_shade(draws, at)
    _paint_brow(picture, draws, at, hair)
    _paint_eyeball(picture, draws, at, skin)
    _paint_lid_edges(picture, draws, at, hair)
    for name, paint_obstacle in _OBSTACLES.items():
        rows = np.flatnonzero(draws.chance(name))
        if rows.size:
            some = picture[:, rows]
            paint_obstacle(some, draws.rows(rows), at.rows(rows), hair[:, rows])
            picture[:, rows] = some
    return picture
