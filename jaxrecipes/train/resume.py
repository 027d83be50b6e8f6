"""Saving a run, and resuming it from its newest intact checkpoint, with the same config and data
or, if allowed, with others.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.config import diff, from_dict, to_dict
from jaxrecipes.data.fingerprint import Fingerprint, as_json, differences, judged_on
from jaxrecipes.losses.composite import term_names
from jaxrecipes.optim import leaves_by_path
from jaxrecipes.schedules import evaluate
from jaxrecipes.sharding import state_shardings
from jaxrecipes.train import nonfinite
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import Recipe, example_as_json
from jaxrecipes.train.run_data import RunData
from jaxrecipes.train.run_state import Position, Run, Timeline
from jaxrecipes.train.state import TrainState, with_moments

_log = logging.getLogger("jaxrecipes")
_SPEED_ALONE = ("loop.steps_per_call", "loop.keep_freed_memory")
_MOMENTS, _SUMS = "opt_state/", "sums/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """The checkpoint that a run resumes from.

    Attributes:
      step: of the checkpoint.
      timeline, position: where the resumed run starts.
      changes: what has changed in config and data since then, in words.
      judged_anew: earlier values of the monitored metric cannot be compared with new ones, because
        the validation data or the metric has changed.
    """

    step: int
    timeline: Timeline
    position: int
    changes: list[str]
    judged_anew: bool


def find(
    checkpoints: CheckpointManager,
    recipe: Recipe,
    config: RunConfig,
    data: RunData,
    *,
    allow_config_change: bool,
    allow_data_change: bool,
) -> Found | None:
    """The checkpoint that the run resumes from, or None for a new run.

    Raises:
      ValueError: the folder holds another recipe's run, or its config or its data differ and no
        such change was allowed.
    """
    checkpoints.sweep()
    step = checkpoints.newest_intact()
    if step is None:
        return None
    metadata = checkpoints.metadata(step)
    if metadata["recipe"] != recipe.name:
        raise ValueError(
            f"{checkpoints.directory} holds a run of the recipe {metadata['recipe']!r}, not of "
            f"{recipe.name!r}; choose another --workdir"
        )
    folder = checkpoints.directory.parent
    changed_config = config_changes(metadata["config"], config)
    if recipe.file is not None and recipe.file.digest != metadata.get("recipe_file"):
        changed_config.append(
            f"{recipe.file.name} has changed; {folder / recipe.file.name} is what the run stands on"
        )
    stored = metadata.get("data")  # none of runs that came from elsewhere
    data_changes = differences(stored, data.fingerprint) if stored else []
    timeline, position = timeline_at(metadata, config, step, data.steps_per_epoch)
    lengths = metadata["steps_per_epoch"], data.steps_per_epoch
    length_changes = []
    if lengths[0] != lengths[1]:
        length_changes.append(f"steps an epoch: {lengths[0]} -> {lengths[1]}")
    if changed_config and not allow_config_change:
        both = ""
        if data_changes and not allow_data_change:
            both = f"\nThe data is another as well ({', '.join(data_changes)}): --allow_data_change"
        raise ValueError(
            f"the run in {folder} was started with another config:\n  "
            + "\n  ".join(changed_config)
            + "\nGive --allow_config_change to go on with the new one, or choose another --workdir"
            + both
        )
    if data_changes and not allow_data_change:
        said = ", ".join(data_changes + length_changes)
        raise ValueError(
            f"the data is not what the run in {folder} was trained on; {said}. "
            "Bring that back, choose another --workdir, or give --allow_data_change to go on with "
            "what is there now: epochs that are done stay done, schedules follow the new length"
        )
    for what, changes in (("config", changed_config), ("data", data_changes + length_changes)):
        if changes:
            _log.info("going on; the %s has changed:\n  %s", what, "\n  ".join(changes))
    changes = changed_config + data_changes + length_changes
    judged_anew = _watched(config.upgraded(metadata["config"])) != _watched(to_dict(config))
    if stored is not None:
        judged_anew |= stored.get("val") != as_json(data.fingerprint).get("val")
    return Found(
        step=step, timeline=timeline, position=position, changes=changes, judged_anew=judged_anew
    )


def config_changes(stored: Mapping[str, Any], config: RunConfig) -> list[str]:
    """The differences not only in speed; fields newer than the run had their default."""
    before = to_dict(from_dict(type(config), stored))
    changes = diff(before, to_dict(config))
    return [change for change in changes if change.split(":")[0] not in _SPEED_ALONE]


def _watched(config: Mapping[str, Any]) -> list[Any]:
    parts = (config.get(name, {}) for name in ("plateau", "early_stopping", "ema"))
    return [part.get(name) for part in parts for name in ("monitor", "mode", "enabled")]


def timeline_at(
    metadata: dict[str, Any], config: RunConfig, step: int, steps_per_epoch: int
) -> tuple[Timeline, int]:
    """The timeline and the position of a run resumed from a checkpoint's step."""
    return Timeline.stored(metadata).under(
        config, step, steps_per_epoch=steps_per_epoch, history=metadata["history"]
    )


def restore(
    checkpoints: CheckpointManager,
    recipe: Recipe,
    programs: Programs,
    *,
    mesh: Mesh,
    found: Found,
) -> Position:
    """The saved position; after a change of config, with the hyperparameters of the new one.

    Moments are kept for the parameters that are still trained, see `with_moments`.

    Raises:
      ValueError: the state holds a NaN or an infinity.
    """
    step, changed, empty_sums = found.step, bool(found.changes), programs.empty_sums()
    shapes = checkpoints.shapes(step)
    saved = {path: leaf for path, leaf in shapes.items() if path.startswith(_MOMENTS)}
    wanted = programs.abstract_state.replace(opt_state=None)
    wanted = wanted.replace(hparams={}) if changed else wanted
    begins_weighting = changed and not any(path.startswith("loss_weighting/") for path in shapes)
    wanted = wanted.replace(loss_weighting=None) if begins_weighting else wanted
    tree = saved | wanted.as_dict()
    tree = jax.tree.map(_laid_out, tree, state_shardings(tree, mesh))
    metadata, changes = checkpoints.metadata(step), [*found.changes]
    if metadata["mid_epoch"]:
        if not changed or _fits(shapes, empty_sums):
            tree["sums"] = empty_sums
        else:
            changes.append("the train metrics of this epoch are of what follows the change")
    restored = checkpoints.restore(tree, step=step, partial=changed)
    assert restored is not None
    state = TrainState(**{name: restored.tree[name] for name in wanted.as_dict()})
    if changed:
        state = _with_hparams(recipe, state).replace(step=np.int32(found.position))
    if begins_weighting and recipe.loss_weighting is not None:
        names = term_names(recipe.hparams)
        state = state.replace(loss_weighting=recipe.loss_weighting.init(names))
    if found.judged_anew:
        state = _without_best(recipe, state)
    moments = {path.removeprefix(_MOMENTS): restored.tree[path] for path in saved}
    state = with_moments(recipe.stage_at(found.position), state, moments, mesh)
    nonfinite.check_start(state, f"{checkpoints.directory / str(step)}")
    return Position(
        step=found.position,
        state=state,
        sums=restored.tree.get("sums", empty_sums),
        history=metadata["history"],
        changes=[*metadata.get("changes", []), *changes],
    )


def _fits(shapes: Mapping[str, jax.ShapeDtypeStruct], sums: Any) -> bool:
    """Whether a checkpoint holds metric sums of this structure."""
    saved = {p: (x.shape, x.dtype) for p, x in shapes.items() if p.startswith(_SUMS)}
    wanted = {f"{_SUMS}{p}": (x.shape, x.dtype) for p, x in leaves_by_path(sums).items()}
    return saved == wanted


def _with_hparams(recipe: Recipe, state: TrainState) -> TrainState:
    """The state with the recipe's hyperparameters."""
    hparams = jax.tree.map(np.float32, dict(recipe.hparams))
    state = state.replace(hparams=hparams)
    if recipe.plateau is not None:
        base = evaluate(state.hparams, recipe.warmup_steps)["learning_rate"]
        plateau = dataclasses.replace(
            state.plateau, learning_rate=base * state.plateau.scale, base_learning_rate=base
        )
        state = state.replace(plateau=plateau)
    if recipe.early_stopping is not None:
        stopping = recipe.early_stopping.with_patience(state.early_stopping)
        state = state.replace(early_stopping=stopping)
    return state


def _without_best(recipe: Recipe, state: TrainState) -> TrainState:
    """The state with best values and counts reset; earlier reductions of the rate are kept."""
    if recipe.plateau is not None:
        fresh = recipe.plateau.init(0.0)
        plateau = dataclasses.replace(
            state.plateau, best=fresh.best, num_bad_epochs=fresh.num_bad_epochs
        )
        state = state.replace(plateau=plateau)
    if recipe.early_stopping is not None:
        state = state.replace(early_stopping=recipe.early_stopping.init())
    return state


def _laid_out(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def save(
    run: Run, position: Position, *, score: float | None = None, mid_epoch: bool = False
) -> None:
    """Starts saving the position; metric sums are saved only in the middle of an epoch.

    Raises:
      TrainingDivergedError: the state holds a NaN or an infinity.
      CheckpointWriteError: the save before failed.
    """
    checkpoints, step = run.checkpoints, run.taken(position.step)
    checkpoints.wait()  # so that what is said of the newest one is true
    nonfinite.check_saved(position.state, step=step, checkpoint=checkpoints.latest_step)
    metadata = checkpoint_metadata(
        run.recipe,
        run.config,
        timeline=run.timeline,
        history=position.history,
        mid_epoch=mid_epoch,
        fingerprint=run.data.fingerprint,
        selected=run.selected,
        changes=position.changes,
    )
    tree = position.state.as_dict() | ({"sums": position.sums} if mid_epoch else {})
    # An epoch that was saved before its validation (on a signal) is saved again with its score.
    checkpoints.save(step, tree, metadata=metadata, score=score, replace=not mid_epoch)


def checkpoint_metadata(
    recipe: Recipe,
    config: RunConfig,
    *,
    timeline: Timeline,
    history: Sequence[dict[str, Any]],
    mid_epoch: bool,
    fingerprint: Fingerprint | None = None,
    selected: str = "",
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """What is stored beside a checkpoint's arrays."""
    return {
        "recipe": recipe.name,
        "recipe_file": None if recipe.file is None else recipe.file.digest,
        "example": example_as_json(recipe.example),
        "config": to_dict(config),
        **dataclasses.asdict(timeline),
        "history": list(history),
        "mid_epoch": mid_epoch,
        "data": None if fingerprint is None else as_json(fingerprint),
        "judged_by": None if fingerprint is None else f"{selected} {judged_on(fingerprint)}",
        "changes": list(changes),
    }


def checkpoint_folder(workdir: pathlib.Path) -> pathlib.Path:
    """Where a run keeps its checkpoints."""
    return workdir / "checkpoints"
