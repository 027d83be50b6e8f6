"""A run that goes on from another one: the exploit step of population based training."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp

from jaxrecipes.config import to_dict
from jaxrecipes.train import resume
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_state import EpochOver, Position, Run


def take_over(
    own: EpochOver, source: EpochOver, *, config: RunConfig, recipe: Recipe
) -> tuple[Run, Position]:
    """The run `own` with the past of `source`, under another config; what `own` is answered with.

    Weights, moments, averages, plateau, key and order of data are copied on the device, history and
    checkpoints on the disk. Its folder then is that of a run which trained under this config from
    the start; when this returns, it is complete.

    Args:
      own: whose folder and logs stay.
      source: the run that it goes on from, after an epoch.
      config: of `source`, with the hyperparameters of the past as they were and those of the future
        as they are to be; of the same structure.
      recipe: of the config.
    """
    own.run.checkpoints.wait()
    source.run.checkpoints.wait()
    folders = [resume.checkpoint_folder(told.run.workdir) for told in (own, source)]
    shutil.rmtree(folders[0])
    shutil.copytree(folders[1], folders[0])
    kept = {
        name: getattr(own.run, name) for name in ("workdir", "checkpoints", "writer", "started")
    }
    run = dataclasses.replace(source.run, config=config, recipe=recipe, **kept)
    # Copies: each run's next steps are given its arrays for good.
    state, sums = jax.tree.map(jnp.copy, (source.position.state, source.position.sums))
    hparams = jax.device_put(
        jax.tree.map(jnp.float32, dict(recipe.hparams)),
        jax.tree.map(lambda leaf: leaf.sharding, state.hparams),
    )
    position = dataclasses.replace(source.position, state=state.replace(hparams=hparams), sums=sums)
    entry = position.history[-1]
    score = (entry["val"] or entry["train"]).get(run.selected)
    resume.save(run, position, score=score)
    run.checkpoints.wait()
    run.write_json("config.json", {"recipe": recipe.name} | to_dict(config))
    run.write_json("history.json", position.history)
    return run, position
