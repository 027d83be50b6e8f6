"""Paints the procedural eyes: skin, eyeball, lids, lashes, brow, hair, glasses.

Every shape is a closed formula of the eye's own coordinates, evaluated at the pixel centres with an
edge as wide as a pixel, so that nothing has to be supersampled. What varies is in the tables of
`ranges`; the constants here only fix the form of a brush.
"""

import numpy as np

from jaxrecipes.recipes.ocec.eyes.geometry import Draws, Geometry, blend, cover, place, ridge, sag
from jaxrecipes.recipes.ocec.eyes.ranges import HAIR_PALETTE, IRIS_PALETTE, RANGES, SKIN_PALETTE

DARKEST_SHADE = 0.08  # of the skin's own colour


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
    skin_above = cover(above, at.pixel) * np.clip(1.5 - np.abs(u), 0.0, 1.0)
    on_lid = skin_above * np.exp(-np.square(above / (crease_height + 0.15)))
    shade += (draws["lid_glow"] - draws.chance("makeup") * draws["makeup_dark"]) * on_lid
    bulge = np.square(u / 0.9) + np.square((above - draws["bulge_height"]) / 0.35)
    shade += draws["bulge_light"] * np.exp(-bulge)
    turned = skin_above * np.exp(-np.square(above / draws["turn_depth"]))
    shade -= draws["turn_dark"] * turned

    fade = np.clip((1.25 - np.abs(u)) / 0.4, 0.0, 1.0)
    crease = above + (draws["crease_round"] - 1.0) * at.bow - crease_height * (0.4 + 0.6 * at.bow)
    crease_dark = draws.chance("crease") * draws["crease_dark"] * fade
    shade -= crease_dark * ridge(crease, draws["crease_width"], at.pixel)
    below = v - at.lower
    bag_depth = draws["bag_depth"] * (0.35 + 0.65 * at.bow)
    bag = draws["bag_dark"] * ridge(below - bag_depth, draws["bag_width"], at.pixel)
    bag += draws["bag2_dark"] * ridge(below - 1.8 * bag_depth, draws["bag_width"], at.pixel)
    shade -= draws.chance("bag") * fade * bag
    fan = np.cos(13.0 * (v - 0.4 * (u - 1.0) * np.sign(v)))
    wrinkles = fan * np.exp(-np.square((u - 1.2) / 0.25) - np.square(v / 0.5))
    shade -= draws.chance("wrinkles") * draws["wrinkle_dark"] * wrinkles
    shade += draws["nose_light"] * np.exp(-np.square((u - draws["nose_x"]) / 0.35))
    for wave in ("a", "b", "c"):
        angle = draws.random.uniform(f"mottle_angle_{wave}", 0.0, np.pi)
        phase = draws.random.uniform(f"mottle_phase_{wave}", 0.0, 2 * np.pi)
        frequency = draws.random.uniform(f"mottle_frequency_{wave}", *RANGES["mottle_frequency"])
        along = frequency * (np.cos(angle) * u + np.sin(angle) * v) + phase
        shade += draws["mottle"] * np.sin(along)
    return np.maximum(shade, DARKEST_SHADE)


def _paint_eyeball(picture: np.ndarray, draws: Draws, at: Geometry, skin: np.ndarray) -> None:
    """Sclera, iris, pupil and glints, seen through the opening of the lids."""
    opening = cover(np.minimum(at.v - at.upper, at.lower - at.v), at.pixel)
    opening *= np.clip((1.0 - np.abs(at.u)) / at.pixel + 0.5, 0.0, 1.0)
    red = draws["sclera_red"] * (1.0 + 1.5 * np.clip(-at.u, 0.0, 1.0))
    # Cameras see little white: the sclera lies in shade and is seldom much lighter than the skin.
    white = draws["sclera_light"] * (0.3 + 0.75 * skin[1])
    light = white * (1.0 - draws["sclera_edge_dark"] * at.u * at.u)
    ball = np.stack([light, light * (1.0 - red), light * (1.0 - red)])

    # The iris stays behind the opening, a little below its upper edge, and follows the gaze.
    u = (at.u - draws["gaze_x"]) / draws["iris_squeeze"]
    v = at.v - (sag(draws) - 0.5 * draws["gap"] + draws["gaze_y"])
    distance = np.sqrt(u * u + v * v)
    radius = draws["iris_radius"]
    iris_light = draws["iris_light"] * (
        1.0 - draws["limbus_dark"] * np.square(np.minimum(distance / radius, 1.0))
    )
    pupil = cover(radius * draws["pupil_ratio"] - distance, at.pixel)
    iris = draws.colour("iris", IRIS_PALETTE) * (iris_light * (1.0 - 0.92 * pupil))
    blend(ball, iris, cover(radius - distance, at.pixel))
    depth = (at.v - at.upper) / draws["lid_shadow_depth"]
    ball *= 1.0 - draws["lid_shadow"] * np.exp(-np.square(np.maximum(depth, 0.0)))
    shine = np.zeros_like(distance)
    for glint, side in (("glint", 1.0), ("glint2", -1.0)):
        du, dv = u - side * draws["glint_x"], v - side * draws["glint_y"]
        spot = ridge(np.sqrt(du * du + dv * dv), draws[f"{glint}_radius"], at.pixel)
        np.maximum(shine, draws.chance(glint) * draws["glint_light"] * spot, out=shine)
    blend(ball, 1.0, shine)
    blend(picture, ball, opening)


def _paint_lid_edges(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    """The dark edges of both lids and the lashes of the upper one."""
    from_middle = at.u - draws["line_middle"]
    reach = np.clip((draws["line_reach"] - np.abs(from_middle)) / 0.25 + 0.5, 0.0, 1.0)
    width = draws["line_width"] * np.maximum(1.0 + draws["line_outer"] * at.u, 0.3)
    clumps = 1.0 + draws["lash_clumps"] * np.sin(
        draws["lash_clump_count"] * np.pi * at.u + draws["lash_phase"]
    )
    edge = draws["line_dark"] * reach * clumps * ridge(at.v - at.upper, width, at.pixel)
    lower = draws["lower_line_dark"] * reach
    lower = lower * ridge(at.v - at.lower, draws["lower_line_width"], at.pixel)

    direction = np.where(draws["lash_droop"] > 0, np.float32(1.0), np.float32(-1.0))
    out = (at.v - at.upper) * direction  # along the lashes, which fan out
    foot = at.u - (draws["lash_slant"] + draws["lash_fan"] * at.u) * np.maximum(out, 0.0)
    count = draws["lash_count"]
    stripes = np.cos(2 * np.pi * count * foot + draws["lash_phase"])
    # Lashes finer than a pixel are seen as their mean.
    contrast = np.clip(1.6 - 2.4 * count * at.pixel, 0.0, 1.0)
    along = 1.0 - np.clip(out / (draws["lash_length"] * clumps), 0.0, 1.0)
    alpha = draws.chance("lashes") * draws["lash_dark"] * reach * (0.5 + 0.5 * contrast * stripes)
    lashes = alpha * along * cover(out, at.pixel)
    seen_through = (1.0 - np.minimum(edge, 1.0)) * (1.0 - lower) * (1.0 - lashes)
    blend(picture, 0.6 * hair, 1.0 - seen_through)


def _paint_brow(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    middle = draws["brow_y"] + draws["brow_tilt"] * at.u + draws["brow_arch"] * at.u * at.u
    thick = draws["brow_thick"] * np.clip(1.1 - 0.35 * at.u, 0.3, 1.5)
    band = ridge(at.v - middle, thick, at.pixel) * np.clip((1.5 - np.abs(at.u)) / 0.3, 0.0, 1.0)
    texture = 0.85 + 0.15 * np.sin(17.0 * at.u + 9.0 * at.v)
    blend(picture, hair, draws.chance("brow") * draws["brow_dark"] * band * texture)


def _paint_outline(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    """What lies beyond the outline of the face: hair or a background."""
    outline = draws["edge_distance"] + draws["edge_slope"] * at.v
    behind = np.where(draws.chance("light_background"), draws["edge_light"], hair)
    blend(picture, behind, cover(at.u - outline, 2.0 * at.pixel))


def _paint_strand(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    """A strand of hair across the eye."""
    across = at.u - draws["strand_x"] - draws["strand_slope"] * at.v
    blend(picture, hair, draws["strand_dark"] * ridge(across, draws["strand_width"], at.pixel))


def _paint_glasses(picture: np.ndarray, draws: Draws, at: Geometry, hair: np.ndarray) -> None:
    """Lens, reflection and frame."""
    u = (at.u - draws["frame_x"]) / draws["frame_wide"]
    v = (at.v - draws["frame_y"]) / draws["frame_high"]
    rim = (np.sqrt(np.sqrt(u * u * u * u + v * v * v * v)) - 1.0) * draws["frame_high"]
    lens = cover(-rim, at.pixel)
    dark = np.where(draws.chance("sunglasses"), draws["sunglass_dark"], draws["lens_dark"])
    picture *= 1.0 - dark * lens
    streak = at.u - draws["reflection_x"] - draws["reflection_slope"] * at.v
    shine = draws["reflection_light"] * ridge(streak, draws["reflection_width"], at.pixel)
    blend(picture, 1.0, draws.chance("reflection") * lens * shine)
    frame = draws["frame_dark"] * ridge(rim, draws["frame_thick"], at.pixel)
    blend(picture, draws["frame_light"], frame)


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
