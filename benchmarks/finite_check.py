"""What it costs a step to look at what it is about to keep, for each recipe's default config.

    python benchmarks/finite_check.py --rounds 40 --json result.json

Both sides are the recipe's own program, by turns in one process. Without the look a step skips its
update when the loss or the gradients' norm is not finite, and looks at nothing else. On a machine
that others use, too, `cpu_cost` is the figure to trust: the median over pairs of neighbouring
turns of the ratio of their CPU times, less 1.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from default_run import RECIPES, contestant, prepared
from report import print_table, write_json
from timing import Contestant, add_timing_arguments, conditions, cost, prepare, take_turns

from jaxrecipes.train import step


@contextmanager
def without_the_look() -> Iterator[None]:
    """Steps that are traced in here look at the loss and the gradients' norm alone."""

    def all_finite(look: Any) -> tuple[jax.Array, jax.Array]:
        finite = jnp.isfinite(look["loss"]) & jnp.isfinite(look["grad_norm"])
        return finite, jnp.int32(-1)

    with (
        mock.patch.object(step, "_all_finite", all_finite),
        mock.patch.object(step, "_kept_finite", lambda new, old: new),
    ):
        yield


def figures(name: str, rounds: int) -> dict[str, Any]:
    """Milliseconds a step of both sides, and what the look costs as a share of a step."""
    config, recipe, data = prepared(name)
    sides: dict[str, Contestant] = {"with": contestant(config, recipe, data)}
    sides["with"].call()
    with without_the_look():
        sides["without"] = contestant(config, recipe, data)
        sides["without"].call()
    calls: dict[str, Callable[[], Any]] = {side: each.call for side, each in sides.items()}
    take_turns(calls, 2)
    samples = take_turns(calls, rounds, cost)
    found: dict[str, Any] = {"steps a call": sides["with"].steps}
    for index, kind in enumerate(("wall", "cpu")):
        with_, without = ([s[index] for s in samples[side]] for side in ("with", "without"))
        ratios = [a / b for a, b in zip(with_, without, strict=True)]
        found[f"{kind} ms"] = 1e3 * statistics.median(without) / sides["with"].steps
        found[f"{kind}_cost"] = statistics.median(ratios) - 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    add_timing_arguments(parser, rounds=40)
    args = parser.parse_args()
    prepare(args)
    columns = {}
    for name in args.recipes:
        columns[name] = figures(name, args.rounds)
        print_table({name: columns[name]})
    write_json({"machine": conditions(args, "jax"), "recipes": columns}, args.json)


if __name__ == "__main__":
    main()
