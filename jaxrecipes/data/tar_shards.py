"""Samples in tar files (the layout of WebDataset), read in any order.

A sample consists of the members that share a key, the part of their name before the first dot, in
any order; if a member name occurs again for a key, it begins the next sample. The headers of a tar
are scanned once; after that members are read in place, so any sample in any shard costs one seek.
"""

import collections
import dataclasses
import glob
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxrecipes.data.brace_patterns import expand_braces
from jaxrecipes.data.image_folders import printable
from jaxrecipes.data.tar_members import MALFORMED, TarMember, tar_members
from jaxrecipes.errors import cause, listed
from jaxrecipes.paths import user_path

_log = logging.getLogger("jaxrecipes")

_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")


@dataclasses.dataclass(frozen=True)
class TarSample:
    """Where a sample is stored.

    Attributes:
      shard: which of `TarShards.files`.
      key: the name of its members before the first dot; with `~2` appended for the second sample of
        that name in the tar, and so on.
      members: (offset, size) in bytes of each, by the name after that dot.
      problem: why it cannot
        be read, if that is known.
    """

    shard: int
    key: str
    members: Mapping[str, tuple[int, int]]
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class TarShards:
    """Tar files and the samples in them, in the order of the files.

    Attributes:
      files: the tars.
      samples: where each sample is stored.
      damaged: (shard, reason) for each tar that ends early or
        is not a tar; what comes before the damage is in `samples`, and its last sample may lack
        members.
    """

    files: tuple[Path, ...]
    samples: tuple[TarSample, ...]
    damaged: tuple[tuple[int, str], ...]

    def read(self, sample: TarSample) -> dict[str, bytes]:
        """The contents of the sample's members, by name. May be called from any number of threads.

        Raises:
          ValueError: the sample has a problem, or the tar is shorter than its headers say.
          OSError: it cannot be read.
        """
        if sample.problem is not None:
            raise ValueError(sample.problem)
        contents = {}
        with self.files[sample.shard].open("rb") as stream:
            for name, (offset, size) in sample.members.items():
                stream.seek(offset)
                contents[name] = stream.read(size)
                if len(contents[name]) < size:
                    raise ValueError(f"{name} is cut off after {len(contents[name])} bytes")
        return contents


def find_shards(sources: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """The tars that `sources` stand for, sorted by path, without duplicates.

    Args:
      sources: tars, folders of tars (`*.tar`, not deeper), or patterns with `*`, `?`, `{a,b}` and
        `{000..009}`, of which every file of a range must exist.

    Raises:
      FileNotFoundError: one of them matches no file.
      ValueError: a pattern matches too many files,
        or a range descends.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    found: set[Path] = set()
    for source in sources:
        for pattern in expand_braces(str(user_path(source))):
            path = Path(pattern)
            if path.is_dir():
                files = [tar for tar in path.glob("*.tar") if not tar.name.startswith(".")]
            elif path.is_file():
                files = [path]
            else:
                files = [Path(name) for name in glob.glob(pattern)]
            if not files:
                raise FileNotFoundError(
                    f"no tar at {pattern}; expected a tar, a folder of tars, or a pattern such as "
                    "train/*.tar or train-{000000..000009}.tar"
                )
            found.update(files)
    return tuple(sorted(found))


def scan_shards(files: Sequence[str | Path]) -> TarShards:
    """Reads the headers of all members; ignores those that are not files or have no dot.

    Links are followed within the tar. Data after the end mark of an archive is read too, because
    tars may be concatenated (`cat a.tar b.tar`).
    """
    paths = tuple(Path(file) for file in files)
    samples: list[TarSample] = []
    damaged = []
    repeated: list[str] = []
    for shard, file in enumerate(paths):
        found: list[TarSample] = []
        try:
            _collect(tar_members(file), shard, found, repeated)
        except MALFORMED as error:
            damaged.append((shard, cause(error)))
        samples += found
    if repeated:
        _log.warning(
            "%d samples have a key that their tar has had before; they are read as %s",
            *(len(repeated), listed(repeated, 3)),
        )
    return TarShards(paths, tuple(samples), tuple(damaged))


def _collect(
    members: Iterable[TarMember], shard: int, found: list[TarSample], repeated: list[str]
) -> None:
    """Adds the samples of a tar to `found`, as far as it can be read, and to `repeated` the names
    of those whose key occurred before.
    """
    counts: collections.Counter[str] = collections.Counter()
    places: list[dict[str, tuple[int, int]]] = []  # the members of each sample
    current: dict[tuple[int, str], int] = {}  # archive and key -> its current sample
    for member in members:
        name = _NAME.fullmatch(member.name)
        if name is None:
            continue
        key, part = printable(name[1]), printable(name[2])
        at = current.get((member.archive, key))
        if at is None or part in found[at].members:
            counts[key] += 1
            at = current[member.archive, key] = len(found)
            unique = key if counts[key] == 1 else f"{key}~{counts[key]}"
            repeated += [unique] if counts[key] > 1 else []
            places.append({})
            found.append(TarSample(shard, unique, places[at]))
        places[at][part] = member.offset, member.size
        if member.problem is not None:
            found[at] = dataclasses.replace(found[at], problem=f"{part} {member.problem}")
