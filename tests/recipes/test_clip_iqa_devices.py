"""clip_iqa with its state split over eight faked devices. Each run has a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

WORKER = pathlib.Path(__file__).parent / "clip_devices_worker.py"


def start(devices):
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(WORKER), str(devices)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    assert "rematerialization" not in err  # what XLA says when activations take the weights' splits
    return json.loads(out.splitlines()[-1])


def test_a_clip_split_over_eight_devices_trains_as_on_one():
    processes = [start(1), start(8)]
    one, eight = map(result, processes)
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert one["compilations"] == eight["compilations"] == 1
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=2e-5)
    np.testing.assert_allclose(eight["projection"], one["projection"], rtol=2e-5)
    assert one["losses"][0] != one["losses"][-1]
    # Biases, norms and small kernels are on every device.
    for part in ("params", "optimizer"):
        assert eight[part] < one[part] / 5
