"""The benchmark for a GPU, which may be at hand for minutes only, works: here on a CPU."""

import json
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def test_it_writes_one_file_with_every_part_and_what_failed(tmp_path):
    flags = ["--tiny", "--no-torch", "--steps", "2", "--devices", "h200:1", "--recipes", "face3d"]
    command = [sys.executable, SCRIPT, *flags, "--json", tmp_path / "gpu.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    exact, short = (report["recipes"][f"face3d {p}"] for p in ("float32", "bfloat16"))
    assert abs(exact["loss"] - short["loss"]) < 0.02
    assert exact["ms"] > 0
    assert exact["bound_ms"][0] <= exact["bound_ms"][1]
    short_of_time = [sys.executable, SCRIPT, *flags, "--timeout", "0.1", "--precision", "float32"]
    done = subprocess.run(
        [*short_of_time, "--json", tmp_path / "late.json"], capture_output=True, check=False
    )
    assert done.returncode == 0
    late = json.loads((tmp_path / "late.json").read_text())["recipes"]["face3d float32"]
    assert late == {"error": "it took more than 0.1 s"}
