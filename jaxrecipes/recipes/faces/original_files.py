"""Files of the original face programs."""

import os
from typing import Any

from jaxrecipes.convert.rules import described


def not_the_programs(path: str | os.PathLike[str], loaded: Any, program: str) -> ValueError:
    """The error for a file without the keys that the face programs write."""
    keys = [str(key)[:40] for key in loaded][:8] if isinstance(loaded, dict) else described(loaded)
    return ValueError(
        f"{path} is no checkpoint of the {program} program: expected model_state_dict and "
        f"args among "
        f"its keys, got {keys}"
    )
