"""Error messages: unknown names, and errors that other libraries raise about a user's input."""

import contextlib
import difflib
import errno
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

WRONG_TYPES = (TypeError, AttributeError, LookupError, OverflowError, ValueError)
"""What plain Python raises if a value from a file has an unexpected type or size."""

_MOST_NAMES = 12
_LONGEST = 300


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that `name` probably means: one that it abbreviates, or the most similar."""
    names, name = sorted(known), str(name)
    section, _, last = name.rpartition(".")
    abbreviated = [other for other in names if _initials(other) == last.lower()]
    abbreviated.sort(key=lambda other: other.rpartition(".")[0] != section)  # its own section first
    cutoff = 0.0 if len(names) == 1 else 0.4
    return next(iter(abbreviated + difflib.get_close_matches(name, names, 1, cutoff)), None)


def hint(name: object, known: Iterable[str]) -> str:
    """What to add to the message about an unknown name: the nearest known one, and a list of
    them.
    """
    names = sorted(known)
    near = nearest(name, names)
    meant = "" if near is None else f"; did you mean {near!r}?"
    return f"{meant or ';'} Known: {listed(names) or 'none'}"


def unknown_name(what: str, name: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not among `known`; it may come from a file and be anything."""
    return ValueError(f"unknown {what} {shortened(str(name), 80)!r}{hint(name, known)}")


def named(what: str, name: str, found: Mapping[str, T]) -> T:
    """`found[name]`.

    Raises:
      ValueError: there is no such name; the nearest one is given.
    """
    if name not in found:
        raise unknown_name(what, name, found)
    return found[name]


def listed(names: Sequence[object], most: int = _MOST_NAMES) -> str:
    """The first names, separated by commas."""
    more = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {more} more" if more > 0 else "")


def shortened(text: str, longest: int = _LONGEST) -> str:
    """The text, with its middle left out if it is too long."""
    if len(text) <= longest:
        return text
    half = (longest - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


@contextlib.contextmanager
def telling(what: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turns exceptions that a library raises about outside input into a ValueError `WHAT: CAUSE`.

    Args:
      what: the file and what is wrong with it, such as "x.npz is damaged".
      kinds: what that library raises; anything else passes through.
    """
    try:
        yield
    except kinds as error:
        raise ValueError(f"{what}: {cause(error)}") from error


def cause(error: BaseException) -> str:
    """The message of an exception on one line, shortened; with its type if that alone says too
    little.
    """
    if isinstance(error, OSError) and error.strerror:
        return os_error(error)
    said = " ".join(str(error).split())
    bare = isinstance(error, KeyError | RecursionError | MemoryError) or len(said) < 12
    name = type(error).__name__
    return shortened(f"{name}: {said}" if bare and said else said or name)


_OS_ADVICE = {
    errno.ENOENT: "there is no such file or folder",
    errno.EACCES: "permission denied; choose another place, or change its permissions",
    errno.EPERM: "not permitted; choose another place, or change its permissions",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EEXIST: "it is there already, and no folder",
    errno.ENOTDIR: "it is a file where a folder is wanted",
    errno.EISDIR: "it is a folder where a file is wanted",
    errno.ENOSPC: "No space left on device",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "a symbolic link that leads to itself",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}


def os_error(error: OSError) -> str:
    """The message of an OSError, with the file first and the reason in plain words."""
    if error.errno is None or error.strerror is None:
        return str(error) or type(error).__name__
    reason = _OS_ADVICE.get(error.errno, error.strerror)
    names = " -> ".join(
        shortened(str(name)) for name in (error.filename, error.filename2) if name is not None
    )
    return f"{names}: {reason}" if names else reason


def _initials(name: str) -> str:
    """`lr` of `optim.learning_rate`."""
    return "".join(word[0] for word in name.split(".")[-1].split("_") if word)


def named_rows(rows: Sequence[int], what: str = "") -> str:
    """The number of rows and the first of them, for messages: `3 rows WHAT (from 0): 1, 5, 9`."""
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    noun = "row" if len(rows) == 1 else "rows"
    return " ".join(filter(None, (f"{len(rows)} {noun}", what, f"(from 0): {shown}")))


def install_command(extra: str) -> str:
    """The command that installs an extra of the library: from PyPI, or from a checkout."""
    root = pathlib.Path(__file__).parents[1]
    source = str(root) if (root / "pyproject.toml").is_file() else "jaxrecipes"
    editable = "-e " if source != "jaxrecipes" else ""
    return f"pip install {editable}'{source}[{extra}]'"
