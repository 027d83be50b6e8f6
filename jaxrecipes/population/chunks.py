"""The steps of several runs at once under `vmap`, which fill a GPU that one small run does not."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.data.feed import fetch
from jaxrecipes.population.lanes import stack, take
from jaxrecipes.population.program import PopulationProgram
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.run_state import Call, Position


def default_chunk() -> int:
    """One run at a time on a CPU, which is exact and no slower there; eight elsewhere."""
    return 1 if jax.default_backend() == "cpu" else 8


class Chunks:
    """A `Trainer` that takes the steps of `chunk` runs together.

    The results agree with those of runs of their own within rounding, and are the same bits
    whenever the same runs are trained together.

    Args:
      chunk: how many runs are trained together.
    """

    def __init__(self, chunk: int):
        self.chunk = chunk
        self._programs: dict[int, tuple[Programs, Any]] = {}

    def train(self, calls: Sequence[Call]) -> list[Any]:
        """See `population.together.Trainer`."""
        answers: dict[int, Any] = {}
        groups: dict[int, list[int]] = {}
        for place, call in enumerate(calls):
            groups.setdefault(id(call.programs), []).append(place)
        for places in groups.values():
            for start in range(0, len(places), self.chunk):
                chunk = places[start : start + self.chunk]
                try:
                    found = self._train_chunk([calls[place] for place in chunk])
                except Exception as error:  # of the device, say for want of memory
                    found = [error] * len(chunk)
                answers |= dict(zip(chunk, found, strict=True))
        return [answers[place] for place in range(len(calls))]

    def own(self, position: Position) -> Position:
        """The position as it is."""
        return position

    def _train_chunk(self, calls: Sequence[Call]) -> list[Any]:
        filled = [*calls, *[calls[0]] * (self.chunk - len(calls))]
        counts = [call.count for call in calls] + [0] * (self.chunk - len(calls))
        states, sums, log = self._program(calls[0].programs)(
            [call.position.state for call in filled],
            [call.position.sums for call in filled],
            calls[0].source,
            [call.items for call in filled],
            np.array(counts, np.int32),
        )
        if any(call.logs for call in calls):
            log = jax.device_get(log)
            logs = [{n: values[lane] for n, values in log.items()} for lane in range(len(calls))]
        else:
            logs = [log] * len(calls)  # only waited for
        return list(zip(states[: len(calls)], sums[: len(calls)], logs, strict=True))

    def _program(self, programs: Programs) -> Any:
        """The program for these runs' kind, which is compiled once."""
        if id(programs) not in self._programs:
            population = PopulationProgram(programs.recipe, fetch=fetch, chunk=self.chunk)

            def run(states, sums, source, items, counts):
                programs.train.num_compilations += 1
                lanes = jnp.arange(self.chunk, dtype=jnp.int32)
                states, sums, log = population(
                    stack(states), stack(sums), source, stack(items), counts, lanes, self.chunk
                )
                each = range(self.chunk)
                return [take(states, n) for n in each], [take(sums, n) for n in each], log

            self._programs[id(programs)] = programs, jax.jit(run)  # keeps what the id is of
        return self._programs[id(programs)][1]
