"""Samples in tar files (the layout of WebDataset), read in any order.

A sample is a run of members that share a key, the part of their name before the first dot. The
heads of a tar are scanned once; after that a member is read from where it lies, so a sample
anywhere in any shard costs one seek.
"""

import dataclasses
import glob
import itertools
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jaxrecipes.paths import user_path

_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclasses.dataclass(frozen=True)
class TarSample:
    """Where a sample lies.

    Attributes:
      shard: which of `TarShards.files`.
      key: the name of its members before the first dot.
      members: (offset, size) in bytes of each, by the name after that dot.
    """

    shard: int
    key: str
    members: Mapping[str, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class TarShards:
    """Tar files and the samples in them, in the order of the files.

    Attributes:
      files: the tars.
      samples: where each sample lies.
      damaged: (shard, reason) of each tar that ends early or is none; what comes before the damage
        is in `samples`, and its last sample may lack members.
    """

    files: tuple[Path, ...]
    samples: tuple[TarSample, ...]
    damaged: tuple[tuple[int, str], ...]

    def read(self, sample: TarSample) -> dict[str, bytes]:
        """The contents of its members, by name. Any number of threads may read.

        Raises:
          ValueError: the tar is shorter than its heads say.
          OSError: it cannot be read.
        """
        contents = {}
        with self.files[sample.shard].open("rb") as stream:
            for name, (offset, size) in sample.members.items():
                stream.seek(offset)
                contents[name] = stream.read(size)
                if len(contents[name]) < size:
                    raise ValueError(f"{name} is cut off after {len(contents[name])} bytes")
        return contents


def find_shards(sources: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """The tars that `sources` mean, sorted by path, each once.

    Args:
      sources: tars, folders of tars (`*.tar`, not deeper), or patterns with `*`, `?`, `{a,b}` and
        `{000..009}`, of which every file of a range must be there.

    Raises:
      FileNotFoundError: one that means no file.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    found: set[Path] = set()
    for source in sources:
        for pattern in _expand_braces(str(user_path(source))):
            path = Path(pattern)
            if path.is_dir():
                files = sorted(path.glob("*.tar"))
            elif path.is_file():
                files = [path]
            else:
                files = [Path(name) for name in glob.glob(pattern)]
            if not files:
                raise FileNotFoundError(
                    f"no tar at {pattern}; want a tar, a folder of tars, or a pattern such as "
                    "train/*.tar or train-{000000..000009}.tar"
                )
            found.update(files)
    return tuple(sorted(found))


def scan_shards(files: Sequence[str | Path]) -> TarShards:
    """Reads the heads of all members; passes over those that are no plain file or have no dot."""
    paths = tuple(Path(file) for file in files)
    samples: list[TarSample] = []
    damaged = []
    for shard, file in enumerate(paths):
        members: list[tuple[str, str, int, int]] = []
        try:
            for member in _heads(file):
                members.append(member)
        except tarfile.TarError as error:
            damaged.append((shard, str(error)))
        for key, group in itertools.groupby(members, lambda member: member[0]):
            places = {name: (offset, size) for _, name, offset, size in group}
            samples.append(TarSample(shard, key, places))
    return TarShards(paths, tuple(samples), tuple(damaged))


def _heads(file: Path) -> Iterator[tuple[str, str, int, int]]:
    """(key, name after the dot, offset, size) of every member."""
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            name = _NAME.fullmatch(member.name)
            if member.isreg() and name:
                yield name[1], name[2], member.offset_data, member.size
        end = tar.offset
    # A tar ends with blocks of zeros; tarfile takes anything that is no head for its end.
    with file.open("rb") as stream:
        stream.seek(end)
        if any(stream.read(tarfile.BLOCKSIZE) or b"nothing"):
            raise tarfile.ReadError(f"damaged or cut off at byte {end}")


def _expand_braces(pattern: str) -> Iterable[str]:
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    choices = braces[1].split(",")
    if bounds := _RANGE.fullmatch(braces[1]):
        first, last = bounds.groups()
        choices = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [name for choice in choices for name in _expand_braces(before + choice + after)]
