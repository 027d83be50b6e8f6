"""The training loop: train an epoch, validate, step the plateau, log, save, go on. Killed at any
moment, it resumes.
"""

import collections
import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.errors import named
from jaxrecipes.files import write_bytes
from jaxrecipes.interrupt import Interrupt
from jaxrecipes.json_files import write_json
from jaxrecipes.locks import alone_in_run
from jaxrecipes.optim import late_paths, leaves_by_path
from jaxrecipes.paths import user_path
from jaxrecipes.plateau import EarlyStoppingState
from jaxrecipes.report.aim_writer import AimLog
from jaxrecipes.report.progress import Progress, duration
from jaxrecipes.report.writer import Writer, open_writer
from jaxrecipes.train import finish, nonfinite, resume
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.evaluate import Evaluation, training_metrics, validate
from jaxrecipes.train.finish import Finished
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.resume import Position
from jaxrecipes.train.run_data import RunData, Split
from jaxrecipes.train.stages import with_moments
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.step import looked_at, used_hparams
from jaxrecipes.train.timeline import Timeline

_log = logging.getLogger("jaxrecipes")

# In jax 0.10 and 0.11, steps over several (faked) CPU devices abort when many of them wait for a
# thread at once, so the host stays at most this many calls ahead of such devices.
_CALLS_AHEAD_ON_CPU = 8


class TrainingDivergedError(RuntimeError):
    """Too many steps in a row were not finite, or the state that was to be saved."""


class Run:
    """One training run in one folder.

    Args:
      recipe, data: what is trained, and on what.
      config: the shared part of the config.
      workdir: the run's folder; checkpoints, history.json, summary.json and TensorBoard events go
        there.
      mesh: the devices; the data's feeds were made for it.
      config_dict: the whole config as JSON-able data, stored with every checkpoint.
      allow_config_change: go on although the config stored in the folder differs.
      allow_data_change: go on although the run was trained on other data; epochs that are done stay
        done, and schedules follow the new length of an epoch.
      programs: compiled for another run whose recipe differs in numbers alone; None: own ones.
      after_epoch: called with the history after each validation, once it is saved; what it raises
        ends the run there.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: RunData,
        config: RunConfig,
        workdir: pathlib.Path,
        *,
        mesh: Mesh,
        config_dict: dict[str, Any],
        allow_config_change: bool = False,
        allow_data_change: bool = False,
        programs: Programs | None = None,
        after_epoch: Callable[[Sequence[Mapping[str, Any]]], None] | None = None,
    ):
        self._recipe, self._data, self._config, self._workdir, self._mesh = (
            recipe,
            data,
            config,
            workdir,
            mesh,
        )
        self._config_dict, self._after_epoch = config_dict, after_epoch
        self._allowed = {
            "allow_config_change": allow_config_change,
            "allow_data_change": allow_data_change,
        }
        self._timeline = Timeline(steps_per_epoch=data.steps_per_epoch)
        self._total_steps = self._timeline.end(config)
        self._key = jax.random.key(config.seed)
        self._programs = programs or self._make_programs(recipe)
        self._program = self._programs.train
        self._compilations_before = 0  # of earlier stages' programs
        self._evaluate = self._programs.evaluate
        self._seconds_to_first_step: float | None = None

    def fit(self) -> Finished | None:
        """Trains to the end, from where an earlier call was stopped if it was.

        Returns:
          How it ended; None when SIGINT or SIGTERM stopped it: it was saved, and the same call goes
          on from there.

        Raises:
          ValueError: the folder holds a run that does not fit, or another process trains there.
          TrainingDivergedError: too many steps in a row were not finite, or the state is not.
          CheckpointWriteError, OSError: the disk is full or not writable; what was saved is intact.
        """
        self._started = time.monotonic()
        loop = self._config.loop
        with (
            alone_in_run(self._workdir),
            CheckpointManager(
                resume.checkpoint_folder(self._workdir),
                keep_latest=loop.keep_latest,
                keep_best=loop.keep_best,
                mode=self._config.select_mode,
            ) as checkpoints,
            Interrupt() as interrupt,
        ):
            position, step = self._start(checkpoints)
            self._log_steps_per_call()
            _log.info("bytes on each device: %s", finish.bytes_per_device(position.state))
            if jax.process_index() == 0:
                write_json(
                    self._workdir / "config.json", {"recipe": self._recipe.name} | self._config_dict
                )
                if self._recipe.file is not None:
                    write_bytes(self._workdir / self._recipe.file.name, self._recipe.file.content)
            with open_writer(
                self._workdir / "tensorboard",
                process_index=jax.process_index(),
                purge_step=self._timeline.taken(step) + 1 if step else None,
                aim=self._aim_log(),
            ) as writer:
                if step >= self._total_steps and self._is_open(position, step):
                    self._epoch_started, self._epoch_first_step = time.monotonic(), step
                    self._end_epoch(position, step, checkpoints, writer)
                while step < self._total_steps and not self._stopped_early(position):
                    step = self._train_epoch(position, step, checkpoints, writer, interrupt)
                    if step % self._data.steps_per_epoch == 0 or step == self._total_steps:
                        self._end_epoch(position, step, checkpoints, writer)
                    else:
                        self._save(checkpoints, position, step, mid_epoch=True)
                    if step < self._total_steps and interrupt.requested_anywhere():
                        checkpoints.wait()
                        _log.info(
                            "stopped at step %d and saved; the same command goes on from there",
                            self._timeline.taken(step),
                        )
                        return None
                checkpoints.wait()
                finished = self._finish(position, checkpoints)
                test = finished.summary["test"]
                step = finished.summary["best"]["step"]
                step += self._timeline.steps_ahead
                self._write(writer, step, {f"test/{name}": value for name, value in test.items()})
                return dataclasses.replace(finished, interrupted=interrupt.requested_anywhere())

    def _log_steps_per_call(self) -> None:
        chosen = self._programs.steps_per_call
        steps = f"{chosen.count} step{'s' * (chosen.count > 1)} per call"
        if chosen.unwise:
            _log.warning("%s, as given, is slow: %s; try 1", steps, chosen.reason)
        elif self._config.loop.steps_per_call is None:
            _log.info("%s: %s", steps, chosen.reason)

    def _aim_log(self) -> AimLog | None:
        repo = self._config.loop.aim_repo
        if repo is None:
            return None
        return AimLog(
            repo=repo if "://" in repo else str(user_path(repo)),
            run_file=self._workdir / "aim_run.txt",
            experiment=self._recipe.name,
            hparams=self._config_dict,
        )

    def _start(self, checkpoints: CheckpointManager) -> tuple[Position, int]:
        empty_sums = self._empty_sums()
        found = resume.check_resumable(
            checkpoints,
            self._recipe,
            self._config,
            self._config_dict,
            self._data,
            **self._allowed,
        )
        if found is None:
            state = self._programs.initial_state(self._recipe, self._key)
            nonfinite.check_start(state, "the weights that the run starts from")
            return Position(state, empty_sums, []), 0
        step, self._timeline = found.position, found.timeline
        self._total_steps = self._timeline.end(self._config)
        position = resume.restore(
            checkpoints,
            self._recipe,
            self._programs.abstract_state,
            empty_sums,
            mesh=self._mesh,
            found=found,
        )
        nonfinite.check_start(position.state, f"{checkpoints.directory / str(found.step)}")
        self._enter_stage(position, step)
        self._write_history(position)
        taken, end = map(self._timeline.taken, (step, self._total_steps))
        if step < self._total_steps:
            _log.info("going on from step %d of %d", taken, end)
        else:
            _log.info("nothing is left to train: %d steps are done, the run has %d", taken, end)
        return position, step

    def _enter_stage(self, position: Position, step: int) -> None:
        """Sees to it that the moments and the program are those of the stage that `step` is in."""
        recipe, restarts = self._recipe.stage_at(step), self._recipe.restarts_at(step)
        if recipe.frozen != self._programs.frozen or restarts:
            moments = None if restarts else leaves_by_path(position.state.opt_state)
            _log.info("frozen from step %d on: %s", step, " ".join(recipe.frozen) or "nothing")
            position.state = with_moments(recipe, position.state, moments, self._mesh)
        late = late_paths(leaves_by_path(position.state.opt_state))
        if (self._programs.frozen, self._programs.late) != (recipe.frozen, late):
            self._compilations_before += self._program.num_compilations
            self._programs = self._make_programs(recipe, late)
            self._program = self._programs.train
        position.state = jax.device_put(position.state, self._program.shardings)

    def _train_epoch(
        self,
        position: Position,
        step: int,
        checkpoints: CheckpointManager,
        writer: Writer,
        interrupt: Interrupt,
    ) -> int:
        """Trains to the end of the epoch, or to where a signal interrupts it; returns the step."""
        loop, data = self._config.loop, self._data
        per_epoch = data.steps_per_epoch
        epoch_end = min((step // per_epoch + 1) * per_epoch, self._total_steps)
        epochs = self._timeline.epoch(self._total_steps)
        ahead: collections.deque[Any] = collections.deque()
        throttle = jax.default_backend() == "cpu" and self._mesh.size > 1
        self._epoch_started = window_started = time.monotonic()
        self._epoch_first_step = window_step = step

        title = f"epoch {self._timeline.epoch(step + 1)}/{epochs}"
        with Progress(title, total=epoch_end - step, last_line=False) as progress:
            while step < epoch_end:
                frozen = self._recipe.frozen_at(step)
                if frozen != self._programs.frozen or self._recipe.restarts_at(step):
                    self._enter_stage(position, step)
                stage_end = self._recipe.stage_end(step) or epoch_end
                stops = [epoch_end, stage_end, _next_multiple(step, loop.log_every_steps)]
                if loop.checkpoint_every_steps:
                    stops.append(_next_multiple(step, loop.checkpoint_every_steps))
                most = self._programs.steps_per_call.count
                count = min(most, min(stops) - step)
                items = data.train.training_items(step, count, padded_to=most)
                position.state, position.sums, log = self._program(
                    position.state, position.sums, data.train.source, items, np.int32(count)
                )
                step += count
                progress.advance(count)
                if throttle:
                    ahead.append(log["loss"])
                    if len(ahead) > _CALLS_AHEAD_ON_CPU:
                        ahead.popleft().block_until_ready()
                if self._seconds_to_first_step is None:
                    log["loss"].block_until_ready()
                    self._seconds_to_first_step = time.monotonic() - self._started
                    window_started, window_step = time.monotonic(), step

                logs = step % loop.log_every_steps == 0 or step == epoch_end
                if logs:
                    values = {name: float(value) for name, value in jax.device_get(log).items()}
                    culprit = int(values.pop("first_nonfinite"))
                    elapsed = time.monotonic() - window_started
                    if step > window_step and elapsed > 0:
                        rate = (step - window_step) * data.examples_per_step / elapsed
                        values["examples_per_second"] = rate
                    window_started, window_step = time.monotonic(), step
                    self._write(writer, step, _tagged(values))
                    if self._recipe.log_line is not None:
                        at, end = map(self._timeline.taken, (step, self._total_steps))
                        _log.info(self._recipe.log_line(at, end, values))
                    progress.advance(0, {"loss": values["loss"]})
                    self._check_finite(values, culprit, position, step, checkpoints)
                # Every process must ask at the same steps, which are the log points.
                if (logs or jax.process_count() == 1) and interrupt.requested_anywhere():
                    break
                if (
                    loop.checkpoint_every_steps
                    and step % loop.checkpoint_every_steps == 0
                    and step < epoch_end
                ):
                    self._save(checkpoints, position, step, mid_epoch=True)
        return step

    def _end_epoch(
        self, position: Position, step: int, checkpoints: CheckpointManager, writer: Writer
    ) -> None:
        """Validates, steps the state machines, and puts the epoch on record."""
        hparams = used_hparams(self._recipe, position.state)
        train = training_metrics(
            self._recipe, position.state, position.sums, last_step=self._total_steps - 1
        )
        train_seconds = time.monotonic() - self._epoch_started
        rate = (step - self._epoch_first_step) * self._data.examples_per_step / train_seconds

        val = self._validation(position.state, step)
        monitored = val or train
        self._after_validation(position, step, monitored)
        position.sums = self._empty_sums()

        epoch, taken = self._timeline.epoch(step), self._timeline.taken(step)
        seconds = round(time.monotonic() - self._epoch_started, 3)
        entry = {
            "epoch": epoch,
            "step": taken,
            "train": train,
            "val": val,
            "hparams": {name: float(value) for name, value in hparams.items()},
            "num_skipped": int(position.state.num_skipped),
            "seconds": seconds,
            "examples_per_second": round(rate, 1),
        }
        if position.changes:
            entry["changes"], position.changes = position.changes, []
        position.history.append(entry)
        score = monitored.get(self._selected())
        if self._stopped_early(position) and not self._config.early_stopping.save_stopping_epoch:
            score = None
        self._save(checkpoints, position, step, score=score)
        self._write_history(position)
        self._write(writer, step, {f"val/{name}": value for name, value in val.items()})
        self._write(writer, step, {f"epoch/{name}": value for name, value in train.items()})
        shown = [f"train loss {train['loss']:.4f}"]
        shown += [
            f"val {n} {val[n]:.4f}"
            for n in dict.fromkeys([self._monitor("loss"), self._selected()])
            if n in val
        ]
        _log.info(
            "epoch %d  step %d  %s  learning rate %.2e  %s",
            *(
                epoch,
                taken,
                "  ".join(shown),
                float(hparams["learning_rate"]),
                duration(seconds),
            ),
        )
        if self._after_epoch is not None:
            self._after_epoch(position.history)

    def _validation(self, state: Any, step: int) -> dict[str, float]:
        split, count = self._data.val, self._config.data.val_examples_per_pass
        if split is None:
            return {}
        rows = None
        if count is not None:
            draw = np.random.default_rng([self._config.seed, step])
            rows = draw.permutation(len(next(iter(split.arrays.values()))))[:count]
        return self._validate(state, split, rows=rows)[0]

    def _after_validation(
        self, position: Position, step: int, metrics: Mapping[str, float]
    ) -> None:
        recipe, state = self._recipe, position.state
        if recipe.plateau is not None and step > recipe.warmup_steps:
            metric = self._watched(metrics, self._config.plateau.monitor)
            plateau = recipe.plateau.update(state.plateau, metric)
            if float(plateau.learning_rate) != float(state.plateau.learning_rate):
                _log.info(
                    "plateau: learning rate %.3e from step %d on",
                    float(plateau.learning_rate),
                    self._timeline.taken(step),
                )
            state = state.replace(plateau=plateau)
        if recipe.early_stopping is not None:
            metric = self._watched(metrics, self._config.early_stopping.monitor)
            stopping = recipe.early_stopping.update(state.early_stopping, metric)
            if stopping.should_stop:
                self._log_early_stop(stopping, step)
            state = state.replace(early_stopping=stopping)
        # The state machines' new scalars get the layout that the program was compiled for.
        position.state = jax.device_put(state, self._program.shardings)

    def _watched(self, metrics: Mapping[str, float], name: str) -> float:
        return named("metric to watch", self._monitor(name), metrics)

    def _log_early_stop(self, stopping: EarlyStoppingState, step: int) -> None:
        epoch, bad = self._timeline.epoch(step), int(stopping.num_bad_epochs)
        best = f"{float(stopping.best):.4g} of epoch {epoch - bad}" if epoch > bad else "its start"
        _log.info(
            "stopped early after epoch %d: %s was no better than %s for %d epochs "
            "(early_stopping.patience_epochs %d)",
            *(epoch, self._monitor(self._config.early_stopping.monitor), best, bad),
            self._config.early_stopping.patience_epochs or bad,
        )

    def _best(self, state: TrainState, checkpoints: CheckpointManager) -> tuple[TrainState, int]:
        """`state` with the weights of the best checkpoint, and that checkpoint's step."""
        best = checkpoints.best_step
        newest = self._timeline.taken(int(state.step))
        if best is None or best == newest:
            return state, newest
        _, position = resume.timeline_at(
            checkpoints.metadata(best), self._config, best, self._data.steps_per_epoch
        )
        return finish.with_weights(self._recipe, state, checkpoints, best, position), best

    def _finish(self, position: Position, checkpoints: CheckpointManager) -> Finished:
        """Evaluates the best weights and writes summary.json."""
        best, best_step = self._best(position.state, checkpoints)
        facts = {
            "selected_by": self._selected(),
            "stopped_early": self._stopped_early(position),
            "num_skipped": int(position.state.num_skipped),
            "seconds_to_first_step": self._seconds_to_first_step,
            "bytes_per_device": finish.bytes_per_device(position.state),
            "devices": f"{self._mesh.size} x {jax.devices()[0].device_kind}",
        }
        finished = finish.evaluate_best(
            self._recipe,
            best,
            self._data,
            self._validate,
            step=best_step,
            history=position.history,
            facts=facts,
        )
        finished.summary["compilations"] = {
            "train": self._compilations_before + self._program.num_compilations,
            "eval": self._evaluate.num_compilations,
        }
        if jax.process_index() == 0:
            write_json(self._workdir / "summary.json", finished.summary)
        return finished

    def _check_finite(
        self,
        values: Mapping[str, float],
        culprit: int,
        position: Position,
        step: int,
        checkpoints: CheckpointManager,
    ) -> None:
        """Raises after too many skipped steps; `culprit` is the last one's `first_nonfinite`."""
        skipped = int(values["num_skipped_in_row"])
        if skipped < self._config.loop.max_skipped_in_row:
            return
        path = self._workdir / "nonfinite_batch.npz"
        if jax.process_index() == 0:
            np.savez_compressed(path, step=step - 1, **self._data.train_batch(step - 1))  # type: ignore[arg-type]
        checkpoints.wait()
        look = looked_at(self._recipe.stage_at(step - 1), position.state)
        raise TrainingDivergedError(
            nonfinite.skipped_message(
                values,
                look[culprit],
                step=self._timeline.taken(step),
                batch=path,
                checkpoint=checkpoints.latest_step,
            )
        )

    def _save(
        self,
        checkpoints: CheckpointManager,
        position: Position,
        step: int,
        *,
        score: float | None = None,
        mid_epoch: bool = False,
    ) -> None:
        checkpoints.wait()  # so that what is said of the newest one is true
        found = nonfinite.first_in(position.state)
        if found is not None:
            taken, newest = self._timeline.taken(step), checkpoints.latest_step
            raise TrainingDivergedError(
                nonfinite.state_message(found, step=taken, checkpoint=newest)
            )
        metadata = resume.checkpoint_metadata(
            self._recipe,
            self._config_dict,
            timeline=self._timeline,
            history=position.history,
            mid_epoch=mid_epoch,
            fingerprint=self._data.fingerprint,
            selected=self._selected(),
            changes=position.changes,
        )
        resume.save(checkpoints, position, self._timeline.taken(step), metadata, score=score)

    def _write(self, writer: Writer, step: int, values: Mapping[str, float]) -> None:
        step = self._timeline.taken(step)
        writer.scalars(step, {self._recipe.tag(name): value for name, value in values.items()})

    def _write_history(self, position: Position) -> None:
        if jax.process_index() == 0:
            write_json(self._workdir / "history.json", position.history)

    def _make_programs(self, recipe: Recipe, late: Iterable[str] = ()) -> Programs:
        steps_per_call = self._config.loop.steps_per_call
        return Programs(
            recipe, self._data, steps_per_call=steps_per_call, mesh=self._mesh, late=late
        )

    def _is_open(self, position: Position, step: int) -> bool:
        """Whether the epoch under way has no entry yet, as when a changed config ends it here."""
        history, taken = position.history, self._timeline.taken(step)
        return taken > (history[-1]["step"] if history else 0)

    def _validate(
        self, state: TrainState, split: Split, rows: np.ndarray | None = None
    ) -> tuple[dict[str, float], Evaluation]:
        last_step = self._total_steps - 1
        return validate(self._recipe, self._evaluate, state, split, last_step=last_step, rows=rows)

    def _empty_sums(self) -> Any:
        return self._program.zeros(self._programs.sum_shapes)

    def _stopped_early(self, position: Position) -> bool:
        stopping = position.state.early_stopping
        return stopping is not None and bool(stopping.should_stop)

    def _monitor(self, name: str) -> str:
        return f"{name}_ema" if self._recipe.ema and self._data.val else name

    def _selected(self) -> str:
        return self._monitor(self._config.select_metric)


def _next_multiple(step: int, every: int) -> int:
    return (step // every + 1) * every


def _tagged(values: Mapping[str, float]) -> dict[str, float]:
    """TensorBoard tags: hyperparameters keep their own group, everything else is training."""
    return {
        name if name.startswith("hparams/") else f"train/{name}": value
        for name, value in values.items()
    }
