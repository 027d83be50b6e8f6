"""The names that tables give to splits."""

_SPLIT_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_name(value: object) -> str | None:
    """The split that a name means, in any case: train, val or test; None for other names."""
    return _SPLIT_ALIASES.get(value.strip().lower()) if isinstance(value, str) else None
