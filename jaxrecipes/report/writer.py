"""What a run logs: TensorBoard events, written synchronously and flushed after every call, and by
choice Aim.
"""

import io
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from jaxrecipes.report.aim_writer import AimLog, AimWriter


class Writer(Protocol):
    """What the training loop needs from a log."""

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Logs one number per tag at `step`."""

    def image(self, step: int, tag: str, image: np.ndarray) -> None:
        """Logs a uint8 `[H, W, 3]` image at `step`."""

    def text(self, step: int, tag: str, text: str) -> None:
        """Logs a text (Markdown) at `step`."""

    def close(self) -> None:
        """Closes the log; closing twice is fine."""


class MetricWriter:
    """Writes TensorBoard event files; each call is on disk when it returns.

    tensorboardX's own `SummaryWriter` hands its events to a thread: `flush` does not wait for that
    thread's queue, `os._exit` loses what is in it, and once a write fails (a full disk) the queue
    fills and the next call hangs. So its record writer and messages are used without the thread; a
    failed write raises `OSError` here.
    """

    def __init__(self, logdir: str | os.PathLike[str], *, purge_step: int | None = None) -> None:
        """Opens a new event file in `logdir`, which is made if need be.

        Args:
          logdir: folder of the event files; files of earlier runs in it stay.
          purge_step: first step of a resumed run; TensorBoard hides what earlier files logged at
            this step or later.
        """
        # Imported late: tensorboardX imports torch where it finds it, which takes seconds.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2

        self._event, self._summary = event_pb2, summary_pb2
        self._tensor, self._shape = tensor_pb2, tensor_shape_pb2
        pathlib.Path(logdir).mkdir(parents=True, exist_ok=True)
        # Its file name counts whole seconds and the file is truncated: a run that is resumed within
        # the second would erase the earlier one but for the suffix.
        suffix = f".{os.getpid()}.{time.time_ns()}"
        self._file: Any = EventsWriter(os.path.join(os.fspath(logdir), "events"), suffix)
        if purge_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(event_pb2.Event(step=purge_step, session_log=start))
        self._file.flush()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Logs one number per tag.

        Args:
          step: updates applied so far.
          values: tag to Python, NumPy or JAX scalar. Bring JAX scalars to the host together
            (`jax.device_get(values)`): here each would be copied alone.
        """
        value = self._summary.Summary.Value
        self._add(step, *(value(tag=tag, simple_value=float(v)) for tag, v in values.items()))

    def image(self, step: int, tag: str, image: np.ndarray) -> None:
        """Logs a uint8 `[H, W, 3]` image.

        Raises:
          ValueError: another shape or dtype.
        """
        from PIL import Image

        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"expected a uint8 [H, W, 3] image for {tag!r}, got {image.dtype} {image.shape}; "
                "scale floats to 0..255 first"
            )
        png = io.BytesIO()
        Image.fromarray(image).save(png, format="PNG")
        height, width, channels = image.shape
        summary = self._summary.Summary
        encoded = summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=png.getvalue()
        )
        self._add(step, summary.Value(tag=tag, image=encoded))

    def text(self, step: int, tag: str, text: str) -> None:
        """Logs a text, shown as Markdown."""
        plugin = self._summary.SummaryMetadata.PluginData(plugin_name="text")
        tensor = self._tensor.TensorProto(
            dtype="DT_STRING",
            string_val=[text.encode()],
            tensor_shape=self._shape.TensorShapeProto(
                dim=[self._shape.TensorShapeProto.Dim(size=1)]
            ),
        )
        metadata = self._summary.SummaryMetadata(plugin_data=plugin)
        self._add(step, self._summary.Summary.Value(tag=tag, tensor=tensor, metadata=metadata))

    def close(self) -> None:
        """Closes the event file; closing twice is fine."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, step: int, *values: Any) -> None:
        summary = self._summary.Summary(value=values)
        self._write(self._event.Event(step=int(step), summary=summary))
        self._file.flush()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write_event(event)


class Writers:
    """Hands everything to several writers, or to none: then nothing is written."""

    def __init__(self, *writers: Writer) -> None:
        self._writers = writers

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Logs one number per tag at `step`."""
        for writer in self._writers:
            writer.scalars(step, values)

    def image(self, step: int, tag: str, image: np.ndarray) -> None:
        """Logs a uint8 `[H, W, 3]` image at `step`."""
        for writer in self._writers:
            writer.image(step, tag, image)

    def text(self, step: int, tag: str, text: str) -> None:
        """Logs a text at `step`."""
        for writer in self._writers:
            writer.text(step, tag, text)

    def close(self) -> None:
        """Closes them all."""
        for writer in self._writers:
            writer.close()

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_writer(
    logdir: str | os.PathLike[str],
    *more: Writer,
    process_index: int,
    purge_step: int | None = None,
    aim: AimLog | None = None,
) -> Writers:
    """The writer of this process: only process 0 (`jax.process_index()`) writes.

    Args:
      logdir: folder of TensorBoard's event files.
      *more: further writers.
      process_index: of this process.
      purge_step: see `MetricWriter`.
      aim: log to Aim as well.

    Raises:
      ImportError: aim is asked for and not installed.
    """
    if process_index != 0:
        return Writers()
    others = [] if aim is None else [AimWriter(aim)]
    return Writers(MetricWriter(logdir, purge_step=purge_step), *others, *more)
