"""The camera of the procedural eyes: exposure, blur, noise, grey, 8 bits and JPEG."""

import io
import math

import numpy as np
from PIL import Image

from jaxrecipes.recipes.ocec.eyes.geometry import Draws
from jaxrecipes.recipes.ocec.eyes.ranges import RANGES

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode "L"
MIN_BLUR = 0.05  # pixels
BLUR_REACH = 2.2  # standard deviations
MAX_GAIN = 2.5  # of the contrast; a flat scene stays flat


def _blur_axis(picture: np.ndarray, sigma: np.ndarray, axis: int, radius: int) -> np.ndarray:
    """A Gaussian of `[N, 1, 1]` standard deviations in pixels, with the border repeated."""
    pad = [(0, 0)] * picture.ndim
    pad[axis] = (radius, radius)
    padded = np.pad(picture, pad, mode="edge")
    size = picture.shape[axis]
    taps = [np.exp(-0.5 * np.square(offset / sigma)) for offset in range(radius + 1)]
    total = taps[0] + 2.0 * sum(taps[1:], np.zeros_like(taps[0]))

    def shifted(offset: int) -> np.ndarray:
        window = [slice(None)] * picture.ndim
        window[axis] = slice(radius + offset, radius + offset + size)
        return padded[tuple(window)]

    blurred = shifted(0) * (taps[0] / total)
    for offset in range(1, radius + 1):
        blurred += (shifted(offset) + shifted(-offset)) * (taps[offset] / total)
    return blurred


def _blur(picture: np.ndarray, draws: Draws) -> np.ndarray:
    """Defocus or a small original."""
    is_soft = draws.chance("soft")[:, 0, 0]
    blurred = np.empty_like(picture)
    for name, chosen in (("blur_soft", is_soft), ("blur_sharp", ~is_soft)):
        rows = np.flatnonzero(chosen)
        part, share = picture[:, rows], draws[name][rows]
        for axis in (-1, -2):
            size = picture.shape[axis]
            sigma = np.maximum(share * np.float32(size), MIN_BLUR)
            radius = math.ceil(BLUR_REACH * RANGES[name][1] * size)
            part = _blur_axis(part, sigma, axis, radius)
        blurred[:, rows] = part
    return blurred


def _sharpen(picture: np.ndarray, draws: Draws) -> None:
    """Unsharp masking, halo included, of some of the pictures (in place)."""
    rows = np.flatnonzero(draws.chance("sharpened"))
    amount = draws["sharpen"][rows]
    part, sigma = picture[:, rows], np.ones_like(amount)
    smooth = _blur_axis(_blur_axis(part, sigma, -1, 2), sigma, -2, 2)
    picture[:, rows] = part + amount * (part - smooth)


def _grey(picture: np.ndarray) -> np.ndarray:
    red, green, blue = GREY_WEIGHTS
    return red * picture[0] + green * picture[1] + blue * picture[2]


def _expose(picture: np.ndarray, draws: Draws) -> np.ndarray:
    """Brings each picture to its mean level and contrast, then tints it by the light's colour."""
    grey = _grey(picture)
    flat = grey.reshape(len(grey), -1)
    mean = np.maximum(flat.mean(axis=-1), 1e-3)[:, None, None]
    spread = flat.std(axis=-1)[:, None, None]
    gain = np.minimum(draws["contrast"] / np.maximum(spread, 1e-3), MAX_GAIN)
    colour = np.minimum(draws["exposure"] / mean, MAX_GAIN)
    picture = draws["exposure"] + (grey - mean) * gain + (picture - grey) * colour
    warmth = draws["warmth"]
    return picture * np.stack([1.0 + warmth, np.ones_like(warmth), 1.0 - warmth])


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer, formats=["JPEG"]))


def photograph(picture: np.ndarray, draws: Draws) -> np.ndarray:
    """Turns painted scenes into pictures.

    Args:
      picture: `[3, N, H, W]` float32, about 0 to 1.
      draws: the parameters of the same scenes.

    Returns:
      `[N, H, W, 3]` uint8.
    """
    height, width = picture.shape[-2:]
    picture = np.power(np.clip(picture, 0.0, 1.0), draws["gamma"])
    picture = _expose(_blur(picture, draws), draws)
    _sharpen(picture, draws)
    noise = draws.random.noise("sensor", height, width)
    noisy = draws.chance("noisy")
    picture += (noisy * draws["noise_chroma"]) * noise[:3]
    picture += (noisy * draws["noise_luma"]) * noise[3]
    picture += draws.chance("grey") * (_grey(picture) - picture)

    levels = np.clip(picture * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
    images = np.ascontiguousarray(levels.transpose(1, 2, 3, 0))
    compressed = draws.chance("jpeg")[:, 0, 0]
    quality = draws["jpeg_quality"][:, 0, 0].astype(np.int64)
    for i in np.flatnonzero(compressed):
        images[i] = _jpeg(images[i], int(quality[i]))
    return images
