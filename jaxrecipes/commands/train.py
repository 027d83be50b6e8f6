"""Trains a recipe, or goes on with a run that was stopped.

  jaxrecipes train --config NAME[:PRESET] [--workdir DIR] [--FIELD VALUE ...]

NAME is a recipe of the package (ocec, universal_face, face3d, clip_iqa, hand_pose), a file that
describes one (FILE.py[:PRESET]), or the config.json of a run. The same command on the same DIR goes
on where the run was stopped: Ctrl-C and SIGTERM save first, a run that is killed goes on from its
newest checkpoint. Without --workdir a new folder under runs/ is made. --allow_config_change goes on
under another config than the run was started with, --allow_data_change on other data: epochs that
are done stay done, and schedules are rebuilt.
Every field of the config is a flag; `jaxrecipes train --config NAME --help` describes them all.
"""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxrecipes import cli
from jaxrecipes.files import new_folder
from jaxrecipes.paths import check_output_folder, user_path
from jaxrecipes.runs.init_from import first_stage_config
from jaxrecipes.runs.recipe_config import chosen, recipe_and_config
from jaxrecipes.runs.runtime import logged_to, set_up_jax
from jaxrecipes.train.run_state import Finished


def main() -> None:
    flags = cli.parser(__doc__, add_help=False)
    flags.add_argument(
        "-h", "--help", action="store_true", help="this, and every field of --config"
    )
    flags.add_argument(
        "--config", metavar="NAME[:PRESET]", help="the recipe and its settings, see above"
    )
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
        flags.error("--config is required, such as --config ocec")
    _, config = recipe_and_config(own.config, overrides)
    fit(
        config,
        own.workdir,
        allow_config_change=own.allow_config_change,
        allow_data_change=own.allow_data_change,
    )


def fit(
    config: Any,
    workdir: str | pathlib.Path | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    allow_config_change: bool = False,
    allow_data_change: bool = False,
) -> Finished | None:
    """Trains a recipe, or goes on with the run in `workdir`, as `jaxrecipes train` does.

    Args:
      config: a recipe's config, or what `--config` takes: `"ocec"`, `"ocec:seed"`, a file.
      workdir: the run's folder; None: a new one under `runs/`.
      fields: values in place of the config's, by dotted name: `{"optim.learning_rate": 3e-4}`.
      allow_config_change: go on under another config than the run was started with.
      allow_data_change: go on although the data is other data.

    Returns:
      the best weights and their metrics; None when a signal stopped the run, which the same call
      goes on with.

    Raises:
      ValueError, OSError, ImportError: something that the caller can mend, in one line.
      TrainingDivergedError: the numbers are no longer finite.
    """
    module, config = chosen(config, fields)
    module.check_config(config)
    if config.first_stage is not None:
        module.check_config(first_stage_config(config))
    if workdir is None and (config.parallel.num_processes or 1) > 1:
        raise ValueError("give --workdir, the same to all processes that train together")
    folder = new_folder(pathlib.Path("runs"), module.name) if workdir is None else workdir
    folder = user_path(folder)
    check_output_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with logged_to(folder / "train.log"):
        logging.getLogger("jaxrecipes").info("run folder: %s", folder)
        set_up_jax(config)
        from jaxrecipes.runs.train import train  # devices are touched from here on

        return train(
            module,
            config,
            folder,
            allow_config_change=allow_config_change,
            allow_data_change=allow_data_change,
        )
