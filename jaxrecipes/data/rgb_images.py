"""Converts image files of any kind to upright 8-bit RGB, with one rule for each of Pillow's modes.

Transparency is dropped, not blended, and only the first of several frames is used, as in the
recipes' originals. Sixteen-bit grey is scaled in proportion. Values without a known range are
refused.
"""

import io
from pathlib import Path

import numpy as np
import PIL
from PIL import ExifTags, Image

from jaxrecipes.files import is_git_lfs_pointer

DECODER_VERSION = 2
"""The version of the rules below, which is part of the names of cached pixels."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF


def decode_rgb(encoded: bytes | None, file: Path, *, exif_orientation: bool = True) -> Image.Image:
    """The embedded image, or else the file, as RGB.

    Args:
      encoded: the content of an image file; None: read `file`.
      file: the image file, or the name of the image in errors.
      exif_orientation: turn it as its EXIF orientation says. Pillow always does so with TIFF.

    Raises:
      FileNotFoundError: there is neither an embedded image nor the file.
      ValueError: the range of the levels is not known (floating point or 32-bit integers), or the
        file is a Git LFS pointer. A damaged image raises whatever Pillow does.
    """
    if encoded is None and not file.is_file():
        raise FileNotFoundError(f"image {file} does not exist and is not embedded")
    with open_image(encoded, file) as image:
        image.load()
        rgb = _to_rgb(image)
        turn = _TURNS.get(_orientation(image)) if exif_orientation else None
        return rgb if turn is None else rgb.transpose(turn)


def image_size(
    encoded: bytes | None, file: Path, *, exif_orientation: bool = True, verify: bool = False
) -> tuple[int, int]:
    """Height and width of the result of `decode_rgb`, from the image's header.

    Args:
      encoded: see `decode_rgb`.
      file: see `decode_rgb`.
      exif_orientation: see `decode_rgb`.
      verify: also decode the image, to check that this is possible.
    """
    if verify:
        rgb = decode_rgb(encoded, file, exif_orientation=exif_orientation)
        return rgb.height, rgb.width
    with open_image(encoded, file) as image:
        # Pillow has already turned the size of a TIFF.
        turned = exif_orientation and image.format != "TIFF"
        sideways = turned and _orientation(image) in _SIDEWAYS
        return (image.width, image.height) if sideways else (image.height, image.width)


def open_image(encoded: bytes | None, file: Path) -> Image.Image:
    """Pillow's lazy image of the content, or else of the file.

    Raises:
      ValueError: a Git LFS pointer, or nothing that Pillow can read.
    """
    try:
        return Image.open(file if encoded is None else io.BytesIO(encoded))
    except PIL.UnidentifiedImageError:  # because its message would name our buffer
        if encoded is None:
            with file.open("rb") as stream:
                encoded = stream.read(64)
        if is_git_lfs_pointer(encoded):
            raise ValueError("a Git LFS pointer, not the image itself; run git lfs pull") from None
        raise ValueError(
            "not an image that Pillow can read" if encoded else "empty: no image"
        ) from None


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF may raise anything, but the pixels can still be read
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image  # no copy
    if image.mode == "F":
        raise ValueError(
            "holds floating-point levels, whose range is not known; save it with 8 or 16 bits"
        )
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image.convert("RGB")
    if image.format not in ("PNG", "TIFF", "JPEG2000", "PPM") or (
        image.mode == "I" and image.format == "TIFF"
    ):
        raise ValueError(
            f"holds integers of mode {image.mode} ({image.format}), whose range is not known; save "
            "it with 8 or 16 bits"
        )
    highest, inverted = 65535, False
    if image.format == "TIFF":  # 12 bits stay 12 bits there; other formats are scaled by Pillow
        tags = image.tag_v2  # type: ignore[attr-defined]
        highest = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
        inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    levels = np.clip(np.asarray(image), 0, highest).astype(np.uint32)
    grey = ((levels * 510 + highest) // (2 * highest)).astype(np.uint8)  # rounded
    return Image.fromarray(255 - grey if inverted else grey).convert("RGB")
