import sys
import types

import numpy as np
import pytest

from jaxrecipes.report.aim_writer import AimLog, import_aim
from jaxrecipes.report.writer import open_writer


@pytest.fixture
def log(tmp_path):
    return AimLog(
        repo=str(tmp_path / "repo"),
        run_file=tmp_path / "my_run" / "aim_run.txt",
        experiment="toy",
        hparams={"optim": {"learning_rate": 0.1, "no_decay": []}, "steps": None},
    )


@pytest.fixture
def aim(monkeypatch):
    """As much of the package as is called; what it is called with is kept."""
    runs = []

    class Run(dict):
        def __init__(self, run_hash, **options):
            self.hash, self.options, self.tracked, self.closed = run_hash or "abc", options, [], 0
            runs.append(self)

        def track(self, value, *, name, step):
            self.tracked.append((name, step, value))

        def close(self):
            self.closed += 1

    module = types.SimpleNamespace(
        Run=Run, Image=lambda image: image.size, Text=lambda text: text, runs=runs
    )
    monkeypatch.setitem(sys.modules, "aim", module)
    return module


def test_what_goes_to_tensorboard_goes_to_aim_under_the_same_names(log, aim, tmp_path):
    with open_writer(tmp_path / "tensorboard", process_index=0, aim=log) as writer:
        writer.scalars(5, {"train/loss": np.float32(0.5), "val/mpjpe": 2.0})
        writer.image(6, "projection", np.zeros((2, 3, 3), np.uint8))
        writer.text(7, "note", "hello")
    (run,) = aim.runs
    assert run.tracked == [
        ("train/loss", 5, 0.5),
        ("val/mpjpe", 5, 2.0),
        ("projection", 6, (3, 2)),
        ("note", 7, "hello"),
    ]
    assert run.closed
    assert run["hparams"] == log.hparams
    assert (run.name, run.options["experiment"], run.options["repo"]) == ("my_run", "toy", log.repo)
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_run_that_goes_on_is_the_same_run_in_aim(log, aim, tmp_path):
    for _ in range(2):
        open_writer(tmp_path / "tensorboard", process_index=0, aim=log).close()
        log.run_file.write_text("its-hash\n" if len(aim.runs) == 1 else log.run_file.read_text())
    assert [run.hash for run in aim.runs] == ["abc", "its-hash"]


def test_only_the_first_process_logs(log, aim, tmp_path):
    open_writer(tmp_path / "tensorboard", process_index=1, aim=log).close()
    assert not aim.runs


def test_without_aim_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "aim", None)
    with pytest.raises(ImportError, match=r"pip install .*\[aim\]'"):
        import_aim()


def test_the_package_itself_keeps_what_is_logged(log, tmp_path):
    aim = pytest.importorskip("aim")
    for first in (1, 2):  # the second time from step 2 on
        with open_writer(tmp_path / "tensorboard", process_index=0, aim=log) as writer:
            for step in range(first, first + 2):
                writer.scalars(step, {"train/loss": 10.0 * first + step})
            writer.image(1, "projection", np.zeros((2, 3, 3), np.uint8))
    options = {"system_tracking_interval": None, "capture_terminal_logs": False}
    run = aim.Run(log.run_file.read_text().strip(), repo=log.repo, force_resume=True, **options)
    assert run["hparams", "optim", "learning_rate"] == 0.1
    (metric,) = run.metrics()
    assert metric.name == "train/loss"
    assert sorted(metric.values.sparse_list()[1]) == [11.0, 22.0, 23.0]
    run.close()
