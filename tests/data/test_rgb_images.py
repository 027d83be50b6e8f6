import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxrecipes.data.rgb_images import decode_rgb, image_size

FILE = Path("photo")
ORIENTATION = 0x0112


def encode(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(content, **options):
    return np.asarray(decode_rgb(content, FILE, **options))


def photo(mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_grey_keeps_its_levels(kind):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = decoded(encode(Image.fromarray(levels), kind))
    np.testing.assert_array_equal(found[..., 0], np.round(levels / 257))
    assert (found == found[..., :1]).all()


def test_twelve_bits_of_a_tiff_are_not_dark():
    wide = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    content = bytearray(encode(wide, "TIFF"))
    tag = content.index(b"\x02\x01\x03\x00\x01\x00\x00\x00")  # BitsPerSample, one short
    content[tag + 8 : tag + 10] = (12).to_bytes(2, "little")
    assert decoded(bytes(content)).min() == 255


def test_white_may_be_zero():
    levels = np.array([[0, 65535, 257]], np.uint16)
    content = encode(Image.fromarray(levels), "TIFF", tiffinfo={262: 0})
    assert decoded(content)[0, :, 0].tolist() == [255, 0, 254]


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        (np.full((4, 4), 0.5, np.float32), "floating-point levels, whose range is not known"),
        (np.full((4, 4), 70_000, np.int32), "integers of mode I .TIFF., whose range is not known"),
    ],
)
def test_levels_without_a_known_range_are_refused(levels, says):
    with pytest.raises(ValueError, match=says):
        decoded(encode(Image.fromarray(levels), "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_other_modes_are_pillows_rgb(mode):
    image = photo(mode)
    np.testing.assert_array_equal(decoded(encode(image, "PNG")), np.asarray(image.convert("RGB")))


def test_transparency_is_dropped_not_blended():
    image = Image.new("RGBA", (2, 2), (200, 100, 50, 0))
    assert decoded(encode(image, "PNG"))[0, 0].tolist() == [200, 100, 50]


def test_of_several_frames_the_first_counts():
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    content = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert decoded(content)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright_and_sizes_agree(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encode(photo(), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decoded(content), upright)
    assert upright.shape[:2] == ((16, 8) if orientation > 4 else (8, 16))
    for turned in (True, False):
        shape = decoded(content, exif_orientation=turned).shape[:2]
        assert image_size(content, FILE, exif_orientation=turned) == shape
        assert image_size(content, FILE, exif_orientation=turned, verify=True) == shape


def test_the_flag_leaves_pixels_as_they_are_stored():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encode(photo(), "PNG", exif=exif)
    np.testing.assert_array_equal(decoded(content, exif_orientation=False), np.asarray(photo()))


def test_damaged_exif_does_not_hide_the_image():
    content = encode(photo(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff")
    np.testing.assert_array_equal(decoded(content), np.asarray(photo()))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer, not the image"),
        (b"text", "not an image that Pillow can read"),
        (b"", "empty: no image"),
    ],
)
def test_what_is_no_image_says_what_it_is(tmp_path, content, says):
    file = tmp_path / "a.png"
    file.write_bytes(content)
    for encoded in (content, None):
        with pytest.raises(ValueError, match=says):
            decode_rgb(encoded, file)
