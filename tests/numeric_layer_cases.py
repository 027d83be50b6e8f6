"""Calls of layers, geometry and augmentation by name, each of one dict of small arrays.

A call's name begins with the function's, and what follows a colon says which options it has.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numeric_cases import STATE
from numeric_inputs import ROWS, key_of, with_gradient

from jaxrecipes import nn
from jaxrecipes.data.augment import colour, mix, random_resized_crop
from jaxrecipes.data.augment import images as augment
from jaxrecipes.data.augment import pixels as pixel_augment
from jaxrecipes.data.augment.bilinear import sample_bilinear
from jaxrecipes.data.augment.clahe import clahe
from jaxrecipes.models.hand import alignment as procrustes
from jaxrecipes.models.hand import camera, rotations
from jaxrecipes.models.hand.fit import fit_hands
from jaxrecipes.models.hand.procedural import procedural_hand
from jaxrecipes.nn.bicubic import bicubic_matrix
from jaxrecipes.nn.single_key_attention import InertLinear, SingleKeyAttention
from jaxrecipes.recipes.faces import reflect
from jaxrecipes.recipes.hand_pose.crop import HandCrop, draw


def _layer(module, name, *more, **options):
    """The drawn variables, the outputs in training with their gradient, and those in evaluation."""

    def call(a):
        inputs, key = (a[name], *(a[other] for other in more)), key_of(a)
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
        {}, a["x"], 0.5, train=True, rngs={"dropout": key_of(a)}
    ),
    "Dropout": lambda a: nn.Dropout().apply(
        {}, a["x"], 0.5, train=True, rngs={"dropout": key_of(a)}
    ),
    "EncoderLayer": _layer(nn.EncoderLayer(2, 8), "tokens", **_RATE),
    "InertLinear": lambda a: InertLinear(3, 4).init(key_of(a)),
    "LayerNorm": _layer(nn.LayerNorm(), "tokens"),
    "Linear": _layer(nn.Linear(4), "tokens"),
    "Rate": lambda a: nn.dropout(key_of(a), a["x"], jnp.float32(0.5)),
    "SelfAttention": _layer(nn.SelfAttention(2), "tokens", **_RATE),
    "SingleKeyAttention": _layer(SingleKeyAttention(2), "x", **_RATE),
    "batch_norm_act": lambda a: nn.batch_norm_act(
        a["maps"], jnp.ones(3, jnp.float32), jnp.ones(3, jnp.float32), a["maps"], 1e-5, "relu"
    ),
    "bicubic_matrix": lambda a: jnp.float32(bicubic_matrix(4, 6)),
    "by_backend": lambda a: nn.by_backend(a["x"], cpu=lambda x: 2.0 * x, default=lambda x: x),
    "conv": with_gradient(lambda x: nn.conv(x, jnp.ones((3, 3, 3, 2), jnp.float32), 2, 1), "maps"),
    "conv_output_size": lambda a: jnp.int32(
        nn.conv_output_size(7, kernel_size=3, stride=2, padding=1)
    ),
    "depthwise_conv": with_gradient(
        lambda x: nn.depthwise_conv(x, jnp.ones((3, 3, 3), jnp.float32), 2), "maps"
    ),
    "dot_product_attention": with_gradient(
        lambda x: nn.dot_product_attention(x[:, None], x[:, None], x[:, None], causal=True),
        "tokens",
    ),
    "drop_path": lambda a: nn.drop_path(key_of(a), a["x"], 0.5),
    "dropout": with_gradient(lambda x, key: nn.dropout(key, x, 0.5), "x", "key"),
    "gelu": with_gradient(nn.gelu, "x"),
    "global_max": with_gradient(nn.global_max, "maps"),
    "global_mean": with_gradient(nn.global_mean, "maps"),
    "layer_norm": with_gradient(
        lambda x: nn.layer_norm(x, jnp.ones(6, jnp.float32), jnp.ones(6, jnp.float32), 1e-5), "x"
    ),
    "linear": with_gradient(lambda x: nn.linear(x, jnp.ones((8, 2), jnp.float32)), "tokens"),
    "patchify": with_gradient(
        lambda x: nn.patchify(x, jnp.ones((2, 2, 3, 4), jnp.float32)), "maps"
    ),
    "quick_gelu": with_gradient(nn.quick_gelu, "x"),
    "silu": with_gradient(nn.silu, "x"),
    "softmax": with_gradient(nn.softmax, "x"),
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
    "rotations: the gradient": with_gradient(rotations.axis_angle_to_matrix, "axis_angle"),
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
    augmented = crop.augmented(batch, draw(key_of(a), ROWS), ranges)
    return [crop.plain(batch)["patch"], augmented]


_MIX = {f"{kind}_{what}": 0.5 for kind in ("mixup", "cutmix") for what in ("prob", "alpha")}
AUGMENT = {
    "augment_images": lambda a: augment.augment_images(
        key_of(a),
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
        key_of(a),
        augment.normalize(a["images"]),
        a["labels"],
        _MIX,
        ops=mix.MixOps(mixup=True, cutmix=True),
    ),
    "random_resized_crop": lambda a: random_resized_crop.random_resized_crop(
        key_of(a), a["images"], a["sizes"], scale=(0.5, 1.0), size=(8, 8)
    ),
    "reflect_people": lambda a: reflect.reflect_people(
        key_of(a), {"src": a["x"], "tgt": a["y"], "person": a["person"]}, 0.5
    ),
    "sample_bilinear": lambda a: sample_bilinear(
        a["images"], a["sizes"], 5.0 * a["x"], 5.0 * a["y"]
    ),
    "augment_pixels": lambda a: pixel_augment.augment_pixels(
        key_of(a), augment.normalize(a["images"]), pixel_augment.GROUPS["aggressive"]
    ),
    "HandCrop": _hand_crop,
    "HandCrop: towards the hand": lambda a: _hand_crop(
        a, perspective_normalization=True, joint_type="6d", crop="affine"
    ),
}

DRAWS = {
    "dropout": lambda a: nn.dropout(key_of(a), a["x"], 0.5),
    "initialisers": lambda a: [
        nn.Linear(4).init(key_of(a), a["x"]),
        nn.Conv(2, 3).init(key_of(a), a["maps"]),
        nn.DepthwiseConv().init(key_of(a), a["maps"]),
    ],
    "distortion": lambda a: augment.sample_distortion(key_of(a), ROWS, 0.5),
    "crops": lambda a: random_resized_crop.crop_boxes(key_of(a), a["sizes"], scale=(0.5, 1.0)),
    "jitter": lambda a: pixel_augment.draw_jitter(
        key_of(a),
        ROWS,
        {name: 0.5 for name in ("jitter_prob", "brightness", "contrast", "saturation")},
        hue=False,
    ),
    "flip and crop": lambda a: augment.random_crop(
        key_of(a), augment.random_flip(key_of(a), a["images"], 0.5), 0.5
    ),
    "reflections": AUGMENT["reflect_people"],
    "stream_key": STATE["stream_key"],
}
