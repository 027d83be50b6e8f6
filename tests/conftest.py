"""Shared by all tests: where the golden arrays are, and how to read them."""

import json
import pathlib

import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden():
    """`golden("torch_semantics/ema")` is the npz as a dict; JSON strings sit in 0-d arrays
    (`golden.json(array)`)."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    load.json = lambda array: json.loads(str(array))
    load.path = GOLDEN
    return load
