"""The search: trial after trial from a study, each a run of its own, until all are done."""

import logging
import math
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from optuna import TrialPruned
from optuna.trial import TrialState

from jaxrecipes.files import write_bytes
from jaxrecipes.report.progress import duration
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.fit import fit
from jaxrecipes.train.nonfinite import TrainingDivergedError
from jaxrecipes.train.resume import checkpoint_folder
from jaxrecipes.tune.shared import Shared
from jaxrecipes.tune.space import Space
from jaxrecipes.tune.study import Claimed, Study, counted

_log = logging.getLogger("jaxrecipes")


class Search:
    """Trials of one study in this process.

    Args:
      module: the recipe.
      base: the config that trials start from.
      space: what they vary.
      study: where they come from, and where their results go.

    Raises:
      ValueError: the config trains one run with several processes.
    """

    def __init__(self, module: RecipeModule, base: RunConfig, space: Space, study: Study):
        self._module, self._base, self._space, self._study = module, base, space, study
        if base.parallel.coordinator_address is not None:
            raise ValueError(
                "a search runs each trial in one process: leave out --parallel.coordinator_address "
                "and start the same command on each host, with the same --workdir"
            )
        self._mesh = make_mesh(base.parallel.fsdp_devices)
        self.shared = Shared(module, self._mesh, report_dir=study.workdir)

    def run(self, num_trials: int, *, timeout_s: float | None = None) -> bool:
        """Runs trials until the study has `num_trials`, or no new one after `timeout_s`.

        A trial that fails (values that the recipe refuses, a loss that diverges, memory that does
        not suffice) is recorded with its reason.

        Returns:
          False when SIGINT or SIGTERM stopped it; the trial under way goes on the next time.

        Raises:
          ValueError: the search was started on other data, or the data cannot be trained on.
          OSError: the disk is full or not writable.
        """
        started, known = time.monotonic(), False
        while timeout_s is None or time.monotonic() - started < timeout_s:
            claimed = self._study.claim(num_trials)
            if claimed is None:
                break
            if not known:
                try:
                    self._study.check_data(self.shared.fingerprint(self._base))
                except BaseException:
                    self._study.hand_back(claimed)
                    raise
                known = True
            if not self._run_claimed(claimed):
                return False
            self._keep_best_checkpoints()
        return True

    def _run_claimed(self, claimed: Claimed) -> bool:
        name, started = f"trial {claimed.trial.number}", time.monotonic()
        _log.info("%s: %s", name, "  ".join(f"{n} {_shown(v)}" for n, v in claimed.values.items()))
        try:
            value = self._train(claimed)
        except TrialPruned:
            self._study.prune(claimed)
            _log.info("%s: pruned after %s", name, duration(time.monotonic() - started))
            return True
        except (KeyboardInterrupt, OSError):
            self._study.hand_back(claimed)
            raise
        except Exception as error:
            self._study.fail(claimed, f"{type(error).__name__}: {error}")
            write_bytes(claimed.folder / "error.txt", traceback.format_exc().encode())
            _log.warning("%s failed: %s", name, str(error).partition("\n")[0])
            if not isinstance(error, ValueError | TrainingDivergedError):
                self.shared.clear()  # an error of the device may have left it without memory
            return True
        if value is None:
            self._study.hand_back(claimed)
            return False
        if math.isfinite(value):
            self._study.finish(claimed, value)
            took = duration(time.monotonic() - started)
            _log.info("%s: %s %.5g in %s", name, self.metric, value, took)
        else:
            self._study.fail(claimed, f"{self.metric} was never finite")
            _log.warning("%s failed: %s was never finite", name, self.metric)
        return True

    @property
    def metric(self) -> str:
        """The validation metric that trials are compared by."""
        return self._base.select_metric + ("_ema" if self._base.ema.enabled else "")

    def _train(self, claimed: Claimed) -> float | None:
        """The best value of the metric; NaN if it was never finite, None if a signal came."""
        config = self._space.config(self._base, claimed.values)
        self._module.check_config(config)
        data = self.shared.data(config)
        trial, reported = claimed.trial, 0
        metric = config.select_metric
        metric += "_ema" if config.ema.enabled and data.val else ""

        def after_epoch(history: Sequence[Mapping[str, Any]]) -> None:
            nonlocal reported
            for entry in history[reported:]:
                value = (entry["val"] or entry["train"]).get(metric)
                if value is not None and math.isfinite(value):
                    trial.report(value, entry["epoch"])
            reported = len(history)
            ended = history[-1]["step"] >= config.total_steps(data.steps_per_epoch)
            if not ended and trial.should_prune():
                raise TrialPruned

        finished = fit(
            self.shared.recipe(config),
            data,
            config,
            claimed.folder,
            programs=self.shared.programs(config),
            after_epoch=after_epoch,
        )
        if finished is None:
            return None
        value = finished.summary["best"].get(metric)
        return math.nan if value is None else value

    def _keep_best_checkpoints(self) -> None:
        """The checkpoints of the best trial stay; those of others that are done go."""
        trials = self._study.study.get_trials(deepcopy=False)
        done = [trial for trial in counted(trials) if trial.state.is_finished()]
        complete = any(trial.state == TrialState.COMPLETE for trial in done)
        best = self._study.study.best_trial.number if complete else None
        for trial in done:
            if trial.number != best:
                folder = checkpoint_folder(self._study.folder(trial))
                shutil.rmtree(folder, ignore_errors=True)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
