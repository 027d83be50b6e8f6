"""What a PNG says of itself: its caption and its shape."""

import os

from PIL import Image

CAPTION = "Title"
"""Key of the text in a PNG that says what it shows."""


def caption(path: str | os.PathLike[str]) -> str:
    """What the picture shows, in words; "" where it does not say."""
    with Image.open(path) as image:
        return str(image.info.get(CAPTION, ""))


def is_wide(path: str | os.PathLike[str]) -> bool:
    """Whether the picture needs a row to itself."""
    with Image.open(path) as image:
        return image.width > 1.7 * image.height or image.width > 900
