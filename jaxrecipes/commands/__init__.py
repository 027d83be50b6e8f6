"""The commands of `jaxrecipes`, one module each; `scripts/*.py` call the same ones."""

import ast
import importlib
import importlib.metadata
import importlib.resources
import sys

from jaxrecipes import errors


def call(name: str) -> int:
    """Runs the command `name` with the arguments in `sys.argv`; returns the exit status."""
    from jaxrecipes import cli  # here, since it takes a second that an overview need not wait for

    return cli.run(importlib.import_module(f"{__name__}.{name}").main)


def main() -> int:
    """The program `jaxrecipes`: its first argument is the command."""
    first, *rest = sys.argv[1:] or ["--help"]
    if first in ("-h", "--help"):
        print(_overview())
        return 0
    if first == "--version":
        print(f"jaxrecipes {importlib.metadata.version('jaxrecipes')}")
        return 0
    if first not in (known := _summaries()):
        print(f"error: {errors.unknown_name('command', first, known)}", file=sys.stderr)
        return 2
    sys.argv = [f"jaxrecipes {first}", *rest]
    return call(first)


def _overview() -> str:
    summaries = _summaries()
    width = max(map(len, summaries))
    lines = [f"  {name:{width}}  {summary}" for name, summary in summaries.items()]
    return "\n".join(
        [
            "usage: jaxrecipes COMMAND ...",
            "",
            "Trains, evaluates, tunes and exports recipes in JAX.",
            "",
            *lines,
            "",
            "`jaxrecipes COMMAND --help` describes a command, `jaxrecipes --version` shows the "
            "version.",
        ]
    )


def _summaries() -> dict[str, str]:
    """Each command and the first sentence of its text, without importing any."""
    summaries = {}
    for file in importlib.resources.files(__name__).iterdir():
        if file.name.endswith(".py") and not file.name.startswith("_"):
            text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            summaries[file.name.removesuffix(".py")] = " ".join(text.split("\n\n")[0].split())
    return dict(sorted(summaries.items()))
