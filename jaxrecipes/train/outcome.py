"""The end of an epoch (validation, plateau, early stopping, history) and of a run (the best weights
and the summary).
"""

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes import sharding
from jaxrecipes.errors import named
from jaxrecipes.plateau import EarlyStoppingState
from jaxrecipes.report.progress import duration
from jaxrecipes.train import resume
from jaxrecipes.train.evaluate import training_metrics, validate
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.run_state import Finished, Position, Run
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.step import current_hparams, used_hparams

_log = logging.getLogger("jaxrecipes")


def end_epoch(run: Run, position: Position, programs: Programs) -> Position:
    """Validates, updates the plateau and early stopping, records the epoch in the history and
    saves.
    """
    recipe, state, step = run.recipe, position.state, position.step
    hparams = used_hparams(recipe, state)
    train = training_metrics(recipe, state, position.sums, last_step=run.end - 1)
    first_step, began = position.epoch_began or (step, time.monotonic())
    train_seconds = max(time.monotonic() - began, 1e-9)
    rate = (step - first_step) * run.data.examples_per_step / train_seconds

    val = _validation(run, state, step)
    monitored = val or train
    state = _after_validation(run, state, step, monitored)
    # Give the state machines' new scalars the layout that the program was compiled for.
    state = jax.device_put(state, programs.train.shardings)

    seconds = round(time.monotonic() - began, 3)
    entry = {
        "epoch": run.timeline.epoch(step),
        "step": run.taken(step),
        "train": train,
        "val": val,
        "hparams": {name: float(value) for name, value in hparams.items()},
        "num_skipped": int(state.num_skipped),
        "seconds": seconds,
        "examples_per_second": round(rate, 1),
    }
    if position.changes:
        entry["changes"] = list(position.changes)
    position = dataclasses.replace(
        position,
        state=state,
        sums=programs.empty_sums(),
        history=[*position.history, entry],
        changes=(),
        epoch_began=None,
    )
    score = monitored.get(run.selected)
    if position.stopped_early and not run.config.early_stopping.save_stopping_epoch:
        score = None
    resume.save(run, position, score=score)
    run.write_json("history.json", position.history)
    run.log(step, {f"val/{name}": value for name, value in val.items()})
    run.log(step, {f"epoch/{name}": value for name, value in train.items()})
    shown = [f"train loss {train['loss']:.4f}"]
    names = dict.fromkeys([run.monitored("loss"), run.selected])
    shown += [f"val {name} {val[name]:.4f}" for name in names if name in val]
    _log.info(
        "epoch %d  step %d  %s  learning rate %.2e  %s",
        *(entry["epoch"], entry["step"], "  ".join(shown)),
        *(float(hparams["learning_rate"]), duration(seconds)),
    )
    return position


def _validation(run: Run, state: TrainState, step: int) -> dict[str, float]:
    split, count = run.data.val, run.config.data.val_examples_per_pass
    if split is None:
        return {}
    rows = None
    if count is not None:
        draw = np.random.default_rng([run.config.seed, step])
        rows = draw.permutation(len(next(iter(split.arrays.values()))))[:count]
    return validate(run.recipe, run.evaluate, state, split, last_step=run.end - 1, rows=rows)[0]


def _after_validation(
    run: Run, state: TrainState, step: int, metrics: Mapping[str, float]
) -> TrainState:
    """The state after plateau and early stopping have been updated with these metrics."""
    recipe, config = run.recipe, run.config
    if recipe.plateau is not None and step > recipe.warmup_steps:
        metric = _watched(run, metrics, config.plateau.monitor)
        plateau = recipe.plateau.update(state.plateau, metric)
        if float(plateau.learning_rate) != float(state.plateau.learning_rate):
            _log.info(
                "plateau: learning rate %.3e from step %d on",
                float(plateau.learning_rate),
                run.taken(step),
            )
        state = state.replace(plateau=plateau)
    if recipe.early_stopping is not None:
        metric = _watched(run, metrics, config.early_stopping.monitor)
        stopping = recipe.early_stopping.update(state.early_stopping, metric)
        if stopping.should_stop:
            _say_why_it_stops(run, stopping, run.timeline.epoch(step))
        state = state.replace(early_stopping=stopping)
    return state


def _watched(run: Run, metrics: Mapping[str, float], name: str) -> float:
    return named("metric to watch", run.monitored(name), metrics)


def _say_why_it_stops(run: Run, stopping: EarlyStoppingState, epoch: int) -> None:
    settings, bad = run.config.early_stopping, int(stopping.num_bad_epochs)
    best = f"{float(stopping.best):.4g} of epoch {epoch - bad}" if epoch > bad else "its start"
    _log.info(
        "stopped early after epoch %d: %s was no better than %s for %d epochs "
        "(early_stopping.patience_epochs %d)",
        *(epoch, run.monitored(settings.monitor), best, bad, settings.patience_epochs or bad),
    )


def finish(run: Run, position: Position, programs: Programs) -> Finished:
    """Evaluates the best weights on val and test, and writes summary.json."""
    recipe, data = run.recipe, run.data
    state, step = _best(run, position)
    results: dict[str, Any] = {"val": ({}, None), "test": ({}, None)}
    for name, split in {"val": data.val, "test": data.test}.items():
        if split is not None:
            results[name] = validate(recipe, run.evaluate, state, split, last_step=run.end - 1)
    test_metrics = results["test"][0]
    summary = {
        "best": _outcome(next(e for e in reversed(position.history) if e["step"] == step)),
        "final": _outcome(position.history[-1]),
        "test": test_metrics,
        "selected_by": run.selected,
        "stopped_early": position.stopped_early,
        "num_skipped": int(position.state.num_skipped),
        "seconds_to_first_step": position.seconds_to_first_step,
        "bytes_per_device": bytes_per_device(position.state),
        "devices": f"{data.mesh.size} x {jax.devices()[0].device_kind}",
        "seconds": round(sum(entry["seconds"] for entry in position.history), 3),
        "num_params": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "compilations": {
            "train": position.train_compilations + programs.train.num_compilations,
            "eval": run.evaluate.num_compilations,
        },
    }
    run.write_json("summary.json", summary)
    at = step + run.timeline.steps_ahead
    run.log(at, {f"test/{name}": value for name, value in test_metrics.items()})
    return Finished(
        summary=summary,
        params=state.ema_params if recipe.ema else state.params,
        batch_stats=state.ema_batch_stats if recipe.ema else state.batch_stats,
        hparams=current_hparams(recipe, state),
        val=results["val"][1],
        test=results["test"][1],
    )


def _best(run: Run, position: Position) -> tuple[TrainState, int]:
    """The state with the weights of the best checkpoint, and that checkpoint's step."""
    best, newest = run.checkpoints.best_step, run.taken(position.step)
    if best is None or best == newest:
        return position.state, newest
    _, at = resume.timeline_at(
        run.checkpoints.metadata(best), run.config, best, run.data.steps_per_epoch
    )
    # The current hyperparameters are kept: an earlier config's may have another structure.
    names = ["params", "batch_stats"]
    names += ["ema_params", "ema_batch_stats"] if run.recipe.ema else []
    wanted = {name: getattr(position.state, name) for name in names}
    restored = run.checkpoints.restore(wanted, step=best, partial=True)
    assert restored is not None
    step = jax.device_put(np.int32(at), position.state.step.sharding)
    return position.state.replace(step=step, **restored.tree), best


def bytes_per_device(state: TrainState) -> dict[str, int]:
    """Bytes of parameters, optimizer moments and averages on each device (on the fullest one)."""
    parts = {
        "params": state.params,
        "optimizer": state.opt_state,
        "averages": (state.ema_params, state.ema_batch_stats),
    }
    return {name: max(sharding.bytes_per_device(part).values()) for name, part in parts.items()}


def _outcome(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch's metrics: those of validation, or of training without a validation split."""
    return {"epoch": entry["epoch"], "step": entry["step"], **(entry["val"] or entry["train"])}
