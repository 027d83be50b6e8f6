"""The latest n and the best k are kept, whatever the scores are and however often we restart."""

import math
import os
import socket
import subprocess
import time

import jax.numpy as jnp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrecipes.checkpoint import CheckpointManager, folder

TREE = {"a": jnp.arange(4.0)}


def save_all(directory, scores, **options):
    with CheckpointManager(directory, **options) as manager:
        for step, score in scores.items():
            manager.save(step, TREE, score=score)
    return manager


def test_latest_and_best_are_both_kept(tmp_path):
    scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: 0.8, 5: 0.2, 6: 0.3}
    manager = save_all(tmp_path, scores, keep_latest=1, keep_best=2)
    assert manager.all_steps == [2, 4, 6]
    assert (manager.best_step, manager.latest_step) == (2, 6)


def test_min_mode_keeps_the_lowest(tmp_path):
    manager = save_all(tmp_path, {1: 0.3, 2: 0.1, 3: 0.2, 4: 0.4}, keep_latest=1, mode="min")
    assert manager.all_steps == [2, 4]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_score_that_is_no_number_never_evicts_the_best(tmp_path, bad, mode):
    manager = save_all(tmp_path, {1: 0.5, 2: bad, 3: bad}, keep_latest=1, mode=mode)
    assert manager.all_steps == [1, 3]
    assert manager.best_step == 1


def test_a_restart_remembers_the_scores(tmp_path):
    save_all(tmp_path, {1: 0.9, 2: 0.1}, keep_latest=1)
    manager = save_all(tmp_path, {3: 0.2, 4: 0.3}, keep_latest=1)
    assert manager.all_steps == [1, 4]
    assert CheckpointManager(tmp_path).best_step == 1


def test_equal_scores_keep_the_earliest(tmp_path):
    manager = save_all(tmp_path, {1: 0.5, 2: 1.0, 3: 1.0, 4: 1.0}, keep_latest=1)
    assert manager.best_step == 2


def test_keep_best_zero_keeps_the_latest_only(tmp_path):
    assert save_all(tmp_path, {1: 9.0, 2: 1.0}, keep_latest=1, keep_best=0).all_steps == [2]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scores=st.lists(st.none() | st.floats(-2, 2) | st.just(math.nan), min_size=1, max_size=6),
    latest=st.integers(1, 3),
    best=st.integers(0, 3),
)
def test_what_is_kept_is_what_a_list_would_keep(tmp_path_factory, scores, latest, best):
    directory = tmp_path_factory.mktemp("run")
    steps = dict(enumerate(scores))
    kept: list[int] = []
    for step in steps:
        kept.append(step)
        real = [s for s in kept if steps[s] is not None and not math.isnan(steps[s])]
        ranked = sorted(real, key=lambda s: (-steps[s], s))
        kept = sorted({*kept[-latest:], *ranked[:best]})
    assert save_all(directory, steps, keep_latest=latest, keep_best=best).all_steps == kept


def test_a_saved_step_is_left_alone_unless_replaced(tmp_path):
    with CheckpointManager(tmp_path) as manager:
        assert manager.save(1, {"a": jnp.zeros(2)}, score=0.1)
        assert not manager.save(1, {"a": jnp.ones(2)}, score=0.2)
        assert manager.restore({"a": jnp.ones(2)}).tree["a"].sum() == 0
        for value in (2.0, 3.0):
            assert manager.save(1, {"a": jnp.full(2, value)}, score=value, replace=True)
            manager.wait()
            assert manager.restore({"a": jnp.ones(2)}).tree["a"][0] == value
        assert manager.all_steps == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_foreign_files_in_the_directory_are_left_alone(tmp_path):
    for name in ("notes", "-1", "01", "2.corrupt", "3.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "9").write_text("a file")
    manager = save_all(tmp_path, {1: None, 2: None, 3: None}, keep_latest=1)
    assert manager.all_steps == [3]
    assert len(list(tmp_path.iterdir())) == 7


def owned_by(process: int, host: str | None = None) -> str:
    return f"{host or socket.gethostname()}-{process}"


@pytest.fixture(scope="module")
def dead_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return owned_by(process.pid)


def test_a_reader_changes_nothing_beside_a_running_save(tmp_path, dead_process):
    save_all(tmp_path, {1: 0.1})
    in_progress = folder.preparing(tmp_path, 2, dead_process)
    in_progress.mkdir()
    reader = CheckpointManager(tmp_path)
    assert reader.restore(TREE).step == 1
    assert in_progress.exists()
    save_all(tmp_path, {2: 0.2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_sweeping_removes_the_leftovers_of_the_dead_alone(tmp_path, dead_process):
    save_all(tmp_path, {1: 0.1})
    living = [f".saving-2-{owned_by(os.getppid())}", f".deleting-1-{owned_by(1, 'another-host')}"]
    dead = [
        f".saving-3-{dead_process}",
        f".deleting-4-{dead_process}",
        ".saving-5",
        ".deleting-6.1",
    ]
    own = [f".deleting-7-{folder.owner()}"]
    for name in living + dead + own:
        (tmp_path / name).mkdir()
    CheckpointManager(tmp_path).sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["1", *living])


def test_what_another_host_left_goes_after_a_day(tmp_path):
    left = folder.preparing(tmp_path, 3, owned_by(1, "another-host"))
    (left / "3").mkdir(parents=True)
    day_ago = time.time() - 25 * 3600
    os.utime(left, (day_ago, day_ago))
    CheckpointManager(tmp_path).sweep()
    assert left.exists()  # something within is new
    os.utime(left / "3", (day_ago, day_ago))
    CheckpointManager(tmp_path).sweep()
    assert not left.exists()


def test_a_step_that_lost_its_name_in_an_exchange_is_there(tmp_path, dead_process):
    save_all(tmp_path, {1: 0.3, 2: 0.2})
    (tmp_path / "2").rename(tmp_path / f".replaced-2-{dead_process}")
    reader = CheckpointManager(tmp_path)
    assert reader.all_steps == [1, 2]
    assert reader.restore(TREE).step == 2
    reader.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_an_exchange_that_fails_gives_the_name_back(tmp_path):
    save_all(tmp_path, {1: 0.3})
    with pytest.raises(FileNotFoundError):
        folder.commit(tmp_path / "not there", tmp_path / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
