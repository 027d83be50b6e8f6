"""What one process cannot show: kill -9 at any moment, other device counts, several processes."""

import os
import pathlib
import random
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoint_trees import assert_equal, device_tree, filled, host_tree

from jaxrecipes.checkpoint import CheckpointManager

HERE = pathlib.Path(__file__).parent
TIME_LIMIT_S = 120


def start(worker: str, *args, devices: int = 1) -> subprocess.Popen:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, HERE / f"checkpoint_worker_{worker}.py", *map(str, args)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    try:
        out, err = process.communicate(timeout=TIME_LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out


# --- kill -9

# which save survives: the first or the second
MOMENTS = {
    "before the arrays": 1,
    "before the arrays are written": 1,
    "while the arrays are written": 1,
    "before the index": 1,
    "before the manifest": 1,
    "before the commit": 1,
    "after the commit": 2,
    "before the old one is deleted": 2,
    "while the old one is deleted": 2,
    # of a step that is saved again
    "before the exchange": 1,
    "within the exchange": 1,
    "after the exchange": 2,
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Directories in which a save was killed, by the moment."""
    directories = {moment: tmp_path_factory.mktemp("killed") for moment in MOMENTS}
    finish(start("killed", *(x for m, d in directories.items() for x in (d, m))))
    return directories


def assert_is(restored, value):
    assert restored.metadata == {"step": value}
    assert jax.tree.all(jax.tree.map(jnp.array_equal, restored.tree, filled(value)))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_save_killed_at_any_moment_harms_nothing(killed, moment, caplog):
    with CheckpointManager(killed[moment], keep_latest=1) as manager:
        assert_is(manager.restore(filled(0)), MOMENTS[moment])
        assert caplog.records == []
        manager.sweep()
        names = [path.name for path in killed[moment].iterdir()]
        assert all(name in ("1", "2") for name in names)
        assert_is(manager.restore(filled(0)), MOMENTS[moment])
        assert manager.save(3, filled(3), metadata={"step": 3})
        assert_is(manager.restore(filled(0)), 3)
    assert [path.name for path in killed[moment].iterdir()] == ["3"]


def test_a_run_killed_again_and_again_never_loses_a_finished_save(tmp_path, caplog):
    draw, seen = random.Random(0), 0
    for _ in range(3):
        process = start("endless", tmp_path)
        for _ in range(draw.randint(3, 8)):
            seen = int(process.stdout.readline())
        time.sleep(draw.uniform(0, 0.15))
        process.kill()
        process.communicate(timeout=TIME_LIMIT_S)
        restored = CheckpointManager(tmp_path).restore(filled(0))
        assert restored.step >= seen > 0
        assert_is(restored, restored.step)
    assert caplog.records == []


def test_a_program_that_ends_without_closing_neither_hangs_nor_does_harm(tmp_path):
    finish(start("careless", tmp_path))
    with CheckpointManager(tmp_path) as manager:
        assert manager.restore(filled(0)).step in (1, 2)
        assert manager.save(3, filled(3))


# --- other devices


def assert_orbax_restores(step):
    """On one device, and without being told of it."""
    restored = ocp.PyTreeCheckpointer().restore(step)
    for name, expected in host_tree().items():
        np.testing.assert_array_equal(restored[name], expected)
    with ocp.CheckpointManager(step.parent) as manager:
        np.testing.assert_array_equal(manager.restore(int(step.name))["large"], restored["large"])


def test_eight_devices_read_what_one_saved_and_the_other_way_round(tmp_path):
    tree = device_tree()
    with CheckpointManager(tmp_path / "one") as manager:
        manager.save(1, tree)
    finish(start("eight_devices", tmp_path / "one", tmp_path / "eight", devices=8))
    assert_orbax_restores(tmp_path / "eight" / "3")
    assert_equal(CheckpointManager(tmp_path / "eight").restore(tree).tree, tree)
    # a leaf without a sharding must not ask for the devices that it was saved from
    shapes = jax.eval_shape(lambda: tree)
    restored = CheckpointManager(tmp_path / "eight").restore(shapes).tree
    assert np.array_equal(restored["large"], tree["large"])
    assert not restored["large"].committed


# --- several processes


def test_two_processes_save_and_restore_together(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = [start("two", port, rank, tmp_path, devices=2) for rank in (0, 1)]
    try:
        said = [finish(process) for process in both]
    finally:
        for process in both:
            process.kill()
    assert "step 3 in" in said[0]
    assert "No space left on device" in said[0]
    assert "process 0 could not save its part" in said[1]
    assert all(lines.endswith("refused\n") for lines in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "2.corrupt"]
    tree = device_tree()
    restored = CheckpointManager(tmp_path).restore(tree, partial=True)
    assert restored.step == 2
    assert_equal(restored.tree, tree)
    assert_orbax_restores(tmp_path / "2")
