import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxrecipes.data.tar_shards import find_shards, scan_shards
from jaxrecipes.data.tar_writer import ShardWriter

SAMPLES = {
    f"set/seq_{i}": {"a.npy": bytes([i]) * (700 * i + 1), "b.json": b"%d" % i, "empty": b""}
    for i in range(5)
}


@pytest.fixture
def shards(tmp_path):
    with ShardWriter(tmp_path, "s-{:03d}.tar", max_samples=2) as writer:
        for key, members in SAMPLES.items():
            writer.write(key, members)
    return writer.files


def test_what_was_written_is_read_in_any_order(shards):
    scanned = scan_shards(shards)
    assert [sample.shard for sample in scanned.samples] == [0, 0, 1, 1, 2]
    assert not scanned.damaged
    for sample in reversed(scanned.samples):
        assert scanned.read(sample) == SAMPLES[sample.key]


def test_threads_read_at_once(shards):
    scanned = scan_shards(shards)
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(scanned.read, scanned.samples * 20))
    assert contents == list(SAMPLES.values()) * 20


def test_the_key_ends_at_the_first_dot_of_the_file_name(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("a.b/k.one.npy", "a.b/k.two", "a.b", "nodot", "long/" + "n" * 200 + ".x"):
            tar.addfile(tarfile.TarInfo(name))
    samples = scan_shards([tmp_path / "x.tar"]).samples
    assert [sample.key for sample in samples] == ["a.b/k", "a", "long/" + "n" * 200]
    assert list(samples[0].members) == ["one.npy", "two"]


def test_the_same_samples_give_the_same_bytes(shards, tmp_path):
    with ShardWriter(tmp_path / "again", "s-{:03d}.tar", max_samples=2) as writer:
        for key, members in SAMPLES.items():
            writer.write(key, members)
    assert [f.read_bytes() for f in writer.files] == [f.read_bytes() for f in shards]


def test_a_shorter_set_leaves_nothing_of_a_longer_one(shards, tmp_path):
    with ShardWriter(tmp_path, "s-{:03d}.tar") as writer:
        writer.write("k", {"x": b"1"})
    assert find_shards(tmp_path) == (shards[0],)


def test_a_tar_is_full_at_its_number_of_bytes(tmp_path):
    with ShardWriter(tmp_path, max_bytes=1000) as writer:
        for i in range(4):
            writer.write(f"k{i}", {"x": bytes(600)})
    assert [len(scan_shards([file]).samples) for file in writer.files] == [2, 2]


def test_a_tar_that_is_not_complete_is_never_there(tmp_path):
    writer = ShardWriter(tmp_path, max_samples=2)
    for i in range(3):
        writer.write(f"k{i}", {"x": b"1"})
    assert not (tmp_path / "000001.tar").exists()
    writer.__exit__(KeyError, KeyError(), None)
    assert [file.name for file in tmp_path.iterdir()] == ["000000.tar"]


@pytest.mark.parametrize("pattern", ["same.tar", "{:03d}.zip"])
def test_a_pattern_needs_a_number_and_the_suffix(tmp_path, pattern):
    with pytest.raises(ValueError, match="want a name with a number"):
        ShardWriter(tmp_path, pattern)


def test_a_key_with_a_dot_is_refused(tmp_path):
    with pytest.raises(ValueError, match="without dot"), ShardWriter(tmp_path) as writer:
        writer.write("a.b", {"x": b""})


def test_a_tar_that_is_cut_off_gives_what_comes_before(shards):
    content = shards[0].read_bytes()
    for kept in (len(content) // 2, 512, 100, 0):
        shards[0].write_bytes(content[:kept])
        scanned = scan_shards(shards)
        assert [shard for shard, _ in scanned.damaged] == [0]
        assert len(scanned.samples) >= 3


def test_damage_in_the_middle_is_noticed(shards):
    content = bytearray(shards[0].read_bytes())
    content[content.index(b"set/seq_1.a.npy")] ^= 255
    shards[0].write_bytes(content)
    scanned = scan_shards(shards[:1])
    assert [sample.key for sample in scanned.samples] == ["set/seq_0"]
    assert "damaged or cut off at byte" in scanned.damaged[0][1]


def test_a_member_that_is_cut_off_cannot_be_read(shards):
    scanned = scan_shards(shards[:1])
    shards[0].write_bytes(shards[0].read_bytes()[:600])
    with pytest.raises(ValueError, match="is cut off after"):
        scanned.read(scanned.samples[0])


def test_sources_are_folders_patterns_and_files(shards, tmp_path):
    assert find_shards(tmp_path) == tuple(shards)
    assert find_shards(str(tmp_path / "s-{000..002}.tar")) == tuple(shards)
    assert find_shards(str(tmp_path / "s-00{0,2}.tar")) == (shards[0], shards[2])
    assert find_shards([shards[2], str(tmp_path / "*0?.tar"), tmp_path]) == tuple(shards)


@pytest.mark.parametrize("source", ["none.tar", "s-{000..003}.tar", "t*.tar", "empty"])
def test_a_source_without_tars_is_an_error(shards, tmp_path, source):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no tar at"):
        find_shards(str(tmp_path / source))
