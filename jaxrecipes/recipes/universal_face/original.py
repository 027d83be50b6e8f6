"""Files of the original universal face program, without PyTorch: weights, and runs as runs of ours,
both ways.
"""

import functools
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.convert.file_fields import Fields, naming
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import dump_tensors, load_variables, parameter_rules, unwrapped
from jaxrecipes.convert.torch_optim import adam_from_torch, adam_rates
from jaxrecipes.convert.torch_schedulers import is_plateau
from jaxrecipes.fields import Count, CountOrZero, NonNegative, Positive
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.faces.original_files import (
    WITHOUT_CLIP,
    check_program,
    numbered,
    tabulated,
    with_text_width,
)
from jaxrecipes.recipes.faces.pose_text_source import FROM_CHECKPOINT
from jaxrecipes.recipes.universal_face.config import LossConfig, UniversalFaceRunConfig
from jaxrecipes.recipes.universal_face.network import (
    LossProjections,
    UniversalFace,
    UniversalFaceConfig,
)
from jaxrecipes.recipes.universal_face.original_rules import LOSS_RULES, universal_face_rules
from jaxrecipes.recipes.universal_face.recipe import make_recipe
from jaxrecipes.runs.torch_runs import (
    host,
    imported_run,
    is_averaged,
    last_entry,
    optimizer_of,
    save_run,
    scheduler_config,
    scheduler_of,
    settings_of,
    write_torch,
)
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.train.config import OptimConfig, PlateauConfig

_log = logging.getLogger("jaxrecipes")

_LOSS_KEYS = [rule.source for rule in LOSS_RULES]
_PROJECTION_RULES = parameter_rules(LOSS_RULES[:1])  # that trains; the other one is not used
_LOSS_STATE = "criterion_state_dict"  # the key that the original's diagnostics look for
_LOSS_OPTIMIZER = "criterion_optimizer_state_dict"  # ours; the original's optimizer has no place
_LAMBDAS = (
    "lambda_id",
    "lambda_pose",
    "lambda_ortho",
    "lambda_contrast",
    "lambda_reconstruction",
)


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | UniversalFaceConfig
) -> tuple[UniversalFace, dict[str, Any], dict[str, Any]]:
    """(model, params, batch_stats) of a state dict of the original; see `jaxrecipes.convert`.

    `config` are the original's `args`. The tensors of its loss object, `id_to_feat_proj.weight` and
    `feat_to_id_proj.weight`, may be among the others, as they are or after "criterion.". The
    original does not save them: without them they are drawn, always the same, and a warning says
    so. Copies of CLIP become tables, see `jaxrecipes.recipes.faces.original_files`.
    """
    state_dict = tabulated(unwrapped(state_dict))
    config = _network_config(config, state_dict)
    state_dict = {_without_prefix(key): value for key, value in state_dict.items()}
    if not any(key in state_dict for key in _LOSS_KEYS):
        _log.warning(
            "no loss projections (%s) among the weights: the original does not save them, so they "
            "are drawn anew. Codes and poses are as they were; cosines with the targets mean "
            "nothing before the projections have been trained",
            ", ".join(_LOSS_KEYS),
        )
        state_dict |= _drawn_projections(config)
    rules = [*universal_face_rules(config), *LOSS_RULES]
    return UniversalFace(config), *load_variables(rules, state_dict, template(config))


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | UniversalFaceConfig,
) -> dict[str, np.ndarray]:
    """The original network's state dict, its keys in its order; see `jaxrecipes.convert`.

    The loss projections are no part of it: see `loss_to_torch`; nor are copies of CLIP, in whose
    place are tables (`jaxrecipes.recipes.faces.original_files`).
    """
    if not isinstance(config, UniversalFaceConfig):
        config = UniversalFaceConfig.from_dict(config)
    network = {name: branch for name, branch in params.items() if name != "loss_projections"}
    variables = {"params": network, "batch_stats": batch_stats}
    return dump_tensors(universal_face_rules(config), variables)


def loss_to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of the original's loss object, from the parameters of ours."""
    return dump_tensors(LOSS_RULES, {"params": {"loss_projections": params["loss_projections"]}})


@functools.cache
def template(config: UniversalFaceConfig) -> dict[str, Any]:
    """Shapes and dtypes of the variables, as `jax.eval_shape` gives them."""
    features = jax.ShapeDtypeStruct((1, config.feat_dim), jnp.float32)
    return jax.eval_shape(UniversalFace(config).init, jax.random.key(0), features)


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns a checkpoint of the original into a run's folder.

    The folder can be evaluated, predicted with, exported, and trained further (`train.py
    --allow_config_change`, with other loss weights if wanted). Scheduler and best cosine go on
    too, which the original forgets, but not where the loss projections had to be drawn anew: the
    old cosines were measured with others.

    Args:
      source: the `.pth` file.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      ValueError: not such a file, tensors that do not fit (`ConversionError`, which names the first
        of each kind), or a folder that holds a run already.
    """
    loaded = load_torch(source, use_torch=use_torch)
    check_program(source, loaded, "universal face")
    with naming(source):
        fields = Fields(loaded, "the file's content")
        own = unwrapped(loaded["model_state_dict"])
        state_dict = own | unwrapped(loaded.get(_LOSS_STATE) or {})
        network = _network_config(fields.get("args", dict[str, Any]), state_dict)
        _, params, batch_stats = from_torch(state_dict, network)
        optimizer = numbered(loaded.get("optimizer_state_dict"), own)
        adam = adam_from_torch(optimizer, parameter_rules(universal_face_rules(network)), params)
        projections = adam_from_torch(loaded.get(_LOSS_OPTIMIZER), _PROJECTION_RULES, params)
        if adam and projections:
            adam = adam._replace(mu=adam.mu | projections.mu, nu=adam.nu | projections.nu)
        scheduler = fields.get("scheduler_state_dict", dict[str, Any], {})
        epoch = fields.get("epoch", CountOrZero, 0)
        best = {
            name: fields.get(key, float, None, infinite=True)
            for name, key in (("cosine_similarity", "best_val_cosine"), ("loss", "best_val_loss"))
        }
        val = {name: x for name, x in best.items() if x is not None and np.isfinite(x)}
        with settings_of(source, UniversalFaceRunConfig):
            config = _config(fields, network, epoch, adam_rates(optimizer), scheduler)
        drawn = not any(key.endswith(tuple(_LOSS_KEYS)) for key in state_dict)
        if drawn and is_plateau(scheduler):
            scheduler = {**scheduler, "best": -np.inf, "num_bad_epochs": 0}
        run = imported_run(
            source,
            config,
            make_recipe,
            params,
            batch_stats,
            epoch=epoch,
            adam=adam,
            scheduler=scheduler,
        )
    if drawn or "cosine_similarity" not in val:
        val = {}
    save_run(workdir, run, history=[run.entry(val=val)], score=val.get("cosine_similarity"))


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes a `.pth` file that the original loads with strict key checking.

    The loss projections go under "criterion_state_dict" and their moments under a key of our own;
    the original's training reads neither.

    Args:
      trained: the checkpoint.
      target: the file to write.
      weights: what becomes `model_state_dict`. raw: the file can be resumed. ema: the averaged
        weights, to predict with, without optimizer. auto: ema where there is one.
    """
    config = trained.config
    params, batch_stats = host(trained.weights(weights))
    epoch, best = last_entry(trained)["epoch"], _best(trained)
    optimizer = projections = scheduler = None
    if not is_averaged(trained, weights):
        optimizer = optimizer_of(trained, parameter_rules(universal_face_rules(config.model)))
        if config.train_loss_projections:
            projections = optimizer_of(trained, _PROJECTION_RULES)
        scheduler = scheduler_of(trained, epoch)
        if scheduler and not is_plateau(scheduler) and "step_size" not in scheduler:
            scheduler = None  # no revision of the original had it
    value: dict[str, Any] = {
        "epoch": epoch,
        "model_state_dict": to_torch(params, batch_stats, config.model),
        "optimizer_state_dict": optimizer,
        "scheduler_state_dict": scheduler,
        # What the original starts from where there is no best yet.
        "best_val_loss": best.get("loss", float("inf")),
        "best_val_cosine": best.get("cosine_similarity", 0.0),
        "args": _args(config),
        _LOSS_STATE: loss_to_torch(params),
    }
    if projections is not None:
        value[_LOSS_OPTIMIZER] = projections
    write_torch(trained, target, value, weights=weights)
    if config.model.use_clip_pose_encoder:
        _log.info(WITHOUT_CLIP)


def _network_config(
    config: Mapping[str, Any] | UniversalFaceConfig, state_dict: Mapping[str, Any]
) -> UniversalFaceConfig:
    """The config of a network with these weights."""
    if isinstance(config, UniversalFaceConfig):
        return config
    config = UniversalFaceConfig.from_dict(config)
    return with_text_width(config, state_dict) if config.use_clip_pose_encoder else config


def _without_prefix(key: str) -> str:
    bare = key.removeprefix("criterion.")
    return bare if bare in _LOSS_KEYS else key


def _drawn_projections(config: UniversalFaceConfig) -> dict[str, np.ndarray]:
    codes = jnp.zeros((1, config.id_dim), jnp.float32)
    drawn = LossProjections(config.feat_dim).init(jax.random.key(0), codes)["params"]
    return loss_to_torch({"loss_projections": drawn})


def _config(
    fields: Fields,
    network: UniversalFaceConfig,
    epoch: int,
    rates: dict[str, Any],
    scheduler: Mapping[str, Any],
) -> UniversalFaceRunConfig:
    """The run config that goes on as the original would, but for the loss projections."""
    args = fields.inner("args")
    rates = {"learning_rate": 1e-4, "weight_decay": 1e-5} | rates
    rates["learning_rate"] = args.get("lr", NonNegative, rates["learning_rate"])
    rates["weight_decay"] = args.get("weight_decay", NonNegative, rates["weight_decay"])
    schedule: dict[str, Any] = {"schedule": "constant", "min_learning_rate": 0.0}
    plateau = PlateauConfig()
    if scheduler:
        schedule, plateau = scheduler_config(scheduler, monitor="cosine_similarity")
    weights: dict[str, Any] = {name: args.get(name, float) for name in _LAMBDAS if name in args}
    # Programs from before the protection term could be weighed had 0.5 and no margin.
    adjusted = "lambda_similarity_protection" in args
    batch_size = args.get("batch_size", Count, 32)
    return UniversalFaceRunConfig(
        epochs=max(1, args.get("epochs", CountOrZero, 150), epoch),
        precision="float16" if args.get("use_mixed_precision", bool, False) else "float32",
        optim=OptimConfig(**rates, clip_norm=1.0, **schedule),
        plateau=plateau,
        model=network,
        pose_text_clip=FROM_CHECKPOINT if network.use_clip_pose_encoder else None,
        loss=LossConfig(
            **weights,
            lambda_similarity_protection=args.get("lambda_similarity_protection", float, 0.5),
            temperature=args.get("temperature", Positive, 0.07),
            protection_margin=0.01 if adjusted else 0.0,
        ),
        data=FaceDataConfig(
            batch_size=batch_size,
            eval_batch_size=batch_size,
            min_yaw_angle=args.get("min_yaw_angle", float, None),
            max_yaw_angle=args.get("max_yaw_angle", float, None),
        ),
    )


def _best(trained: Trained) -> dict[str, float]:
    """The metrics of the epoch with the best cosine so far; empty before the first validation."""
    entries = [
        entry["val"]
        for entry in trained.metadata["history"]
        if entry["step"] <= trained.step and entry["val"].get("cosine_similarity") is not None
    ]
    return max(entries, key=lambda val: val["cosine_similarity"], default={})


def _args(config: UniversalFaceRunConfig) -> dict[str, Any]:
    """The original's flags, as far as this run has them."""
    loss = config.loss
    return {
        "data_dir": config.data.path,
        "batch_size": config.data.batch_size,
        "num_workers": 4,
        **config.model.original_flags(),
        "epochs": config.epochs,
        "lr": config.optim.learning_rate,
        "weight_decay": config.optim.weight_decay,
        **{name: getattr(loss, name) for name in _LAMBDAS},
        "lambda_similarity_protection": loss.lambda_similarity_protection,
        "temperature": loss.temperature,
        "resume": None,
        "use_mixed_precision": config.precision == "float16",
        "min_yaw_angle": config.data.min_yaw_angle,
        "max_yaw_angle": config.data.max_yaw_angle,
    }
