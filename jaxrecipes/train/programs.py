"""The compiled programs of a run: its initial state, its steps, its evaluation."""

import hashlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxrecipes.compile_quickly import compile_quickly
from jaxrecipes.sharding import replicated
from jaxrecipes.train.evaluate import EvalProgram
from jaxrecipes.train.program import TrainProgram
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_data import RunData
from jaxrecipes.train.state import TrainState, create_state, starting_weights


class Programs:
    """What a run executes on its devices; each program is compiled when it is first used.

    The numbers of `recipe.hparams` are no part of them: runs whose recipes differ in nothing else
    that the programs see can share one object (`fingerprint` tells).

    Args:
      recipe: what is trained; of a plan its first stage.
      data: what it is trained on; the shapes of its batches are part of the programs.
      steps_per_call: of the train program; None: what suits it.
      mesh: the devices.
      late: paths of parameters that have a count of updates of their own.

    Attributes:
      stage: the freezing rules, and the late parameters.
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
    ):
        self.stage = recipe.frozen_at(0), frozenset(late)
        self._hparams, self._mesh = _leaves(recipe), mesh
        self._key = jax.random.key(0)

        def create(key, hparams, given=({}, {})):
            return create_state(recipe, key, hparams=hparams, late=late, given=given)

        self.abstract_state: TrainState = jax.eval_shape(create, self._key, self._hparams)
        self.train = TrainProgram(recipe, mesh=mesh, abstract_state=self.abstract_state)
        self.evaluate = EvalProgram(recipe, mesh=mesh)
        self._create = jax.jit(create, out_shardings=self.train.shardings)
        self._compiled_create: dict[Any, jax.stages.Compiled] = {}  # by what is given
        arguments = self.abstract_state, data.train.source, data.train.training_items(0, 1)
        self.sum_shapes = self.train.sum_shapes(*arguments)
        self.steps_per_call = self.train.steps_per_call(steps_per_call, *arguments)

    def initial_state(self, recipe: Recipe, key: jax.Array) -> TrainState:
        """The state before the first step, with the numbers of `recipe.hparams` and the weights
        that it starts from.

        Raises: what `recipe.pretrained` raises.
        """
        arguments = key, _leaves(recipe), starting_weights(recipe)
        given = jax.tree.structure(arguments)
        if given not in self._compiled_create:
            self._compiled_create[given] = compile_quickly(self._create, *arguments)
        return self._compiled_create[given](*arguments)

    def fingerprint(self, data: RunData) -> str:
        """A digest of all that the compiler sees: two with the same one compute the same function.

        Traces and lowers the programs (seconds for a network of some size), compiles none.
        """
        # Laid out as in a run, so that what is traced here is not traced again there.
        state = jax.tree.map(_laid_out, self.abstract_state, self.train.shardings)
        sums = self.train.zeros(self.sum_shapes)
        items = data.train.training_items(0, 1, padded_to=self.steps_per_call.count)
        lowered = [
            self._create.lower(self._key, self._hparams),
            self.train.lower(state, sums, data.train.source, items, np.int32(1)),
        ]
        values = {name: _laid_out(_SCALAR, replicated(self._mesh)) for name in state.hparams}
        for split in (data.val, data.test):
            if split is not None:
                item, mask = next(iter(split.feed.evaluation_items(split.batch_size)))
                weights = state.params, state.batch_stats
                arguments = (*weights, values, values, split.feed.source, item, mask)
                lowered.append(self.evaluate.lower(*arguments))
        digest = hashlib.sha256()
        for program in lowered:
            digest.update(program.as_text().encode())
        return digest.hexdigest()


_SCALAR = jax.ShapeDtypeStruct((), np.float32)


def _laid_out(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _leaves(recipe: Recipe) -> Any:
    return jax.tree.map(np.float32, dict(recipe.hparams))
