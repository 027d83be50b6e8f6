"""What a user's own files, folders and machine do wrong is one line with status 2."""

import json
import logging
import os

import jax
import pytest

from jaxrecipes import cli
from jaxrecipes.data.decode import cache_folder
from jaxrecipes.runs import runtime


@pytest.fixture
def one_line(script):
    """Runs a script that must end with status 2 and one line; gives that line."""

    def call(name: str, *arguments: object) -> str:
        outcome = script(name, *arguments)
        assert (outcome.code, outcome.out) == (2, ""), outcome
        (line,) = [line for line in outcome.err.splitlines() if "error: " in line]
        assert 30 < len(line) < 800
        return line

    return call


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1/0\n", "line 1: does not run: ZeroDivisionError: division by zero"),
        ("import os\nos.nothing\n", "line 2: does not run: AttributeError"),
        ("def f():\n    f()\nf()\n", "line 2: does not run: RecursionError"),
        ("x = '''\n", "line 1: does not run: SyntaxError: unterminated"),
        ("import sys\nsys.exit(3)\n", "line 2: does not run: SystemExit: 3"),
        ("def get_config(preset):\n    return {'a': 1}[preset]\n", "no such preset"),
        ("def get_config(preset):\n    return 2.0**5000\n", "line 2: get_config: OverflowError"),
        ("def get_config():\n    return 1\n", "get_config() takes 0 positional arguments"),
        ("get_config = 3\n", "defines neither get_config"),
        ("def get_config(preset):\n    return None\n", "returned None; expected a recipe's config"),
        ("raise ValueError('x' * 5000)\n", "line 1: does not run: xxx"),
    ],
)
def test_whatever_a_config_file_raises_has_its_line(one_line, tmp_path, text, said):
    (tmp_path / "own.py").write_text(text)
    assert said in one_line("train", "--config", tmp_path / "own.py", "--workdir", tmp_path / "w")


@pytest.mark.parametrize("text", ["null", "[]", "3", "[" * 100_000, '{"recipe": ["x"]}', "{"])
def test_a_json_config_of_another_kind_is_told(one_line, tmp_path, text):
    (tmp_path / "own.json").write_text(text)
    said = one_line("train", "--config", tmp_path / "own.json", "--workdir", tmp_path / "w")
    assert "own.json" in said or "unknown recipe" in said
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("output", ["/dev/null", "/dev/null/x", "FOLDER", "INPUT", ""])
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("predict", ["--checkpoint", "nowhere", "--inputs", "INPUT", "--output"]),
        ("export", ["--checkpoint", "nowhere", "--format", "onnx", "--output"]),
        ("convert", ["ocec", "--checkpoint", "nowhere", "--to-torch"]),
        ("convert_mano", ["INPUT", "--output"]),
        ("make_dataset", ["--annotation", "INPUT", "--output"]),
    ],
)
def test_an_output_that_cannot_be_is_told_before_any_work(
    one_line, tmp_path, monkeypatch, name, flags, output
):
    places = {"FOLDER": tmp_path, "INPUT": tmp_path / "in.csv"}
    (tmp_path / "in.csv").write_text("x")
    if output == "INPUT" and "INPUT" not in flags:
        pytest.skip("it reads no file that could be written over")
    line = one_line(name, *(places.get(flag, flag) for flag in flags), places.get(output, output))
    assert any(word in line for word in ("--output", "--to-torch")), line
    assert (tmp_path / "in.csv").read_text() == "x"


def test_a_workdir_that_is_a_file_is_told(one_line, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("train", "tune", "compare"):
        more = ["--presets", "default"] if name == "compare" else []
        flags = ["--config", "configs/ocec.py", *more, "--workdir", tmp_path / "file"]
        assert "it is a file; expected a folder" in one_line(name, *flags)


def test_an_unwritable_home_names_the_flags(one_line, tmp_path, monkeypatch, caplog):
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(ValueError, match=r"--data.cache_dir FOLDER"):
        cache_folder(None)
    monkeypatch.setattr(logging.getLogger("jaxrecipes"), "propagate", True)
    before = jax.config.jax_compilation_cache_dir
    runtime.set_up_compilation_cache("~/.cache/jaxrecipes/xla")
    assert "--loop.compilation_cache FOLDER" in caplog.text
    assert jax.config.jax_compilation_cache_dir == before


def test_a_tilde_in_a_flag_or_file_is_the_home_folder(one_line, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("~/x") == tmp_path / "x"
    assert (tmp_path / "x").is_dir()
    (tmp_path / "own.json").write_text(json.dumps({"recipe": "ocec", "data": {"path": "~/none"}}))
    flags = ["--loop.compilation_cache", os.environ["JAX_COMPILATION_CACHE_DIR"]]
    line = one_line("train", "--config", "~/own.json", "--workdir", "~/run", *flags)
    assert f"data path {tmp_path}/none does not exist" in line
    assert (tmp_path / "run" / "train.log").exists()


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("no plugin")])
def test_a_missing_plugin_names_the_extra(monkeypatch, error):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(type(jax.config), "jax_platforms", "cuda", raising=False)
    with pytest.raises(ValueError, match=r"JAX_PLATFORMS='cuda'.*pip install .*\[cuda12\]"):
        runtime.start_devices()


def test_step_must_be_a_number_that_can_be(one_line):
    for step in ("-1", "²", "9" * 30, "x" * 3000):
        line = one_line("evaluate", "--checkpoint", "nowhere", "--step", step)
        assert "expected best, latest or a number" in line


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 16 bytes."),
        MemoryError("Unable to allocate 7.28 TiB for an array"),
    ],
)
def test_too_little_memory_is_one_line_that_names_what_takes_it(error, capsys):
    def main():
        raise error

    assert cli.run(main) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: not enough memory: ")
    assert "data.batch_size" in line


def test_another_fault_of_the_device_stays_a_traceback():
    def main():
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError):
        cli.run(main)
