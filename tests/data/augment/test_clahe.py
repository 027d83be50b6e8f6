import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.data.augment.clahe import clahe, equalize_lightness, lab_to_rgb, rgb_to_lab


@pytest.fixture(params=range(3))
def case(golden, request):
    arrays = golden("ocec/preprocess_color")
    names = ["lab/{}/lab", "lab/{}/back"]
    names += [f"clahe/{{}}/tile{tiles}/{what}" for tiles in (4, 8) for what in ("L", "rgb")]
    found = {name.replace("/{}", ""): arrays[name.format(request.param)] for name in names}
    return found | {"in": arrays[f"color/{request.param}/in"]}


def test_lab_is_opencvs_exactly(case):
    np.testing.assert_array_equal(np.stack(rgb_to_lab(case["in"]), axis=-1), case["lab/lab"])


def test_the_way_back_from_lab_is_within_one_level(case):
    out = np.asarray(lab_to_rgb(*np.moveaxis(case["lab/lab"], -1, 0)))
    assert np.abs(out.astype(int) - case["lab/back"]).max() <= 1


@pytest.mark.parametrize("tiles", [4, 8])
def test_equalised_lightness_is_opencvs(case, tiles):
    lightness = case["lab/lab"][None, ..., 0].astype(np.int32)
    # Compiled code may fuse products and sums, which tips a tie now and then.
    out = jax.jit(lambda plane: equalize_lightness(plane, tiles=(tiles, tiles)))(lightness)
    error = np.abs(np.asarray(out[0]) - case[f"clahe/tile{tiles}/L"].astype(int))
    assert error.max() <= 1
    assert error.mean() < 0.005


def test_clahe_end_to_end_is_within_two_levels(case):
    out = jax.jit(clahe)(case["in"][None])
    error = np.abs(np.asarray(out[0], int) - case["clahe/tile4/rgb"])
    assert error.max() <= 2
    assert error.mean() < 0.1


def test_a_higher_clip_limit_gives_more_contrast_and_may_be_traced():
    plane = np.random.default_rng(0).normal(128, 6, (1, 16, 16)).astype(np.int32)
    run = jax.jit(lambda limit: equalize_lightness(plane, clip_limit=limit, tiles=(2, 2)))
    spreads = [float(np.std(run(jnp.float32(limit)))) for limit in (1.0, 20.0, 80.0)]
    assert spreads == sorted(spreads)
    assert spreads[2] > 2 * spreads[0]
