"""A run for Python and notebooks: `load_run("runs/x")`."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np

from jaxrecipes.files import read_json
from jaxrecipes.paths import check_output_file, user_path
from jaxrecipes.runs import exports, inference
from jaxrecipes.runs.trained import Trained, Weights, open_trained


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A trained model and the run that it comes from.

    Attributes:
      folder: of the run.
      trained: the checkpoint with its whole training state.
      which: the weights that are used: "auto" takes the averaged ones if the run keeps them.
    """

    folder: pathlib.Path
    trained: Trained
    which: Weights = "auto"

    @property
    def config(self) -> Any:
        """The recipe's config, a frozen dataclass."""
        return self.trained.config

    @property
    def step(self) -> int:
        """The optimizer step of the checkpoint."""
        return self.trained.step

    @property
    def params(self) -> dict[str, Any]:
        """The network's parameters, nested dicts of arrays."""
        return self.trained.weights(self.which)[0]

    @property
    def batch_stats(self) -> dict[str, Any]:
        """Batch statistics and other arrays that are not trained, nested dicts."""
        return self.trained.weights(self.which)[1]

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The entries of `history.json`, one per epoch, up to the checkpoint."""
        return [e for e in self.trained.metadata["history"] if e["step"] <= self.step]

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The validation metrics of the run's best epoch, as `summary.json` has them; of the
        checkpoint's own epoch while the run is not finished, or for another checkpoint.
        """
        summary = self.folder / "summary.json"
        if summary.is_file() and (best := read_json(summary)["best"])["step"] == self.step:
            return best
        return dict(self.history[-1]["val"]) if self.history else {}

    def evaluate(self, split: str = "val", *, data: str | None = None) -> dict[str, float]:
        """Metrics of a split, of raw weights and as `NAME_ema` of averaged ones.

        Args:
          split: "train", "val" or "test".
          data: `data.path` of other data; None: the run's own.

        Raises:
          ValueError: there is no such split.
        """
        trained = inference.with_data_path(self.trained, data)
        return inference.evaluate_all(trained, inference.split_of(trained, split))

    def predict(self, *inputs: Any) -> dict[str, Any]:
        """Predictions for files, or for arrays.

        Args:
          *inputs: files and folders, as `jaxrecipes predict --inputs` takes them; or one mapping of
            arrays by name, `[B, ...]` each, or one array where the network has a single input:
            what an exported file takes.

        Returns:
          for files the columns that `jaxrecipes predict` writes, as lists; for arrays the outputs
          of an exported file, as numpy arrays `[B, ...]`.
        """
        if all(isinstance(x, str | pathlib.Path) for x in inputs):
            return self._predict_files([user_path(x) for x in inputs])
        if len(inputs) != 1:
            raise ValueError("predict takes paths, or an array, or a mapping of arrays")
        outputs = self._deployed(_by_name(inputs[0], list(self._deployed.inputs)))
        return {name: np.asarray(value) for name, value in outputs.items()}

    def export(
        self,
        path: str | pathlib.Path,
        *,
        format: Literal["onnx", "stablehlo", "safetensors"] = "onnx",
        opset: int = 17,
    ) -> str:
        """Writes the model as a file for other programs; returns a sentence about it.

        Raises:
          ValueError: the file cannot be written there.
          ImportError: the packages for ONNX are not installed.
        """
        target = user_path(path)
        check_output_file(target)
        return exports.export(self.trained, target, format, weights=self.which, opset=opset)

    def export_torch(self, path: str | pathlib.Path) -> None:
        """Writes a checkpoint that the original program loads."""
        target = user_path(path)
        check_output_file(target)
        self.trained.module.export_torch(self.trained, target, weights=self.which)

    def _predict_files(self, paths: Sequence[pathlib.Path]) -> dict[str, Any]:
        examples = self.trained.module.load_inputs(self.trained, paths)
        (result,) = inference.evaluate(self.trained, examples, self.which)
        columns = self.trained.module.prediction_columns(self.config, examples, result.outputs)
        return {name: list(values) for name, values in columns.items()}

    @cached_property
    def _deployed(self) -> "_Compiled":
        return _Compiled(self.trained, self.which)


class _Compiled:
    """The function of an exported file, compiled once for each size of batch."""

    def __init__(self, trained: Trained, which: Weights):
        deployed = trained.module.deployed(trained)
        params, batch_stats = trained.weights(which)
        variables = {"params": params, "batch_stats": batch_stats}
        self.inputs = deployed.inputs
        self._run = jax.jit(lambda inputs: deployed.function(variables, inputs))

    def __call__(self, arrays: Mapping[str, Any]) -> Mapping[str, jax.Array]:
        return self._run({n: np.asarray(a, self.inputs[n].dtype) for n, a in arrays.items()})


def load_run(
    folder: str | pathlib.Path,
    *,
    step: int | Literal["best", "latest"] = "best",
    weights: Weights = "auto",
) -> LoadedRun:
    """Opens a run's folder.

    Args:
      folder: of the run (`--workdir`).
      step: the best checkpoint by the run's own measure, the newest, or that of a step.
      weights: "raw", "ema", or "auto": the averaged ones if the run keeps them.

    Raises:
      ValueError: there is no checkpoint, or it is one that this version does not know.
      CheckpointCorrupt: it is damaged.
    """
    trained = open_trained(folder, step=step)
    trained.weights(weights)  # so that errors are reported now
    assert trained.folder is not None
    return LoadedRun(trained.folder, trained, weights)


def _by_name(given: Any, names: list[str]) -> Mapping[str, Any]:
    arrays = given if isinstance(given, Mapping) else {names[0]: given}
    if set(arrays) != set(names) or (len(names) > 1 and arrays is not given):
        raise ValueError(f"predict takes arrays named {', '.join(names)}; got {[*arrays]}")
    return arrays
