"""Patterns with braces, as shells expand them: `{a,b}` and `{000..009}`."""

import itertools
import re
from collections.abc import Iterable, Iterator

MOST_NAMES = 100_000
_MOST_BRACES = 50
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def expand_braces(pattern: str) -> list[str]:
    """The names that the pattern expands to, in its order.

    Raises:
      ValueError: more names than `MOST_NAMES`, more than 50 braces, or a range that descends.
    """
    if pattern.count("{") > _MOST_BRACES:
        raise ValueError(
            f"a pattern with {pattern.count('{')} braces; expected {_MOST_BRACES} or less"
        )
    names = list(itertools.islice(_expanded(pattern), MOST_NAMES + 1))
    if len(names) > MOST_NAMES:
        raise ValueError(
            f"the pattern {pattern[:200]!r} expands to more than {MOST_NAMES} names; give a "
            f"folder, or "
            "a pattern with *"
        )
    return names


def _expanded(pattern: str) -> Iterator[str]:
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    choices: Iterable[str] = braces[1].split(",")
    if bounds := _RANGE.fullmatch(braces[1]):
        first, last = bounds.groups()
        if int(first) > int(last):
            raise ValueError(f"the range {{{first}..{last}}} of {pattern[:200]!r} descends")
        choices = (str(i).zfill(len(first)) for i in range(int(first), int(last) + 1))
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    for choice in choices:
        yield from _expanded(before + choice + after)
