"""Calls of losses, metrics, optimizers, schedules and states by name, each of one dict of arrays.

A call's name begins with the function's, and what follows a colon says which options it has.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numeric_inputs import key_of, with_gradient

from jaxrecipes import ema, losses, metrics, optim
from jaxrecipes import schedules as s
from jaxrecipes.models.hand.procedural import procedural_hand
from jaxrecipes.plateau import EarlyStopping, ReduceLROnPlateau
from jaxrecipes.precision import LossScale, Policy
from jaxrecipes.recipes.hand_pose import joint_errors
from jaxrecipes.recipes.hand_pose import losses as hand
from jaxrecipes.rng import stream_key

LOSSES = {
    "absolute": with_gradient(losses.absolute, "x"),
    "angle_triplet": with_gradient(
        lambda x, person, angles, mask: losses.angle_triplet(
            x, person, angles, features_original=2.0 * x, mask=mask
        ),
        *("x", "person", "angles", "mask"),
    ),
    "angle_triplets": lambda a: losses.angle_triplets(a["x"], a["person"], a["angles"]),
    "bce_with_logits": with_gradient(losses.bce_with_logits, "logits", "labels"),
    "composite_loss": lambda a: losses.composite_loss(
        {"one": a["logits"], "two": a["logits"].sum()},
        {"loss_weight/one": 0.5, "loss_weight/two": jnp.float32(2)},
        mask=a["mask"],
    ),
    "composite_loss: a mask of bools": lambda a: losses.composite_loss(
        {"one": a["logits"]}, {"loss_weight/one": 1.0}, mask=a["mask"] > 0
    ),
    "cosine_loss": with_gradient(losses.cosine_loss, "x", "y"),
    "cosine_similarity": with_gradient(losses.cosine_similarity, "x", "y"),
    "difficulty_weights": lambda a: losses.difficulty_weights(
        jnp.tanh(a["logits"]), a["angles"][:, 0], focal_gamma=0.5, angle_kappa=1.0, mask=a["mask"]
    ),
    "focal_label_smooth_ce": with_gradient(
        lambda x, y: losses.focal_label_smooth_ce(x, y, smoothing=0.05, gamma=2.0),
        "logits",
        "labels",
    ),
    "focal_label_smooth_ce: two logits": with_gradient(
        lambda x, y: losses.focal_label_smooth_ce(x, y, smoothing=0.0, gamma=0.5), "pairs", "labels"
    ),
    "gaussian_target": lambda a: losses.gaussian_target(
        a["x"], jnp.linspace(-1, 1, 5, dtype=jnp.float32), sigma=0.5
    ),
    "heatmap_cross_entropy": with_gradient(
        lambda x: losses.heatmap_cross_entropy(
            jax.nn.log_softmax(x), x[..., 0], jnp.arange(6, dtype=jnp.float32), sigma=0.5
        ),
        "x",
    ),
    "id_similarity": with_gradient(losses.id_similarity, "x", "y"),
    "info_nce": with_gradient(
        lambda x, y, m: losses.info_nce(x, y, temperature=0.1, mask=m), "x", "person", "mask"
    ),
    "info_nce: without itself": with_gradient(
        lambda x, y: losses.info_nce(x, y, temperature=0.1, exclude_self=True), "x", "person"
    ),
    "mean_squared_error": with_gradient(losses.mean_squared_error, "x", "y"),
    "mixed_loss": with_gradient(
        lambda x, y: losses.mixed_loss(losses.bce_with_logits, x, y, 1 - y, jnp.float32(0.3)),
        *("logits", "labels"),
    ),
    "orthogonality": with_gradient(losses.orthogonality, "x", "y"),
    "pose_bin": lambda a: losses.pose_bin(a["angles"], 36),
    "pose_consistency": with_gradient(losses.pose_consistency, "x", "prototypes", "angles"),
    "pose_l1": with_gradient(losses.pose_l1, "x", "y"),
    "prob_open": lambda a: losses.prob_open(a["logits"]),
    "prob_open_from_focal": lambda a: losses.prob_open_from_focal(a["logits"]),
    "reconstruction": with_gradient(losses.reconstruction, "x", "y"),
    "robust_l1": with_gradient(lambda x: losses.robust_l1(x, delta=0.5), "x"),
    "similarity_protection": with_gradient(
        lambda x, y: losses.similarity_protection(2.0 + x, x, y, margin=0.01), "x", "y"
    ),
    "unit": with_gradient(losses.unit, "x"),
}


def _hand_terms(a, **options):
    model, clips = procedural_hand(), a["clips"]
    predictions = hand.hand_predictions(model, a["outputs"], clips)
    centers = [jnp.linspace(-1.0, 1.0, 4, dtype=jnp.float32)] * 3
    return hand.hand_terms(a["outputs"], predictions, clips, centers=centers, **options)


def _hand_errors(a):
    model, clips = procedural_hand(), a["clips"] | {"mask": a["mask"]}
    pair = hand.hand_predictions(model, a["outputs"], clips), hand.hand_targets(model, clips)
    found = joint_errors.hand_errors(*pair, clips) | joint_errors.more_hand_errors(*pair, clips)
    return found, {name: mean.compute() for name, mean in found.items()}


METRICS = {
    "Mean": lambda a: metrics.Mean.empty() + metrics.Mean.from_values(a["logits"], a["mask"] > 0),
    "Mean: of whole numbers": lambda a: metrics.Mean.from_values(a["labels"]).compute(),
    "BinaryCounts": lambda a: (
        metrics.BinaryCounts.empty()
        + metrics.BinaryCounts.from_probs(jax.nn.sigmoid(a["logits"]), a["labels"], a["mask"])
    ),
    "BinaryCounts: figures": lambda a: (lambda counts: (counts.compute(), counts.confusion()))(
        metrics.BinaryCounts.from_probs(jax.nn.sigmoid(a["logits"]), a["labels"])
    ),
    "joint_errors": _hand_errors,
    "hand_terms": _hand_terms,
    "hand_terms: robust, of the labelled": lambda a: _hand_terms(
        a, reproj_delta=5.0, reduction="valid"
    ),
}


def _trained(make_tx):
    """Three updates of a small tree under `scan`, and the state that they leave."""

    def call(a):
        params = {"layer": {"kernel": a["x"], "bias": a["logits"]}}

        def step(carry, scale):
            params, state = carry
            grads = jax.tree.map(lambda p: p * scale, params)
            grads, norm = optim.clip_by_global_norm(grads, 1.0)
            hparams = {name: jnp.float32(0.1) for name in ("learning_rate", "weight_decay")}
            updates, state = make_tx(hparams).update(grads, state, params)
            return (optax.apply_updates(params, updates), state), norm

        state = make_tx({"learning_rate": 0.1, "weight_decay": 0.1}).init(params)
        return jax.lax.scan(step, (params, state), jnp.float32([1.0, -2.0, 0.5]))

    return call


def _late(a):
    state = optim.adam({"learning_rate": 0.1}).init({"w": a["x"], "b": a["logits"]})
    state = optim.with_late(state, ["b"])
    return optim.adam({"learning_rate": 0.1}).update({"w": a["x"], "b": a["logits"]}, state)


def _split(a):
    trainable, frozen = optim.split_frozen({"a": {"w": a["x"]}, "b": a["y"]}, ["^b"])
    return optim.merge(trainable, frozen), optim.global_norm(trainable)


OPTIM = {
    "adamw": _trained(optim.adamw),
    "adamw: groups": _trained(
        lambda h: optim.adamw(
            h,
            decay_mask=optim.no_decay("bias"),
            learning_rate_factors=[("kernel", 0.5), ("bias", jnp.float32(2))],
            inert=("bias",),
        )
    ),
    "adam": _trained(optim.adam),
    "adam: amsgrad": _trained(lambda h: optim.adam(h, amsgrad=True)),
    "sgd": _trained(optim.sgd),
    "sgd: nesterov": _trained(lambda h: optim.sgd(h, momentum=0.9, nesterov=True)),
    "with_late": _late,
    "split_frozen": _split,
}

_SCHEDULES = {
    "constant": s.constant(0.5),
    "cosine": s.cosine(1.0, steps=3, end=0.1),
    "cyclic": s.cyclic(0.1, 1.0, step_size_up=2),
    "cyclic: triangular2": s.cyclic(0.1, 1.0, step_size_up=2, mode="triangular2"),
    "cyclic: exp_range": s.cyclic(0.1, 1.0, step_size_up=2, mode="exp_range", gamma=0.9),
    "delayed": s.delayed(s.linear(0.0, 1.0, steps=3), start_step=2),
    "every": s.every(s.exponential(1.0, gamma=0.5), 2),
    "exponential": s.exponential(1.0, gamma=0.9),
    "join": s.join((s.linear(0.0, 1.0, steps=2), s.constant(0.5), s.cosine(1, steps=3)), (2, 4)),
    "linear": s.linear(0.0, 1.0, steps=3),
    "multistep": s.multistep(1.0, milestones=(1, 3), gamma=0.5),
    "one_cycle": s.one_cycle(1.0, total_steps=5),
    "one_cycle: three phases": s.one_cycle(1.0, total_steps=8, three_phase=True, anneal="linear"),
    "parse": s.parse("scale(ramp(0, 1, end_step=2*epoch), 0.5)", names={"epoch": 2.0}),
    "polynomial": s.polynomial(1.0, steps=4, power=2.0),
    "ramp": s.ramp(0.0, 1.0, end_step=4, start_step=1),
    "scale": s.scale(s.linear(0.0, 1.0, steps=3), s.constant(2)),
    "step_decay": s.step_decay(1.0, step_size=2, gamma=0.5),
    "warmup": s.warmup(1.0, warmup_steps=3),
    "warmup_cosine": s.warmup_cosine(1.0, warmup_steps=2, total_steps=5),
    "warmup_linear": s.warmup_linear(1.0, warmup_steps=2, total_steps=5),
    "as_schedule": s.as_schedule(lambda step: 0.5 * step.astype(jnp.float32)),
    "numbers of the host": s.linear(np.float64(0.1), np.float32(1.0), steps=np.int64(3)),
}


def _scheduled(schedule):
    return lambda a: jax.lax.scan(
        lambda step, _: (step + 1, schedule(step)), jnp.int32(0), length=6
    )


SCHEDULES = {name: _scheduled(schedule) for name, schedule in _SCHEDULES.items()}
SCHEDULES["evaluate"] = lambda a: s.evaluate({"a": 0.5, "b": s.linear(0, 1, steps=3)}, 2)


def _machine(machine, state, values):
    def step(state, value):
        state = machine.update(state, value)
        return state, state

    return jax.lax.scan(step, state, values)


def _plateau(**options):
    return lambda a: (
        lambda machine: _machine(machine, machine.init(0.1), jnp.float32([3, 2, 2, 2, 5, 1]))
    )(ReduceLROnPlateau(patience=1, factor=0.5, cooldown=1, min_lr=1e-3, **options))


def _averaged(a):
    def step(average, i):
        decay = ema.ema_decay_at(0.9, i, warmup=True)
        return ema.ema_update(average, {"w": 2.0 * a["x"], "n": i}, decay), decay

    start = ema.ema_init({"w": a["x"], "n": jnp.int32(0)})
    return jax.lax.scan(step, start, jnp.arange(3, dtype=jnp.int32))


def _scaled(a):
    machine = LossScale(growth_interval=2)
    finite = jnp.array([True, True, False])
    return _machine(machine, machine.init(), finite), machine.unscale(machine.init(), a["x"])


STATE = {
    "plateau": _plateau(),
    "plateau: the scale": lambda a: ReduceLROnPlateau().init(0.1).scale,
    "plateau: of the host's numbers": lambda a: ReduceLROnPlateau().update(
        ReduceLROnPlateau().init(np.float64(0.1)), 0.5
    ),
    "plateau: higher by a size": _plateau(mode="max", threshold_mode="abs", threshold=0.5),
    "early stopping": lambda a: _machine(
        EarlyStopping(patience=2), EarlyStopping().init(), jnp.float32([3, 2, 2, 2])
    ),
    "ema": _averaged,
    "loss scale": _scaled,
    "policy": lambda a: Policy("bfloat16").cast_params({"w": a["x"], "n": a["labels"]}),
    "stream_key": lambda a: jax.random.key_data(stream_key(key_of(a), "dropout", 3)),
}
