"""The members of a tar and their positions, even if it is damaged, concatenated or hostile."""

import dataclasses
import itertools
import os
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jaxrecipes.files import check_content

MALFORMED = (*(tarfile.TarError, ValueError, OverflowError, IndexError, KeyError, RecursionError),)
"""What `tar_members` raises if a tar is damaged."""

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"(\xb5": "unzstd"}


@dataclasses.dataclass(frozen=True)
class TarMember:
    """A file in a tar.

    Attributes:
      name: as it is stored. offset, size: position and size of its content, in bytes. archive:
        which of the concatenated archives it belongs to, from 0.
      problem: why it has no content;
        None if it has.
    """

    name: str
    offset: int
    size: int
    archive: int
    problem: str | None = None


def tar_members(file: Path) -> Iterator[TarMember]:
    """All plain files, and links to them, in the order of the tar.

    A tar ends with blocks of zeros; if another one follows (`cat a.tar b.tar`), it is read, too.

    Raises:
      ValueError: the file is empty, compressed, or a Git LFS pointer.
      tarfile.TarError, or another of `MALFORMED`: it is damaged or truncated. By then, the members
      before the damage have been yielded.
    """
    check_content(file)
    with file.open("rb") as stream:
        if unpack := _COMPRESSED.get(stream.read(2)):
            raise ValueError(f"it is compressed and must be unpacked first ({unpack})")
        size = os.fstat(stream.fileno()).st_size
        start: int | None = 0
        for archive in itertools.count():
            if start is None:
                return
            stream.seek(start)
            with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Head) as tar:
                yield from _archive_members(tar, size, archive)
                end = tar.offset
            start = _next_archive(stream, end)


class _Head(tarfile.TarInfo):
    """A header that refuses negative sizes, which would make tarfile go back, again and again."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:  # type: ignore[override]
        head = super().frombuf(buf, encoding, errors)
        if head.size < 0:
            raise tarfile.InvalidHeaderError(  # type: ignore[attr-defined]
                "a member has a negative size"
            )
        return head


def _archive_members(tar: tarfile.TarFile, file_size: int, archive: int) -> Iterator[TarMember]:
    """The members of one archive; afterwards its `offset` is at the end."""
    places: dict[str, tuple[int, int]] = {}
    for member in tar:
        if member.size < 0:  # of an extended header
            raise tarfile.ReadError("a member has a negative size")
        place, problem = (member.offset_data, member.size), None
        if member.islnk() or member.issym():
            target = member.linkname
            if member.issym():
                target = posixpath.join(posixpath.dirname(member.name), target)
            target = posixpath.normpath(target)
            place = places.get(target, (0, 0))
            problem = None if target in places else f"is a link to {target}, not in the tar"
        elif member.issparse():
            problem = "is a sparse file; write the tar without --sparse"
        elif not member.isreg():
            continue
        if problem is None:
            places[posixpath.normpath(member.name)] = place
        yield TarMember(member.name, *place, archive, problem)
        if sum(place) > file_size:
            raise tarfile.ReadError("unexpected end of data")


def _next_archive(stream: BinaryIO, end: int) -> int | None:
    """Where another archive begins after the blocks of zeros at `end`; None if none does."""
    stream.seek(end)
    block = stream.read(tarfile.BLOCKSIZE)
    # tarfile takes anything that is not a header for the end of an archive.
    if any(block or b"nothing"):
        raise tarfile.ReadError(f"damaged or cut off at byte {end}")
    while block and not any(block):
        block = stream.read(tarfile.BLOCKSIZE)
    return stream.tell() - len(block) if block else None
