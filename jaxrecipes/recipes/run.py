"""One run of a recipe from its config: data, training, report. What scripts/train.py calls."""

import logging
import pathlib
import time
from typing import Any

import jax

from jaxrecipes.recipes import RecipeModule
from jaxrecipes.report.page import write_page
from jaxrecipes.report.plots import training_curves
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.finish import Finished
from jaxrecipes.train.loop import Run
from jaxrecipes.train.run_files import read_json
from jaxrecipes.train.splits import make_run_data

_log = logging.getLogger("jaxrecipes")


def train(
    module: RecipeModule,
    config: RunConfig,
    config_dict: dict[str, Any],
    workdir: pathlib.Path,
    *,
    allow_config_change: bool = False,
) -> Finished | None:
    """Trains in `workdir` and leaves the report there; None when a signal stopped the run.

    Raises: what `Run.fit` raises, and ValueError or FileNotFoundError for data that cannot be
    trained on.
    """
    started = time.monotonic()
    first = jax.process_index() == 0
    mesh = make_mesh(config.parallel.fsdp_devices)
    splits = module.load_splits(config, report_dir=workdir if first else None, train=True)
    data = make_run_data(
        {name: split.arrays for name, split in splits.items()},
        config,
        mesh,
        weights=module.sampling_weights(config, splits["train"]),
    )
    recipe = module.make_recipe(config, steps_per_epoch=data.steps_per_epoch, train=splits["train"])
    counts = ", ".join(f"{name} {len(split)}" for name, split in splits.items())
    _log.info(
        "data: %s (%.1f s); %d steps an epoch",
        counts,
        time.monotonic() - started,
        data.steps_per_epoch,
    )

    run = Run(
        recipe,
        data,
        config,
        workdir,
        mesh=mesh,
        config_dict=config_dict,
        allow_config_change=allow_config_change,
    )
    finished = run.fit()
    if finished is None or not first:
        return finished

    plots = workdir / "plots"
    plots.mkdir(exist_ok=True)
    evaluations = {"val": finished.val, "test": finished.test}
    for split, evaluation in evaluations.items():
        if evaluation is not None:
            module.write_report(config, split, evaluation, splits[split], plots)
    module.write_samples(recipe, splits["train"], finished.hparams, plots / "augmented_samples.png")
    history = read_json(workdir / "history.json")
    training_curves(history, plots / "curves.png", best_epoch=finished.summary["best"]["epoch"])
    page = write_page(workdir)
    selected = finished.summary["selected_by"]
    _log.info(
        "best: epoch %d, %s",
        finished.summary["best"]["epoch"],
        _shown(finished.summary["best"], selected),
    )
    _log.info("report: %s", page)
    return finished


def _shown(metrics: dict[str, Any], selected: str) -> str:
    names = dict.fromkeys([selected, selected.removesuffix("_ema"), "accuracy_ema", "loss"])
    return "  ".join(
        f"{name} {metrics[name]:.4f}" for name in names if metrics.get(name) is not None
    )
