"""A training run sweeps up what a killed one left, even when nothing is left to do."""

import subprocess

from toy_recipe import toy_config, toy_fit

from jaxrecipes.checkpoint import folder


def test_a_finished_run_that_is_started_again_removes_what_the_last_kill_left(tmp_path):
    config = toy_config(epochs=1)
    toy_fit(tmp_path, config=config)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = folder.owner().rpartition("-")[0]
    for name in (f".deleting-4-{host}-{dead.pid}", ".deleting-4", f".saving-8-{host}-{dead.pid}.1"):
        (tmp_path / "checkpoints" / name / "default").mkdir(parents=True)
    assert toy_fit(tmp_path, config=config).summary["final"]["step"] == 8
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept
