"""How the library says that a name is not known."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was meant to be: one that it abbreviates, or the most alike."""
    names = sorted(known)
    abbreviated = [other for other in names if _initials(other) == name.split(".")[-1].lower()]
    cutoff = 0.0 if len(names) == 1 else 0.4
    return next(iter(abbreviated + difflib.get_close_matches(name, names, 1, cutoff)), None)


def hint(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest of the known ones, and all of them."""
    names = sorted(known)
    near = nearest(name, names)
    meant = "" if near is None else f"; did you mean {near!r}?"
    return f"{meant or ';'} Known: {', '.join(names) or 'none'}"


def unknown_name(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not among `known`."""
    return ValueError(f"unknown {what} {name!r}{hint(name, known)}")


def _initials(name: str) -> str:
    """`lr` of `optim.learning_rate`."""
    return "".join(word[0] for word in name.split(".")[-1].split("_") if word)
