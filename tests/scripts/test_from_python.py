"""The blocks of docs/from_python.md do what the page says."""

import json
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
from script_runs import ROOT

import jaxrecipes

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/from_python.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder that the page's blocks leave, and what its names are after them."""
    folder, names = tmp_path_factory.mktemp("notebook"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(block, names)
        yield folder, names


def test_the_page_trains_and_opens_a_run(page):
    folder, names = page
    summary = json.loads((folder / "runs/eyes/summary.json").read_text())
    assert names["finished"].summary == summary
    assert names["run"].metrics == summary["best"]
    assert names["run"].step == summary["best"]["step"]
    assert names["run"].evaluate()["f1_ema"] == pytest.approx(summary["best"]["f1_ema"])
    assert [e["epoch"] for e in names["run"].history] == list(
        range(1, len(names["run"].history) + 1)
    )


def test_the_runs_log_is_in_its_folder_and_nowhere_else(page):
    folder, _ = page
    assert "epoch 2  step 16" in (folder / "runs/eyes/train.log").read_text()
    handlers = logging.getLogger("jaxrecipes").handlers
    assert not [h for h in handlers if isinstance(h, logging.FileHandler)]


def test_arrays_and_files_are_predicted_alike(page, eyes):
    run = page[1]["run"]
    from_files = run.predict(eyes[0].parent)
    assert from_files.keys() == {"path", "logit", "prob_open"}
    assert len(from_files["path"]) == len(list(eyes[0].parent.iterdir()))
    assert page[1]["outputs"]["prob_open"].shape == (5,)
    with pytest.raises(ValueError, match=r"takes arrays named images; got \['image'\]"):
        run.predict({"image": np.zeros((1, 3, 24, 40))})


def test_an_unknown_field_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown field 'optim.lr'; did you mean 'optim"):
        jaxrecipes.fit("ocec", fields={"optim.lr": 1.0})


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, jaxrecipes; print({'jax', 'numpy', 'flax'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        jaxrecipes.fitt  # noqa: B018
