"""Recipes with their state split over eight faked devices, which take a process of their own."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

WORKER = pathlib.Path(__file__).parent / "fsdp_worker.py"


@pytest.fixture(scope="module")
def runs():
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(WORKER)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    # What XLA says when activations take the weights' splits.
    assert "rematerialization" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("recipe", ["clip_iqa", "hand_pose"])
def test_a_state_split_over_eight_devices_trains_as_on_one(runs, recipe):
    one, eight = runs[recipe]
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert one["compilations"] == eight["compilations"] == 1
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=2e-5)
    np.testing.assert_allclose(eight["magnitude"], one["magnitude"], rtol=2e-5)
    assert one["losses"][0] != one["losses"][-1]
    # Biases, norms and small kernels are on every device.
    for part in ("params", "optimizer"):
        assert eight[part] < one[part] / 5
