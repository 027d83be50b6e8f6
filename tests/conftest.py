"""Shared by all tests: where the golden arrays are, and how to read them."""

import json
import os
import pathlib

import numpy as np
import pytest

# Most of the time goes into compiling; machine code without optimisation is ready a quarter sooner.
# Set before jax is imported, and inherited by the processes that tests start.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

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
