#!/usr/bin/env python3
"""Searches hyperparameters: many short runs, the poor ones stopped early, the best written as a
config.

  python scripts/tune.py --config configs/NAME.py[:PRESET] [--workdir DIR] [--trials N]
                         [--search FIELD=LOW:HIGH[:log] ...] [--FIELD VALUE ...]

What is searched lies beside the config (its `search_space`); a FIELD that is given a value is not
searched, and --search adds a field or changes its range: --search optim.learning_rate=1e-4:1e-2:log
--search model.num_blocks=2:6 --search loss.kind=bce,focal.

The same command on the same DIR goes on where the search was stopped or killed, up to N trials in
all. Several processes, on one host or many, share the trials when all are given the same DIR (and
the same --storage). The result: best.py and best_config.json for train.py --config, report.md,
trials.csv, search.json and plots in DIR.
"""

import importlib.util
import logging
import pathlib
import sys

from jaxrecipes import cli
from jaxrecipes.config import load_function, to_dict
from jaxrecipes.paths import check_output_folder
from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.runtime import set_up_jax, set_up_logging
from jaxrecipes.tune.space import Space, fixed_fields, parse_parameter


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--config", required=True, help="FILE.py or FILE.py:PRESET")
    flags.add_argument(
        "--workdir", type=cli.path, help="folder of the search (default runs/tune-RECIPE)"
    )
    flags.add_argument("--trials", type=int, default=50, help="in all (50)")
    flags.add_argument(
        "--search", action="append", default=[], metavar="FIELD=RANGE", help="see above"
    )
    flags.add_argument("--storage", help="database URL or path of a journal (DIR/study.db)")
    flags.add_argument("--timeout", type=float, help="seconds after which no trial is started")
    flags.add_argument(
        "--pruner",
        choices=["median", "percentile", "halving", "hyperband", "none"],
        default="median",
        help="which trials are stopped early (median)",
    )
    flags.add_argument(
        "--sampler", choices=["tpe", "random"], default="tpe", help="how values are drawn (tpe)"
    )
    flags.add_argument("--search_seed", type=int, default=0, help="seed of the draws (0)")
    own, overrides = flags.parse_known_args()
    if own.trials < 1:
        raise ValueError(f"--trials is {own.trials}; want 1 or more")
    if importlib.util.find_spec("optuna") is None:
        raise ImportError("searching needs Optuna: pip install 'jaxrecipes[tune]'")
    module, config = recipe_and_config(own.config, overrides)
    module.check_config(config)
    if config.first_stage is not None:
        raise ValueError(
            "tune searches one stage: give --first_stage None, and for the second stage "
            "--init_from RUN/stage1"
        )

    described = load_function(own.config, "search_space")
    space: Space = described(config) if described else Space({})
    space = space.without(fixed_fields(config, overrides))
    space = space.with_parameters(dict(parse_parameter(text, config) for text in own.search))
    space.check(
        config, module.make_recipe(config, DataInfo(steps_per_epoch=1)).hparams, module.check_config
    )

    workdir = own.workdir or pathlib.Path("runs") / f"tune-{module.name}"
    check_output_folder(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    set_up_logging(workdir / "tune.log")
    set_up_jax(config)
    import optuna

    from jaxrecipes.tune.report import write_search_report
    from jaxrecipes.tune.search import Search
    from jaxrecipes.tune.study import Study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = Study(
        workdir,
        storage=own.storage,
        name=module.name,
        config=to_dict(config),
        space=space,
        base=config,
        mode=config.select_mode,
        sampler=own.sampler,
        pruner=own.pruner,
        seed=own.search_seed,
    )
    search = Search(module, config, space, study)
    if not search.run(own.trials, timeout_s=own.timeout):
        return
    best = write_search_report(
        study, config, space, recipe=module, metric=search.metric, mode=config.select_mode
    )
    log = logging.getLogger("jaxrecipes")
    log.info("best: trial %d, %s %.5g", best.number, search.metric, best.value)
    log.info("train.py --config %s; report: %s", workdir / "best.py", workdir / "report.md")


if __name__ == "__main__":
    sys.exit(cli.run(main))
