"""The search: a population of trials from a study, each a run of its own, until all are done."""

import logging
import math
import time
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.files import write_bytes
from jaxrecipes.interrupt import Interrupt
from jaxrecipes.population.capacity import members_that_fit
from jaxrecipes.population.halving import rungs, survivors
from jaxrecipes.population.together import Ended, OneByOne, Outcome, Trainer, advance
from jaxrecipes.report.progress import duration
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.nonfinite import TrainingDivergedError
from jaxrecipes.tune.exchange import Exchange
from jaxrecipes.tune.shared import Shared
from jaxrecipes.tune.space import Space
from jaxrecipes.tune.study import Claimed, Study
from jaxrecipes.tune.trial_configs import TrialConfigs
from jaxrecipes.tune.trial_runs import TrialRuns, named

_MOST_AT_ONCE = 16
_log = logging.getLogger("jaxrecipes")


class Search:
    """Trials of one study in this process.

    In every round each trial under way trains one epoch; then they are judged, in the order of
    their numbers, and those that ended make room for new ones. So which values are drawn and who is
    stopped follows from the study's seed alone, also when the search is killed and goes on.

    Args:
      module: the recipe.
      base: the config that trials start from.
      space: what they vary.
      study: where they come from, and where their results go.
      population: trials that are under way at the same time; None: as many as fit into the
        memory, 16 at most, as later draws know what came out of earlier ones.
      seeds: runs of each trial, which is judged by their mean.
      eta: of how many trials one goes on at a rung, if the study stops them by `halving`.
      exchange: who goes on from whom in population based training, all of whose trials are under
        way at the same time.
      keep_all: keep the checkpoints of all trials, not of the best alone.
      trainer: how their steps are taken; None: as those of runs of their own, to the bit.

    Raises:
      ValueError: the config trains one run with several processes.
    """

    def __init__(
        self,
        module: RecipeModule,
        base: RunConfig,
        space: Space,
        study: Study,
        *,
        population: int | None = 1,
        seeds: int = 1,
        eta: int = 3,
        exchange: Exchange | None = None,
        keep_all: bool = False,
        trainer: Trainer | None = None,
    ):
        self._module, self._base, self._study = module, base, study
        if base.parallel.coordinator_address is not None:
            raise ValueError(
                "a search runs each trial in one process: leave out --parallel.coordinator_address "
                "and start the same command on each host, with the same --workdir"
            )
        self._population, self._seeds, self._eta = population, seeds, eta
        self._keep_all = keep_all
        self._trainer = trainer or OneByOne()
        self._mesh = make_mesh(base.parallel.fsdp_devices)
        self.shared = Shared(module, self._mesh, report_dir=study.workdir)
        self.configs = TrialConfigs(base, space, study, self.shared, exchange)
        self._trials: dict[int, TrialRuns] = {}
        self._began: dict[int, float] = {}
        self._answers: dict[tuple[int, int], Any] = {}
        self._data_known = False

    def run(self, num_trials: int, *, timeout_s: float | None = None) -> bool:
        """Runs trials until the study has `num_trials`, or no new one after `timeout_s`.

        A trial that fails (values that the recipe refuses, a loss that diverges, memory that does
        not suffice) is recorded with its reason.

        Returns:
          False when SIGINT or SIGTERM stopped it; the trials under way go on the next time.

        Raises:
          ValueError: the search was started on other data, or the data cannot be trained on.
          OSError: the disk is full or not writable.
        """
        started = time.monotonic()
        with Interrupt() as interrupt:
            if self._population is None:
                self._population = self._that_fit(num_trials)
            try:
                self._take_over(interrupt)
                while True:
                    late = timeout_s is not None and time.monotonic() - started >= timeout_s
                    if not late and self._round_begins():
                        self._fill(num_trials, interrupt)
                    if not self._trials:
                        return True
                    if not self._train_round():
                        return False
                    if not self._keep_all:
                        self._study.keep_best_checkpoints()
                    if interrupt.requested():
                        return False
            finally:
                for trial in self._trials.values():
                    trial.close()
                    self._study.hand_back(trial.claimed)
                self._trials = {}

    @property
    def metric(self) -> str:
        """The validation metric that trials are compared by."""
        return self._base.select_metric + ("_ema" if self._base.ema.enabled else "")

    # --- who takes part

    def _that_fit(self, num_trials: int) -> int:
        fit = members_that_fit(
            self.shared.programs(self._base),
            self.shared.data(self._base),
            together=self._trainer.chunk,
        )
        population = min(fit // self._seeds or 1, num_trials, _MOST_AT_ONCE)
        _log.info("%d trials at a time; the memory holds %d runs", population, fit)
        return population

    def _take_over(self, interrupt: Interrupt) -> None:
        """Goes on with what this process, or one that died, left under way."""
        for claimed in self._study.adopt(self._population or 1):
            self._begin(claimed, interrupt)

    def _round_begins(self) -> bool:
        """Whether no trial is ahead of another, as where a killed search left a round half done."""
        rounds = {trial.round for trial in self._trials.values()}
        return not rounds or (len(rounds) == 1 and not self._study.ended_in(*rounds))

    def _fill(self, num_trials: int, interrupt: Interrupt) -> None:
        """Draws trials for the free lanes, until there are none of either."""
        cohort = self._study.pruner in ("halving", "pbt")  # whose members begin together
        if cohort and self._trials:
            return
        start = next((t.round for t in self._trials.values()), self._study.last_round() + 1)
        assert self._population is not None
        while free := self._population - len(self._trials):
            drawn = self._study.draw(free, num_trials, start=start)
            for claimed in drawn:
                self._begin(claimed, interrupt)
            if not drawn:
                return

    def _begin(self, claimed: Claimed, interrupt: Interrupt) -> None:
        number = claimed.trial.number
        values = "  ".join(f"{name} {_shown(value)}" for name, value in claimed.values.items())
        _log.info("trial %d: %s", number, values)
        self._began[number] = time.monotonic()
        if not self._data_known:
            try:
                self._study.check_data(self.shared.fingerprint(self._base))
            except BaseException:
                self._study.hand_back(claimed)
                raise
            self._data_known = True
        try:
            config = self.configs.at_begin(claimed)
            self._module.check_config(config)
            self._trials[number] = TrialRuns.begin(
                claimed, config, self.shared, interrupt, seeds=self._seeds
            )
        except OSError:
            self._study.hand_back(claimed)
            raise
        except Exception as error:
            self._fail(claimed, error)

    # --- a round

    def _train_round(self) -> bool:
        """Trains the trials whose turn it is by an epoch and judges them; False after a signal."""
        at = min(trial.round for trial in self._trials.values())
        trials = {n: t for n, t in sorted(self._trials.items()) if t.round == at}
        runs = {(n, run): trial.turns[run] for n, trial in trials.items() for run in trial.due()}
        answers = {name: self._answers.pop(name) for name in runs if name in self._answers}
        outcomes = advance(
            runs,
            self._trainer,
            answers=answers,
            within=lambda name: named(trials[name[0]].claimed),
        )
        stopped = False
        for number, trial in trials.items():
            own = {run: outcome for (n, run), outcome in outcomes.items() if n == number}
            stopped |= not self._take_in(trial, own)
        if stopped:
            return False  # the whole round is judged when the search goes on
        judged = [trial for n, trial in trials.items() if n in self._trials]
        for trial in judged:
            self._report(trial)
        self._answers |= self.configs.exchange_after(at + 1, self._trials)
        for trial in judged:
            self._decide(trial)
        return True

    def _take_in(self, trial: TrialRuns, outcomes: Mapping[int, Outcome]) -> bool:
        """Notes what became of a trial's runs; whether no signal stopped one."""
        going_on = True
        for run, outcome in outcomes.items():
            if isinstance(outcome, Exception):
                self._leave(trial)
                self._fail(trial.claimed, outcome, ended=trial.round)
                return True
            if not isinstance(outcome, Ended):
                trial.told[run] = outcome
                continue
            if outcome.told is not None:
                trial.told[run] = outcome.told
            if outcome.finished is None:
                going_on = False
            else:
                trial.finished[run] = outcome.finished
        return going_on

    def _report(self, trial: TrialRuns) -> None:
        """Puts the trial's metric after its newest epoch on record."""
        epoch = trial.epoch
        value = trial.score()
        if math.isfinite(value) and epoch not in trial.claimed.reported:
            trial.claimed.trial.report(value, epoch)

    def _decide(self, trial: TrialRuns) -> None:
        """Whether the trial ends here, and how."""
        study, claimed, number = self._study, trial.claimed, trial.claimed.trial.number
        took = duration(time.monotonic() - self._began[number])
        if trial.over:
            self._leave(trial)
            values = trial.values()
            value = sum(values) / len(values)
            if not math.isfinite(value):
                study.fail(claimed, f"{self.metric} was never finite", ended=trial.round)
                _log.warning("trial %d failed: %s was never finite", number, self.metric)
                return
            if len(values) > 1:
                claimed.trial.set_user_attr("seeds", values)
            study.finish(claimed, value, ended=trial.round)
            _log.info("trial %d: %s %.5g in %s", number, self.metric, value, took)
        elif self._is_stopped(trial):
            self._leave(trial)
            study.prune(claimed, ended=trial.round)
            _log.info("trial %d: pruned after %s", number, took)
        else:
            trial.checked += 1
            claimed.trial.set_user_attr("checked", trial.checked)

    def _is_stopped(self, trial: TrialRuns) -> bool:
        if self._study.pruner != "halving":
            return trial.claimed.trial.should_prune()
        run = trial.told[0].run
        if trial.epoch not in rungs(1, run.timeline.epoch(run.end), eta=self._eta):
            return False
        scores = self._study.cohort(trial.start, trial.epoch)
        passed = survivors(
            np.array([*scores.values()]),
            np.ones(len(scores), bool),
            eta=self._eta,
            mode=self._base.select_mode,
        )
        return not dict(zip(scores, passed, strict=True)).get(trial.claimed.trial.number, False)

    def _leave(self, trial: TrialRuns) -> None:
        trial.close()
        del self._trials[trial.claimed.trial.number]

    def _fail(self, claimed: Claimed, error: Exception, *, ended: int | None = None) -> None:
        self._study.fail(claimed, f"{type(error).__name__}: {error}", ended=ended)
        told = "".join(traceback.format_exception(error))
        write_bytes(claimed.folder / "error.txt", told.encode())
        first_line = str(error).partition("\n")[0]
        _log.warning("trial %d failed: %s", claimed.trial.number, first_line)
        if not isinstance(error, ValueError | TrainingDivergedError):
            self.shared.clear()  # an error of the device may have left it without memory


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
