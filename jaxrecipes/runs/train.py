"""One run of a recipe from its config: data, training, report."""

import logging
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.data.examples import Examples
from jaxrecipes.locks import alone_in_run
from jaxrecipes.report.aim_writer import import_aim
from jaxrecipes.runs.data import recipe_data
from jaxrecipes.runs.init_from import first_stage_config, with_init_from
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.fit import fit
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.resume import checkpoint_folder
from jaxrecipes.train.run_data import RunData
from jaxrecipes.train.run_state import Finished

_log = logging.getLogger("jaxrecipes")


def train(
    module: RecipeModule,
    config: RunConfig,
    workdir: pathlib.Path,
    *,
    allow_config_change: bool = False,
    allow_data_change: bool = False,
) -> Finished | None:
    """Trains in `workdir` and leaves the report there; None when a signal stopped the run.

    A first stage that the config has comes before it, in `workdir/stage1`.

    Raises: what `fit` raises, and ValueError or FileNotFoundError for data that cannot be trained
    on, and ImportError for a log that is not installed.
    """
    if config.loop.aim_repo is not None:
        import_aim()  # before anything takes long
    allowed = {
        "allow_config_change": allow_config_change,
        "allow_data_change": allow_data_change,
    }
    with alone_in_run(workdir):
        if config.first_stage is None:
            return _train_one(module, config, workdir, init_from=config.init_from, **allowed)
        stage1 = workdir / "stage1"
        if not _has_begun(workdir):
            before = first_stage_config(config)
            module.check_config(before)
            _prepared(module, config, workdir, report_dir=None)  # what is wrong is said now
            _log.info("first stage: %s", stage1)
            stage1.mkdir(exist_ok=True)
            finished = _train_one(module, before, stage1, init_from=before.init_from, **allowed)
            if finished is None:
                return None
            if finished.interrupted:
                _log.info("stopped after the first stage; the same command goes on from there")
                return None
            _log.info("second stage: %s", workdir)
        return _train_one(module, config, workdir, init_from=str(stage1), **allowed)


def _train_one(
    module: RecipeModule,
    config: RunConfig,
    workdir: pathlib.Path,
    *,
    init_from: str | None,
    **allowed: Any,
) -> Finished | None:
    started = time.monotonic()
    first = jax.process_index() == 0
    splits, data, recipe = _prepared(module, config, workdir, report_dir=workdir if first else None)
    counts = ", ".join(f"{name} {len(split)}" for name, split in splits.items())
    _log.info(
        "data: %s (%.1f s); %d steps an epoch",
        counts,
        time.monotonic() - started,
        data.steps_per_epoch,
    )
    finished = fit(with_init_from(recipe, init_from), data, config, workdir, **allowed)
    if finished is None or not first:
        return finished

    from jaxrecipes.runs.report import write_report  # plots take long to import

    best, selected = finished.summary["best"], finished.summary["selected_by"]
    _log.info("best: epoch %d, %s", best["epoch"], _shown(best, selected))
    _log.info("report: %s", write_report(module, config, recipe, splits, finished, workdir))
    return finished


def _prepared(
    module: RecipeModule,
    config: RunConfig,
    workdir: pathlib.Path,
    *,
    report_dir: pathlib.Path | None,
) -> tuple[Mapping[str, Examples], RunData, Recipe]:
    """What a run trains and on what, each checked against the other."""
    mesh = make_mesh(config.parallel.fsdp_devices)
    splits = module.load_data(config, report_dir=report_dir, train=True, run_dir=workdir)
    data = recipe_data(module, config, splits, mesh)
    recipe = module.make_recipe(
        config, DataInfo.of(splits["train"], steps_per_epoch=data.steps_per_epoch)
    )
    if module.hook("check_config") is None:
        from jaxrecipes.runs.evaluation_shapes import check_watched

        check_watched(config, recipe)
    return splits, data, recipe


def _has_begun(workdir: pathlib.Path) -> bool:
    directory = checkpoint_folder(workdir)
    if not directory.is_dir():
        return False
    with CheckpointManager(directory) as checkpoints:
        return checkpoints.latest_step is not None


def _shown(metrics: dict[str, Any], selected: str) -> str:
    names = dict.fromkeys([selected, selected.removesuffix("_ema"), "accuracy_ema", "loss"])
    return "  ".join(
        f"{name} {metrics[name]:.4f}" for name in names if metrics.get(name) is not None
    )
