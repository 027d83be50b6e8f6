"""The steps of a run up to the end of an epoch or a stage, with logging and saving on the way."""

import collections
import dataclasses
import logging
import time
from collections.abc import Generator, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.interrupt import Interrupt
from jaxrecipes.report.progress import Progress
from jaxrecipes.sharding import on_cpu
from jaxrecipes.train import nonfinite, resume
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.run_state import Call, Look, Position, Run
from jaxrecipes.train.step import looked_at

_log = logging.getLogger("jaxrecipes")

# In jax 0.10 and 0.11, steps over several (faked) CPU devices abort when many of them wait for a
# thread at once, so the host stays at most this many calls ahead of such devices.
_CALLS_AHEAD_ON_CPU = 8


def train_part(
    run: Run,
    position: Position,
    programs: Programs,
    interrupt: Interrupt,
    stage_end: int,
    *,
    silent: bool,
) -> Generator[Call | Look, Any, tuple[Position, bool]]:
    """Trains to the end of the epoch or the stage, or until a signal interrupts it; returns the
    position and whether one did.
    """
    data, loop, step = run.data, run.config.loop, position.step
    epoch_end = min(_next_multiple(step, data.steps_per_epoch), run.end)
    until = min(epoch_end, stage_end)
    window_started, window_step = time.monotonic(), step
    if position.epoch_began is None:
        position = dataclasses.replace(position, epoch_began=(step, window_started))
    ahead: collections.deque[Any] = collections.deque()
    throttle = on_cpu(data.mesh) and data.mesh.size > 1

    title = f"epoch {run.timeline.epoch(step + 1)}/{run.timeline.epoch(run.end)}"
    with Progress(title, total=until - step, last_line=False, silent=silent) as progress:
        while step < until:
            stops = [until, _next_multiple(step, loop.log_every_steps)]
            if loop.checkpoint_every_steps:
                stops.append(_next_multiple(step, loop.checkpoint_every_steps))
            most = programs.steps_per_call.count
            count = min(most, min(stops) - step)
            logs = (step + count) % loop.log_every_steps == 0 or step + count == epoch_end
            state, sums, log = yield Call(
                programs=programs,
                position=position,
                source=data.train.source,
                items=data.train.training_items(step, count, padded_to=most),
                count=count,
                logs=logs,
            )
            step += count
            position = dataclasses.replace(position, step=step, state=state, sums=sums)
            progress.advance(count)
            if throttle:
                ahead.append(log["loss"])
                if len(ahead) > _CALLS_AHEAD_ON_CPU:
                    ahead.popleft().block_until_ready()
            if position.seconds_to_first_step is None:
                log["loss"].block_until_ready()
                window_started, window_step = time.monotonic(), step
                seconds = window_started - run.started
                position = dataclasses.replace(position, seconds_to_first_step=seconds)

            if logs:
                values = {name: float(value) for name, value in jax.device_get(log).items()}
                culprit = int(values.pop("first_nonfinite"))
                elapsed = time.monotonic() - window_started
                if step > window_step and elapsed > 0:
                    rate = (step - window_step) * data.examples_per_step / elapsed
                    values["examples_per_second"] = rate
                window_started, window_step = time.monotonic(), step
                run.log(step, _tagged(values))
                if run.recipe.log_line is not None:
                    _log.info(run.recipe.log_line(run.taken(step), run.taken(run.end), values))
                progress.advance(0, {"loss": values["loss"]})
                _check_skipped(run, position, values, culprit)
            # All processes must ask at the same steps: the log points.
            if (logs or jax.process_count() == 1) and interrupt.requested_anywhere():
                return (yield Look(position=position)), True
            saves = loop.checkpoint_every_steps and step % loop.checkpoint_every_steps == 0
            if saves and step < epoch_end:
                position = yield Look(position=position)
                resume.save(run, position, mid_epoch=True)
    return (yield Look(position=position)), False


def _check_skipped(run: Run, position: Position, values: Mapping[str, float], culprit: int) -> None:
    """Raises after too many skipped steps; `culprit` is the last one's `first_nonfinite`."""
    if values["num_skipped_in_row"] < run.config.loop.max_skipped_in_row:
        return
    last = position.step - 1
    path = run.workdir / "nonfinite_batch.npz"
    if jax.process_index() == 0:
        np.savez_compressed(path, step=last, **run.data.train_batch(last))  # type: ignore[arg-type]
    run.checkpoints.wait()
    raise nonfinite.TrainingDivergedError(
        nonfinite.skipped_message(
            values,
            looked_at(run.recipe.stage_at(last), position.state)[culprit],
            step=run.taken(position.step),
            batch=path,
            checkpoint=run.checkpoints.latest_step,
        )
    )


def _next_multiple(step: int, every: int) -> int:
    return (step // every + 1) * every


def _tagged(values: Mapping[str, float]) -> dict[str, float]:
    """TensorBoard tags: hyperparameters keep their own group, everything else is training."""
    return {
        name if name.startswith("hparams/") else f"train/{name}": value
        for name, value in values.items()
    }
