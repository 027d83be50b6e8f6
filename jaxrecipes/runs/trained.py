"""A trained model from a run's folder, from which evaluate, predict, export and convert start."""

import dataclasses
import pathlib
from typing import Any, Literal

import jax

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.config import from_dict
from jaxrecipes.optim import late_paths
from jaxrecipes.paths import user_path
from jaxrecipes.runs.recipe_module import RecipeModule, load_recipe
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.resume import checkpoint_folder
from jaxrecipes.train.run_state import Timeline
from jaxrecipes.train.state import TrainState, create_state
from jaxrecipes.train.step import current_hparams

Weights = Literal["auto", "raw", "ema"]
"""Which weights to use: auto takes the averaged ones if a run keeps them."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A checkpoint and the recipe that it belongs to.

    Attributes:
      module, config, recipe: the recipe, as the checkpoint's config describes it.
      state: its training state (moments and all).
      step: its step.
      metadata: what was stored beside the arrays.
      folder: of the run; None: the model is used apart from its run.
    """

    module: RecipeModule
    config: Any
    recipe: Recipe
    state: TrainState
    step: int
    metadata: dict[str, Any]
    folder: pathlib.Path | None = None

    @property
    def hparams(self) -> dict[str, jax.Array]:
        """The hyperparameters in force at the checkpoint's step."""
        return current_hparams(self.recipe, self.state)

    @property
    def final_hparams(self) -> dict[str, jax.Array]:
        """The hyperparameters of the run's last step, which weight its validation losses."""
        last_step = Timeline.stored(self.metadata).end(self.config) - 1
        return current_hparams(self.recipe, self.state, step=last_step)

    def weights(self, which: Weights = "auto") -> tuple[Any, Any]:
        """`(params, batch_stats)`; auto: the averaged ones where the run keeps them.

        Raises:
          ValueError: averaged weights are requested from a run without EMA.
        """
        if which == "ema" and not self.recipe.ema:
            raise ValueError(
                "this run has no EMA weights (ema.enabled is false); take --weights raw"
            )
        if self.recipe.ema and which != "raw":
            return self.state.ema_params, self.state.ema_batch_stats
        return self.state.params, self.state.batch_stats


def open_trained(
    folder: str | pathlib.Path, *, step: int | Literal["best", "latest"] = "best"
) -> Trained:
    """Restores a checkpoint of a run's folder.

    Args:
      folder: the run's folder (`--workdir`), or its `checkpoints`.
      step: the best by the run's own metric (the newest if none has a score), the newest, or a
        step.

    Raises:
      ValueError: no checkpoint there, or a config that this version does not know.
      CheckpointCorrupt: it is damaged.
    """
    folder = user_path(folder)
    directory = checkpoint_folder(folder)
    if not directory.is_dir():
        directory = folder
    with CheckpointManager(directory) as checkpoints:
        latest = checkpoints.latest_step
        if latest is None:
            raise ValueError(
                f"no checkpoint in {directory}; give the folder of a run (its --workdir)"
            )
        chosen = latest if isinstance(step, str) else step
        metadata = checkpoints.metadata(chosen)
        module = load_recipe(metadata["recipe"], directory.parent)
        config = from_dict(module.Config, metadata["config"])
        if step == "best":
            # The manager ranks by its mode, which the config knows. An earlier checkpoint may have
            # been saved under another config, which is then the one that fits it.
            with CheckpointManager(directory, mode=config.select_mode) as ranked:
                chosen = latest if ranked.best_step is None else ranked.best_step
            metadata = checkpoints.metadata(chosen)
            config = from_dict(module.Config, metadata["config"])
        recipe = module.make_recipe(config, DataInfo.stored(metadata))
        position = chosen + metadata.get("steps_ahead", 0)
        stage = recipe.stage_at(max(0, position - 1))  # of the last step; the next begins with it
        late = late_paths(checkpoints.shapes(chosen))
        abstract = jax.eval_shape(
            lambda key: create_state(stage, key, late=late), jax.random.key(0)
        )
        wanted = _on_one_device(abstract).as_dict()
        restored = checkpoints.restore(wanted, step=chosen, partial=True)
    assert restored is not None
    state, run_dir = TrainState(**restored.tree), directory.parent
    return Trained(module, config, recipe, state, chosen, restored.metadata, run_dir)


def _on_one_device(tree: Any) -> Any:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
