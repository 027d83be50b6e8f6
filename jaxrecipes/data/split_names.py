"""The names of splits in users' tables."""

_SPLIT_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_name(value: object) -> str | None:
    """The split that a name in upper or lower case means: train, val or test; None for other
    names.
    """
    return _SPLIT_ALIASES.get(value.strip().lower()) if isinstance(value, str) else None
