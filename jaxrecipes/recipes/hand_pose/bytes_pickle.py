"""A pickled list of bytes, read without unpickling: nothing runs, and nothing is larger than the
pickle itself, whatever it claims.
"""

import pickletools

_BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9}
"""Opcode -> bytes of it that stand before the content."""
_PASSED_OVER = {"PROTO", "FRAME", "MARK"}


def list_of_bytes(content: bytes) -> list[tuple[int, int]]:
    """Where in a pickled list of bytes its items lie: (offset, size) of each.

    An item that is the same object as an earlier one is stored once, and lies there.

    Raises:
      ValueError: the pickle is damaged, or holds anything else.
    """
    items: list[tuple[int, int]] = []
    memo: dict[int, tuple[int, int]] = {}
    memorised = 0
    last: tuple[int, int] | None = None
    begun = False
    try:
        for opcode, argument, position in pickletools.genops(content):
            name, number = opcode.name, argument if isinstance(argument, int) else -1
            if name in _BYTES and begun and isinstance(argument, bytes) and position is not None:
                last = position + _BYTES[name], len(argument)
                items.append(last)
            elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
                if last is not None:  # else it is the list itself
                    memo[memorised if name == "MEMOIZE" else number] = last
                memorised += 1
            elif name in ("BINGET", "LONG_BINGET") and number in memo:
                last = memo[number]
                items.append(last)
            elif name == "EMPTY_LIST" and not begun:
                begun = True
            elif name == "STOP":
                break
            elif name not in _PASSED_OVER and not (begun and name in ("APPEND", "APPENDS")):
                raise ValueError(f"it holds something else than a list of bytes ({name})")
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(f"{error}") from error
    if not begun:
        raise ValueError("it holds something else than a list of bytes")
    return items
