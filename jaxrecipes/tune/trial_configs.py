"""What each trial of a search trains: its config as it was drawn, or, in population based training,
as the trials that it went on from have left it.
"""

import math
import shutil
from collections.abc import Mapping
from typing import Any

from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.resume import checkpoint_folder
from jaxrecipes.tune.exchange import Exchange
from jaxrecipes.tune.shared import Shared
from jaxrecipes.tune.space import Space
from jaxrecipes.tune.study import Claimed, Study
from jaxrecipes.tune.trial_runs import TrialRuns


class TrialConfigs:
    """The configs of a search's trials.

    Args:
      base: the config that trials start from.
      space: what they vary.
      study: what was drawn.
      shared: their data.
      exchange: who goes on from whom; None: nobody.
    """

    def __init__(
        self,
        base: RunConfig,
        space: Space,
        study: Study,
        shared: Shared,
        exchange: Exchange | None,
    ):
        self.shared = shared
        self._base, self._space, self._study, self._exchange = base, space, study, exchange

    def at_begin(self, claimed: Claimed) -> RunConfig:
        """The config under which a trial begins or goes on.

        One that was killed while it took over another's run begins anew, and takes that over before
        it trains.

        Raises:
          ValueError: values that the config refuses.
        """
        if self._exchange is None:
            return self._space.config(self._base, claimed.values)
        epoch = claimed.trial.user_attrs.get("checked", 0) + 1
        length = self.shared.data(self._base).steps_per_epoch
        number, step = claimed.trial.number, epoch * length
        if any(move.member == number for move in self._exchange.at(step)):
            shutil.rmtree(checkpoint_folder(claimed.folder), ignore_errors=True)
        return self._exchange.config(self._drawn, number, step=step, steps_per_epoch=length)

    def at_end(self, number: int) -> RunConfig:
        """The config that a trial trained, by its number."""
        if self._exchange is None:
            return self._drawn(number)
        length = self.shared.data(self._base).steps_per_epoch
        end = self._base.total_steps(length)
        return self._exchange.config(self._drawn, number, step=end, steps_per_epoch=length)

    def exchange_after(
        self, epoch: int, trials: Mapping[int, TrialRuns]
    ) -> dict[tuple[int, int], Any]:
        """Lets trials go on from others after an epoch, where it is time for that.

        Args:
          epoch: from 1.
          trials: those under way, whose metric after it is on record.

        Returns:
          What the runs of those that moved are answered with, by trial and run.
        """
        trials = {number: trial for number, trial in trials.items() if not trial.over}
        if self._exchange is None or not trials or not self._exchange.is_due(epoch):
            return {}
        run = next(iter(trials.values())).told[0].run
        step = epoch * run.timeline.steps_per_epoch
        if step <= run.recipe.warmup_steps:
            return {}  # a plateau starts from the rate after the warm-up
        scores = self._study.cohort(0, epoch)
        self._exchange.decide(
            {number: scores.get(number, math.nan) for number in trials},
            {number: trial.claimed.values for number, trial in trials.items()},
            step=step,
            mode=self._base.select_mode,
        )
        return self._exchange.carry_out(trials, self._drawn, self.shared, step=step)

    def _drawn(self, number: int) -> RunConfig:
        trial = self._study.study.get_trials(deepcopy=False)[number]
        return self._space.config(self._base, self._study.values(trial.params))
