"""A wrong config, flag or data set gets one line that says so, before anything is trained."""

import io
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from script_runs import run


def table(count: int, **columns: list | None) -> pa.Table:
    """`count` labelled train images, with columns replaced, or left out where None."""
    image = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(image, "PNG")
    whole = {
        "split": ["train"] * count,
        "label": [("closed", "open")[i % 2] for i in range(count)],
        "class_id": [i % 2 for i in range(count)],
        "image_path": [f"{i}.png" for i in range(count)],
        "image_bytes": [image.getvalue()] * count,
    } | columns
    return pa.table({name: values for name, values in whole.items() if values is not None})


@pytest.fixture
def refused(script, tiny, tmp_path):
    """Runs train with flags; it must end with status 2, one error line, and nothing trained."""

    def call(*flags: object, config: object = "configs/ocec.py") -> str:
        workdir = tmp_path / "run"
        arguments = [*tiny[2:], "--data.cache_dir", tmp_path / "images", "--workdir", workdir]
        outcome = script("train", "--config", config, *arguments, *flags)
        assert outcome.code == 2, outcome.err
        assert outcome.out == ""
        errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, outcome.err
        assert outcome.err.endswith(f"{errors[0]}\n")
        assert not (workdir / "checkpoints").exists()
        return errors[0]

    return call


def test_a_process_of_its_own_ends_with_status_2_and_one_line():
    done = run("train", "--config", "configs/ocec.py:balancd")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "did you mean 'balanced'" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optim.learning_rat", 0.1], "did you mean '--optim.learning_rate'"),
        (["--data.batchsize", 3], "did you mean '--data.batch_size'"),
        (["--learning-rate=3"], "did you mean '--optim.learning_rate'"),
        (["stray"], "Unrecognized options: stray"),
        (["--seed", "x"], "--seed: invalid literal for int"),
        (["--model.arch_variant", "convnex"], "('baseline', 'inverted_se', 'convnext')"),
        (["--model.dropout", 1.5], "model.dropout is 1.5; expected 0 <= dropout < 1"),
        (["--augment.flip_prob", 2], "augment.flip_prob is 2.0; expected 0 <= flip_prob <= 1"),
        (["--epochs", 0], "epochs is 0; expected epochs >= 1"),
        (["--select_metric", "f2"], "did you mean 'f1'"),
        (["--select_metric", "loss"], "give --select_mode min"),
        (["--optim.schedule", "plateau", "--plateau.monitor", "f1"], "plateau.mode max"),
        (["--model.dropout", "linea(0, 1)"], "did you mean 'linear'"),
        (["--model.dropout", "linear(0, 1, steps=epoc)"], "did you mean 'epoch'"),
        (["--optim.frozen", "nothing_like_it"], "matches no parameter"),
        (["--parallel.fsdp_devices", 64], "parallel.fsdp_devices is 64"),
        (["--data.embedded_train", 8], "batch size 32 is larger than the 8 training examples"),
        (["--data.image_size", 4, 4], "draw eyes at 8x8 or more"),
        (
            ["--model.arch_variant", "convnext", "--data.image_size", 2, 2],
            "leave a 0x0 feature map; convnext with 1 blocks needs 4 pixels",
        ),
        (
            ["--model.head_variant", "transformer", "--model.token_mixer_grid", 3, 2],
            "token_mixer_grid 3x2 does not divide the 8x8 feature map",
        ),
        (["--data.path", "nowhere"], "data path nowhere does not exist"),
        (["--data.path", "tests"], "holds no parquet file"),
    ],
)
def test_a_wrong_flag(refused, flags, message):
    assert message in refused(*flags)


def test_a_missing_config_file(refused):
    assert "did you mean 'configs/ocec.py'" in refused(config="configs/ocek.py")
    assert "expected FILE.py or FILE.py:PRESET" in refused(config="nowhere/ocec.py")
    assert "expected FILE.py or FILE.py:PRESET" in refused(config="configs/ocec")


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        (
            "OptimConfig(learning_rat=1e-3)",
            "OptimConfig 'learning_rat'; did you mean 'learning_rate'",
        ),
        ("OptimConfig(learning_rate='1e-3')", "learning_rate is '1e-3' (str); expected float"),
        ("OptimConfig(frozen=['head'])", "OptimConfig.frozen is ['head'] (list); expected"),
        ("OptimConfig(learning_rate=-1.0)", "OptimConfig.learning_rate is -1.0"),
        ("OptimConfig(", "does not run: SyntaxError"),
    ],
)
def test_a_wrong_config_file(refused, tmp_path, optim, message):
    file = tmp_path / "own.py"
    file.write_text(
        "from jaxrecipes.recipes.ocec.config import OcecRunConfig\n"
        "from jaxrecipes.train.config import OptimConfig\n"
        "def get_config(preset='default'):\n"
        f"    return OcecRunConfig(optim={optim})\n"
    )
    assert message in refused(config=file)


@pytest.mark.parametrize(
    ("count", "columns", "message"),
    [
        (40, {"split": None}, "lacks the column split"),
        (40, {"class_id": None, "label": None}, "lacks the column class_id or label"),
        (40, {"split": ["val"] * 40}, "no row of the train split"),
        (40, {"split": ["other"] * 40}, "no usable row"),
        (40, {"class_id": [1] * 40}, "all 40 train rows are open"),
        (40, {"class_id": [0, 2] * 20}, "class_id must be 0 (closed) or 1 (open)"),
        (20, {}, "batch size 32 is larger than the 20 training examples"),
        (40, {"image_bytes": None}, "none of the 40 images can be read"),
    ],
)
def test_data_that_cannot_be_trained_on(refused, tmp_path, count, columns, message):
    pq.write_table(table(count, **columns), tmp_path / "data.parquet")
    assert message in refused("--data.path", tmp_path / "data.parquet")


@pytest.fixture
def two_broken(tmp_path) -> pathlib.Path:
    images = table(40)["image_bytes"].to_pylist()
    images[3], images[5] = b"no image", images[5][:30]
    pq.write_table(table(40, image_bytes=images), tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


def test_unreadable_images_are_fatal_on_request(refused, two_broken):
    error = refused("--data.path", two_broken, "--data.on_unreadable", "error")
    assert "unreadable image 3.png" in error


def test_unreadable_images_are_counted_listed_and_skipped(refused, two_broken):
    """38 are left, which a batch of 39 shows without training."""
    error = refused("--data.path", two_broken, "--data.batch_size", 39)
    assert "larger than the 38 training examples" in error
    listed = (two_broken.parent / "run" / "unreadable_train.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in listed] == ["path", "3.png", "5.png"]
    log = (two_broken.parent / "run" / "train.log").read_text()
    assert "2 of 40 images of train cannot be read and are left out" in log


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("evaluate", ["--checkpoint", "nowhere"], "no checkpoint in nowhere"),
        ("evaluate", ["--checkpoint", "RUN", "--step", "x"], "--step is 'x'"),
        ("evaluate", ["--checkpoint", "RUN", "--step", 7], "no checkpoint of step 7"),
        ("evaluate", ["--checkpoint", "RUN", "--split", "test"], "no test split; it has val"),
        ("evaluate", ["--checkpoint", "RUN", "--data.path", "nowhere"], "nowhere does not exist"),
        ("evaluate", ["--checkpoint", "RUN", "--stepp", 3], "unrecognized arguments: --stepp"),
        ("predict", ["--checkpoint", "RUN", "--inputs", "nowhere"], "no image found in nowhere"),
        ("export", ["--checkpoint", "RUN", "--format", "onx"], "invalid choice: 'onx'"),
        ("convert", ["ocec", "--from-torch", "nowhere.pt"], "nowhere.pt"),
        ("convert", ["ocec", "--from-torch", "README.md"], "not a PyTorch file"),
        ("find_lr", ["--config", "configs/ocec.py", "--optim.lr", 3], "unknown field '--optim.lr'"),
        ("find_lr", ["--config", "configs/ocec.py", "--num_steps", 1], "--num_steps is 1"),
        ("make_dataset", ["--images", "nowhere"], "nowhere does not exist"),
    ],
)
def test_a_wrong_flag_of_the_other_scripts(script, trained, tmp_path, name, flags, message):
    flags = [trained[0] if flag == "RUN" else flag for flag in flags]
    if flags[-1] == "README.md":
        (tmp_path / "README.md").write_text("no checkpoint")
        flags[-1] = tmp_path / "README.md"
    if name in ("predict", "export", "convert", "make_dataset"):
        flags += ["--output", tmp_path / "new"]
    outcome = script(name, *flags)
    assert outcome.code == 2
    assert message in outcome.err.splitlines()[-1]
    assert outcome.out == ""
    assert not (tmp_path / "new").exists()
