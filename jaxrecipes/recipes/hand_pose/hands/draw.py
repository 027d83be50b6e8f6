"""Rendered hands with exact labels: the embedded data of hand_pose.

A sample is a function of (seed, its index, the size of the image) alone; the first frames of a
longer clip are those of a shorter one.
"""

import dataclasses
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from jaxrecipes.data.indexed_random import IndexedRandom
from jaxrecipes.data.indexed_rows import Arrays, IndexedRows
from jaxrecipes.models.hand.joints import NUM_JOINTS
from jaxrecipes.models.hand.procedural import thickness
from jaxrecipes.recipes.hand_pose.hands.poses import HandMotion, hand_motion, uniform
from jaxrecipes.recipes.hand_pose.hands.render import render_hands
from jaxrecipes.recipes.hand_pose.schema import LABELS, HandSequence

_MIN_SIZE = 32  # pixels; below, fingers are thinner than a pixel
_MIRRORED_POSE = np.tile(np.array([1.0, -1.0, -1.0]), 16)


def synthetic_hands(
    num: int,
    *,
    seed: int,
    start: int = 0,
    image_size: int = 128,
    num_frames: int = 1,
    left_every: int = 3,
    drop_joint_fraction: float = 0.0,
    drop_mano_fraction: float = 0.0,
    max_angle: float = 180.0,
    silhouettes: bool = False,
) -> dict[str, np.ndarray | IndexedRows]:
    """Draws N clips of T frames of the procedural hand.

    A left hand is what a mirror shows of a right one, labels and camera included, as the sample
    schema has it; the flip of left hands gives the right hand back.

    Args:
      num: N.
      seed: any integer; another seed is another population.
      start: index of the first sample; `start=100` gives the samples that follow the first 100.
      image_size: side S of the square images in pixels, 32 or more.
      num_frames: T, 33 ms apart.
      left_every: each so many-th hand is a left one; 0 for none.
      drop_joint_fraction: of the joints that are marked as not labelled.
      drop_mano_fraction: of the clips whose pose and shape are marked as not labelled.
      max_angle: degrees that wrists turn at most from upright fingers and a palm that faces the
        camera, in the first frame; 180 is any orientation.
      silhouettes: adds `silhouette`.

    Returns:
      `image` `[N, T, S, S, 3]` uint8 as `IndexedRows`, `image_size` `[N, 2]` int32 (height, width),
      and float32: `left` `[N]`, `hand_bbox` `[N, T, 4]` xyxy px, `joint_img` `[N, T, 21, 2]` px,
      `joint_cam` `[N, T, 21, 3]` mm, `joint_valid` `[N, T, 21]`, `mano_pose` `[N, T, 48]`
      axis-angle, `mano_shape` `[N, T, 10]`, `mano_valid` `[N, T]`, `timestamp` `[N, T]` ms, `focal`
      and `princpt` `[N, T, 2]` px; perhaps `silhouette` `[N, T, S, S]` bool, true on the hand.

    Raises:
      ValueError: an option out of its range.
    """
    _check(num, start, image_size, num_frames, left_every, max_angle)
    indices = np.arange(start, start + num)
    rng = IndexedRandom(seed, indices)
    motion = hand_motion(rng, num_frames=num_frames, image_size=image_size, max_angle=max_angle)
    left = (indices + 1) % left_every == 0 if left_every else np.zeros(num, bool)
    motion = _mirror(motion, left, image_size)
    image, silhouette = render_hands(
        rng,
        motion.joints,
        motion.palms,
        thickness(motion.betas),
        focal=motion.focal[:, 0],
        princpt=motion.princpt,
        image_size=image_size,
    )
    focal, princpt = motion.focal[:, None, None], motion.princpt[:, None, None]
    points = focal * motion.joints[..., :2] / motion.joints[..., 2:] + princpt
    known = [uniform(rng, f"joint {k} known") >= drop_joint_fraction for k in range(NUM_JOINTS)]
    labels = {
        "left": left,
        "hand_bbox": np.concatenate([points.min(axis=2), points.max(axis=2)], axis=-1),
        "joint_img": points,
        "joint_cam": motion.joints,
        "joint_valid": _each_frame(np.stack(known, axis=1), num_frames),
        "mano_pose": motion.pose,
        "mano_shape": _each_frame(motion.betas, num_frames),
        "mano_valid": _each_frame(uniform(rng, "mano known") >= drop_mano_fraction, num_frames),
        "timestamp": motion.timestamp,
        "focal": _each_frame(motion.focal, num_frames),
        "princpt": _each_frame(motion.princpt, num_frames),
    }
    frames = np.arange(num * num_frames, dtype=np.int32).reshape(num, num_frames)
    arrays = {
        "image": IndexedRows(image.reshape(-1, *image.shape[2:]), frames),
        "image_size": np.full((num, 2), image_size, np.int32),
        **{name: label.astype(np.float32) for name, label in labels.items()},
    }
    return arrays | ({"silhouette": silhouette} if silhouettes else {})


def as_sequences(
    arrays: Arrays, *, prefix: str = "synthetic", start: int = 0
) -> Iterator[HandSequence]:
    """The clips of `synthetic_hands` as samples of hand shards, images in lossless WebP.

    Args:
      arrays: clips.
      prefix: of the keys, and what the samples say that they come from.
      start: index of the first clip, for its key.
    """
    for i in range(len(arrays["left"])):
        yield HandSequence(
            key=f"{prefix}_{start + i:06d}",
            images=[_webp(image) for image in arrays["image"][i]],
            left=bool(arrays["left"][i]),
            labels={name: np.asarray(arrays[name][i]) for name in LABELS},
            source=prefix,
        )


def _mirror(motion: HandMotion, left: np.ndarray, image_size: int) -> HandMotion:
    """The motion with some of the clips as seen in a mirror."""
    flip = np.where(left[:, None, None, None], [-1.0, 1.0, 1.0], 1.0)
    princpt = motion.princpt.copy()
    princpt[left, 0] = image_size - princpt[left, 0]
    return dataclasses.replace(
        motion,
        pose=np.where(left[:, None, None], _MIRRORED_POSE, 1.0) * motion.pose,
        joints=flip * motion.joints,
        palms=flip * motion.palms,
        princpt=princpt,
    )


def _each_frame(per_clip: np.ndarray, num_frames: int) -> np.ndarray:
    return np.repeat(per_clip[:, None], num_frames, axis=1)


def _webp(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "WEBP", lossless=True, method=0)
    return stream.getvalue()


def _check(
    num: int, start: int, image_size: int, num_frames: int, left_every: int, max_angle: float
) -> None:
    if min(num, num_frames) < 1 or min(start, left_every) < 0:
        raise ValueError(
            f"num={num}, num_frames={num_frames}, start={start}, left_every={left_every}; "
            f"expected 1 "
            "or more of the first two, 0 or more of the others"
        )
    if image_size < _MIN_SIZE:
        raise ValueError(f"hands of {image_size} pixels; {_MIN_SIZE} is the least")
    if not 0 <= max_angle <= 180:
        raise ValueError(f"max_angle {max_angle}; expected degrees between 0 and 180")
