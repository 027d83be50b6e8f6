"""Progress with rate and time left: a bar on a terminal, now and then a plain line in a log."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Counts towards `total`; use it as a context manager.

    ```
    with Progress("epoch 3/30", total=n_steps, unit="steps") as progress:
        for batch in batches:
            state, metrics = step(state, batch)
            progress.advance(1)
    with Progress("decoding", unit="images") as progress:
        decode(paths, callback=progress)
    ```

    On a terminal a bar is redrawn in place. Elsewhere a line is printed at most every
    `interval_s` seconds, and one at the end. After an exception or Ctrl-C the bar is taken down,
    the last line says where it stopped, and the exception goes on.
    """

    def __init__(
        self,
        description: str,
        *,
        total: int | None = None,
        unit: str = "steps",
        stream: TextIO | None = None,
        interval_s: float = 10.0,
        last_line: bool = True,
        silent: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draws nothing yet.

        Args:
          description: what is being done, a few words.
          total: where it ends; `None` until a callback tells.
          unit: plural name of what is counted.
          stream: where to write; standard error by default.
          interval_s: shortest time between two plain lines, in seconds.
          last_line: whether the end is worth a plain line, or a bar that stays. Switch it off where
            the caller prints its own line for each epoch.
          silent: write nothing, as where several things go on at once.
          clock: seconds, for tests.
        """
        self._description = description
        self._total = total
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._interval_s = interval_s
        self._last_line = last_line
        self._silent = silent
        self._clock = clock
        self._done = 0
        self._postfix = ""
        self._start = self._last_print = clock()
        self._bar: RichProgress | None = None

    def __enter__(self) -> "Progress":
        self._start = self._last_print = self._clock()
        if self._stream.isatty() and not self._silent:
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}", markup=False),
                console=Console(file=self._stream),
                transient=not self._last_line,
            )
            self._task = self._bar.add_task(self._description, total=self._total, status="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._draw(self._bar)
            self._bar.stop()
            self._bar = None
        elif kind is not None:
            self._print(f"{self._description}: stopped at {self._count()} {self._unit}")
        elif self._last_line:
            self._print(self._line())

    def __call__(self, done: int, total: int) -> None:
        """Sets both numbers: the `callback(done, total)` that long-running functions take."""
        self._total = total
        self.advance(done - self._done)

    def advance(self, n: int = 1, postfix: Mapping[str, float] | None = None) -> None:
        """Counts `n` more.

        Args:
          n: how many were done.
          postfix: numbers to show beside the count until the next ones. Host numbers: reading a
            device array here would wait for the device.
        """
        self._done += n
        if postfix is not None:
            self._postfix = "  ".join(f"{name} {value:.4g}" for name, value in postfix.items())
        if self._bar is not None:
            self._draw(self._bar)
        elif self._clock() - self._last_print >= self._interval_s:
            self._print(self._line())

    def _draw(self, bar: RichProgress) -> None:
        bar.update(self._task, completed=self._done, total=self._total, status=self._status())

    def _print(self, line: str) -> None:
        if not self._silent:
            print(line, file=self._stream, flush=True)
        self._last_print = self._clock()

    def _line(self) -> str:
        share = f" ({self._done / self._total:.0%})" if self._total else ""
        return f"{self._description}: {self._count()} {self._unit}{share}, {self._status()}"

    def _count(self) -> str:
        return f"{self._done}" if self._total is None else f"{self._done}/{self._total}"

    def _status(self) -> str:
        elapsed = self._clock() - self._start
        rate = self._done / elapsed if elapsed > 0 else 0.0
        parts = [f"{_rate(rate)} {self._unit}/s"]
        if self._total is not None and 0 < self._done < self._total and rate > 0:
            parts.append(f"{duration((self._total - self._done) / rate)} left")
        else:
            parts.append(f"{duration(elapsed)}")
        if self._postfix:
            parts.append(self._postfix)
        return ", ".join(parts)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def duration(seconds: float) -> str:
    """A length of time for people: `42s`, `3m 05s`, `2h 07m`, `3d 04h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"
