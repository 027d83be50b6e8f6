"""A sheet of small images with captions: augmented samples, worst mistakes."""

import io
import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from jaxrecipes.files import write_bytes
from jaxrecipes.report.pictures import CAPTION

PAPER, INK, FRAME = (255, 255, 255), (34, 38, 43), (205, 210, 216)
MARGIN, GAP, FONT_SIZE, LINE_HEIGHT = 12, 10, 12, 15  # pixels
CELL_WIDTH = 112  # pixels that a cell has at least, so that its caption can be read


def contact_sheet(
    images: np.ndarray,
    captions: Sequence[str],
    path: str | os.PathLike[str],
    *,
    columns: int = 8,
    scale: int | None = None,
    title: str = "",
    about: str = "",
) -> None:
    """Draws the images row by row, enlarged by whole pixels, each over its caption.

    Args:
      images: uint8 `[N, H, W, 3]`; N may be 0, the sheet then says so.
      captions: N texts, perhaps of several lines; a line that is too wide is cut.
      path: PNG to write.
      columns: images per row at most.
      scale: how many pixels wide and high one pixel is drawn; by default the least that makes an
        image `CELL_WIDTH` pixels wide.
      title: heading.
      about: what the sheet shows, for `pictures.caption`.

    Raises:
      ValueError: wrong shape or dtype, or another number of captions.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"expected uint8 [N, H, W, 3] images, got {images.dtype} {images.shape}")
    if len(captions) != len(images):
        raise ValueError(f"expected a caption per image, got {len(captions)} for {len(images)}")
    if columns < 1 or (scale is not None and scale < 1):
        raise ValueError(f"expected columns and scale of at least 1, got {columns} and {scale}")
    n, height, width, _ = images.shape
    if scale is None:
        scale = max(1, math.ceil(CELL_WIDTH / width))
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    columns = max(1, min(columns, n))
    cell_width = max(width * scale, CELL_WIDTH)
    cell_height = height * scale + 4 + lines * LINE_HEIGHT
    top = MARGIN + (LINE_HEIGHT + GAP if title else 0)
    rows = math.ceil(n / columns)
    font = ImageFont.load_default(FONT_SIZE)
    sheet = Image.new(
        "RGB",
        (
            max(2 * MARGIN + columns * (cell_width + GAP) - GAP, _text_width(title, font)),
            top + max(rows * (cell_height + GAP), LINE_HEIGHT + GAP) - GAP + MARGIN,
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, font=font, fill=INK)
    for index, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        x = MARGIN + index % columns * (cell_width + GAP)
        y = top + index // columns * (cell_height + GAP)
        large = Image.fromarray(pixels).resize(
            (width * scale, height * scale), Image.Resampling.NEAREST
        )
        sheet.paste(large, (x, y))
        draw.rectangle(
            (x - 1, y - 1, x + width * scale, y + height * scale), outline=FRAME, width=1
        )
        for number, line in enumerate(caption.split("\n")):
            text = _fit(line, font, cell_width)
            draw.text((x, y + height * scale + 3 + number * LINE_HEIGHT), text, font=font, fill=INK)
    if n == 0:
        draw.text((MARGIN, top), "nothing to show", font=font, fill=INK)
    png = io.BytesIO()
    said = PngInfo()
    said.add_text(CAPTION, about)
    sheet.save(png, format="PNG", optimize=True, pnginfo=said)
    write_bytes(path, png.getvalue())


def side_by_side(left: np.ndarray, right: np.ndarray, *, gap: int = 1) -> np.ndarray:
    """Pairs of images, such as an original and what augmentation made of it.

    Args:
      left: uint8 `[N, H, W, 3]`.
      right: the same shape.
      gap: white pixels between the two.

    Returns:
      uint8 `[N, H, 2W + gap, 3]`.
    """
    if left.shape != right.shape:
        raise ValueError(f"expected two equal shapes, got {left.shape} and {right.shape}")
    n, height, _, channels = left.shape
    return np.concatenate([left, np.full((n, height, gap, channels), 255, np.uint8), right], axis=2)


def _text_width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return math.ceil(font.getlength(text)) + 2 * MARGIN


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
