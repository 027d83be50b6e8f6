"""What the calls of the numerics battery are given."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.models.hand.joints import POSE_SIZE, SHAPE_SIZE

ROWS = 4


def arrays():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    boxes = np.tile(np.float32([2, 2, 10, 9]), (ROWS, 1, 1))
    found = {
        "x": normal(ROWS, 6),
        "y": normal(ROWS, 6),
        "logits": normal(ROWS),
        "pairs": normal(ROWS, 2),
        "labels": np.int32([0, 1, 1, 0]),
        "person": np.int32([0, 0, 1, 1]),
        "mask": np.float32([1, 1, 1, 0]),
        "angles": 30 * normal(ROWS, 3),
        "prototypes": normal(5, 6),
        "images": rng.integers(0, 256, (ROWS, 12, 12, 3), np.uint8),
        "sizes": np.full((ROWS, 2), 12, np.int32),
        "maps": normal(2, 6, 6, 3),
        "tokens": normal(2, 3, 8),
        "axis_angle": normal(ROWS, 3),
        "points": normal(ROWS, 5, 3) + np.float32([0, 0, 9]),
        "focal": np.full((ROWS, 1, 2), 20.0, np.float32),
        "princpt": np.full((ROWS, 1, 2), 6.0, np.float32),
        "key": np.uint32([0, 7]),
    }
    clips = {
        "hand_bbox": boxes,
        "joint_img": 6 + 2 * normal(ROWS, 1, 21, 2),
        "joint_cam": 30 * normal(ROWS, 1, 21, 3) + np.float32([0, 0, 600]),
        "joint_valid": np.float32(rng.random((ROWS, 1, 21)) < 0.9),
        "mano_pose": 0.1 * normal(ROWS, 1, POSE_SIZE),
        "mano_shape": 0.1 * normal(ROWS, 1, SHAPE_SIZE),
        "mano_valid": np.ones((ROWS, 1), np.float32),
        "image": found["images"][:, None],
        "image_size": found["sizes"],
        "left": np.float32([0, 1, 0, 1]),
        "focal": found["focal"],
        "princpt": found["princpt"],
    }
    clips["joint_rel"] = clips["joint_cam"] - clips["joint_cam"][..., :1, :]
    outputs = {
        "pose": 0.1 * normal(ROWS, 1, POSE_SIZE),
        "betas": 0.1 * normal(ROWS, 1, SHAPE_SIZE),
        "trans": normal(ROWS, 1, 3),
    }
    maps = {
        f"log_heatmap_{axis}": np.full((ROWS, 1, 4), np.log(0.25), np.float32) for axis in "xyz"
    }
    return found | {"clips": clips, "outputs": outputs | maps}


def key_of(a):
    return jax.random.wrap_key_data(a["key"], impl="threefry2x32")


def with_gradient(function, *names):
    """The values, and the gradient of their sum by the first of the named arrays."""

    def call(a):
        first, *rest = (a[name] for name in names)
        return function(first, *rest), jax.grad(lambda x: jnp.sum(function(x, *rest)))(first)

    return call
