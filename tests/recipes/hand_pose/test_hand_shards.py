"""Clips from tar shards, against the original reader's; broken samples; the two ways to decode."""

import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from jaxrecipes.data.feed import StreamFeed
from jaxrecipes.data.tar_writer import ShardWriter
from jaxrecipes.recipes.hand_pose.schema import LABELS, HandSequence, pack_sequence
from jaxrecipes.recipes.hand_pose.shards import read_hand_clips, write_hand_shards
from jaxrecipes.sharding import make_mesh


def make_sequence(key, num_frames=3, size=(6, 8), seed=0, **changes):
    rng = np.random.default_rng([seed, num_frames])
    images = []
    for _ in range(num_frames):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(stream, "PNG")
        images.append(stream.getvalue())
    labels = {name: rng.uniform(1, 2, (num_frames, *s)) for name, s in LABELS.items()}
    labels["joint_valid"][:] = labels["mano_valid"][:] = 1
    labels["hand_bbox"][:] = [1, 1, 5, 4]
    labels["joint_cam"] *= 100
    values = {"key": key, "images": images, "left": False, "labels": labels}
    return HandSequence(**{**values, **changes})


@pytest.fixture
def read(golden, tmp_path):
    def read(source=golden.path / "hand_pose" / "hand_wds_sample-000000.tar", **options):
        return read_hand_clips(source, cache_dir=tmp_path / "cache", **options)

    return read


@pytest.mark.parametrize(("num_frames", "stride"), [(1, 1), (2, 1), (2, 2)])
def test_clips_have_the_originals_keys(read, golden, num_frames, stride):
    expected = golden("hand_pose/hand_wds_sample_expected")[f"keys/T{num_frames}s{stride}"]
    clips = read(num_frames=num_frames, stride=stride)
    np.testing.assert_array_equal(clips.keys, expected)


@pytest.mark.parametrize("decode", ["cache", "lazy"])
def test_clips_are_the_originals(read, golden, decode):
    expected = golden("hand_pose/hand_wds_sample_expected")
    clips = read(num_frames=2, decode=decode)
    assert clips.arrays["image"].shape == (6, 2, 36, 40, 3)
    for i in range(6):
        images = expected[f"clip2s1/{i}/imgs"].transpose(0, 2, 3, 1)
        height, width = clips.arrays["image_size"][i]
        canvas = clips.arrays["image"][i]
        np.testing.assert_array_equal(canvas[:, :height, :width], images)
        assert not canvas[:, height:].any()
        assert not canvas[:, :, width:].any()
        assert clips.arrays["left"][i] == expected[f"clip2s1/{i}/is_left"]
        for name in ("joint_cam", "mano_pose", "timestamp", "focal", "hand_bbox"):
            np.testing.assert_array_equal(clips.arrays[name][i], expected[f"clip2s1/{i}/{name}"])


def content(clips):
    arrays = {name: np.asarray(array).tobytes() for name, array in clips.arrays.items()}
    return clips.keys.tolist(), arrays


def test_shards_that_were_read_once_are_not_scanned_again(read, monkeypatch):
    first = read()
    monkeypatch.setattr("jaxrecipes.recipes.hand_pose.frames.scan_shards", None)
    monkeypatch.setattr("jaxrecipes.data.encoded_images.decode_rgb", None)
    again = read()
    assert content(again) == content(first)
    np.testing.assert_array_equal(again.sources, ["hand_wds_sample"] * 9)


def test_a_damaged_cache_is_made_again(read, tmp_path):
    first = content(read())
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    assert content(read()) == first


def test_written_sequences_come_back(read, tmp_path):
    sequences = [make_sequence(f"s{i}", num_frames=i + 1, seed=i) for i in range(5)]
    files = write_hand_shards(sequences, tmp_path / "own", max_samples=2)
    assert [file.name for file in files] == [f"hands-{i:06d}.tar" for i in range(3)]
    clips = read(tmp_path / "own", num_frames=2)
    np.testing.assert_array_equal(clips.shards, [0, 1, 1, 1, 1, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(clips.sequences, np.repeat(range(4), [1, 2, 3, 4]))
    assert clips.keys[-1] == "s4_0003"
    frame = np.asarray(Image.open(io.BytesIO(sequences[4].images[4])))
    np.testing.assert_array_equal(clips.arrays["image"][-1][1], frame)
    np.testing.assert_allclose(clips.arrays["focal"][-1], sequences[4].labels["focal"][3:])


def broken_shards(folder):
    """Three good samples between five broken ones."""
    good = pack_sequence(make_sequence("good"))
    damaged = make_sequence("x").images
    damaged[1] = damaged[1][:60] + bytes(len(damaged[1]) - 60)  # the head is fine
    with ShardWriter(folder, "a-{:02d}.tar") as shards:
        shards.write("no_focal", {k: v for k, v in good.items() if k != "focal.npy"})
        shards.write("good_0", good)
        shards.write("shape", good | {"mano_shape.npy": good["mano_pose.npy"]})
        shards.write("sizes", pack_sequence(make_sequence("x", size=(5, 5))))
        shards.write("text", good | {"img_bytes.pickle": pickle.dumps([b"no image"] * 3)})
        shards.write("damaged", good | {"img_bytes.pickle": pickle.dumps(damaged)})
        shards.write("good_1", good)
        shards.write("cut", good)
    file = shards.files[0]
    with tarfile.open(file) as tar:
        end = tar.getmember("cut.joint_img.npy").offset_data + 50
    file.write_bytes(file.read_bytes()[:end])


@pytest.mark.parametrize("decode", ["cache", "lazy"])
def test_broken_samples_are_counted_named_and_left_out(read, tmp_path, caplog, decode):
    broken_shards(tmp_path / "own")
    clips = read(tmp_path / "own", decode=decode, num_frames=3)
    assert clips.keys.tolist() == ["good_0_0000", "sizes_0000", "good_1_0000"]
    reasons = {sample.key: sample.reason for sample in clips.broken}
    assert reasons.pop("what follows") == "unexpected end of data"
    assert reasons.keys() == {"no_focal", "shape", "text", "damaged", "cut"}
    assert reasons["no_focal"] == "focal.npy is missing"
    assert reasons["text"] == "image 0 cannot be decoded: not an image that Pillow can read"
    assert "samples are broken and left out: " in caplog.text
    assert "no_focal of " in caplog.text
    assert clips.arrays["image"][np.arange(3)].shape == (3, 3, 6, 8, 3)


def test_a_clip_has_images_of_one_size(read, tmp_path, caplog):
    images = make_sequence("x", num_frames=4).images[:2]
    images += make_sequence("x", num_frames=4, size=(7, 5)).images[:2]
    sequence = make_sequence("s", num_frames=4, images=images)
    write_hand_shards([sequence], tmp_path / "own")
    clips = read(tmp_path / "own", num_frames=2)
    assert clips.keys.tolist() == ["s_0000", "s_0002"]
    assert clips.arrays["image_size"].tolist() == [[6, 8], [7, 5]]
    assert "1 of 3 clips have images of different sizes and are left out" in caplog.text
    assert len(read(tmp_path / "own")) == 4


def test_only_broken_samples_are_an_error(read, tmp_path):
    members = pack_sequence(make_sequence("x"))
    del members["focal.npy"]
    with ShardWriter(tmp_path / "own") as shards:
        shards.write("a", members)
        shards.write("b", members)
    with pytest.raises(ValueError, match=r"none of the 2 samples .* a of .*focal.npy is missing"):
        read(tmp_path / "own")


def test_hands_in_metres_are_refused_with_the_unit(read, tmp_path):
    sequence = make_sequence("m")
    members = pack_sequence(sequence)
    stream = io.BytesIO()
    np.save(stream, sequence.labels["joint_cam"].astype(np.float32) / 1000)
    with ShardWriter(tmp_path / "own") as shards:
        shards.write("m", members | {"joint_cam.npy": stream.getvalue()})
    with pytest.raises(ValueError, match=r"m of .* length of 0.0\d+ mm; .* metres: multiply by"):
        read(tmp_path / "own")


def test_points_far_outside_of_their_image_are_left_out_by_name(read, tmp_path):
    far = make_sequence("far")
    far.labels["joint_img"][1, 4] = 4000
    write_hand_shards([make_sequence("near"), far], tmp_path / "own")
    clips = read(tmp_path / "own")
    assert clips.sequences.max() == 0
    assert "joint_img of frame 1 has the point (4000, 4000) of joint 4" in clips.broken[0].reason


def test_a_tar_whose_name_is_not_utf8_is_read(read, tmp_path):
    (file,) = write_hand_shards([make_sequence("s")], tmp_path / "own")
    strange = file.rename(file.with_name("caf\udce9-000000.tar"))
    clips = read(strange.parent)
    assert clips.keys.tolist() == ["s_0000", "s_0001", "s_0002"]
    assert set(clips.sources.tolist()) == {"caf\\xe9"}


def test_photos_that_lie_are_turned_with_a_flag(read, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "PNG", exif=exif)
    write_hand_shards([make_sequence("s", images=[stream.getvalue()] * 3)], tmp_path / "own")
    for decode in ("cache", "lazy"):
        for turned, size in ((True, [8, 6]), (False, [6, 8])):
            arrays = read(tmp_path / "own", decode=decode, exif_orientation=turned).arrays
            assert arrays["image_size"][0].tolist() == size
            assert list(np.asarray(arrays["image"][:1]).shape[2:4]) == size


def test_clips_longer_than_all_sequences_are_an_error(read):
    with pytest.raises(ValueError, match="no sequence has 6 frames; the longest of 3 has 5"):
        read(num_frames=6)


def test_bad_options_are_refused(read):
    with pytest.raises(ValueError, match="both must be 1 or more"):
        read(stride=0)
    with pytest.raises(ValueError, match="did you mean 'lazy'"):
        read(decode="lasy")


def test_lazy_images_stream_as_decoded_ones_do(read):
    mesh, batches = make_mesh(), []
    for decode in ("cache", "lazy"):
        arrays = read(num_frames=2, decode=decode).arrays
        feed = StreamFeed(arrays, mesh, None, accumulation_steps=1, steps_per_call=1, num_threads=1)
        batches.append([item for item, _ in feed.evaluation_items(4)])
    for cached, lazy in zip(*batches, strict=True):
        for name in cached:
            np.testing.assert_array_equal(cached[name], lazy[name])
