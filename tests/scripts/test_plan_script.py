"""`plan`, which compiles a run's step for devices that need not be there."""

import json

import pytest
from script_runs import run

PRESET = ("--config", "face3d", "--parallel.fsdp_devices", "8")


def test_a_plan_compiles_for_8_devices_without_any_extra(tmp_path):
    page = tmp_path / "plan.html"
    small = ("--config", "examples/noisy_curve.py")
    done = run("plan", *small, "--devices", "cpu:8", "--json", "--page", page)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    step, state = plan["step"], sum(plan["state_bytes"].values())
    assert step["arguments"] == pytest.approx(state + plan["data_bytes"], rel=0.01)
    assert step["collectives"]["all-reduce"]["bytes"] >= plan["state_bytes"]["parameters"]
    assert step["fits"] is None
    assert "in all" in page.read_text()


def test_a_figure_that_is_given_is_what_a_plan_goes_by(script):
    flags = ("--devices", "h200:1x8", "--memory_gb", "80", "--no_compile", "--json")
    done = script("plan", *PRESET, *flags)
    assert done.code == 0, done.err
    assert json.loads(done.out)["machine"]["device"]["memory_gb"] == 80


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--devices", "h20:1x8"), "h200"),
        (("--devices", "h200:1x6"), "parallel.fsdp_devices is 8, which does not divide the 6"),
        (("--devices", "cpu:8", "--examples", "0"), "--examples is 0; expected 1 or more"),
        (("--devices", "cpu:8", "--no_compile", "--suggest"), "leave --no_compile out"),
    ],
)
def test_a_mistake_is_one_line(script, flags, said):
    done = script("plan", *PRESET, *flags)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
