import jax
import numpy as np
import pytest

from jaxrecipes.data.augment.map_selected import map_selected


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_exactly_the_selected_images_are_mapped(chunk, count):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, 3)).astype(np.float32)
    factors = rng.normal(size=20).astype(np.float32)
    scaled = factors[:, None] * images
    selected = np.zeros(20, bool)
    selected[rng.permutation(20)[:count]] = True

    @jax.jit
    def run(images, selected):
        return map_selected(
            lambda part, factor: factor[:, None] * part, images, selected, factors, chunk=chunk
        )

    wanted = np.where(selected[:, None], scaled, images)
    np.testing.assert_array_equal(run(images, selected), wanted)
    rows = np.stack([selected, ~selected])
    both = jax.vmap(run, (None, 0))(images, rows)
    np.testing.assert_array_equal(both[0], wanted)
    np.testing.assert_array_equal(both[1], np.where(selected[:, None], images, scaled))
