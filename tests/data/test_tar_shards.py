import io
import tarfile
import time
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
    with pytest.raises(ValueError, match="expected a name with a number"):
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


def write_tar(file, members, **options):
    """Of (name, content), or ready TarInfo objects."""
    with tarfile.open(file, "w", **options) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return file


def link(name, target, kind=tarfile.LNKTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def contents(*files):
    shards = scan_shards(files)
    assert not shards.damaged
    return {sample.key: shards.read(sample) for sample in shards.samples}


def test_tars_that_were_joined_give_all_their_samples(shards, tmp_path):
    joined = tmp_path / "joined.tar"
    joined.write_bytes(b"".join(file.read_bytes() for file in shards))
    assert contents(joined) == SAMPLES


def test_damage_in_a_later_part_of_a_joined_tar_is_noticed(shards, tmp_path):
    joined = tmp_path / "joined.tar"
    joined.write_bytes(shards[0].read_bytes() + b"junk" * 128 + shards[1].read_bytes())
    scanned = scan_shards([joined])
    assert len(scanned.samples) == 2
    assert len(scanned.damaged) == 1


def test_members_may_lie_in_any_order(tmp_path):
    names = ("b.x", "a.x", "b.y", "a.y")
    found = contents(write_tar(tmp_path / "t.tar", [(name, name.encode()) for name in names]))
    assert found == {"b": {"x": b"b.x", "y": b"b.y"}, "a": {"x": b"a.x", "y": b"a.y"}}


def test_a_repeated_key_is_a_sample_of_its_own_and_named(tmp_path, caplog):
    members = [("a.x", b"1"), ("a.y", b"2"), ("b.x", b"3"), ("a.x", b"4"), ("a.y", b"5")]
    found = contents(write_tar(tmp_path / "t.tar", members))
    assert found == {
        "a": {"x": b"1", "y": b"2"},
        "b": {"x": b"3"},
        "a~2": {"x": b"4", "y": b"5"},
    }
    assert "1 samples have a key that their tar has had before; they are read as a~2" in caplog.text


def test_joined_tars_may_have_the_same_keys(tmp_path):
    parts = [write_tar(tmp_path / f"{i}.tar", [("a.x", b"%d" % i)]) for i in range(2)]
    joined = tmp_path / "joined.tar"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert contents(joined) == {"a": {"x": b"0"}, "a~2": {"x": b"1"}}


def test_links_are_what_they_lead_to(tmp_path):
    members = [
        ("set/a.x", b"content"),
        link("set/b.x", "set/a.x"),
        link("set/c.x", "a.x", tarfile.SYMTYPE),
    ]
    found = contents(write_tar(tmp_path / "t.tar", members))
    assert found == {f"set/{key}": {"x": b"content"} for key in "abc"}


def test_a_link_out_of_the_tar_is_named(tmp_path):
    file = write_tar(tmp_path / "t.tar", [link("a.x", "../../etc/passwd", tarfile.SYMTYPE)])
    shards = scan_shards([file])
    with pytest.raises(ValueError, match=r"x is a link to \.\./\.\./etc/passwd, not in the tar"):
        shards.read(shards.samples[0])


@pytest.mark.parametrize("kind", ["plain", "extended", "long name"])
def test_a_negative_size_ends_the_tar(tmp_path, kind):
    info = tarfile.TarInfo("b.x")
    info.size = -1536
    if kind == "extended":
        info.size, info.pax_headers = 0, {"size": "-1536"}
        bad = info.tobuf(tarfile.PAX_FORMAT)
    else:
        info.type = tarfile.REGTYPE if kind == "plain" else tarfile.GNUTYPE_LONGNAME
        bad = info.tobuf(tarfile.GNU_FORMAT)
    first = tarfile.TarInfo("a.x").tobuf()
    (tmp_path / "t.tar").write_bytes(first + bad + bytes(10240))
    begin = time.perf_counter()
    scanned = scan_shards([tmp_path / "t.tar"])
    assert time.perf_counter() - begin < 5
    assert [sample.key for sample in scanned.samples] == ["a"]
    assert len(scanned.damaged) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty file"),
        (b"\x1f\x8b" + bytes(600), "must be unpacked first (gunzip)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"text" * 300, "invalid header"),
    ],
)
def test_what_is_no_tar_says_what_it_is(tmp_path, content, says):
    (tmp_path / "t.tar").write_bytes(content)
    ((_, reason),) = scan_shards([tmp_path / "t.tar"]).damaged
    assert says in reason


def test_a_size_beyond_all_bounds_is_a_tar_that_is_cut_off(tmp_path):
    info = tarfile.TarInfo("a.x")
    info.size = 2**70
    (tmp_path / "t.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    assert scan_shards([tmp_path / "t.tar"]).damaged == ((0, "unexpected end of data"),)


def test_a_member_name_that_is_not_utf8_is_escaped(tmp_path):
    info = tarfile.TarInfo("caf\udce9.x")
    file = write_tar(tmp_path / "t.tar", [info], format=tarfile.GNU_FORMAT)
    assert list(contents(file)) == ["caf\\xe9"]


@pytest.mark.parametrize(
    "pattern", ["{0..999999999}.tar", "{0..9}" * 12, "{a,b}" * 40, "{0..99999999999999999}"]
)
def test_a_pattern_of_a_billion_names_is_refused_at_once(pattern):
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="expands to more than 100000 names"):
        find_shards(pattern)
    assert time.perf_counter() - begin < 10


def test_a_pattern_of_braces_alone_is_refused():
    with pytest.raises(ValueError, match="a pattern with 3000 braces"):
        find_shards("{a,b}" * 3000)


def test_a_range_that_descends_is_refused():
    with pytest.raises(ValueError, match=r"the range \{9\.\.0\} of .* descends"):
        find_shards("s-{9..0}.tar")
