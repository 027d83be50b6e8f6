import platform
import subprocess
import sys

import pytest

from jaxrecipes.runs import runtime
from jaxrecipes.train.config import DataConfig, LoopConfig, RunConfig

_PROGRAM = """
import resource, sys
import numpy as np
from jaxrecipes.runs.runtime import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(40 * 2**20, np.uint8)  # beyond the largest size that glibc's own threshold reaches
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_taken_again_without_page_faults():
    faults = {}
    for side in ("kept", "default"):
        command = [sys.executable, "-c", _PROGRAM, side]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[side] = int(done.stdout)
    assert faults["kept"] * 20 < faults["default"]


@pytest.mark.parametrize("keep", [True, False])
def test_a_run_on_cpu_keeps_freed_memory_where_its_config_says_so(keep, monkeypatch):
    calls = []
    monkeypatch.setattr(runtime, "keep_freed_memory", lambda: calls.append(1))
    loop = LoopConfig(keep_freed_memory=keep, compilation_cache="")
    runtime.set_up_jax(RunConfig(data=DataConfig(), loop=loop))
    assert len(calls) == keep
