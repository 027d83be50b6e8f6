"""What the step, the loop and the evaluation know of a recipe: pure functions and plain numbers,
nothing else.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import optax

from jaxrecipes.data.examples import Examples
from jaxrecipes.errors import unknown_name
from jaxrecipes.losses import LossWeighting
from jaxrecipes.losses.composite import term_names
from jaxrecipes.plateau import EarlyStopping, ReduceLROnPlateau
from jaxrecipes.precision import LossScale
from jaxrecipes.schedules import Schedule
from jaxrecipes.train.apply_fn import ApplyFn, Hparams, Tree, linen_apply, linen_init
from jaxrecipes.train.build import build_optimizer, shared_parts
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.hparams import collect


@dataclasses.dataclass(frozen=True)
class RecipeFile:
    """The source of a recipe that is a single file; a run keeps a copy of it."""

    name: str
    content: bytes = dataclasses.field(repr=False)

    @property
    def digest(self) -> str:
        """What the content is recognised by."""
        return hashlib.sha256(self.content).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What a recipe is told of the data that it is made for.

    Attributes:
      steps_per_epoch: optimizer steps between two validations; `epoch` in schedules.
      train: the training split, for statistics such as class weights; None where a stored run is
        opened without its data.
      example: shape and dtype of one example of each array; None for a run that did not store it.
    """

    steps_per_epoch: int
    train: Examples | None = None
    example: Mapping[str, jax.ShapeDtypeStruct] | None = None

    @classmethod
    def of(cls, train: Examples, *, steps_per_epoch: int) -> "DataInfo":
        """Of a training split."""
        example = {
            name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
            for name, array in train.arrays.items()
        }
        return cls(steps_per_epoch=steps_per_epoch, train=train, example=example)

    @classmethod
    def stored(cls, metadata: Mapping[str, Any]) -> "DataInfo":
        """Of a checkpoint; see `example_as_json`."""
        example = metadata.get("example")
        if example is not None:
            example = {
                name: jax.ShapeDtypeStruct(tuple(one["shape"]), one["dtype"])
                for name, one in example.items()
            }
        return cls(steps_per_epoch=metadata["steps_per_epoch"], example=example)


def example_as_json(
    example: Mapping[str, jax.ShapeDtypeStruct] | None,
) -> dict[str, dict[str, Any]] | None:
    """What a checkpoint stores of `DataInfo.example`."""
    if example is None:
        return None
    return {
        name: {"shape": list(one.shape), "dtype": str(one.dtype)} for name, one in example.items()
    }


Batch = dict[str, jax.Array]
PassMetrics = Callable[[Any, Mapping[str, Any]], dict[str, float]]
Pretrained = Callable[[Tree, Tree], tuple[Tree, Tree]]


def _no_augmentation(key: jax.Array, batch: Batch, hparams: Hparams) -> Batch:
    del key, hparams
    return batch


def _as_stored(batch: Batch) -> Batch:
    return batch


def _no_metrics(outputs: Any, batch: Batch, hparams: Hparams) -> dict[str, Any]:
    del outputs, batch, hparams
    return {}


def _all_outputs(outputs: Any, batch: Batch) -> Any:
    del batch
    return outputs


def _same_tag(name: str) -> str:
    return name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A later part of a run, in which other parameters are frozen.

    Attributes:
      first_step: the step that it begins with.
      frozen: its rules, in place of those of `Recipe.frozen`.
      restart: moments begin anew for all parameters (and the learning rate too where
        `hparams.collect` is given the step). Otherwise those that go on training keep theirs, and
        those that are released begin with none and their own count of updates.
    """

    first_step: int
    frozen: tuple[str, ...]
    restart: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training recipe as the generic step sees it.

    Attributes:
      name: the recipe's name, stored with every checkpoint.
      file: the recipe's own file, if it is a single one; None for those of a package.
      example: shape and dtype of one example of each array, stored with every checkpoint.
      init: `key -> (params, batch_stats)`, nested dicts of float32 arrays.
      pretrained: shapes of `(params, batch_stats)` -> host arrays, nested dicts with some of their
        paths, that a new run starts from in place of those that `init` draws. Called once a run,
        and not when one goes on.
      apply_fn: the network; see `ApplyFn`.
      inputs: `batch -> inputs` of the network (normalisation lives here).
      loss_terms: `(outputs, batch, hparams) -> {name: [B] or scalar}`; the step weighs them by
        `loss_weight/NAME`.
      metrics: `(outputs, batch, hparams) -> {name: metric}`; metrics are pytrees that add up over
        batches, and whose `compute()` gives a scalar (logged under its name) or a dict of scalars.
        `batch["mask"]` is there in evaluation.
      hparams: every hyperparameter's schedule. They become leaves of the state.
      make_tx: `hparams -> optax.GradientTransformation`, called inside the step.
      augment: `(key, batch, hparams) -> batch`, inside the step, on each micro-batch.
      preprocess: `batch -> batch`, what evaluation does in place of `augment`.
      predictions: `(outputs, batch) -> pytree of [B, ...]`: what is kept of an evaluation pass, for
        `pass_metrics`, reports and predictions.
      pass_metrics: `(outputs, arrays) -> {metric name: float}` on the host: metrics of a whole
        evaluation pass (AUC).
      frozen: regular expressions over parameter paths; a match gets no gradient, no moments and no
        decay. Of a recipe with later stages it is what the first one freezes.
      later_stages: progressive unfreezing: what is frozen from which step on, in order. Each stage
        has a step program of its own.
      loss_weighting: learned factors on the weights of `loss_terms`, or None.
      attention: how the library's attention is computed, see `attention_form`; "auto": as suits the
        devices and the dtype.
      remat: keep of each block of the network its inputs alone for the backward pass, see
        `remat_blocks`.
      accumulation_steps: micro-batches in one update; with more than one, batch leaves are `[steps,
        B, ...]`.
      ema: keep averaged parameters. `hparams["ema_decay"]` is the decay.
      ema_warmup: start the average with the decay min(decay, (1 + t) / (10 + t)).
      ema_batch_stats: average batch statistics as well; otherwise the live ones go with the
        averaged parameters.
      loss_scale: dynamic loss scale of float16 training, or None.
      keep_scale_on_nonfinite_loss: a step whose loss itself is not finite is skipped without
        lowering the loss scale, as by programs that leave such a batch out before its backward
        pass; otherwise it counts as an overflow, as in PyTorch's GradScaler.
      plateau, early_stopping: stepped once per validation, or None.
      warmup_steps: the plateau sees no validation up to this step, and starts from the learning
        rate at it.
      tag: `name -> name` of what goes to TensorBoard: `train/...` and `hparams/...` of a step,
        `epoch/...` means of an epoch, `val/...` and `test/...`.
      step_metrics: metrics that are also logged for a single step, beside the loss.
      log_line: `(step, steps of the run, what the step logged) -> message`, logged every
        `loop.log_every_steps`; None: the progress line alone shows them.
    """

    name: str = ""
    init: Callable[[jax.Array], tuple[Tree, Tree]]
    apply_fn: ApplyFn
    inputs: Callable[[Batch], Any]
    loss_terms: Callable[[Any, Batch, Hparams], dict[str, jax.Array]]
    hparams: Mapping[str, Schedule]
    make_tx: Callable[[Hparams], optax.GradientTransformation]
    metrics: Callable[[Any, Batch, Hparams], dict[str, Any]] = _no_metrics
    augment: Callable[[jax.Array, Batch, Hparams], Batch] = _no_augmentation
    preprocess: Callable[[Batch], Batch] = _as_stored
    predictions: Callable[[Any, Batch], Any] = _all_outputs
    pass_metrics: PassMetrics | None = None
    pretrained: Pretrained | None = None
    frozen: tuple[str, ...] = ()
    later_stages: tuple[Stage, ...] = ()
    loss_weighting: LossWeighting | None = None
    attention: Literal["auto", "plain", "recomputed", "cudnn"] = "auto"
    remat: bool = False
    accumulation_steps: int = 1
    ema: bool = False
    ema_warmup: bool = False
    ema_batch_stats: bool = True
    loss_scale: LossScale | None = None
    keep_scale_on_nonfinite_loss: bool = False
    plateau: ReduceLROnPlateau | None = None
    early_stopping: EarlyStopping | None = None
    warmup_steps: int = 0
    tag: Callable[[str], str] = _same_tag
    step_metrics: tuple[str, ...] = ()
    log_line: Callable[[int, int, Mapping[str, float]], str] | None = None
    file: RecipeFile | None = None
    example: Mapping[str, jax.ShapeDtypeStruct] | None = None

    def __post_init__(self):
        if self.loss_weighting is not None:
            self.loss_weighting.init(term_names(self.hparams))  # refuses a loss of a single term
        starts = [0, *(stage.first_step for stage in self.later_stages)]
        if starts != sorted(set(starts)):
            raise ValueError(
                f"later_stages begin at the steps {starts[1:]}; expected ascending steps above 0"
            )

    @classmethod
    def from_config(
        cls,
        config: RunConfig,
        data: DataInfo,
        *,
        hparams: Mapping[str, Schedule] | None = None,
        **fields: Any,
    ) -> "Recipe":
        """A recipe that takes optimizer, averages, plateau and such from the config.

        Args:
          config: of the run.
          data: what is known of its data.
          hparams: every hyperparameter's schedule; None: those that the config's fields declare.
          **fields: of the recipe; they come before what the config says.
        """
        if hparams is None:
            hparams = collect(config, data.steps_per_epoch)
        made: dict[str, Any] = {
            "name": getattr(config, "RECIPE", ""),
            "hparams": hparams,
            "make_tx": build_optimizer(config.optim),
        }
        made |= shared_parts(config, data.steps_per_epoch) | fields
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in fields.keys() - known.keys():
            raise unknown_name("field of a Recipe", name, known)
        for name in known.keys() - made.keys():
            if known[name].default is dataclasses.MISSING:
                raise ValueError(f"a Recipe needs {name}; see jaxrecipes.train.Recipe")
        return cls(**made)

    @classmethod
    def from_linen(
        cls,
        model: nn.Module,
        config: RunConfig,
        data: DataInfo,
        *,
        inputs: Callable[[Batch], Any],
        example: Any = None,
        fixed: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> "Recipe":
        """The recipe of a Linen network, see `from_config`.

        In training, an argument of the network's call that is called like a hyperparameter is
        given its value.

        Args:
          model: called as `model(inputs, train=...)`, or as `model(inputs)` where training and
            evaluation are alike.
          config: of the run.
          data: what is known of its data.
          inputs: `batch -> inputs` of the network.
          example: shapes and dtypes of inputs; None: what `inputs` makes of two examples.
          fixed: further arguments of the call in training.
          **fields: as of `from_config`.
        """

        def init(key: jax.Array) -> tuple[Tree, Tree]:
            return linen_init(model, _two_inputs(data, inputs) if example is None else example)(key)

        return cls.from_config(
            config,
            data,
            init=init,
            apply_fn=linen_apply(model, fixed=fixed),
            inputs=inputs,
            **fields,
        )

    def stages(self, step: int, end: int) -> list[tuple[Stage, int]]:
        """The stage that `step` is in and those that follow up to `end`, each with its own end."""
        stages = [Stage(first_step=0, frozen=self.frozen), *self.later_stages]
        ends = [*(stage.first_step for stage in self.later_stages), max(end, step + 1)]
        return [
            (stage, min(stage_end, end))
            for stage, stage_end in zip(stages, ends, strict=True)
            if stage_end > step and stage.first_step < max(end, step + 1)
        ]

    def stage_at(self, step: int) -> "Recipe":
        """The recipe of the stage that `step` is in: what it freezes, and no later stages."""
        passed = [stage.frozen for stage in self.later_stages if stage.first_step <= step]
        frozen = passed[-1] if passed else self.frozen
        return dataclasses.replace(self, frozen=frozen, later_stages=())


def _two_inputs(data: DataInfo, inputs: Callable[[Batch], Any]) -> Any:
    """Shapes and dtypes of what the network sees of two examples."""
    if data.example is None:
        raise ValueError(
            "nothing is known of the shape of the examples; give `example` to Recipe.from_linen, "
            "or `DataInfo.example`"
        )
    batch = {
        name: jax.ShapeDtypeStruct((2, *one.shape), one.dtype) for name, one in data.example.items()
    }
    return jax.eval_shape(inputs, batch)
