"""The parts of a config that every recipe shares. Numbers carry their unit in the field's name."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from jaxrecipes.fields import (
    Checked,
    Count,
    CountOrZero,
    Fraction,
    NonNegative,
    Positive,
    Probability,
    Seed,
    Share,
    hparam,
)


def require(condition: bool, message: str) -> None:
    """Raises a ValueError with `message` unless `condition` holds; for the checks of config
    fields.
    """
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig(Checked):
    """The optimizer. Its numbers become schedules of the state; see `schedules` to vary one over
    the run.
    """

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """adamw decays weights apart from the gradient; adam and sgd add the decay to the gradient
    (L2)."""
    learning_rate: NonNegative = hparam(1e-3)
    """Base learning rate."""
    reference_batch_size: Count | None = None
    """Linear scaling: the rate is learning_rate * effective batch / this. None: learning_rate as it
    is."""
    weight_decay: NonNegative = hparam(1e-4)
    """Weight decay, on every parameter that no_decay does not name."""
    no_decay: tuple[str, ...] = ()
    """Regular expressions over parameter paths (a/b/c) that are not decayed."""
    b1: Share = hparam(0.9)
    """Adam's first moment decay."""
    b2: Share = hparam(0.999)
    """Adam's second moment decay."""
    eps: NonNegative = hparam(1e-8)
    """Adam's denominator offset."""
    momentum: Share = hparam(0.9)
    """SGD's momentum."""
    clip_norm: Positive | None = hparam(None)
    """Largest global gradient norm; None: no clipping."""
    accumulation_steps: Count = 1
    """Micro-batches of data.batch_size in one update."""
    frozen: tuple[str, ...] = ()
    """Regular expressions over parameter paths that are not trained."""
    learning_rate_factors: dict[str, NonNegative] = dataclasses.field(default_factory=dict)
    """Parameter groups: regular expression over paths -> factor on the learning rate; the first
    match wins."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LrScheduleConfig(Checked):
    """How the learning rate moves. Epoch-wise kinds change it between epochs, as the PyTorch
    schedulers do.
    """

    kind: Literal[
        "constant", "plateau", "cosine", "linear", "step", "exponential", "cyclic", "one_cycle"
    ] = "plateau"
    """cyclic and one_cycle move every step, linear needs warmup_ratio, the others move every epoch
    unless that is given."""
    warmup_ratio: Share | None = None
    """Share of the run's steps in which the rate rises from 0. With it constant, cosine, linear,
    step and cyclic move every step; cosine and linear reach their end with the run. None:
    warmup_epochs."""
    warmup_steps: CountOrZero | None = None
    """cosine: the same as warmup_ratio, counted in steps; in place of it."""
    num_cycles: Positive = 0.5
    """cosine with warmup_steps: how much of a whole cosine wave the rest of the run covers. 0.5
    ends at 0, less ends above it."""
    warmup_epochs: CountOrZero = 0
    """Epoch e of the first W runs at e / W of the rate; then the schedule begins. Not with cyclic
    or one_cycle."""
    warmup_learning_rate: NonNegative | None = None
    """The rate that the warm-up's first epoch runs at, from which it rises in equal steps to
    optim.learning_rate at epoch W + 1. None: e / W."""
    factor: Fraction = 0.5
    """plateau, step, exponential: what the rate is multiplied by."""
    patience_epochs: CountOrZero = 2
    """plateau: validations without improvement that are tolerated; the next one reduces the
    rate."""
    threshold: NonNegative = 1e-4
    """plateau: how much better counts as an improvement."""
    threshold_mode: Literal["rel", "abs"] = "rel"
    """plateau: threshold relative to the best value, or absolute."""
    cooldown_epochs: CountOrZero = 0
    """plateau: validations after a reduction that are not counted."""
    min_learning_rate: NonNegative = 0.0
    """plateau, cosine: the lowest rate."""
    eps: NonNegative = 1e-8
    """plateau: a change of the rate that is not larger is left out."""
    monitor: str = "loss"
    """plateau: the validation metric it watches; the EMA's when EMA is on. The train metric without
    a val split."""
    mode: Literal["min", "max"] = "min"
    """plateau: whether lower or higher is better."""
    period_epochs: Count | None = None
    """cosine: epochs down to the lowest rate (None: the rest of the run). step: epochs between
    steps (None: 10, or a third of the run with warmup_ratio)."""
    max_learning_rate: NonNegative | None = None
    """cyclic, one_cycle: the peak (None: 10 times the base rate); optim.learning_rate is the base
    of cyclic."""
    step_size_up: Count = 2000
    """cyclic: steps from base to peak, and as many down."""
    cyclic_mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    """cyclic: constant peaks, peaks halved each cycle, or peaks decayed by cyclic_gamma to the
    power of the step."""
    cyclic_gamma: Positive = 1.0
    """cyclic exp_range: decay per step."""
    cycle_momentum: bool = False
    """cyclic: move b1 (or SGD's momentum) from 0.9 to 0.8 and back against the rate, as PyTorch
    does by default."""
    peak_fraction: Probability = 0.3
    """one_cycle: where in the run the peak is."""

    def __post_init__(self):
        super().__post_init__()
        require(
            not (self.warmup_epochs and self.kind in ("cyclic", "one_cycle")),
            f"lr_schedule.warmup_epochs is {self.warmup_epochs}, but kind {self.kind!r} rises by "
            "itself; set it to 0",
        )
        ratio, steps = self.warmup_ratio, self.warmup_steps
        require(
            steps is None or (self.kind == "cosine" and ratio is None and not self.warmup_epochs),
            f"lr_schedule.warmup_steps is {steps}; it is for kind 'cosine' (got {self.kind!r}), "
            "without warmup_ratio and warmup_epochs",
        )
        by_step = ("constant", "cosine", "linear", "step", "cyclic")
        require(
            ratio is None or (self.kind in by_step and not self.warmup_epochs),
            f"lr_schedule.warmup_ratio is for the kinds {', '.join(by_step)} and takes the place "
            f"of warmup_epochs; got kind {self.kind!r} and warmup_epochs {self.warmup_epochs}",
        )
        require(
            ratio is not None or self.kind != "linear",
            "lr_schedule.kind 'linear' needs a warmup_ratio; give --lr_schedule.warmup_ratio 0",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmaConfig(Checked):
    """The exponential moving average of the weights."""

    enabled: bool = True
    """Keep it, validate with it, and use it for the best model, predict and export."""
    decay: Share = hparam(0.999, "ema_decay")
    """Share of the old average that each step keeps."""
    warmup: bool = True
    """Start with the decay min(decay, (1 + t) / (10 + t)), so that the first epochs are not the
    initial weights."""
    average_batch_stats: bool = True
    """Average the batch statistics too; otherwise the live ones go with the averaged weights."""


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
    """Steps in one call of the compiled program; more save dispatches and memory traffic. None: 8,
    or on CPU 1 for a step with convolutions, which are slow inside a loop there."""
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
    """How many of the best checkpoints are kept beside them."""
    max_skipped_in_row: Count = 20
    """Stop the run after this many steps in a row whose gradients were not finite."""
    keep_freed_memory: bool = False
    """On CPU, under glibc: keep what a call of the program has freed for the next one, rather than
    give it back to the system. Faster where a step uses hundreds of megabytes, slower where it is
    small."""
    aim_repo: str | None = None
    """Log to this Aim repository (a folder, or aim://HOST:PORT) as well, under the names of
    TensorBoard. None: off."""
    compilation_cache: str = "~/.cache/jaxrecipes/xla"
    """Folder of compiled programs, so that the next start is faster; empty: none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig(Checked):
    """Devices and processes. All devices share each global batch."""

    fsdp_devices: Count = 1
    """Over how many devices params, moments and averages are split; 1: each device holds them
    whole."""
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
    """Where the data lies. None: embedded data, made from the seed."""
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
    """Passes over the training data, in all (a resumed run goes on up to it)."""
    steps: Count | None = None
    """Optimizer steps in all; when given, it takes the place of epochs."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the network; params, statistics and averages stay float32. float16 adds a
    dynamic loss scale."""
    select_metric: str = "loss"
    """The validation metric that decides which checkpoint is best; the EMA's when EMA is on."""
    select_mode: Literal["min", "max"] = "min"
    """Whether lower or higher is better."""
    init_from: str | None = None
    """Folder of another run, whose best weights (averaged where it keeps them) a new run starts
    from, as far as paths and shapes agree. Optimizer, schedules and averages begin anew."""
    first_stage: dict[str, str] | None = None
    """Flag -> value, as on the command line: a run under these changes comes first, in
    WORKDIR/stage1, and this one starts from its best weights."""
    schedules: dict[str, str] = dataclasses.field(default_factory=dict)
    """Hyperparameter -> schedule over steps, in place of its constant, e.g. dropout_rate
    "delayed(0.3, start_step=2*epoch)". `epoch` and `run` stand for their numbers of steps."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    lr_schedule: LrScheduleConfig = dataclasses.field(default_factory=LrScheduleConfig)
    ema: EmaConfig = dataclasses.field(default_factory=EmaConfig)
    early_stopping: EarlyStoppingConfig = dataclasses.field(default_factory=EarlyStoppingConfig)
    loop: LoopConfig = dataclasses.field(default_factory=LoopConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        return self.steps if self.steps is not None else self.epochs * steps_per_epoch
