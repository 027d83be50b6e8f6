"""Reads users' CSV files exactly, or refuses them with one clear line."""

import csv
import re
from pathlib import Path

from jaxrecipes.errors import telling
from jaxrecipes.files import check_content

_DECIMAL_COMMA = re.compile(r"\d+,\d+")
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


def read_csv(path: Path) -> dict[str, list[str]]:
    """The columns by their names in the header, in lower case and without surrounding white space.

    Cells are separated by commas; quoted ones may hold commas and line ends. UTF-8, with or without
    a byte order mark. Empty lines are ignored.

    Raises:
      ValueError: the encoding or separator is a different one, quotes do not match, a row is not as
        long as the header, or a name occurs twice.
    """
    check_content(path)
    with path.open("rb") as binary:
        if binary.read(2) in _WIDE_BOMS:
            raise ValueError(f"{path} is text in UTF-16; save it as CSV in UTF-8")
    with (
        telling(f"{path} is not a readable CSV file in UTF-8", csv.Error, UnicodeDecodeError),
        path.open(newline="", encoding="utf-8-sig") as stream,
    ):
        rows = list(csv.reader(stream, strict=True))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    rows = [row for row in rows[1:] if row]
    _check_separator(header, rows, path)
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"{path} has the column {' and '.join(repeated)} more than once")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"{path}: row {number} (from 0) has {len(row)} cells, the header {len(header)}; "
                "quote texts that contain a comma"
            )
    return {name: [row[column] for row in rows] for column, name in enumerate(header)}


def _check_separator(header: list[str], rows: list[list[str]], path: Path) -> None:
    separator = next((mark for mark in ";\t" if len(header) == 1 and mark in header[0]), None)
    if separator is None:
        return
    cells = (cell.strip() for row in rows for cell in ",".join(row).split(separator))
    number = next(filter(_DECIMAL_COMMA.fullmatch, cells), None)
    comma, point = "", ""
    if number is not None:
        comma = f", and numbers such as {number} have a decimal comma"
        point = f" and decimal points ({number.replace(',', '.')})"
    raise ValueError(
        f"{path}: cells are separated by {separator!r}{comma}, as spreadsheets write in some "
        f"countries; expected commas between cells{point}"
    )
