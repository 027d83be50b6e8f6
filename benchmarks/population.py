"""What a step of a population costs, against the same trials one after another.

    python benchmarks/population.py --recipes ocec universal_face --members 1 3 16 --rounds 7

Both sides train the recipe's default config on its own data, by turns in one process, with as many
steps in a call. `cpu_cost` is the median over pairs of neighbouring turns of the ratio of their CPU
times, the population over the plain program: the figure to trust on a machine that others use, too.
`equal` says whether the first member's parameters are those of its plain run in every bit.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from default_run import RECIPES, prepared
from report import print_table, write_json
from timing import add_timing_arguments, conditions, cost, prepare, take_turns

from jaxrecipes import population
from jaxrecipes.data.feed import fetch
from jaxrecipes.population import PopulationProgram, active_lanes
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.programs import Programs


class Trials:
    """The same trials of a recipe, for both sides."""

    def __init__(self, name: str, count: int, chunk: int):
        _, recipe, data = prepared(name)
        self.programs = Programs(recipe, data, steps_per_call=8, mesh=make_mesh(1))
        self.source, self.feed = data.train.source, data.train
        keys = [jax.random.key(number) for number in range(count)]
        self.states = [self.programs.initial_state(recipe, key) for key in keys]
        self.sums = [self.programs.train.zeros(self.programs.sum_shapes) for _ in keys]
        self.program = PopulationProgram(recipe, fetch=fetch, chunk=chunk)
        self.stacked = population.stack(self.states)
        self.stacked_sums = population.stack(self.sums)
        self.lanes, self.step = active_lanes(np.ones(count, bool)), 0

    def items(self) -> Any:
        return self.feed.training_items(self.step, 8, padded_to=8)

    def one_after_another(self) -> None:
        """8 steps of every trial in the plain program."""
        for number in range(len(self.states)):
            state, sums = self.states[number], self.sums[number]
            self.states[number], self.sums[number], _ = self.programs.train(
                state, sums, self.source, self.items(), np.int32(8)
            )
        jax.block_until_ready(self.states)

    def together(self) -> None:
        """8 steps of every trial in the population's program."""
        items = jax.tree.map(lambda x: jnp.stack([x] * len(self.states)), self.items())
        counts = np.full(len(self.states), 8, np.int32)
        self.stacked, self.stacked_sums, _ = self.program(
            self.stacked, self.stacked_sums, self.source, items, counts, *self.lanes
        )
        jax.block_until_ready(self.stacked)

    def equal(self) -> bool:
        """Whether the first member is where its plain run is, after as many calls of both."""
        pairs = zip(
            jax.tree.leaves(population.take(self.stacked, 0).params),
            jax.tree.leaves(self.states[0].params),
            strict=True,
        )
        return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def figures(name: str, count: int, chunk: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a trial's step on both sides, and what the population costs."""
    trials = Trials(name, count, chunk)
    sides: Mapping[str, Callable[[], Any]] = {
        "plain": trials.one_after_another,
        "population": trials.together,
    }
    take_turns(sides, 1)
    found: dict[str, Any] = {"equal": trials.equal()}
    samples = take_turns(sides, rounds, cost)
    for index, kind in enumerate(("wall", "cpu")):
        plain, together = ([s[index] for s in samples[side]] for side in sides)
        for side, seconds in (("plain", plain), ("population", together)):
            found[f"{side} {kind} ms"] = 1e3 * statistics.median(seconds) / (8 * count)
        ratios = [b / a for a, b in zip(plain, together, strict=True)]
        found[f"{kind}_cost"] = statistics.median(ratios)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=["ocec"])
    parser.add_argument("--members", nargs="+", type=int, default=[1, 3, 16])
    parser.add_argument("--chunk", type=int, default=1, help="trials under one vmap; 1: none")
    add_timing_arguments(parser, rounds=7)
    args = parser.parse_args()
    prepare(args)
    columns = {}
    for name in args.recipes:
        for count in args.members:
            column = f"{name} {count}"
            columns[column] = figures(name, count, args.chunk, args.rounds)
            print_table({column: columns[column]})
    write_json({"machine": conditions(args, "jax"), "recipes": columns}, args.json)


if __name__ == "__main__":
    main()
