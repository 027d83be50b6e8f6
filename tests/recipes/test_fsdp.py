"""Recipes with their state split over eight faked devices. Each number of devices has a process of
its own."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

WORKER = pathlib.Path(__file__).parent / "fsdp_worker.py"


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


@pytest.fixture(scope="module")
def runs():
    processes = [start(1), start(8)]
    return [result(process) for process in processes]


@pytest.mark.parametrize("recipe", ["clip_iqa", "hand_pose"])
def test_a_state_split_over_eight_devices_trains_as_on_one(runs, recipe):
    assert [run["devices"] for run in runs] == [1, 8]
    one, eight = (run[recipe] for run in runs)
    assert one["compilations"] == eight["compilations"] == 1
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=2e-5)
    np.testing.assert_allclose(eight["magnitude"], one["magnitude"], rtol=2e-5)
    assert one["losses"][0] != one["losses"][-1]
    # Biases, norms and small kernels are on every device.
    for part in ("params", "optimizer"):
        assert eight[part] < one[part] / 5
