import io

import numpy as np
import pytest
from PIL import Image

from jaxrecipes.data.encoded_images import EncodedImages
from jaxrecipes.data.indexed_rows import IndexedRows

PIXELS = [np.random.default_rng(i).integers(0, 256, (4 + i, 9 - i, 3), np.uint8) for i in range(4)]


@pytest.fixture
def table(tmp_path):
    places, position = [], 3
    with (tmp_path / "all.bin").open("wb") as stream:
        stream.write(b"abc")
        for i, pixels in enumerate(PIXELS):
            encoded = io.BytesIO()
            Image.fromarray(pixels).save(encoded, "PNG" if i % 2 else "WEBP", lossless=True)
            places.append((position, stream.write(encoded.getvalue())))
            position += places[-1][1]
    zeros = np.zeros(len(PIXELS), np.int32)
    return EncodedImages([tmp_path / "all.bin"], zeros, np.array(places), (8, 10))


def canvas(row):
    image = np.zeros((8, 10, 3), np.uint8)
    image[: PIXELS[row].shape[0], : PIXELS[row].shape[1]] = PIXELS[row]
    return image


def test_rows_of_any_shape_are_decoded(table):
    assert (table.shape, table.dtype, table.nbytes, len(table)) == ((4, 8, 10, 3), "uint8", 960, 4)
    np.testing.assert_array_equal(table[2], canvas(2))
    np.testing.assert_array_equal(table[np.array([[3, 0], [1, 3]])][1, 1], canvas(3))
    np.testing.assert_array_equal(np.asarray(table), [canvas(i) for i in range(4)])


def test_indexed_rows_decode_through_it(table):
    clips = IndexedRows(table, np.array([[0, 1], [1, 2]], np.int32))
    assert clips.shape == (2, 2, 8, 10, 3)
    np.testing.assert_array_equal(clips[np.array([1])], [[canvas(1), canvas(2)]])


def test_a_damaged_image_names_its_place(table):
    table._places[1, 1] -= 30
    with pytest.raises(ValueError, match=r"byte \d+ of .*all.bin cannot be decoded"):
        table[1]


def test_all_at_once_gives_the_readable_and_the_reasons(table):
    table._places[1, 1] = 20
    ((images, failed),) = table.decode_all()
    np.testing.assert_array_equal(images, [canvas(i) for i in (0, 2, 3)])
    assert [row for row, _ in failed] == [1]
