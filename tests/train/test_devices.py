"""The same losses on one device, on eight, and in two processes. Each set of devices has a process
of its own, with a time limit, which makes all runs on them."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent


def start(runs, *coordination, devices=1):
    """A process that makes `runs`: workdir, FSDP devices, placement and epochs of each."""
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path]),
    }
    worker, what = FOLDER / "devices_worker.py", json.dumps(runs, default=str)
    return subprocess.Popen(
        [sys.executable, str(worker), what, *map(str, coordination)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(process, runs):
    """What came out of each run."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    return [json.loads(line) for line in out.splitlines()[-len(runs) :]]


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory):
    """Runs on eight devices by FSDP devices and placement; and the folder of one that has an epoch
    to go."""
    folder = tmp_path_factory.mktemp("eight")
    runs = [
        (folder / "1", 1, "device", 2),
        (folder / "8", 8, "device", 2),
        (folder / "4", 4, "stream", 2),
        (folder / "half", 8, "device", 1),
    ]
    found = results(start(runs, devices=8), runs)
    return dict(zip([run[1:3] for run in runs[:3]], found, strict=False)), folder / "half"


@pytest.fixture(scope="module")
def one_device(eight_devices, tmp_path_factory):
    """A run on one device, and what came out when it went on with that of eight."""
    runs = [(tmp_path_factory.mktemp("one"), 1, "device", 2), (eight_devices[1], 1, "device", 2)]
    return results(start(runs), runs)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes found in their runs, by FSDP devices and placement."""
    folder = tmp_path_factory.mktemp("two")
    runs = [(folder / "2", 2, "device", 2), (folder / "1", 1, "stream", 2)]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    both = [start(runs, coordinator, 2, i) for i in range(2)]
    found = zip(*[results(process, runs) for process in both], strict=True)
    return dict(zip([run[1:3] for run in runs], found, strict=True))


def assert_same_run(found, wanted):
    np.testing.assert_allclose(found["losses"], wanted["losses"], rtol=2e-5)
    np.testing.assert_allclose(found["val"], wanted["val"], rtol=2e-5)
    np.testing.assert_allclose(found["kernel_sum"], wanted["kernel_sum"], rtol=2e-5)
    assert found["compilations"] == {"train": 1, "eval": 1}


@pytest.mark.parametrize(("fsdp", "placement"), [(1, "device"), (8, "device"), (4, "stream")])
def test_eight_devices_train_as_one(one_device, eight_devices, fsdp, placement):
    found, wanted = eight_devices[0][fsdp, placement], one_device[0]
    assert found["devices"] == 8
    assert_same_run(found, wanted)
    assert found["kernel_shard"] == [6, 1024 // fsdp]
    if fsdp == 8:
        assert found["bytes_per_device"] < 0.65 * wanted["bytes_per_device"]


def test_a_run_goes_on_on_another_number_of_devices(one_device):
    whole, went_on = one_device
    np.testing.assert_allclose(went_on["losses"], whole["losses"], rtol=2e-5)


@pytest.mark.parametrize(("fsdp", "placement"), [(2, "device"), (1, "stream")])
def test_two_processes_train_as_one_device(one_device, two_processes, fsdp, placement):
    for found in two_processes[fsdp, placement]:
        assert found["devices"] == 2
        assert_same_run(found, one_device[0])
