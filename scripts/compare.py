#!/usr/bin/env python3
"""Trains several presets of a recipe, one after the other, and puts them beside each other.

  python scripts/compare.py --config configs/NAME.py --presets A B ... --workdir DIR
                            [--metrics NAME ...] [--FIELD VALUE ...]

Each preset is a run of its own in DIR/PRESET, just as by train.py; fields of the config are flags
and hold for all of them. Prints what the runs reached, the change against the first, how steady
validation was and how far from training, and the settings that differ, and leaves that as
comparison.md, .json and .png in DIR. The same command goes on where it was stopped.
"""

import logging
import sys

import jax

from jaxrecipes import cli
from jaxrecipes.config import to_dict
from jaxrecipes.files import write_bytes
from jaxrecipes.json_files import write_json
from jaxrecipes.paths import check_output_folder
from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.train.runtime import set_up_jax, set_up_logging


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--config", required=True, metavar="FILE.py", help="the recipe's presets")
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
    if len(set(own.presets)) < len(own.presets):
        raise ValueError(f"--presets names one twice: {' '.join(own.presets)}")
    check_output_folder(own.workdir)
    found = {name: recipe_and_config(f"{own.config}:{name}", overrides) for name in own.presets}
    for module, config in found.values():
        module.check_config(config)
    set_up_jax(found[own.presets[0]][1])
    # Devices are touched from here on.
    from jaxrecipes.report.comparison import as_json, compare_runs
    from jaxrecipes.report.comparison_plot import plot
    from jaxrecipes.report.comparison_tables import as_markdown
    from jaxrecipes.runs.train import train

    folders = {name: own.workdir / name for name in found}
    for number, (name, (module, config)) in enumerate(found.items(), start=1):
        folders[name].mkdir(parents=True, exist_ok=True)
        set_up_logging(folders[name] / "train.log")
        logging.getLogger("jaxrecipes").info(
            "preset %s, %d of %d: %s", name, number, len(found), folders[name]
        )
        finished = train(module, config, to_dict(config), folders[name])
        if finished is None or finished.interrupted:
            return
    if jax.process_index() == 0:
        comparison = compare_runs(folders, metrics=own.metrics)
        text = as_markdown(comparison)
        write_bytes(own.workdir / "comparison.md", text.encode())
        write_json(own.workdir / "comparison.json", as_json(comparison))
        plot(comparison, own.workdir / "comparison.png")
        print(text, end="")


if __name__ == "__main__":
    sys.exit(cli.run(main))
