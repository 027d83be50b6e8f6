"""Evaluating and predicting with a trained model."""

import dataclasses

import jax
import numpy as np

from jaxrecipes.data.examples import Examples
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.sharding import make_mesh, replicated
from jaxrecipes.train.evaluate import EvalProgram, Evaluation
from jaxrecipes.train.run_data import make_split


def evaluate(trained: Trained, examples: Examples, *weights: Weights) -> list[Evaluation]:
    """Metrics and outputs of one split with each of several kinds of weights, on all local
    devices.
    """
    mesh = make_mesh()
    data = trained.config.data
    batch_size = -(-min(data.eval_batch_size, len(examples)) // mesh.size) * mesh.size
    split = make_split(examples.arrays, mesh, batch_size, data.placement)
    program = EvalProgram(trained.recipe, mesh=mesh)
    hparams = jax.device_put(trained.hparams, replicated(mesh))
    loss_hparams = jax.device_put(trained.final_hparams, replicated(mesh))
    results = []
    for which in weights:
        params, batch_stats = jax.device_put(trained.weights(which), replicated(mesh))
        results.append(
            program(
                params,
                batch_stats,
                split,
                hparams=hparams,
                loss_hparams=loss_hparams,
                pass_metrics=trained.recipe.pass_metrics,
            )
        )
    return results


def evaluate_all(trained: Trained, examples: Examples) -> dict[str, float]:
    """Metrics of the raw weights, and of the averaged ones as `NAME_ema` if the run keeps them."""
    kinds: list[Weights] = ["raw", "ema"] if trained.recipe.ema else ["raw"]
    suffixes = ["", "_ema"]
    return {
        f"{name}{suffix}": value
        for suffix, result in zip(suffixes, evaluate(trained, examples, *kinds), strict=False)
        for name, value in result.metrics.items()
    }


def split_of(trained: Trained, name: str) -> Examples:
    """One split of the data to evaluate a model on: "train", "val" or "test".

    Raises:
      ValueError: there is no such split.
    """
    splits = trained.module.load_data(
        trained.config, report_dir=None, train=name == "train", run_dir=trained.folder
    )
    if name not in splits:
        there = ", ".join(splits) or "none to evaluate"
        raise ValueError(f"the data has no {name} split; it has {there}")
    return splits[name]


def with_data_path(trained: Trained, path: str | None) -> Trained:
    """The same model with other data; None keeps the data that it was trained on."""
    if path is None:
        return trained
    data = trained.config.data
    # Some recipes have a separate path for validation, which belongs to the run's data.
    elsewhere = {"val_path": None} if hasattr(data, "val_path") else {}
    data = dataclasses.replace(data, path=path, **elsewhere)
    config = dataclasses.replace(trained.config, data=data)
    return dataclasses.replace(
        trained, config=config, folder=None
    )  # a recorded split is for the run's own data


def as_json(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics for strict JSON: non-finite values become null."""
    return {name: float(value) if np.isfinite(value) else None for name, value in metrics.items()}
