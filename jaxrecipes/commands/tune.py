"""Searches hyperparameters: many short runs, of which poor ones are stopped early and the best is
saved as a config.

  jaxrecipes tune --config NAME[:PRESET] [--workdir DIR] [--trials N]
                         [--search FIELD=LOW:HIGH[:log] ...] [--FIELD VALUE ...]

By default the fields that declare a search range are searched, or what the recipe's or the config
file's `search_space` returns. A FIELD that is given a value is not searched, and --search adds a
field or changes its range: --search optim.learning_rate=1e-4:1e-2:log --search model.num_blocks=2:6
--search loss.kind=bce,focal.

The same command on the same DIR goes on where the search was stopped or killed, up to N trials in
all. Several processes, on one host or many, share the trials when all are given the same DIR (and
the same --storage). With --population N so many trials train at the same time with one compiled
program, each one bit for bit the run that `train` would make of its config. The result: best.py and
best_config.json for train --config, report.html (and .md), trials.csv, search.json
and plots in DIR.

With --sensitivity nothing is searched: every hyperparameter of the config that no flag fixes is
moved by itself, by --factors, under --seeds seeds, and report.html and sensitivity.json say which
of them the metric depends on, and which effects are below the noise.
"""

import importlib.util
import logging
import pathlib
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from jaxrecipes import cli
from jaxrecipes.config import load_function, to_dict
from jaxrecipes.errors import install_command
from jaxrecipes.paths import check_output_folder, user_path
from jaxrecipes.runs.init_from import check_one_stage
from jaxrecipes.runs.recipe_config import chosen, recipe_and_config
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.runs.runtime import logged_to, set_up_jax
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.tune import Pruner, Sampler
from jaxrecipes.tune.space import Space, declared_space, fixed_fields, parse_parameter

if TYPE_CHECKING:
    from jaxrecipes.tune.results import TrialRow
    from jaxrecipes.tune.sensitivity import Effect


# What a sampler needs beside Optuna: module, and the package that has it.
_NEEDED: Mapping[Sampler, Mapping[str, str]] = {
    "tpe": {},
    "random": {},
    "grid": {},
    "cmaes": {"cmaes": "cmaes"},
    "gp": {"torch": "torch", "scipy": "scipy"},
}


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--config", required=True, help="NAME or FILE.py, with :PRESET or without")
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
        "--scheduler",
        "--pruner",
        choices=get_args(Pruner),
        default="median",
        help="which trials are stopped early (median)",
    )
    flags.add_argument("--eta", type=int, default=3, help="of how many halving keeps one (3)")
    flags.add_argument(
        "--interval_epochs", type=int, default=1, help="from one exchange of pbt to the next (1)"
    )
    flags.add_argument(
        "--population",
        type=_number_or_auto,
        default=1,
        metavar="auto|N",
        help="trials that train together (1); auto: as many as fit the memory, up to 16",
    )
    flags.add_argument(
        "--chunk",
        type=_number_or_auto,
        metavar="auto|N",
        help="trials whose steps a vmap takes; 1 is exact to the bit (auto: 1 on CPU, else 8)",
    )
    flags.add_argument(
        "--seeds", type=int, help="runs of each trial, judged by their mean (1; 3 of --sensitivity)"
    )
    flags.add_argument(
        "--sensitivity", action="store_true", help="find out what matters, see above"
    )
    flags.add_argument(
        "--factors",
        type=_factors,
        default=(0.7, 1.3),
        help="of --sensitivity (0.7,1.3)",
    )
    flags.add_argument(
        "--keep",
        choices=("best", "all"),
        default="best",
        help="whose checkpoints are kept (best)",
    )
    flags.add_argument(
        "--sampler", choices=get_args(Sampler), default="tpe", help="how values are drawn (tpe)"
    )
    flags.add_argument("--search_seed", type=int, default=0, help="seed of the draws (0)")
    own, overrides = flags.parse_known_args()
    module, config = recipe_and_config(own.config, overrides)
    if own.sensitivity:
        found = sensitivity(
            config,
            own.workdir or pathlib.Path("runs") / f"sensitivity-{module.name}",
            fixed=fixed_fields(config, overrides),
            factors=own.factors,
            seeds=own.seeds or 3,
            storage=own.storage,
            population=own.population,
            chunk=own.chunk,
        )
        if found is not None:
            logging.getLogger("jaxrecipes").info("\n".join(map(str, found)))
        return
    space = _described(module, own.config, config).without(fixed_fields(config, overrides))
    space = space.with_parameters(dict(parse_parameter(text, config) for text in own.search))
    workdir = own.workdir or pathlib.Path("runs") / f"tune-{module.name}"
    best = search(
        config,
        workdir,
        space=space,
        trials=own.trials,
        storage=own.storage,
        timeout_s=own.timeout,
        sampler=own.sampler,
        pruner=own.scheduler,
        eta=own.eta,
        interval_epochs=own.interval_epochs,
        population=own.population,
        chunk=own.chunk,
        seeds=own.seeds or 1,
        keep_all=own.keep == "all",
        seed=own.search_seed,
    )
    if best is not None:
        logging.getLogger("jaxrecipes").info(
            "train the best: %s; report: %s",
            shlex.join(["jaxrecipes", "train", "--config", str(workdir / "best.py")]),
            workdir / "report.html",
        )


def search(
    config: Any,
    workdir: str | pathlib.Path,
    *,
    space: Space | None = None,
    fields: Mapping[str, Any] | None = None,
    trials: int = 50,
    storage: str | None = None,
    timeout_s: float | None = None,
    sampler: Sampler = "tpe",
    pruner: Pruner = "median",
    eta: int = 3,
    interval_epochs: int = 1,
    population: int | None = 1,
    chunk: int | None = None,
    seeds: int = 1,
    keep_all: bool = False,
    seed: int = 0,
) -> "TrialRow | None":
    """Searches hyperparameters, as `jaxrecipes tune` does.

    Args:
      config: a recipe's config that trials start from, or what `--config` takes.
      workdir: folder of the search; the same call on the same folder goes on with it.
      space: what is varied; None: what the recipe describes, without `fields`.
      fields: values in place of the config's, by dotted name.
      trials: in all.
      storage: database URL or path of a journal; None: `study.db` in the folder.
      timeout_s: seconds after which no trial is started.
      sampler: how values are drawn.
      pruner: which trials are stopped early.
      eta: of how many trials `halving` keeps one.
      interval_epochs: epochs between the exchanges of `pbt`.
      population: how many trials train together; None: as many as fit the memory, up to 16.
      chunk: how many trials' steps one `vmap` takes; 1: each is bit for bit a run of its own; None:
        1 on a CPU, 8 elsewhere, but no more than the population.
      seeds: runs of each trial, which is judged by their mean.
      keep_all: keep the checkpoints of all trials, not of the best alone.
      seed: of the draws.

    Returns:
      the best trial; None when a signal stopped the search.

    Raises:
      ImportError: Optuna is not installed.
      ValueError: nothing to search, or a range that the config refuses.
    """
    if trials < 1:
        raise ValueError(f"--trials is {trials}; expected 1 or more")
    if population is not None and population < 1:
        raise ValueError(f"--population is {population}; expected auto, or 1 or more")
    if chunk is not None and chunk < 1:
        raise ValueError(f"--chunk is {chunk}; expected auto, or 1 or more")
    if seeds < 1 or eta < 2:
        raise ValueError(
            f"expected --seeds of 1 or more and --eta of 2 or more; got {seeds}, {eta}"
        )
    if pruner == "pbt":
        population = population or trials
        if population != trials or population < 2 or seeds > 1 or interval_epochs < 1:
            raise ValueError(
                "--scheduler pbt trains all trials at the same time, 2 or more, each under one "
                "seed, and exchanges them every 1 or more epochs: give --trials N --population N"
            )
    if pruner == "halving" and population == 1:
        raise ValueError(
            "--scheduler halving compares the trials of a population: give --population 2 or more, "
            "or --scheduler asha, which compares each trial with those before it"
        )
    _check_optuna(sampler)
    spec = config if isinstance(config, str) else ""
    module, config = chosen(config, fields)
    module.check_config(config)
    check_one_stage(config, "tune")
    if space is None:
        space = _described(module, spec, config).without(set(fields or ()))

    return _run(
        module,
        config,
        space,
        workdir,
        trials=trials,
        storage=storage,
        timeout_s=timeout_s,
        sampler=sampler,
        pruner=pruner,
        eta=eta,
        interval_epochs=interval_epochs,
        population=population,
        chunk=chunk,
        seeds=seeds,
        keep_all=keep_all,
        seed=seed,
    )


def sensitivity(
    config: Any,
    workdir: str | pathlib.Path,
    *,
    fields: Mapping[str, Any] | None = None,
    fixed: Collection[str] = (),
    factors: Sequence[float] = (0.7, 1.3),
    seeds: int = 3,
    storage: str | None = None,
    population: int | None = 1,
    chunk: int | None = None,
) -> "list[Effect] | None":
    """Finds out which hyperparameter matters now, as `jaxrecipes tune --sensitivity` does.

    Args:
      config: a recipe's config, or what `--config` takes.
      workdir: folder of the runs; the same call on the same folder goes on with them.
      fields: values in place of the config's, by dotted name, which are left alone too.
      fixed: fields that are left alone.
      factors: what each hyperparameter is multiplied by, see `tune.sensitivity.one_at_a_time`.
      seeds: runs of each setting; with one there is no telling an effect from chance.
      storage: as of `search`.
      population: as of `search`.
      chunk: as of `search`.

    Returns:
      the effects, the largest first; None when a signal stopped it.

    Raises:
      ImportError: Optuna is not installed.
      ValueError: nothing to move, or a value that the config refuses.
    """
    if any(factor in (0.0, 1.0) for factor in factors) or not factors:
        given = ",".join(map(str, factors))
        raise ValueError(f"--factors is {given!r}; expected numbers other than 0 and 1")
    _check_optuna("tpe")
    from jaxrecipes.tune.sensitivity import one_at_a_time, write_sensitivity_report

    module, config = chosen(config, fields)
    module.check_config(config)
    check_one_stage(config, "tune")
    space = one_at_a_time(config, factors, (*fixed, *(fields or ())))
    return _run(
        module,
        config,
        space,
        workdir,
        trials=len(space.points),
        storage=storage,
        sampler="grid",
        pruner="none",
        population=population,
        chunk=chunk,
        seeds=seeds,
        write=write_sensitivity_report,
        stored={"moved": space.moves(), "seeds": seeds},
    )


def _run(
    module: RecipeModule,
    config: Any,
    space: Space,
    workdir: str | pathlib.Path,
    *,
    trials: int,
    storage: str | None,
    sampler: Sampler,
    pruner: Pruner,
    population: int | None,
    chunk: int | None,
    seeds: int,
    timeout_s: float | None = None,
    eta: int = 3,
    interval_epochs: int = 1,
    keep_all: bool = False,
    seed: int = 0,
    write: Callable[..., Any] | None = None,
    stored: Mapping[str, Any] | None = None,
) -> Any:
    """The trials of a search, and what `write` (`write_search_report` if None) makes of them.

    `stored` is kept with the config; a search in a folder goes on only where both are the same.
    """

    def checked(trial: Any) -> Recipe:
        """What a trial would train; raises for what it would be refused for."""
        module.check_config(trial)
        return module.make_recipe(trial, DataInfo(steps_per_epoch=1))

    space.check(config, checked)
    folder = user_path(workdir)
    check_output_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with logged_to(folder / "tune.log"):
        set_up_jax(config)
        import jax
        import optuna

        from jaxrecipes.population.chunks import Chunks, default_chunk
        from jaxrecipes.population.together import OneByOne
        from jaxrecipes.tune.exchange import Exchange
        from jaxrecipes.tune.report import write_search_report
        from jaxrecipes.tune.search import Search
        from jaxrecipes.tune.study import Study

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = Study(
            folder,
            storage=storage,
            name=module.name,
            config={**to_dict(config), **(stored or {})},
            space=space,
            base=config,
            mode=config.select_mode,
            sampler=sampler,
            pruner=pruner,
            seed=seed,
        )
        exchange = None
        if pruner == "pbt":
            exchange = Exchange(folder, config, space, every_epochs=interval_epochs, seed=seed)
        chunk = min(chunk or default_chunk(), (population or trials) * seeds)
        if chunk > 1 and jax.device_count() > 1:
            raise ValueError(
                f"--chunk {chunk} trains on one device, and there are {jax.device_count()}: give "
                "--chunk 1, or let the search see one device and start it once for each"
            )
        found = Search(
            module,
            config,
            space,
            study,
            population=population,
            seeds=seeds,
            eta=eta,
            exchange=exchange,
            keep_all=keep_all,
            trainer=OneByOne() if chunk == 1 else Chunks(chunk),
        )
        if not found.run(trials, timeout_s=timeout_s):
            return None
        return (write or write_search_report)(
            study,
            space,
            recipe=module,
            metric=found.metric,
            mode=config.select_mode,
            config_of=found.configs.at_end,
        )


def _described(module: RecipeModule, spec: str, config: Any) -> Space:
    """The space beside the config in its file, or else the recipe's own."""
    own = load_function(spec, "search_space") if ".py" in spec else None
    described = own or module.hook("search_space")
    return described(config) if described else declared_space(config)


def _check_optuna(sampler: Sampler) -> None:
    if importlib.util.find_spec("optuna") is None:
        raise ImportError(f"searching needs Optuna: {install_command('tune')}")
    for needed, package in _NEEDED[sampler].items():
        if importlib.util.find_spec(needed) is None:
            raise ImportError(f"--sampler {sampler} needs {package}: pip install {package}")


def _factors(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _number_or_auto(text: str) -> int | None:
    return None if text == "auto" else int(text)
