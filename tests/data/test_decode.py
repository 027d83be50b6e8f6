import csv
import io

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxrecipes.data.augment.images import normalize
from jaxrecipes.data.decode import decode_images, default_cache_dir, resize_rgb
from jaxrecipes.recipes.ocec.labelled_images import image_files, read_labelled_images

SIZE = (8, 12)


def encode(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def random_pixels(seed, height=9, width=14):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(file, images, **columns):
    rows = len(images)
    table = {
        "split": ["train"] * rows,
        "class_id": [i % 2 for i in range(rows)],
        "image_path": [f"{i}.png" for i in range(rows)],
        "image_bytes": pa.array(images, pa.binary()),
    }
    pq.write_table(pa.table(table | columns), file, row_group_size=100)
    return read_labelled_images(file)


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "d.parquet", [encode(random_pixels(i)) for i in range(300)])


def test_resize_matches_the_golden_arrays(golden):
    arrays = golden("ocec/preprocess_resize")
    new_order = int(PIL.__version__.split(".")[0]) >= 13
    for i in range(int(arrays["n_resize"])):
        size = tuple(int(side) for side in arrays[f"resize/{i}/size_hw"])
        out = np.asarray(resize_rgb(Image.fromarray(arrays[f"resize/{i}/in"]), size))
        wanted = arrays[f"resize/{i}/out" if new_order else f"resize/{i}/out_pillow12"]
        np.testing.assert_array_equal(out, wanted)


def test_normalize_matches_the_golden_arrays(golden):
    arrays = golden("ocec/preprocess_resize")
    for i in range(3):
        out = np.asarray(normalize(arrays[f"resize/{i}/out"])).transpose(2, 0, 1)
        np.testing.assert_allclose(out, arrays[f"eval_transform/{i}"], rtol=0, atol=1e-7)
    mean, std = arrays["eval_transform_mean_std/mean_std"]
    out = np.asarray(normalize(arrays["resize/0/out"], mean, std)).transpose(2, 0, 1)
    np.testing.assert_allclose(out, arrays["eval_transform_mean_std/out"], rtol=0, atol=1e-6)


def test_rows_are_decoded_in_order_with_progress(data, tmp_path):
    seen = []
    decoded = decode_images(
        data, SIZE, cache_dir=tmp_path, num_threads=3, progress=lambda *now: seen.append(now)
    )
    wanted = [np.asarray(resize_rgb(Image.fromarray(random_pixels(i)), SIZE)) for i in range(300)]
    np.testing.assert_array_equal(decoded.images, wanted)
    assert decoded.images.dtype == np.uint8
    assert not decoded.from_cache
    assert seen[-1] == (300, 300)
    assert seen == sorted(seen)


def test_the_second_time_comes_from_the_cache(data, tmp_path):
    first = decode_images(data, SIZE, cache_dir=tmp_path)
    second = decode_images(data, SIZE, cache_dir=tmp_path)
    assert second.from_cache
    assert isinstance(second.images, np.memmap)
    np.testing.assert_array_equal(first.images, second.images)


def test_another_size_or_content_is_another_entry(data, tmp_path):
    decode_images(data, SIZE, cache_dir=tmp_path)
    assert not decode_images(data, (6, 6), cache_dir=tmp_path).from_cache
    changed = [encode(random_pixels(i + (i == 7))) for i in range(300)]
    other = write(tmp_path / "other.parquet", changed)
    assert not decode_images(other, SIZE, cache_dir=tmp_path).from_cache


@pytest.mark.parametrize("harm", ["flip", "truncate", "description"])
def test_a_damaged_cache_is_rebuilt(data, tmp_path, harm):
    cache = tmp_path / "cache"
    good = np.array(decode_images(data, SIZE, cache_dir=cache).images)
    (pixels,), (description,) = cache.glob("*.pixels"), cache.glob("*.json")
    content = bytearray(pixels.read_bytes())
    if harm == "flip":
        content[1234] ^= 4
        pixels.write_bytes(content)
    elif harm == "truncate":
        pixels.write_bytes(content[:-5])
    else:
        description.write_text("{")
    again = decode_images(data, SIZE, cache_dir=cache)
    assert not again.from_cache
    np.testing.assert_array_equal(again.images, good)
    assert len(list(cache.iterdir())) == 2


def test_unreadable_images_are_skipped_and_listed(tmp_path):
    whole = encode(random_pixels(0))
    images = [whole, whole[:-40], b"no image", None, whole, b""]
    data = write(tmp_path / "d.parquet", images)
    listed = tmp_path / "unreadable.csv"
    for from_cache in (False, True):
        decoded = decode_images(data, SIZE, cache_dir=tmp_path, unreadable_file=listed)
        assert decoded.from_cache is from_cache
        assert decoded.data.paths.tolist() == ["0.png", "4.png"]
        assert decoded.data.labels.tolist() == [0, 0]
        assert decoded.images.shape == (2, *SIZE, 3)
        with listed.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        assert [line["path"] for line in lines] == ["1.png", "2.png", "3.png", "5.png"]
        assert "truncated" in lines[0]["reason"]
        assert "FileNotFoundError" in lines[2]["reason"]


def test_unreadable_images_are_fatal_on_demand(tmp_path):
    whole = encode(random_pixels(0))
    data = write(tmp_path / "d.parquet", [whole, whole[:60]])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"1\.png"):
            decode_images(data, SIZE, cache_dir=tmp_path / "cache", on_unreadable="error")
        decode_images(data, SIZE, cache_dir=tmp_path / "cache")


def test_no_readable_image_at_all_is_an_error(tmp_path):
    data = write(tmp_path / "d.parquet", [b"x", b"y"])
    with pytest.raises(ValueError, match="none of the 2 images"):
        decode_images(data, SIZE, cache_dir=tmp_path)


def test_files_beside_the_parquet_and_grey_images_are_decoded(tmp_path):
    Image.fromarray(np.full((5, 5), 77, np.uint8)).save(tmp_path / "0.png")
    data = write(tmp_path / "d.parquet", [None])
    assert (decode_images(data, SIZE, cache_dir=tmp_path).images == 77).all()


def test_a_changed_file_is_decoded_again(tmp_path):
    Image.fromarray(np.full((5, 5), 77, np.uint8)).save(tmp_path / "0.png")
    data = write(tmp_path / "d.parquet", [None])
    decode_images(data, SIZE, cache_dir=tmp_path)
    Image.fromarray(np.full((6, 9), 78, np.uint8)).save(tmp_path / "0.png")
    assert (decode_images(data, SIZE, cache_dir=tmp_path).images == 78).all()


def test_the_default_cache_lies_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir().parent == tmp_path / "jaxrecipes"


def test_plain_files_are_decoded_without_a_parquet(tmp_path):
    names = [tmp_path / f"{value}.png" for value in (10, 20, 30)]
    for name in names[:2]:
        Image.fromarray(np.full((5, 5), int(name.stem), np.uint8)).save(name)
    decoded = decode_images(image_files(names), SIZE, cache_dir=tmp_path)
    assert decoded.images[:, 0, 0, 0].tolist() == [10, 20]
    assert [image.path for image in decoded.unreadable] == [names[2].as_posix()]


def test_what_decides_the_pixels_names_the_cache(data, tmp_path, monkeypatch):
    def from_cache(**options):
        return decode_images(data, SIZE, cache_dir=tmp_path / "cache", **options).from_cache

    assert not from_cache()
    assert from_cache()
    assert not from_cache(exif_orientation=False)
    assert not from_cache(fit="center_crop")
    monkeypatch.setattr("jaxrecipes.data.decode.DECODER_VERSION", 99)
    assert not from_cache()
