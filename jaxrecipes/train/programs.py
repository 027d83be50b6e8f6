"""The compiled programs of a run: its initial state, its training steps, its evaluation."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.compile_quickly import compile_quickly
from jaxrecipes.data.feed import fetch
from jaxrecipes.sharding import (
    on_cpu,
    put_global,
    replicated,
    state_shardings,
)
from jaxrecipes.train.apply_fn import apply_on
from jaxrecipes.train.evaluate import EvalProgram
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_data import RunData
from jaxrecipes.train.state import TrainState, create_state, starting_weights
from jaxrecipes.train.step import make_train_step

_log = logging.getLogger("jaxrecipes")

DEFAULT_STEPS_PER_CALL = 8
_CONVOLUTIONS = "on CPU XLA runs the convolutions of a step many times slower inside a loop"


class TrainProgram:
    """`run(state, sums, source, items, count)`: `count` steps of a recipe on a mesh; state and sums
    are donated.

    The leading axis of `items` is the largest number of steps in a call. On CPUs a call runs the
    first `count` of them, so the last, shorter call of an epoch needs no extra compilation. On a
    GPU the host would wait in every iteration of a loop whose length is data. So elsewhere the
    length is static, and a shorter call takes its steps one at a time through a second program.

    Args:
      recipe: what is trained.
      mesh: the devices.
      abstract_state: the state's shapes.

    Attributes:
      shardings: where each leaf of the state lies.
      num_compilations: how many times the program was traced; in a healthy run 1, or 2 where
        shorter calls have a program of their own.
    """

    def __init__(self, recipe: Recipe, *, mesh: Mesh, abstract_state: TrainState):
        self.num_compilations = 0
        self._any_count = any_count = on_cpu(mesh)
        self.shardings = state_shardings(abstract_state, mesh)
        apply_fn = apply_on(mesh, recipe.apply_fn, attention=recipe.attention, remat=recipe.remat)
        train_step = make_train_step(dataclasses.replace(recipe, apply_fn=apply_fn))

        @partial(jax.jit, inline=True)  # for its cache of traces: all uses here share one
        def fetch_and_step(state, source, item):
            return train_step(state, fetch(source, item))

        def one_step(state, sums, source, item):
            state, metrics = fetch_and_step(state, source, item)
            return state, jax.tree.map(jnp.add, sums, metrics.sums), metrics.log

        def run(state, sums, source, items, count):
            self.num_compilations += 1
            first = jax.tree.map(lambda x: x[0], items)
            most = jax.tree.leaves(items)[0].shape[0]
            if most == 1:
                return one_step(state, sums, source, first)
            log = jax.eval_shape(fetch_and_step, state, source, first)[1].log

            def body(i, carry):
                item = jax.tree.map(lambda x: x[i], items)
                return one_step(carry[0], carry[1], source, item)

            empty_log = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), log)
            rounds = count if any_count else most
            return jax.lax.fori_loop(0, rounds, body, (state, sums, empty_log))

        self._everywhere = everywhere = replicated(mesh)
        self._run = jax.jit(
            run,
            donate_argnums=(0, 1),
            in_shardings=(self.shardings, everywhere, None, None, None),
            out_shardings=(self.shardings, everywhere, everywhere),
        )
        self._fetch_and_step = fetch_and_step

    def __call__(self, state, sums, source, items, count):
        """`(state, sums, log of the last step)`, dispatched without waiting for the device."""
        if self._any_count or count == jax.tree.leaves(items)[0].shape[0]:
            return self._run(state, sums, source, items, count)
        for i in range(count):
            item = jax.tree.map(lambda x, i=i: jax.lax.dynamic_slice_in_dim(x, i, 1), items)
            state, sums, log = self._run(state, sums, source, item, np.int32(1))
        return state, sums, log

    def lower(self, state, sums, source, items, count) -> jax.stages.Lowered:
        """The lowered program for these arguments (arrays or shapes)."""
        return self._run.lower(state, sums, source, items, count)

    def compiled(self, state, sums, source, items, count) -> jax.stages.Compiled:
        """The compiled program for these arguments, to inspect; after a call, the one that ran."""
        return self.lower(state, sums, source, items, count).compile()

    def sum_shapes(self, state: TrainState, source: Any, items: Any) -> Any:
        """Shapes of the metric sums that this program adds up over `items`."""
        return jax.eval_shape(self._fetch_and_step, state, source, _first(items))[1].sums

    def steps_per_call(
        self, given: int | None, state: TrainState, source: Any, items: Any
    ) -> "StepsPerCall":
        """How many steps a call should have, see `choose_steps_per_call`."""
        step = self._fetch_and_step
        return choose_steps_per_call(
            given, step, state, source, _first(items), on_cpu=self._any_count
        )

    def zeros(self, shapes: Any) -> Any:
        """Metric sums before the first step."""
        return jax.tree.map(
            lambda x: put_global(np.zeros(x.shape, x.dtype), self._everywhere), shapes
        )


@dataclasses.dataclass(frozen=True)
class StepsPerCall:
    """A number of steps and the reason for it; `unwise` if the requested number is slow."""

    count: int
    reason: str
    unwise: bool = False

    def say(self, *, given: int | None) -> None:
        """Logs the choice; for a given number, only a warning if it is slow."""
        steps = f"{self.count} step{'s' * (self.count > 1)} per call"
        if self.unwise:
            _log.warning("%s, as given, is slow: %s; try 1", steps, self.reason)
        elif given is None:
            _log.info("%s: %s", steps, self.reason)


def choose_steps_per_call(
    given: int | None, step: Callable[..., Any], *args: Any, on_cpu: bool
) -> StepsPerCall:
    """The number that is given, or one chosen by what the step computes.

    On CPU, XLA cannot use its fast convolution inside a loop, so there a step with convolutions
    gets a call of its own. Other steps share a call, which saves dispatches.

    Args:
      given: steps, or None to choose.
      step: a jitted function.
      *args: its arguments, or their shapes; it is traced for them unless it was before.
      on_cpu: whether it runs on CPUs.
    """
    convolutions = (
        given != 1
        and on_cpu
        and "conv_general_dilated" in _primitives_on_cpu(jax.make_jaxpr(step)(*args).jaxpr)
    )
    if given is not None:
        return StepsPerCall(given, _CONVOLUTIONS if convolutions else "as given", convolutions)
    if convolutions:
        return StepsPerCall(1, _CONVOLUTIONS)
    reason = "fewer calls, and no convolutions that a loop would slow down"
    return StepsPerCall(DEFAULT_STEPS_PER_CALL, reason)


def _primitives_on_cpu(jaxpr: Any) -> Iterator[str]:
    """Names of all operations in a jaxpr, except those that `lax.platform_dependent` holds for
    other platforms.
    """
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        params = dict(equation.params)
        platforms = params.get("branches_platforms")
        if platforms is not None:
            own = next(i for i, names in enumerate(platforms) if names is None or "cpu" in names)
            params["branches"] = params["branches"][own]
        for inner in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _primitives_on_cpu(getattr(inner, "jaxpr", inner))


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


class Programs:
    """What a run executes on its devices; each program is compiled when it is first used.

    The numbers of `recipe.hparams` are not part of the programs, so runs whose recipes differ in
    nothing else can share one object.

    Args:
      recipe: what is trained; for a recipe with later stages, the first one.
      data: what it is trained on; the shapes of its batches are part of the programs.
      steps_per_call: of the train program; None: chosen automatically.
      mesh: the devices.
      late: paths of parameters that have their own count of updates.
      evaluate: the evaluation program of another stage of the run, to share.

    Attributes:
      recipe: as given.
      frozen, late: what distinguishes the training programs of different stages.
      abstract_state: shapes of the state.
      train, evaluate: the programs.
      sum_shapes: shapes of the metric sums of the train program.
      steps_per_call: of the train program, and why.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: RunData,
        *,
        steps_per_call: int | None,
        mesh: Mesh,
        late: Iterable[str] = (),
        evaluate: EvalProgram | None = None,
    ):
        self.recipe, self.frozen, self.late = recipe, recipe.frozen, frozenset(late)

        def create(key, hparams, given=({}, {})):
            return create_state(recipe, key, hparams=hparams, late=late, given=given)

        self.abstract_state: TrainState = jax.eval_shape(create, jax.random.key(0), _leaves(recipe))
        self.train = TrainProgram(recipe, mesh=mesh, abstract_state=self.abstract_state)
        self.evaluate = evaluate or EvalProgram(recipe, mesh=mesh)
        self._create = jax.jit(create, out_shardings=self.train.shardings)
        self._compiled_create: dict[Any, jax.stages.Compiled] = {}  # by what is given
        arguments = self.abstract_state, data.train.source, data.train.training_items(0, 1)
        self.sum_shapes = self.train.sum_shapes(*arguments)
        self.steps_per_call = self.train.steps_per_call(steps_per_call, *arguments)

    def initial_state(self, recipe: Recipe, key: jax.Array) -> TrainState:
        """The state before the first step, with the numbers of `recipe.hparams` and the recipe's
        starting weights.

        Raises: what `recipe.pretrained` raises.
        """
        arguments = key, _leaves(recipe), starting_weights(recipe)
        given = jax.tree.structure(arguments)
        if given not in self._compiled_create:
            self._compiled_create[given] = compile_quickly(self._create, *arguments)
        return self._compiled_create[given](*arguments)

    def empty_sums(self) -> Any:
        """The metric sums before the first step."""
        return self.train.zeros(self.sum_shapes)


def _first(items: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), items)


def _leaves(recipe: Recipe) -> Any:
    return jax.tree.map(np.float32, dict(recipe.hparams))
