"""The blocks of docs/tutorial.md are parts of the example that it explains."""

import pathlib
import re

from jaxrecipes.runs.hooks import HOOKS

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text()


def test_every_block_of_python_is_in_the_example():
    example = (ROOT / "examples/noisy_curve.py").read_text()
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        assert block in example


def test_every_hook_is_listed_with_the_arguments_it_is_called_with():
    for name, hook in HOOKS.items():
        assert f"`{name}({hook.call})`" in PAGE
