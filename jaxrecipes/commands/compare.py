"""Trains several presets of a recipe, one after the other, and compares them.

  jaxrecipes compare --config NAME --presets A B ... --workdir DIR
                            [--metrics NAME ...] [--FIELD VALUE ...]

Each preset is an ordinary run in DIR/PRESET; fields of the config are flags, which apply to all of
them. Prints what the runs reached, the change against the first, how steady validation was and how
far from training, and the settings that differ, and leaves that as comparison.md, .json and .png in
DIR, and as a page that begins with the best run (report.html). The same command goes on where it
was stopped.
"""

import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from jaxrecipes import cli
from jaxrecipes.commands.train import fit
from jaxrecipes.files import write_bytes, write_json
from jaxrecipes.paths import check_output_folder, user_path
from jaxrecipes.runs.recipe_config import chosen, recipe_and_config
from jaxrecipes.runs.recipe_module import RecipeModule

if TYPE_CHECKING:
    from jaxrecipes.report.comparison import Comparison


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--config", required=True, metavar="NAME", help="the recipe, or its file")
    flags.add_argument(
        "--presets", required=True, nargs="+", help="names; the others are compared with the first"
    )
    flags.add_argument(
        "--workdir", required=True, type=cli.path, help="folder of the runs and the comparison"
    )
    flags.add_argument(
        "--metrics", nargs="+", default=[], help="what is shown (default: all that training moved)"
    )
    own, overrides = flags.parse_known_args()
    _check_presets(own.presets)
    check_output_folder(own.workdir)
    found = [recipe_and_config(f"{own.config}:{name}", overrides) for name in own.presets]
    if _compare(dict(zip(own.presets, found, strict=True)), own.workdir, own.metrics) is not None:
        print((own.workdir / "comparison.md").read_text(encoding="utf-8"), end="")


def compare(
    config: str,
    presets: Sequence[str],
    workdir: str | pathlib.Path,
    *,
    fields: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
) -> "Comparison | None":
    """Trains presets of a recipe and compares them, as `jaxrecipes compare` does.

    Args:
      config: the recipe, or its file.
      presets: names; the others are compared with the first.
      workdir: folder of the runs and the comparison.
      fields: values in place of all configs', by dotted name.
      metrics: what is shown; by default all that training moved.

    Returns:
      what differs; None when a signal stopped it, or in another process than the first.

    Raises:
      ValueError: a preset that is not there or is named twice; or what `fit` raises.
    """
    _check_presets(presets)
    folder = user_path(workdir)
    check_output_folder(folder)
    found = {name: chosen(f"{config}:{name}", fields) for name in presets}
    return _compare(found, folder, metrics)


def _check_presets(presets: Sequence[str]) -> None:
    if len(set(presets)) < len(presets):
        raise ValueError(f"--presets names one twice: {' '.join(presets)}")


def _compare(
    presets: Mapping[str, tuple[RecipeModule, Any]], workdir: pathlib.Path, metrics: Sequence[str]
) -> "Comparison | None":
    for module, config in presets.values():
        module.check_config(config)
    folders = {name: workdir / name for name in presets}
    for number, (name, (_, config)) in enumerate(presets.items(), start=1):
        logging.getLogger("jaxrecipes").info(
            "preset %s, %d of %d: %s", name, number, len(presets), folders[name]
        )
        finished = fit(config, folders[name])
        if finished is None or finished.interrupted:
            return None
    if jax.process_index() != 0:
        return None
    from jaxrecipes.report.comparison import as_json, compare_runs
    from jaxrecipes.report.comparison_page import write_comparison_page
    from jaxrecipes.report.comparison_plot import plot
    from jaxrecipes.report.comparison_tables import markdown

    found = compare_runs(folders, metrics=metrics)
    write_bytes(workdir / "comparison.md", markdown(found).encode())
    write_json(workdir / "comparison.json", as_json(found))
    plot(found, workdir / "comparison.png")
    page = write_comparison_page(found, folders, workdir / "report.html")
    logging.getLogger("jaxrecipes").info("report: %s", page)
    return found
