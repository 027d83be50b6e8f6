"""Calls of the public functions, by name, each of one dict of small arrays.

A call's name begins with the function's, and what follows a colon says which options it has.
"""

import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipes import camera, ema, joint_errors, losses, metrics, nn, optim, procrustes, rotations
from jaxrecipes import schedules as s
from jaxrecipes.data import augment, colour, mix, pixel_augment, random_resized_crop, reflect
from jaxrecipes.data.bilinear import sample_bilinear
from jaxrecipes.data.clahe import clahe
from jaxrecipes.data.hand_crop import HandCrop, draw
from jaxrecipes.losses import hand
from jaxrecipes.models.hand_fit import fit_hands
from jaxrecipes.models.hand_joints import POSE_SIZE, SHAPE_SIZE
from jaxrecipes.models.procedural_hand import procedural_hand
from jaxrecipes.plateau import EarlyStopping, ReduceLROnPlateau
from jaxrecipes.precision import LossScale, Policy
from jaxrecipes.rng import stream_key

_ROWS = 4


def arrays():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    boxes = np.tile(np.float32([2, 2, 10, 9]), (_ROWS, 1, 1))
    found = {
        "x": normal(_ROWS, 6),
        "y": normal(_ROWS, 6),
        "logits": normal(_ROWS),
        "pairs": normal(_ROWS, 2),
        "labels": np.int32([0, 1, 1, 0]),
        "person": np.int32([0, 0, 1, 1]),
        "mask": np.float32([1, 1, 1, 0]),
        "angles": 30 * normal(_ROWS, 3),
        "prototypes": normal(5, 6),
        "images": rng.integers(0, 256, (_ROWS, 12, 12, 3), np.uint8),
        "sizes": np.full((_ROWS, 2), 12, np.int32),
        "maps": normal(2, 6, 6, 3),
        "tokens": normal(2, 3, 8),
        "axis_angle": normal(_ROWS, 3),
        "points": normal(_ROWS, 5, 3) + np.float32([0, 0, 9]),
        "focal": np.full((_ROWS, 1, 2), 20.0, np.float32),
        "princpt": np.full((_ROWS, 1, 2), 6.0, np.float32),
        "key": np.uint32([0, 7]),
    }
    clips = {
        "hand_bbox": boxes,
        "joint_img": 6 + 2 * normal(_ROWS, 1, 21, 2),
        "joint_cam": 30 * normal(_ROWS, 1, 21, 3) + np.float32([0, 0, 600]),
        "joint_valid": np.float32(rng.random((_ROWS, 1, 21)) < 0.9),
        "mano_pose": 0.1 * normal(_ROWS, 1, POSE_SIZE),
        "mano_shape": 0.1 * normal(_ROWS, 1, SHAPE_SIZE),
        "mano_valid": np.ones((_ROWS, 1), np.float32),
        "image": found["images"][:, None],
        "image_size": found["sizes"],
        "left": np.float32([0, 1, 0, 1]),
        "focal": found["focal"],
        "princpt": found["princpt"],
    }
    clips["joint_rel"] = clips["joint_cam"] - clips["joint_cam"][..., :1, :]
    outputs = {
        "pose": 0.1 * normal(_ROWS, 1, POSE_SIZE),
        "betas": 0.1 * normal(_ROWS, 1, SHAPE_SIZE),
        "trans": normal(_ROWS, 1, 3),
    }
    maps = {
        f"log_heatmap_{axis}": np.full((_ROWS, 1, 4), np.log(0.25), np.float32) for axis in "xyz"
    }
    return found | {"clips": clips, "outputs": outputs | maps}


def _key(a):
    return jax.random.wrap_key_data(a["key"], impl="threefry2x32")


def _with_gradient(function, *names):
    """The values, and the gradient of their sum by the first of the named arrays."""

    def call(a):
        first, *rest = (a[name] for name in names)
        return function(first, *rest), jax.grad(lambda x: jnp.sum(function(x, *rest)))(first)

    return call


LOSSES = {
    "absolute": _with_gradient(losses.absolute, "x"),
    "angle_triplet": _with_gradient(
        lambda x, person, angles, mask: losses.angle_triplet(
            x, person, angles, features_original=2.0 * x, mask=mask
        ),
        *("x", "person", "angles", "mask"),
    ),
    "angle_triplets": lambda a: losses.angle_triplets(a["x"], a["person"], a["angles"]),
    "bce_with_logits": _with_gradient(losses.bce_with_logits, "logits", "labels"),
    "composite_loss": lambda a: losses.composite_loss(
        {"one": a["logits"], "two": a["logits"].sum()},
        {"loss_weight/one": 0.5, "loss_weight/two": jnp.float32(2)},
        mask=a["mask"],
    ),
    "composite_loss: a mask of bools": lambda a: losses.composite_loss(
        {"one": a["logits"]}, {"loss_weight/one": 1.0}, mask=a["mask"] > 0
    ),
    "cosine_loss": _with_gradient(losses.cosine_loss, "x", "y"),
    "cosine_similarity": _with_gradient(losses.cosine_similarity, "x", "y"),
    "difficulty_weights": lambda a: losses.difficulty_weights(
        jnp.tanh(a["logits"]), a["angles"][:, 0], focal_gamma=0.5, angle_kappa=1.0, mask=a["mask"]
    ),
    "focal_label_smooth_ce": _with_gradient(
        lambda x, y: losses.focal_label_smooth_ce(x, y, smoothing=0.05, gamma=2.0),
        "logits",
        "labels",
    ),
    "focal_label_smooth_ce: two logits": _with_gradient(
        lambda x, y: losses.focal_label_smooth_ce(x, y, smoothing=0.0, gamma=0.5), "pairs", "labels"
    ),
    "gaussian_target": lambda a: losses.gaussian_target(
        a["x"], jnp.linspace(-1, 1, 5, dtype=jnp.float32), sigma=0.5
    ),
    "heatmap_cross_entropy": _with_gradient(
        lambda x: losses.heatmap_cross_entropy(
            jax.nn.log_softmax(x), x[..., 0], jnp.arange(6, dtype=jnp.float32), sigma=0.5
        ),
        "x",
    ),
    "id_similarity": _with_gradient(losses.id_similarity, "x", "y"),
    "info_nce": _with_gradient(
        lambda x, y, m: losses.info_nce(x, y, temperature=0.1, mask=m), "x", "person", "mask"
    ),
    "info_nce: without itself": _with_gradient(
        lambda x, y: losses.info_nce(x, y, temperature=0.1, exclude_self=True), "x", "person"
    ),
    "mean_squared_error": _with_gradient(losses.mean_squared_error, "x", "y"),
    "mixed_loss": _with_gradient(
        lambda x, y: losses.mixed_loss(losses.bce_with_logits, x, y, 1 - y, jnp.float32(0.3)),
        *("logits", "labels"),
    ),
    "orthogonality": _with_gradient(losses.orthogonality, "x", "y"),
    "pose_bin": lambda a: losses.pose_bin(a["angles"], 36),
    "pose_consistency": _with_gradient(losses.pose_consistency, "x", "prototypes", "angles"),
    "pose_l1": _with_gradient(losses.pose_l1, "x", "y"),
    "prob_open": lambda a: losses.prob_open(a["logits"]),
    "prob_open_from_focal": lambda a: losses.prob_open_from_focal(a["logits"]),
    "reconstruction": _with_gradient(losses.reconstruction, "x", "y"),
    "robust_l1": _with_gradient(lambda x: losses.robust_l1(x, delta=0.5), "x"),
    "similarity_protection": _with_gradient(
        lambda x, y: losses.similarity_protection(2.0 + x, x, y, margin=0.01), "x", "y"
    ),
    "unit": _with_gradient(losses.unit, "x"),
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
    "stream_key": lambda a: jax.random.key_data(stream_key(_key(a), "dropout", 3)),
}


def _layer(module, name, *more, **options):
    """The drawn variables, the outputs in training with their gradient, and those in evaluation."""

    def call(a):
        inputs, key = (a[name], *(a[other] for other in more)), _key(a)
        variables = module.init({"params": key, "dropout": key}, *inputs, **options)
        if "train" not in options:
            return variables, module.apply(variables, *inputs)

        def loss(params):
            trained = {**variables, "params": params}
            rngs, changes = {"dropout": key}, ["batch_stats"]
            out, new = module.apply(trained, *inputs, **options, rngs=rngs, mutable=changes)
            return jnp.sum(out * out), (out, new)

        grads, outputs = jax.grad(loss, has_aux=True)(variables.get("params", {}))
        return variables, grads, outputs

    return call


_RATE = {"train": True, "dropout_rate": np.float32(0.5)}
NN = {
    "BatchNorm": _layer(nn.BatchNorm("silu"), "maps", train=True),
    "BatchNorm: of vectors, evaluated": _layer(nn.BatchNorm(), "x", train=False),
    "Conv": _layer(nn.Conv(4, 3, padding=1, use_bias=True), "maps"),
    "Conv: patches": _layer(nn.Conv(4, 2, 2, use_bias=True), "maps"),
    "DepthwiseConv": _layer(nn.DepthwiseConv(3, 2, use_bias=True), "maps"),
    "DepthwiseConv: large": _layer(nn.DepthwiseConv(5), "maps"),
    "DropPath": lambda a: nn.DropPath().apply(
        {}, a["x"], 0.5, train=True, rngs={"dropout": _key(a)}
    ),
    "Dropout": lambda a: nn.Dropout().apply({}, a["x"], 0.5, train=True, rngs={"dropout": _key(a)}),
    "EncoderLayer": _layer(nn.EncoderLayer(2, 8), "tokens", **_RATE),
    "InertLinear": lambda a: nn.InertLinear(3, 4).init(_key(a)),
    "LayerNorm": _layer(nn.LayerNorm(), "tokens"),
    "Linear": _layer(nn.Linear(4), "tokens"),
    "Rate": lambda a: nn.dropout(_key(a), a["x"], jnp.float32(0.5)),
    "SelfAttention": _layer(nn.SelfAttention(2), "tokens", **_RATE),
    "SingleKeyAttention": _layer(nn.SingleKeyAttention(2), "x", **_RATE),
    "batch_norm_act": lambda a: nn.batch_norm_act(
        a["maps"], jnp.ones(3, jnp.float32), jnp.ones(3, jnp.float32), a["maps"], 1e-5, "relu"
    ),
    "bicubic_matrix": lambda a: jnp.float32(nn.bicubic_matrix(4, 6)),
    "by_backend": lambda a: nn.by_backend(a["x"], cpu=lambda x: 2.0 * x, default=lambda x: x),
    "conv": _with_gradient(lambda x: nn.conv(x, jnp.ones((3, 3, 3, 2), jnp.float32), 2, 1), "maps"),
    "conv_output_size": lambda a: jnp.int32(
        nn.conv_output_size(7, kernel_size=3, stride=2, padding=1)
    ),
    "depthwise_conv": _with_gradient(
        lambda x: nn.depthwise_conv(x, jnp.ones((3, 3, 3), jnp.float32), 2), "maps"
    ),
    "drop_path": lambda a: nn.drop_path(_key(a), a["x"], 0.5),
    "dropout": _with_gradient(lambda x, key: nn.dropout(key, x, 0.5), "x", "key"),
    "gelu": _with_gradient(nn.gelu, "x"),
    "global_max": _with_gradient(nn.global_max, "maps"),
    "global_mean": _with_gradient(nn.global_mean, "maps"),
    "layer_norm": _with_gradient(
        lambda x: nn.layer_norm(x, jnp.ones(6, jnp.float32), jnp.ones(6, jnp.float32), 1e-5), "x"
    ),
    "linear": _with_gradient(lambda x: nn.linear(x, jnp.ones((8, 2), jnp.float32)), "tokens"),
    "patchify": _with_gradient(
        lambda x: nn.patchify(x, jnp.ones((2, 2, 3, 4), jnp.float32)), "maps"
    ),
    "quick_gelu": _with_gradient(nn.quick_gelu, "x"),
    "silu": _with_gradient(nn.silu, "x"),
    "softmax": _with_gradient(nn.softmax, "x"),
}


def _matrices(a):
    return rotations.axis_angle_to_matrix(a["axis_angle"])


def _view(a):
    options = {"focal": a["focal"][:, 0], "princpt": a["princpt"][:, 0]}
    new = {f"new_{name}": value for name, value in options.items()}
    return camera.view_change_2d(a["logits"], 1.1, _matrices(a), **options, **new)


GEOMETRY = {
    "rotations: to matrices": lambda a: (
        _matrices(a),
        rotations.rodrigues(a["axis_angle"]),
        rotations.sixd_to_matrix(rotations.matrix_to_sixd(_matrices(a))),
        rotations.quaternion_to_matrix(rotations.axis_angle_to_quaternion(a["axis_angle"])),
    ),
    "rotations: from matrices": lambda a: rotations.matrix_to_axis_angle(_matrices(a)),
    "rotations: of poses": lambda a: [
        rotations.to_axis_angle(rotations.from_axis_angle(a["x"], kind), kind)
        for kind in ("3", "6d", "quat")
    ],
    "rotations: the gradient": _with_gradient(rotations.axis_angle_to_matrix, "axis_angle"),
    "camera: project": lambda a: [
        camera.project(a["points"], a["focal"], a["princpt"]),
        camera.project(a["points"], a["focal"][0, 0], (6.0, 6.0)),
    ],
    "camera: intrinsics": lambda a: [
        function(a["focal"], a["princpt"])
        for function in (camera.intrinsics, camera.inverse_intrinsics)
    ],
    "camera: views": lambda a: [
        _view(a),
        camera.view_change_3d(a["logits"], 1.1, _matrices(a)),
        camera.turn_to_axis(a["points"][..., :2], a["focal"], a["princpt"]),
        camera.transform_points(_matrices(a), a["points"][..., :2]),
    ],
    "procrustes": lambda a: procrustes.procrustes_align(a["points"], 2.0 * a["points"]),
    "procrustes: with a mask": lambda a: procrustes.similarity(
        a["points"], 2.0 * a["points"], mask=a["points"][..., 0] > -9
    ),
    "fit_hands": lambda a: fit_hands(
        procedural_hand(),
        a["clips"]["joint_cam"][:, 0],
        a["clips"]["joint_valid"][:, 0],
        num_steps=2,
        batch_size=2,
    ),
}


def _hand_crop(a, **options):
    crop, batch = HandCrop(img_size=4, **options), dict(a["clips"])
    ranges = {"scale_z_min": 0.9, "scale_z_max": 1.1, "scale_f_min": 0.9, "scale_f_max": 1.1}
    ranges |= {"persp_rot_max": 0.2}
    augmented = crop.augmented(batch, draw(_key(a), _ROWS), ranges)
    return [crop.plain(batch)["patch"], augmented]


_MIX = {f"{kind}_{what}": 0.5 for kind in ("mixup", "cutmix") for what in ("prob", "alpha")}
AUGMENT = {
    "augment_images": lambda a: augment.augment_images(
        _key(a),
        a["images"],
        {f"{name}_prob": 0.5 for name in ("flip", "crop", "distort", "clahe")},
        ops=augment.AugmentOps(crop=True),
    ),
    "normalize": lambda a: augment.normalize(a["images"], (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)),
    "colour": lambda a: colour.adjust_hue(
        colour.adjust_contrast(colour.split_planes(a["images"]), a["mask"]), 0.1 * a["mask"]
    ),
    "clahe": lambda a: clahe(a["images"]),
    "mix": lambda a: mix.mix(
        _key(a),
        augment.normalize(a["images"]),
        a["labels"],
        _MIX,
        ops=mix.MixOps(mixup=True, cutmix=True),
    ),
    "random_resized_crop": lambda a: random_resized_crop.random_resized_crop(
        _key(a), a["images"], a["sizes"], scale=(0.5, 1.0), size=(8, 8)
    ),
    "reflect_people": lambda a: reflect.reflect_people(
        _key(a), {"src": a["x"], "tgt": a["y"], "person": a["person"]}, 0.5
    ),
    "sample_bilinear": lambda a: sample_bilinear(
        a["images"], a["sizes"], 5.0 * a["x"], 5.0 * a["y"]
    ),
    "augment_pixels": lambda a: pixel_augment.augment_pixels(
        _key(a), augment.normalize(a["images"]), pixel_augment.GROUPS["aggressive"]
    ),
    "HandCrop": _hand_crop,
    "HandCrop: towards the hand": lambda a: _hand_crop(
        a, perspective_normalization=True, joint_type="6d", crop="affine"
    ),
}

DRAWS = {
    "dropout": lambda a: nn.dropout(_key(a), a["x"], 0.5),
    "initialisers": lambda a: [
        nn.Linear(4).init(_key(a), a["x"]),
        nn.Conv(2, 3).init(_key(a), a["maps"]),
        nn.DepthwiseConv().init(_key(a), a["maps"]),
    ],
    "distortion": lambda a: augment.sample_distortion(_key(a), _ROWS, 0.5),
    "crops": lambda a: random_resized_crop.crop_boxes(_key(a), a["sizes"], scale=(0.5, 1.0)),
    "jitter": lambda a: pixel_augment.draw_jitter(
        _key(a),
        _ROWS,
        {name: 0.5 for name in ("jitter_prob", "brightness", "contrast", "saturation")},
        hue=False,
    ),
    "flip and crop": lambda a: augment.random_crop(
        _key(a), augment.random_flip(_key(a), a["images"], 0.5), 0.5
    ),
    "reflections": AUGMENT["reflect_people"],
    "stream_key": STATE["stream_key"],
}

GROUPS = {
    "losses": LOSSES,
    "metrics": METRICS,
    "optim": OPTIM,
    "schedules": SCHEDULES,
    "state": STATE,
    "nn": NN,
    "geometry": GEOMETRY,
    "augment": AUGMENT,
}


def untested(module: python_types.ModuleType, cases) -> set[str]:
    """Public functions and classes of a package that no call is named after."""
    return set(module.__all__) - {name.split(":")[0] for name in cases}
