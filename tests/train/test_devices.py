"""The same losses on one device, on eight, and in two processes. Each run has a process of its own,
with a time limit."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent


def start(workdir, *arguments, devices=1):
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path]),
    }
    command = [
        sys.executable,
        str(FOLDER / "devices_worker.py"),
        str(workdir),
        *map(str, arguments),
    ]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return result(start(tmp_path_factory.mktemp("one"), 1, "device", 2))


def assert_same_run(found, wanted):
    np.testing.assert_allclose(found["losses"], wanted["losses"], rtol=2e-5)
    np.testing.assert_allclose(found["val"], wanted["val"], rtol=2e-5)
    np.testing.assert_allclose(found["kernel_sum"], wanted["kernel_sum"], rtol=2e-5)
    assert found["compilations"] == {"train": 1, "eval": 1}


@pytest.mark.parametrize(("fsdp", "placement"), [(1, "device"), (8, "device"), (4, "stream")])
def test_eight_devices_train_as_one(one_device, tmp_path, fsdp, placement):
    found = result(start(tmp_path, fsdp, placement, 2, devices=8))
    assert found["devices"] == 8
    assert_same_run(found, one_device)
    assert found["kernel_shard"] == [6, 1024 // fsdp]
    if fsdp == 8:
        assert found["bytes_per_device"] < 0.65 * one_device["bytes_per_device"]


def test_a_run_goes_on_on_another_number_of_devices(one_device, tmp_path):
    result(start(tmp_path, 4, "device", 1, devices=8))
    found = result(start(tmp_path, 1, "device", 2))
    np.testing.assert_allclose(found["losses"], one_device["losses"], rtol=2e-5)


@pytest.mark.parametrize(("fsdp", "placement"), [(2, "device"), (1, "stream")])
def test_two_processes_train_as_one_device(one_device, tmp_path, fsdp, placement):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    both = [start(tmp_path, fsdp, placement, 2, coordinator, 2, i) for i in range(2)]
    for found in [result(process) for process in both]:
        assert found["devices"] == 2
        assert_same_run(found, one_device)
