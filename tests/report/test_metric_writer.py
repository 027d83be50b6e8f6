import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxrecipes.report.writer import MetricWriter, open_writer


def read_events(logdir: pathlib.Path) -> list[Event]:
    events = []
    for path in sorted(logdir.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event()
            event.ParseFromString(data[at + 12 : at + 12 + length])
            events.append(event)
            at += length + 16
    return events


def scalars(logdir: pathlib.Path) -> list[tuple[int, str, float]]:
    return [
        (event.step, value.tag, value.simple_value)
        for event in read_events(logdir)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def test_scalars_are_on_disk_when_the_call_returns(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.scalars(3, {"loss": np.float32(0.5), "val/f1": 0.25})
        assert scalars(tmp_path) == [(3, "loss", 0.5), (3, "val/f1", 0.25)]


def test_events_survive_an_exit_without_close(tmp_path):
    code = (
        "import os, sys; from jaxrecipes.report.writer import MetricWriter;"
        "w = MetricWriter(sys.argv[1]); w.scalars(1, {'loss': 2.0}); os._exit(1)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert scalars(tmp_path) == [(1, "loss", 2.0)]


def test_a_run_resumed_within_the_second_keeps_the_earlier_file(tmp_path):
    for step in (1, 2):
        with MetricWriter(tmp_path) as writer:
            writer.scalars(step, {"loss": float(step)})
    assert scalars(tmp_path) == [(1, "loss", 1.0), (2, "loss", 2.0)]


def test_purge_step_marks_a_restart(tmp_path):
    MetricWriter(tmp_path, purge_step=40).close()
    starts = [event for event in read_events(tmp_path) if event.HasField("session_log")]
    assert [(event.step, event.session_log.status) for event in starts] == [(40, 1)]


def test_image_and_text_are_read_back(tmp_path):
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    with MetricWriter(tmp_path) as writer:
        writer.image(1, "samples", image)
        writer.text(1, "config", "seed = 42")
    values = [value for event in read_events(tmp_path) for value in event.summary.value]
    assert (values[0].image.height, values[0].image.width) == (4, 5)
    assert values[1].tensor.string_val == [b"seed = 42"]


def test_float_image_is_refused(tmp_path):
    with MetricWriter(tmp_path) as writer, pytest.raises(ValueError, match=r"uint8.*float64"):
        writer.image(1, "samples", np.zeros((4, 5, 3)))


def test_only_the_first_process_writes(tmp_path):
    writer = open_writer(tmp_path / "log", process_index=1)
    writer.scalars(1, {"loss": 1.0})
    writer.close()
    assert not list(tmp_path.iterdir())
