"""What the procedural eyes vary: every range, probability and palette in one place.

Lengths are in units of half the width of the eye (corner to corner = 2) and v points down, unless a
line says otherwise. A name may be drawn from a uniform range (`RANGES`), from one that depends on
the class (`OPEN_RANGES`, `CLOSED_RANGES`), or with a probability (`CHANCES`).
"""

import numpy as np

Range = tuple[float, float]

# The class is a matter of `gap`, the height of the opening at its middle. Between a nearly shut eye
# (closed, up to 0.02) and a squint (open, from 0.29) lies an empty band, as people disagree there.
OPEN_RANGES: dict[str, Range] = {
    "gap": (0.29, 0.64),
    "sag": (0.15, 0.55),  # of the gap: how far the lower lid hangs below the corners
    "roll": (-0.16, 0.16),  # radians
    "lash_length": (0.05, 0.35),
    "lash_droop": (-1.0, 0.15),  # positive: the lashes hang down, else they point up
    "around_dark": (0.0, 0.45),  # shade all around the eye
    "bag_dark": (0.0, 0.36),
    "brow_y": (-1.35, -0.55),
    "bulge_light": (0.0, 0.15),
    "lid_glow": (-0.30, 0.12),  # light on the lid between crease and lashes
    "crease_dark": (0.1, 0.65),
    "socket_dark": (0.15, 0.70),  # shadow below the brow; a shut lid is stretched and catches light
    "crease_height": (0.08, 0.35),  # above the lid's edge
    "line_width": (0.05, 0.17),  # dark edge of the upper lid
    "line_dark": (0.40, 1.00),  # opacity of that edge
}
CLOSED_RANGES: dict[str, Range] = {
    "gap": (-0.03, 0.02),
    "sag": (-0.08, 0.34),  # how far the line hangs below the corners
    "roll": (-0.26, 0.26),
    "lash_length": (0.06, 0.34),
    "lash_droop": (-0.1, 1.0),
    "around_dark": (0.0, 0.25),
    "bag_dark": (0.0, 0.24),
    "brow_y": (-1.5, -0.7),
    "bulge_light": (0.0, 0.35),
    "lid_glow": (-0.10, 0.20),
    "crease_dark": (0.03, 0.4),
    "socket_dark": (0.0, 0.45),
    "crease_height": (0.25, 0.75),
    "line_width": (0.04, 0.12),
    "line_dark": (0.45, 1.00),
}

RANGES: dict[str, Range] = {
    # framing
    "crop_wide": (1.05, 1.55),  # half the width of the crop
    "crop_aspect_square": (0.85, 1.15),  # height / width of what a square patch shows
    "crop_aspect_tight": (0.50, 0.85),
    "offset_x": (-0.13, 0.13),  # of half the crop
    "offset_y": (-0.13, 0.13),
    # lids
    "lid_skew": (-0.30, 0.30),  # where the upper lid peaks
    "lid_skew_lower": (-0.30, 0.30),
    "lid_round": (-0.05, 0.60),  # from almond to round
    "line_outer": (-0.50, 0.80),  # the edge grows thicker towards the outer corner
    "line_middle": (-0.2, 0.2),
    "line_reach": (0.65, 1.1),  # where the edge ends, from there
    "wing_slope": (-0.4, 0.7),  # of the edge beyond the outer corner
    "lower_line_dark": (0.0, 0.55),
    "lower_line_width": (0.03, 0.09),
    "lash_dark": (0.10, 0.80),
    "lash_count": (2.5, 8.0),  # per half width
    "lash_fan": (0.0, 0.9),  # change of slope along the lid
    "lash_phase": (0.0, 6.283),
    "lash_clumps": (0.00, 0.35),  # unevenness of the edge and of the lashes' lengths
    "lash_clump_count": (0.7, 3.0),
    "lash_slant": (-0.6, 0.6),
    "crease_width": (0.03, 0.10),
    "crease_round": (0.75, 1.15),  # curvature against the lid's
    "bag_depth": (0.16, 0.60),  # below the lower lid
    "bag_width": (0.04, 0.14),
    "bag2_dark": (0.00, 0.18),
    "wrinkle_dark": (0.03, 0.20),  # crow's feet
    # eyeball
    "sclera_light": (0.60, 1.15),  # against a white that the skin tone scales
    "sclera_red": (0.0, 0.16),
    "sclera_edge_dark": (0.1, 0.55),
    "lid_shadow": (0.15, 0.60),  # cast by the upper lid
    "lid_shadow_depth": (0.10, 0.30),
    "iris_radius": (0.36, 0.50),
    "iris_squeeze": (0.78, 1.0),  # width / height when the head turns away
    "iris_light": (0.20, 0.80),
    "pupil_ratio": (0.30, 0.60),  # of the iris
    "limbus_dark": (0.2, 0.7),
    "gaze_x": (-0.28, 0.28),
    "gaze_y": (-0.10, 0.10),  # against the middle of the opening
    "glint_x": (-0.22, 0.22),
    "glint_y": (-0.24, 0.04),
    "glint_radius": (0.05, 0.13),
    "glint_light": (0.5, 1.0),
    "glint2_radius": (0.03, 0.08),
    # skin, light and shade
    "skin_tone": (0.0, 1.0),  # along SKIN_PALETTE
    "skin_tint": (-0.05, 0.05),
    "shade_x": (-0.30, 0.30),  # slope of the light across the crop
    "shade_y": (-0.12, 0.30),
    "socket_x": (-0.8, 0.3),
    "socket_y": (-0.75, -0.15),
    "socket_size": (0.35, 0.85),
    "makeup_dark": (0.15, 0.65),
    "bulge_height": (0.40, 0.85),  # above the lid's edge: where the ball lifts the lid
    "turn_dark": (0.0, 0.35),  # the lid turns from the light towards its edge
    "turn_depth": (0.10, 0.30),
    "mottle": (0.0, 0.05),
    "mottle_frequency": (1.0, 6.0),  # radians per half width
    "nose_light": (-0.25, 0.25),
    "nose_x": (-2.0, -1.25),
    # brow
    "brow_thick": (0.08, 0.28),
    "brow_dark": (0.15, 0.80),
    "brow_arch": (0.0, 0.35),
    "brow_tilt": (-0.2, 0.2),
    "hair_tone": (0.0, 1.0),  # along HAIR_PALETTE
    # things in the way
    "frame_x": (-0.25, 0.25),
    "frame_y": (-0.1, 0.35),
    "frame_wide": (1.15, 1.8),
    "frame_high": (0.65, 1.25),
    "frame_thick": (0.03, 0.12),
    "frame_light": (0.0, 0.75),
    "frame_dark": (0.5, 1.0),
    "lens_dark": (0.0, 0.25),
    "sunglass_dark": (0.20, 0.45),
    "reflection_light": (0.1, 0.55),
    "reflection_x": (-1.2, 1.2),
    "reflection_slope": (-0.8, 0.8),
    "reflection_width": (0.08, 0.4),
    "strand_x": (-1.3, 1.3),
    "strand_slope": (-1.0, 1.0),
    "strand_width": (0.02, 0.10),
    "strand_dark": (0.4, 0.9),
    "edge_distance": (0.95, 1.5),  # of the face's outline from the eye
    "edge_slope": (-0.4, 0.4),
    "edge_light": (0.0, 1.0),
    # camera
    "exposure": (0.26, 0.76),  # mean level that the camera settles at
    "gamma": (0.75, 1.40),
    "contrast": (0.10, 0.22),  # standard deviation of the levels
    "warmth": (-0.10, 0.10),
    "blur_sharp": (0.008, 0.02),  # standard deviation as a fraction of the crop's width
    "blur_soft": (0.02, 0.042),
    "sharpen": (0.2, 1.2),
    "noise_luma": (0.0, 0.012),
    "noise_chroma": (0.0, 0.008),
    "jpeg_quality": (45.00, 95.00),
}

CHANCES: dict[str, float] = {
    "square_crop": 0.6,  # the rest is cropped tightly around the eye
    "lashes": 0.75,
    "crease": 0.75,  # the rest are single lids
    "bag": 0.7,
    "wrinkles": 0.12,
    "glint": 0.75,
    "glint2": 0.25,
    "socket": 0.75,
    "makeup": 0.15,
    "brow": 0.85,
    "glasses": 0.08,
    "sunglasses": 0.15,  # of those with glasses
    "reflection": 0.2,  # of those with glasses
    "strand": 0.04,
    "outline": 0.08,
    "light_background": 0.5,
    "soft": 0.45,
    "sharpened": 0.3,
    "noisy": 0.5,
    "grey": 0.35,
    "jpeg": 0.4,
}

# sRGB in [0, 1]; draws lie between neighbours.
SKIN_PALETTE = np.array(
    [
        [0.97, 0.87, 0.80],
        [0.93, 0.77, 0.67],
        [0.86, 0.67, 0.55],
        [0.75, 0.55, 0.42],
        [0.58, 0.41, 0.31],
        [0.42, 0.29, 0.22],
        [0.30, 0.21, 0.17],
    ],
    np.float32,
)
HAIR_PALETTE = np.array(
    [[0.05, 0.04, 0.04], [0.16, 0.11, 0.09], [0.30, 0.20, 0.14], [0.48, 0.36, 0.24]], np.float32
)
IRIS_PALETTE = np.array(
    [
        [0.15, 0.09, 0.06],
        [0.26, 0.16, 0.10],
        [0.38, 0.27, 0.16],
        [0.36, 0.40, 0.26],
        [0.38, 0.47, 0.55],
        [0.50, 0.60, 0.70],
    ],
    np.float32,
)
