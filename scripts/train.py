#!/usr/bin/env python3
"""Trains a recipe, or goes on with a run that was stopped.

  python scripts/train.py --config configs/NAME.py[:PRESET] [--workdir DIR] [--FIELD VALUE ...]

The same command on the same DIR goes on where the run was stopped (Ctrl-C and SIGTERM save first; a
run that is killed goes on from its newest checkpoint). Without --workdir a new folder under runs/
is made. --allow_config_change goes on although the config is another than the run was started with.
Every field of the config is a flag:
"""

import argparse
import datetime
import logging
import pathlib
import sys

from jaxrecipes import recipes
from jaxrecipes.checkpoint import CheckpointCorrupt
from jaxrecipes.config import load_config, to_dict
from jaxrecipes.train.runtime import set_up_jax, set_up_logging


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", required=True)
    parser.add_argument("--workdir", type=pathlib.Path)
    parser.add_argument("--allow_config_change", action="store_true")
    if not argv or {"-h", "--help"} & set(argv):
        print(__doc__)
    own, overrides = parser.parse_known_args(argv)
    set_up_logging()
    log = logging.getLogger("jaxrecipes")
    try:
        config = load_config(own.config, overrides)
        module = recipes.load(config.RECIPE)
        module.check_config(config)
        workdir = own.workdir or _new_workdir(config.RECIPE)
        workdir.mkdir(parents=True, exist_ok=True)
        set_up_logging(workdir / "train.log")
        log.info("run folder: %s", workdir)
        set_up_jax(config)
        from jaxrecipes.recipes.run import train  # devices are touched from here on

        train(module, config, to_dict(config), workdir, allow_config_change=own.allow_config_change)
    except (ValueError, OSError, RuntimeError, CheckpointCorrupt) as error:
        log.error("error: %s", error)
        return 2
    return 0


def _new_workdir(name: str) -> pathlib.Path:
    return pathlib.Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
