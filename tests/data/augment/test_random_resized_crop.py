"""Random resized crops: torchvision's distribution, Pillow's pixels."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxrecipes.data.augment.random_resized_crop import (
    crop_boxes,
    random_resized_crop,
    resize_boxes,
)
from jaxrecipes.data.decode import center_crop_rgb, resize_rgb

SIZE = (32, 32)


@pytest.fixture(scope="module")
def expected(golden):
    return golden("clip_iqa/preprocess")


@pytest.mark.parametrize("image", range(4))
def test_a_crop_is_resized_as_by_pillow(expected, image):
    arrays = {name: expected[f"img{image}/{name}"] for name in ("uint8", "crop_ijhw", "crop_uint8")}
    box = arrays["crop_ijhw"].astype(np.float32)
    resized = jax.jit(lambda x, b: resize_boxes(x, b, size=SIZE))(arrays["uint8"][None], box[None])
    difference = np.asarray(resized[0]).astype(int) - arrays["crop_uint8"]
    assert abs(difference).max() <= 1


@pytest.mark.parametrize("image", range(4))
def test_evaluation_squashes_or_cuts_as_the_stored_arrays(expected, image):
    picture = Image.fromarray(expected[f"img{image}/uint8"])
    np.testing.assert_array_equal(
        np.asarray(resize_rgb(picture, SIZE)), expected[f"img{image}/eval_uint8"]
    )
    official = expected[f"img{image}/clip_official"].transpose(1, 2, 0)
    levels = (official * expected["std"] + expected["mean"]) * 255
    np.testing.assert_allclose(np.asarray(center_crop_rgb(picture, SIZE)), levels, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "resized", "start"),
    [
        ((20, 10), (20, 10), (0, 5)),  # (width, height): of a margin of 10 half on each side
        ((21, 10), (21, 10), (0, 5)),  # an odd one of 11: the smaller half is left
        ((13, 10), (13, 10), (0, 1)),
        ((10, 13), (10, 13), (1, 0)),
        ((5, 9), (10, 18), (4, 0)),  # smaller than the crop: enlarged
        ((3, 3), (10, 10), (0, 0)),
        ((147, 49), (30, 10), (0, 10)),  # 49 * (10 / 49) is less than 10 in floating point
    ],
)
def test_the_middle_is_huggingfaces(size, resized, start):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    whole = np.asarray(image.resize(resized, Image.Resampling.BICUBIC))
    top, left = start
    wanted = whole[top : top + 10, left : left + 10]
    np.testing.assert_array_equal(np.asarray(center_crop_rgb(image, (10, 10))), wanted)


def test_crops_are_distributed_as_torchvisions(expected):
    sizes = np.full((20000, 2), 512, np.int32)
    boxes = np.asarray(jax.jit(lambda k: crop_boxes(k, sizes, scale=(0.8, 1.0)))(jax.random.key(1)))
    share = boxes[:, 2] * boxes[:, 3] / 512**2
    ratio = boxes[:, 3] / boxes[:, 2]
    found = [share.mean(), share.std(), share.min(), share.max(), ratio.mean()]
    found += [ratio.min(), ratio.max(), (boxes[:, 2] == 512).mean(), (boxes[:, 3] == 512).mean()]
    np.testing.assert_allclose(found, expected["rrc_stats_512"], atol=0.006)


def test_crops_lie_inside_and_fall_back_to_the_middle():
    sizes = np.array([[100, 100], [10, 1000], [1000, 10]] * 50, np.int32)
    boxes = np.asarray(crop_boxes(jax.random.key(0), sizes, scale=(0.9, 1.0)))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()
    np.testing.assert_array_equal(boxes[1], [0, 493, 10, 13])  # at most 4/3 as wide as high
    np.testing.assert_array_equal(boxes[2], [493, 0, 13, 10])


def test_crops_of_a_stored_image_keep_to_the_originals_proportions():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None] * 4, (8, 64, 64, 3))
    sizes = np.tile(np.array([[64, 640]], np.int32), (8, 1))
    crops = random_resized_crop(jax.random.key(0), ramp, sizes, scale=(0.8, 1.0), size=(16, 16))
    # A tenth of the width is all that 4/3 of the height allows.
    assert np.ptp(np.asarray(crops[:, 0, :, 0]).astype(int), axis=1).max() <= 64 * 4 / 7
