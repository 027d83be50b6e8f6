"""Writes samples into tar files (the layout of WebDataset)."""

import io
import itertools
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType


class ShardWriter:
    """Fills one tar after another; a tar gets its name only when it is complete.

        with ShardWriter("folder", "train-{:06d}.tar", max_samples=1000) as shards:
            shards.write("seq_0001", {"image.png": png, "label.json": b"3"})

    The same samples give the same bytes, because times, owners and permissions are fixed. If the
    block ends with an error, the tar that was being filled is dropped. Otherwise tars with higher
    numbers, left over from a longer data set, are removed.

    Args:
      folder: created if needed; files of these names are overwritten.
      pattern: name of a tar, with a placeholder for its number, from 0.
      max_samples, max_bytes: a tar with this many samples, or bytes of content, is full.

    Raises:
      ValueError: the pattern has no number, or a limit is below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        pattern: str = "{:06d}.tar",
        *,
        max_samples: int = 1000,
        max_bytes: int = 2**30,
    ):
        if pattern.format(0) == pattern.format(1) or not pattern.endswith(".tar"):
            raise ValueError(
                f"pattern {pattern!r}; expected a name with a number, such as 'a-{{:06d}}.tar'"
            )
        if max_samples < 1 or max_bytes < 1:
            raise ValueError(f"max_samples {max_samples}, max_bytes {max_bytes}: both at least 1")
        self.files: list[Path] = []
        """The complete tars."""
        self._folder, self._pattern = Path(folder), pattern
        self._max_samples, self._max_bytes = max_samples, max_bytes
        self._tar: tarfile.TarFile | None = None
        self._samples = self._bytes = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tar is not None:
            self._finish(keep=kind is None)
        if kind is None:
            for number in itertools.count(len(self.files)):
                try:
                    (self._folder / self._pattern.format(number)).unlink()
                except FileNotFoundError:
                    break

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Adds a sample: its members are named KEY.NAME, in the order given.

        Raises:
          ValueError: the key contains a dot, which would end it, or there are no members.
        """
        if not key or "." in key.rsplit("/", 1)[-1] or not members:
            raise ValueError(
                f"sample {key!r} with {len(members)} members; expected a key without dot, "
                f"and members"
            )
        if self._tar is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._tar = tarfile.open(self._partial, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        for name, content in members.items():
            info = tarfile.TarInfo(f"{key}.{name}")
            info.size = len(content)
            self._tar.addfile(info, io.BytesIO(content))
            self._bytes += len(content)
        self._samples += 1
        if self._samples >= self._max_samples or self._bytes >= self._max_bytes:
            self._finish(keep=True)

    @property
    def _file(self) -> Path:
        return self._folder / self._pattern.format(len(self.files))

    @property
    def _partial(self) -> Path:
        return self._file.with_name(f".{self._file.name}.partial")

    def _finish(self, *, keep: bool) -> None:
        assert self._tar is not None
        self._tar.close()
        self._tar = None
        self._samples = self._bytes = 0
        if keep:
            file = self._partial.replace(self._file)
            self.files.append(file)
        else:
            self._partial.unlink()
