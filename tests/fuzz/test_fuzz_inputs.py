"""Damaged inputs of every kind are taken or refused in one line: no traceback, no code, no delay.

`tests/slow/fuzz_campaign.py` runs many more of the same, under a limit of memory.
"""

import collections
import sys

import pytest
from fuzz_oracle import GOOD, outcome
from fuzz_targets import cases, targets

CASES_PER_TARGET = 12


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_damaged_inputs_are_taken_or_refused_in_one_line(tmp_path):
    count = CASES_PER_TARGET * len(targets(tmp_path))
    failures, kinds = [], collections.Counter()
    for name, number, use, canary in cases(
        tmp_path / "base", tmp_path / "case", seed=0, numbers=range(count)
    ):
        found = outcome(use, canary=canary, limit_s=20.0)
        kinds[found.kind] += 1
        if found.kind not in GOOD:
            failures.append(f"{name}, case {number}: {found.kind}\n{found.said}")
    assert not failures, "\n\n".join(failures[:5])
    assert kinds["taken"] > count // 20, kinds
    assert kinds["refused"] > count // 3, kinds
