"""Checkpoints of the original program: in, used as any run is, trained on, and out again."""

import csv

import jax
import numpy as np
import pytest
from PIL import Image
from script_runs import read_json

from jaxrecipes.convert import load_torch
from jaxrecipes.runs.trained import open_trained

CHECKPOINTS = ["baseline", "inverted_se"]  # all three in tests/convert


def assert_close(got: object, want: object) -> None:
    """Equal; numbers to the rounding of float32, which the state keeps."""
    if isinstance(want, float | np.ndarray):
        np.testing.assert_allclose(got, want, rtol=1e-7)
    else:
        assert got == want


@pytest.fixture(params=CHECKPOINTS)
def original(request, golden):
    name = f"ocec/original_checkpoint__{request.param}"
    return golden.path / f"{name}.pt", golden(name)


def test_a_converted_checkpoint_predicts_as_the_original_and_comes_back(original, script, tmp_path):
    source, arrays = original
    workdir, images, output = tmp_path / "run", tmp_path / "images", tmp_path / "out.csv"
    assert script("convert", "ocec", "--from-torch", source, "--output", workdir).code == 0

    images.mkdir()
    for i in range(int(arrays["n_img"])):
        Image.fromarray(arrays[f"img/{i}"]).save(images / f"{i:03d}.png")
    outcome = script("predict", "--checkpoint", workdir, "--inputs", images, "--output", output)
    assert outcome.code == 0, outcome.err
    with output.open(newline="") as file:
        probs = [float(row["prob_open"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(probs, arrays["prob_open"], atol=1e-5)

    back = tmp_path / "new_folder" / "back.pt"
    assert script("convert", "ocec", "--to-torch", back, "--checkpoint", workdir).code == 0
    want, got = load_torch(source), load_torch(back)
    assert list(got["model_state"]) == list(want["model_state"])
    jax.tree.map(np.testing.assert_array_equal, got["model_state"], want["model_state"])
    for part in ("optimizer_state", "scheduler_state"):
        if part in want:
            jax.tree.map(assert_close, got[part], want[part])


def test_a_converted_run_is_trained_on(golden, tiny, tmp_path, script):
    source = golden.path / "ocec/original_checkpoint__baseline.pt"
    workdir = tmp_path / "run"
    assert script("convert", "ocec", "--from-torch", source, "--output", workdir).code == 0
    before = open_trained(workdir)
    model, (height, width) = before.config.model, before.config.data.image_size
    flags = [*tiny, "--data.image_size", height, width]
    flags += ["--model.base_channels", model.base_channels, "--model.num_blocks", model.num_blocks]
    flags += ["--model.dropout", model.dropout, "--ema.no_enabled"]
    flags += ["--steps", before.step + 4, "--workdir", workdir]
    refused = script("train", *flags)
    assert refused.code == 2
    assert "--allow_config_change" in refused.err
    done = script("train", *flags, "--allow_config_change")
    assert done.code == 0, done.err
    assert read_json(workdir / "summary.json")["final"]["step"] == before.step + 4
    outcome = script("evaluate", "--checkpoint", workdir)  # the best step, of either config
    assert outcome.code == 0, outcome.err
    after = open_trained(workdir, step="latest")
    changed = [
        float(np.abs(a - b).max())
        for a, b in zip(
            jax.tree.leaves(before.state.params), jax.tree.leaves(after.state.params), strict=True
        )
    ]
    assert 0 < max(changed) < 0.1


def test_pickles_that_would_run_code_are_refused(script, tmp_path):
    """The bytes of a torch file whose pickle calls os.system when it is loaded."""
    import io
    import os
    import pickle
    import zipfile

    class Malicious:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/was_run",)

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model_state": Malicious()}, 2))
        archive.writestr("archive/version", "3\n")
    source = tmp_path / "malicious.pt"
    source.write_bytes(data.getvalue())
    outcome = script("convert", "ocec", "--from-torch", source, "--output", tmp_path / "run")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "system" in outcome.err
    assert not (tmp_path / "was_run").exists()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_not_written_over(golden, trained, script):
    source = golden.path / "ocec/original_checkpoint__baseline.pt"
    outcome = script("convert", "ocec", "--from-torch", source, "--output", trained[0])
    assert outcome.code == 2
    assert "holds a run already" in outcome.err


def test_another_recipe_is_named(script, tmp_path):
    outcome = script("convert", "ocek", "--from-torch", tmp_path / "x.pt", "--output", tmp_path)
    assert (outcome.code, "did you mean 'ocec'" in outcome.err) == (2, True)
