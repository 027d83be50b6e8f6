#!/usr/bin/env python3
"""Trains a recipe, or goes on with a run that was stopped.

  python scripts/train.py --config configs/NAME.py[:PRESET] [--workdir DIR] [--FIELD VALUE ...]

The same command on the same DIR goes on where the run was stopped (Ctrl-C and SIGTERM save first; a
run that is killed goes on from its newest checkpoint). Without --workdir a new folder under runs/
is made. --allow_config_change goes on although the config is another than the run was started with,
--allow_data_change although the data is: epochs that are done stay done, schedules are rebuilt.
--config may also be the config.json of a run.
Every field of the config is a flag; `--config configs/NAME.py --help` describes them all.
"""

import logging
import pathlib
import sys

from jaxrecipes import cli
from jaxrecipes.config import to_dict
from jaxrecipes.paths import check_output_folder
from jaxrecipes.runs.init_from import first_stage_config
from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.train.run_files import new_folder
from jaxrecipes.train.runtime import set_up_jax, set_up_logging


def main() -> None:
    flags = cli.parser(__doc__, add_help=False)
    flags.add_argument(
        "-h", "--help", action="store_true", help="this, and every field of --config"
    )
    flags.add_argument("--config", metavar="FILE.py[:PRESET]", help="the recipe and its settings")
    flags.add_argument("--workdir", type=cli.path, help="folder of the run, new or to go on with")
    flags.add_argument(
        "--allow_config_change", action="store_true", help="go on under a config that has changed"
    )
    flags.add_argument(
        "--allow_data_change", action="store_true", help="go on although the data has changed"
    )
    own, overrides = flags.parse_known_args()
    if own.help:
        flags.print_help()
        if own.config:
            recipe_and_config(own.config, ["--help"])
        return
    if own.config is None:
        flags.error("--config is required, such as --config configs/ocec.py")
    module, config = recipe_and_config(own.config, overrides)
    module.check_config(config)
    if config.first_stage is not None:
        module.check_config(first_stage_config(config))
    if own.workdir is None and (config.parallel.num_processes or 1) > 1:
        flags.error("give --workdir, the same to all processes that train together")
    workdir = own.workdir or new_folder(pathlib.Path("runs"), module.name)
    check_output_folder(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    set_up_logging(workdir / "train.log")
    logging.getLogger("jaxrecipes").info("run folder: %s", workdir)
    set_up_jax(config)
    from jaxrecipes.runs.train import train  # devices are touched from here on

    train(
        module,
        config,
        to_dict(config),
        workdir,
        allow_config_change=own.allow_config_change,
        allow_data_change=own.allow_data_change,
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
