"""The parts of a config that all recipes share. The name of a field includes its unit."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from jaxrecipes.errors import shortened, unknown_name
from jaxrecipes.fields import (
    Checked,
    Count,
    CountOrZero,
    Fraction,
    Hparam,
    NonNegative,
    Positive,
    Seed,
    Share,
    hparam,
    shapes_schedules,
)
from jaxrecipes.schedules import check_text
from jaxrecipes.train.old_configs import upgraded

SCHEDULES = ("plateau", "constant", "cosine", "linear")
"""The words of `optim.schedule`."""


def require(condition: bool, message: str) -> None:
    """Raises a ValueError with `message` unless `condition` holds; for the checks of config
    fields.
    """
    if not condition:
        raise ValueError(message)


def _is_adam(optim: "OptimConfig") -> bool:
    return optim.optimizer != "sgd"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig(Checked):
    """The optimizer, and how the learning rate moves."""

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """adamw decays weights separately from the gradient; adam and sgd add the decay to the gradient
    (L2)."""
    learning_rate: Hparam[NonNegative] = hparam(1e-3, search=(0.1, 10.0), log=True, relative=True)
    """Base learning rate, to which `schedule` applies. A schedule here replaces `schedule` and its
    warm-up; a plateau still acts on it."""
    reference_batch_size: Count | None = None
    """Linear scaling: the rate is learning_rate * effective batch / this. None: no scaling."""
    schedule: str = shapes_schedules("plateau")
    """How the rate changes: plateau (see the fields of `plateau`), constant or cosine, between
    epochs like PyTorch's schedulers; with warmup_ratio cosine, linear or constant, at every step.
    Or a schedule in which `rate` stands for the learning rate, such as "one_cycle(10*rate,
    total_steps=run)"."""
    warmup_epochs: CountOrZero = 0
    """plateau, constant, cosine: epoch e of the first W runs at e / W of the rate."""
    warmup_ratio: Share | None = None
    """constant, cosine, linear: share of the run's steps in which the rate rises from 0; the
    schedule then changes at every step and ends with the run. None: warmup_epochs."""
    min_learning_rate: NonNegative = shapes_schedules(0.0)
    """plateau, cosine, linear: the lowest rate."""
    weight_decay: Hparam[NonNegative] = hparam(1e-4, search=(1e-6, 1e-2), log=True)
    """Weight decay of all parameters that no_decay does not match."""
    no_decay: tuple[str, ...] = ()
    """Regular expressions over parameter paths (a/b/c); matching parameters are not decayed."""
    b1: Hparam[Share] = hparam(0.9, when=_is_adam)
    """Adam's first moment decay."""
    b2: Hparam[Share] = hparam(0.999, when=_is_adam)
    """Adam's second moment decay."""
    eps: Hparam[NonNegative] = hparam(1e-8, when=_is_adam)
    """Adam's denominator offset."""
    momentum: Hparam[Share] = hparam(0.9, when=lambda optim: not _is_adam(optim))
    """SGD's momentum."""
    clip_norm: Hparam[Positive | None] = hparam(None)
    """Largest global gradient norm; None: no clipping."""
    accumulation_steps: Count = 1
    """Micro-batches of data.batch_size in one update."""
    frozen: tuple[str, ...] = ()
    """Regular expressions over parameter paths; matching parameters are not trained."""
    learning_rate_factors: dict[str, NonNegative] = dataclasses.field(default_factory=dict)
    """Parameter groups: regular expression over paths -> factor on the learning rate; the first
    match wins."""

    def __post_init__(self):
        super().__post_init__()
        word, epochs, ratio = self.schedule, self.warmup_epochs, self.warmup_ratio
        if word not in SCHEDULES:
            _check_rate_schedule(word)
            require(
                not epochs and ratio is None,
                f"optim.warmup_{'epochs' if epochs else 'ratio'} is for the schedules "
                f"{', '.join(SCHEDULES)}; say the warm-up in optim.schedule {shortened(word, 80)!r}"
                ", or leave it out (--optim.warmup_epochs 0 --optim.warmup_ratio None)",
            )
        require(
            ratio is None or (word != "plateau" and not epochs),
            "optim.warmup_ratio is for the schedules constant, cosine and linear, and takes the "
            f"place of warmup_epochs; got schedule {word!r} and warmup_epochs {epochs}",
        )
        require(
            ratio is not None or word != "linear",
            "optim.schedule 'linear' moves every step and needs a warmup_ratio; give "
            "--optim.warmup_ratio 0",
        )


def _check_rate_schedule(text: str) -> None:
    """Raises a ValueError unless `optim.schedule` holds a word, or a schedule."""
    if text.isidentifier() and text != "rate":
        raise unknown_name("optim.schedule", text, SCHEDULES)
    try:
        check_text(text, ("epoch", "rate", "run"))
    except ValueError as error:
        raise ValueError(f"optim.schedule: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlateauConfig(Checked):
    """optim.schedule plateau: when the learning rate is reduced, as by torch's
    ReduceLROnPlateau.
    """

    factor: Fraction = 0.5
    """Factor by which the rate is multiplied."""
    patience_epochs: CountOrZero = 2
    """Validations without improvement that are tolerated; the next one reduces the rate."""
    threshold: NonNegative = 1e-4
    """How much better counts as an improvement."""
    threshold_mode: Literal["rel", "abs"] = "rel"
    """Threshold relative to the best value, or absolute."""
    cooldown_epochs: CountOrZero = 0
    """Validations after a reduction that are not counted."""
    eps: NonNegative = 1e-8
    """A change of the rate that is not larger than this is skipped."""
    monitor: str = "loss"
    """The validation metric it watches; the EMA's when EMA is on. The train metric without a val
    split."""
    mode: Literal["min", "max"] = "min"
    """Whether lower or higher is better."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmaConfig(Checked):
    """The exponential moving average of the weights."""

    enabled: bool = True
    """Keep it, validate with it, and use it for the best model, predict and export."""
    decay: Hparam[Share] = hparam(0.999, name="ema_decay", when=lambda ema: ema.enabled)
    """Share of the old average that each step keeps."""
    warmup: bool = True
    """Start with the decay min(decay, (1 + t) / (10 + t)), so that the first epochs are not the
    initial weights."""
    average_batch_stats: bool = True
    """Average the batch statistics too; otherwise the live ones go with the averaged weights."""


def _is_learned(weighting: "LossWeightingConfig") -> bool:
    return weighting.kind != "fixed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossWeightingConfig(Checked):
    """How the terms of the loss are balanced; see `jaxrecipes.losses.LossWeighting`."""

    kind: Literal["fixed", "uncertainty", "gradnorm"] = "fixed"
    """fixed: by the weights of `loss` alone. Otherwise each weight is multiplied by a factor that
    is learned, from the losses (uncertainty) or from the norms of their gradients (gradnorm, a
    backward pass for each term). What is selected and monitored is the loss under the weights of
    `loss`, so that it can be compared over a run and between runs."""
    learning_rate: Hparam[NonNegative] = hparam(
        0.01, name="loss_weighting_rate", search=(1e-3, 1e-1), log=True, when=_is_learned
    )
    """Adam's rate for the factors."""
    alpha: Hparam[NonNegative] = hparam(
        1.5,
        name="loss_weighting_alpha",
        search=(0.0, 3.0),
        when=lambda weighting: weighting.kind == "gradnorm",
    )
    """gradnorm: how strongly terms that fall slowly are pulled along; 0: equal norms."""
    shared: tuple[str, ...] = ()
    """gradnorm: regular expressions over paths of the parameters whose gradients are compared, such
    as the last layer that all terms share. None: all that are trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig(Checked):
    """When to stop before the last epoch."""

    patience_epochs: CountOrZero | None = None
    """Validations without improvement before the run stops; None: never."""
    min_delta: NonNegative = 0.0
    """How much better counts as an improvement."""
    monitor: str = "loss"
    """The validation metric that is watched; the EMA's when EMA is on."""
    mode: Literal["min", "max"] = "min"
    """Whether lower or higher is better."""
    save_stopping_epoch: bool = True
    """Let the epoch that stops the run be the best one (a gain below min_delta can stop and be best
    at once)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig(Checked):
    """The training loop."""

    steps_per_call: Count | None = None
    """Steps per call of the compiled program; more save dispatches and memory traffic. None: 8, or
    on CPU 1 for a step with convolutions, which are slow inside a loop there."""
    log_every_steps: Count = 50
    """How often the step's numbers go to TensorBoard and to the progress line."""
    validate_every_steps: Count | None = None
    """Steps from one validation and its checkpoint to the next, which then count as an epoch. None:
    as many as a pass over the training data has."""
    checkpoint_every_steps: Count | None = None
    """Save between validations too. None: only after each validation."""
    keep_latest: Count = 2
    """How many of the newest checkpoints are kept."""
    keep_best: Count = 1
    """How many of the best checkpoints are kept in addition."""
    max_skipped_in_row: Count = 20
    """Stop the run after this many steps in a row whose gradients were not finite."""
    keep_freed_memory: bool = False
    """On CPU, under glibc: keep memory that a call of the program has freed for the next call,
    instead of returning it to the system. Faster where a step uses hundreds of megabytes, slower
    where it is small."""
    aim_repo: str | None = None
    """Log to this Aim repository (a folder, or aim://HOST:PORT) as well, under the names of
    TensorBoard. None: off."""
    compilation_cache: str = "~/.cache/jaxrecipes/xla"
    """Folder for compiled programs, so that the next start is faster; empty: none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig(Checked):
    """Devices and processes. All devices share each global batch."""

    fsdp_devices: Count = 1
    """Number of devices over which params, moments and averages are split; 1: each device holds all
    of them."""
    coordinator_address: str | None = None
    """HOST:PORT of process 0, when several processes train together."""
    num_processes: Count | None = None
    """How many processes."""
    process_id: CountOrZero | None = None
    """Which one this is, from 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Checked):
    """Where the data comes from, and how it is batched. Recipes add their own fields."""

    path: str | None = None
    """Path of the data. None: synthetic data, generated from the seed."""
    seed: Seed | None = None
    """Seeds synthetic data. None: the run's seed, so that another seed brings other data."""
    batch_size: Count = 128
    """Global batch: examples of all devices together, in one micro-batch."""
    eval_batch_size: Count = 512
    """Global batch of validation and test."""
    val_examples_per_pass: Count | None = None
    """Validate on this many examples, other ones each time (drawn from the seed and the step).
    None: on all, always the same."""
    placement: Literal["auto", "device", "stream"] = "auto"
    """Examples on the device, or streamed from the host. auto: on the device while they fit."""
    stream_threads: Annotated[int, Interval(ge=1, le=1024)] = 4
    """Threads that read streamed batches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(Checked):
    """What every recipe's config starts from; a recipe's own sets `RECIPE`, its name, and the type
    of `data`.
    """

    RECIPE: ClassVar[str]

    seed: Seed = 42
    """Seeds the initial weights, the order of the data, augmentation and dropout."""
    epochs: Count = 30
    """Passes over the training data in total (including those before a run was resumed)."""
    steps: Count | None = None
    """Optimizer steps in total; if given, it replaces epochs."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the network; params, statistics and averages stay float32. float16 adds a
    dynamic loss scale."""
    attention: Literal["auto", "plain", "recomputed", "cudnn"] = "auto"
    """How attention is computed. plain keeps all probabilities for the backward pass; recomputed
    computes them twice and keeps none; cudnn is NVIDIA's fused kernel, for bfloat16 and float16.
    auto: plain on CPUs, cudnn on NVIDIA GPUs, recomputed on others and wherever cudnn does not
    apply (float32, dropout of the probabilities)."""
    remat: bool = False
    """Compute the inside of each transformer block anew in the backward pass: less memory for about
    a third more work, and the same numbers."""
    select_metric: str = "loss"
    """The validation metric that decides which checkpoint is best; the EMA's when EMA is on."""
    select_mode: Literal["min", "max"] = "min"
    """Whether lower or higher is better."""
    init_from: str | None = None
    """Folder of another run, from whose best weights (averaged if it keeps them) a new run starts,
    where paths and shapes match. Optimizer, schedules and averages begin anew."""
    first_stage: dict[str, str] | None = None
    """Flag -> value, as on the command line: a run under these changes comes first, in
    WORKDIR/stage1, and this one starts from its best weights."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    plateau: PlateauConfig = dataclasses.field(default_factory=PlateauConfig)
    ema: EmaConfig = dataclasses.field(default_factory=EmaConfig)
    early_stopping: EarlyStoppingConfig = dataclasses.field(default_factory=EarlyStoppingConfig)
    loss_weighting: LossWeightingConfig = dataclasses.field(default_factory=LossWeightingConfig)
    loop: LoopConfig = dataclasses.field(default_factory=LoopConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)

    @property
    def data_seed(self) -> int:
        """What synthetic data is drawn from."""
        return self.seed if self.data.seed is None else self.data.seed

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        return self.steps if self.steps is not None else self.epochs * steps_per_epoch

    @classmethod
    def upgraded(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """What an earlier version stored, as this one stores it."""
        return upgraded(cls, stored)


def check_monitored(config: RunConfig, *, lower: Collection[str], higher: Collection[str]) -> None:
    """Checks select_metric, and what the plateau and early stopping watch where they are on.

    Args:
      config: the config.
      lower: metrics of the recipe that are better lower.
      higher: metrics of the recipe that are better higher.

    Raises:
      ValueError: a metric that the recipe does not have (names the nearest), or one whose better
        end is the other one.
    """
    for field, mode_field, name, mode in watched_metrics(config):
        if name not in (*lower, *higher):
            raise unknown_name(f"metric in {field}", name, (*lower, *higher))
        better = "min" if name in lower else "max"
        if mode != better:
            raise ValueError(
                f"{field} is {name!r} with {mode_field} {mode!r}, which prefers the worst; "
                f"give --{mode_field} {better}"
            )


def watched_metrics(config: RunConfig) -> list[tuple[str, str, str, str]]:
    """What the config selects by, and what the plateau and early stopping watch where they are on.

    Returns:
      (field, field of the mode, metric, mode) of each.
    """
    plateau, stopping = config.plateau, config.early_stopping
    watched: list[tuple[str, str, str, str]]
    watched = [("select_metric", "select_mode", config.select_metric, config.select_mode)]
    if config.optim.schedule == "plateau":
        watched.append(("plateau.monitor", "plateau.mode", plateau.monitor, plateau.mode))
    if stopping.patience_epochs is not None:
        fields = "early_stopping.monitor", "early_stopping.mode"
        watched.append((*fields, stopping.monitor, stopping.mode))
    return watched
