"""Shared by all tests: where the golden arrays are, and how to read them."""

import atexit
import importlib
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import pytest

# Most of the time goes into compiling. Machine code without optimisation, written by XLA's older
# emitters of fused loops, is ready three times as fast as what XLA does by default on a CPU. One
# part to compile instead of several side by side saves another seventh, as all cores have a test.
# Set before jax is imported, and inherited by the processes that tests start; `XLA_FLAGS=` before
# the command runs the tests on XLA's defaults.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)

# Many tests need the same programs: all processes of a session share a folder of compiled ones,
# which begins empty.
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILED = tempfile.mkdtemp(prefix="jaxrecipes-tests-")
    atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

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


@pytest.fixture
def script(monkeypatch):
    """`script("evaluate", "--checkpoint", ...)`: a script in this process, quicker than its own."""
    from run_here import ROOT, run_here  # imports jax

    monkeypatch.chdir(ROOT)
    return run_here


@pytest.fixture
def imported(monkeypatch):
    """`imported("ocec", content)`: the run that a PyTorch checkpoint becomes, without its folder.

    `content` is a path, or what such a file holds; the history is in the `metadata`.
    """
    from jaxrecipes.runs.recipe_module import load_recipe
    from jaxrecipes.runs.trained import Trained

    def run(name, content):
        original = importlib.import_module(f"jaxrecipes.recipes.{name}.original")
        saved = []

        def save_run(workdir, run, *, history=None, score=None):
            metadata = {"history": history or [run.entry()], "score": score}
            parts = run.config, run.recipe, run.state, int(run.state.step), metadata
            saved.append(Trained(load_recipe(name), *parts))

        with monkeypatch.context() as patch:
            patch.setattr(original, "save_run", save_run)
            path = content
            if not isinstance(content, pathlib.Path):
                patch.setattr(original, "load_torch", lambda *_, **__: content)
                path = pathlib.Path("FILE.pt")
            original.import_torch(path, pathlib.Path("run"))
        return saved[0]

    return run
