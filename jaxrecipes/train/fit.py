"""`fit` trains a recipe on its data, in a folder. If killed, the same call resumes the run."""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.config import to_dict
from jaxrecipes.files import write_bytes
from jaxrecipes.interrupt import Interrupt
from jaxrecipes.locks import alone_in_run
from jaxrecipes.optim import late_paths, leaves_by_path
from jaxrecipes.paths import user_path
from jaxrecipes.report.aim_writer import AimLog
from jaxrecipes.report.writer import Writer, open_writer
from jaxrecipes.train import nonfinite, resume
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.epoch_steps import train_part
from jaxrecipes.train.outcome import bytes_per_device, end_epoch, finish
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import Recipe, Stage
from jaxrecipes.train.run_data import RunData
from jaxrecipes.train.run_state import EpochOver, Finished, Position, Run, Timeline, Turns, alone
from jaxrecipes.train.state import with_moments

_log = logging.getLogger("jaxrecipes")

_STOPPED = "stopped at step %d and saved; the same command goes on from there"


def fit(
    recipe: Recipe,
    data: RunData,
    config: RunConfig,
    workdir: pathlib.Path,
    *,
    allow_config_change: bool = False,
    allow_data_change: bool = False,
    programs: Programs | None = None,
    writers: Sequence[Writer] = (),
    after_epoch: Callable[[Sequence[Mapping[str, Any]]], None] | None = None,
) -> Finished | None:
    """Trains to the end, resuming from where an earlier call stopped, if there was one.

    Args:
      recipe: what is trained.
      data: what it is trained on.
      config: of the run; it is stored with every checkpoint.
      workdir: the run's folder; checkpoints, history.json, summary.json and TensorBoard events go
        there.
      allow_config_change: resume although the config stored in the folder differs.
      allow_data_change: resume although the run was trained on other data; completed epochs stay
        completed, and schedules follow the new length of an epoch.
      programs: compiled for another run whose recipe differs only in numbers; None: compile them.
      writers: where to log in addition to TensorBoard (and Aim, if the config says so).
      after_epoch: called with the history after each validation has been saved; an exception from
        it ends the run.

    Returns:
      How it ended; None if SIGINT or SIGTERM stopped it, in which case it was saved and the same
      call resumes it.

    Raises:
      ValueError: the folder holds a run that does not match, or another process is training there.
      TrainingDivergedError: too many steps in a row were not finite, or the state is not.
      CheckpointWriteError, OSError: the disk is full or not writable; earlier checkpoints are
        intact.
    """
    with Interrupt() as interrupt:
        turns = in_turns(
            recipe,
            data,
            config,
            workdir,
            interrupt=interrupt,
            allow_config_change=allow_config_change,
            allow_data_change=allow_data_change,
            programs=programs,
            writers=writers,
        )
        return alone(turns, after_epoch)


def in_turns(
    recipe: Recipe,
    data: RunData,
    config: RunConfig,
    workdir: pathlib.Path,
    *,
    interrupt: Interrupt,
    allow_config_change: bool = False,
    allow_data_change: bool = False,
    programs: Programs | None = None,
    writers: Sequence[Writer] = (),
    silent: bool = False,
) -> Turns:
    """The run of `fit` as a generator that asks for its steps instead of taking them: see
    `train.run_state`.

    Args:
      recipe: as in `fit`, like everything that is not explained here.
      data: of the run.
      config: of the run.
      workdir: of the run.
      interrupt: stops this run and all others that share it.
      allow_config_change: go on under another config.
      allow_data_change: go on with other data.
      programs: compiled for another run.
      writers: more logs.
      silent: show no progress within an epoch.

    Returns, raises: what `fit` does.
    """
    started, loop = time.monotonic(), config.loop
    with (
        alone_in_run(workdir),
        CheckpointManager(
            resume.checkpoint_folder(workdir),
            keep_latest=loop.keep_latest,
            keep_best=loop.keep_best,
            mode=config.select_mode,
        ) as checkpoints,
    ):
        found = resume.find(
            checkpoints,
            recipe,
            config,
            data,
            allow_config_change=allow_config_change,
            allow_data_change=allow_data_change,
        )
        programs = programs or Programs(
            recipe, data, steps_per_call=loop.steps_per_call, mesh=data.mesh
        )
        if found is None:
            timeline = Timeline(steps_per_epoch=data.steps_per_epoch)
            state = programs.initial_state(recipe, jax.random.key(config.seed))
            nonfinite.check_start(state, "the weights that the run starts from")
            position = Position(step=0, state=state, sums=programs.empty_sums())
        else:
            timeline = found.timeline
            position = resume.restore(checkpoints, recipe, programs, mesh=data.mesh, found=found)
        programs.steps_per_call.say(given=loop.steps_per_call)
        if data.mesh.size > 1:
            _log.info("bytes on each device: %s", bytes_per_device(position.state))

        with open_writer(
            workdir / "tensorboard",
            *writers,
            process_index=jax.process_index(),
            purge_step=timeline.taken(position.step) + 1 if position.step else None,
            aim=_aim_log(recipe, config, workdir),
        ) as writer:
            run = Run(
                recipe=recipe,
                data=data,
                config=config,
                workdir=workdir,
                timeline=timeline,
                evaluate=programs.evaluate,
                checkpoints=checkpoints,
                writer=writer,
                started=started,
            )
            _record_start(run, position, goes_on=found is not None)
            told = EpochOver(run=run, position=position, begins=True)
            run, position = (yield told) or (run, position)
            for stage, stage_end in recipe.stages(position.step, run.end):
                position, programs = _enter(stage, run, position, programs)
                if position.step >= run.end and run.epoch_is_open(position):
                    position = end_epoch(run, position, programs)  # as a changed config ends it
                while position.step < stage_end and not position.stopped_early:
                    position, interrupted = yield from train_part(
                        run, position, programs, interrupt, stage_end, silent=silent
                    )
                    epoch_over = position.step == run.end or run.is_epoch_end(position.step)
                    if epoch_over:
                        position = end_epoch(run, position, programs)
                        told = EpochOver(run=run, position=position)
                        run, position = (yield told) or (run, position)
                    elif interrupted:
                        resume.save(run, position, mid_epoch=True)
                    interrupted = interrupted or (epoch_over and interrupt.requested_anywhere())
                    if interrupted and position.step < run.end:
                        checkpoints.wait()
                        _log.info(_STOPPED, run.taken(position.step))
                        return None
                if position.stopped_early:
                    break
            checkpoints.wait()
            finished = finish(run, position, programs)
        return dataclasses.replace(finished, interrupted=interrupt.requested_anywhere())


def _enter(
    stage: Stage, run: Run, position: Position, programs: Programs
) -> tuple[Position, Programs]:
    """Makes the moments and the programs those of the stage that begins, or is under way, at the
    position.
    """
    recipe, state = run.recipe.stage_at(stage.first_step), position.state
    if position.step == stage.first_step > 0:
        _log.info("frozen from step %d on: %s", position.step, " ".join(stage.frozen) or "nothing")
        moments = None if stage.restart else leaves_by_path(state.opt_state)
        state = with_moments(recipe, state, moments, run.data.mesh)
    late, compilations = late_paths(leaves_by_path(state.opt_state)), position.train_compilations
    if (programs.frozen, programs.late) != (stage.frozen, late):
        compilations += programs.train.num_compilations
        programs = Programs(
            recipe,
            run.data,
            steps_per_call=run.config.loop.steps_per_call,
            mesh=run.data.mesh,
            late=late,
            evaluate=run.evaluate,
        )
    state = jax.device_put(state, programs.train.shardings)
    position = dataclasses.replace(position, state=state, train_compilations=compilations)
    return position, programs


def _record_start(run: Run, position: Position, *, goes_on: bool) -> None:
    """Says where the run stands, and leaves its config in the folder."""
    run.write_json("config.json", {"recipe": run.recipe.name} | to_dict(run.config))
    if run.recipe.file is not None and jax.process_index() == 0:
        write_bytes(run.workdir / run.recipe.file.name, run.recipe.file.content)
    if not goes_on:
        return
    run.write_json("history.json", position.history)
    taken, end = run.taken(position.step), run.taken(run.end)
    if position.step < run.end:
        _log.info("going on from step %d of %d", taken, end)
    else:
        _log.info("nothing is left to train: %d steps are done, the run has %d", taken, end)


def _aim_log(recipe: Recipe, config: RunConfig, workdir: pathlib.Path) -> AimLog | None:
    repo = config.loop.aim_repo
    if repo is None:
        return None
    return AimLog(
        repo=repo if "://" in repo else str(user_path(repo)),
        run_file=workdir / "aim_run.txt",
        experiment=recipe.name,
        hparams=to_dict(config),
    )
