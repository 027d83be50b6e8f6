"""Sizes written as text: "32x64" is height by width."""

import re

_TIMES = "\N{MULTIPLICATION SIGN}"


def parse_image_size(text: str) -> tuple[int, int]:
    """Height and width in pixels from "32x64", "32,64" or, for a square, "48".

    Raises:
      ValueError: not one or two whole numbers, or one below 1.
    """
    numbers = _whole_numbers(re.split(f"[x{_TIMES},]", text.strip().lower()))
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise ValueError(f"image size {text!r} is not HEIGHTxWIDTH in whole pixels, such as 32x64")
    return numbers[0], numbers[-1]


def parse_token_grid(text: str) -> tuple[int, int]:
    """Rows and columns from "2x3", "2,3" or "2 3".

    Raises:
      ValueError: not two whole numbers, or one below 1.
    """
    numbers = _whole_numbers(re.split(rf"[x{_TIMES},\s]", text.strip().lower()))
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(f"token grid {text!r} is not ROWSxCOLUMNS in whole numbers, such as 2x3")
    return numbers[0], numbers[1]


def _whole_numbers(parts: list[str]) -> list[int]:
    """The non-empty parts as integers, as in the original; empty if one is not an integer."""
    try:
        return [int(part) for part in parts if part]
    except ValueError:
        return []
