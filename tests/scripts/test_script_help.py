"""`--help`, and scripts without arguments."""

import re

import pytest
from script_runs import run

from jaxrecipes.config import field_paths
from jaxrecipes.recipes.ocec.config import OcecRunConfig

SCRIPTS = [
    "train",
    "compare",
    "evaluate",
    "predict",
    "export",
    "convert",
    "convert_mano",
    "find_lr",
    "plan",
    "tune",
    "make_dataset",
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_arguments_a_script_says_what_it_wants(script, name):
    outcome = script(name)
    assert outcome.code == 2
    assert outcome.err.startswith("usage: ")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_describes_every_flag(script, name):
    outcome = script(name, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("  -"):  # the text stands beside the flag, or below it
            assert "  " in line.strip() or below.startswith(" " * 20), line


def test_help_describes_every_field_of_the_config():
    done = run("train", "--config", "configs/ocec.py:seed", "--help")
    assert done.returncode == 0, done.stderr
    text = " ".join(line.strip(" │╭╮╰╯─") for line in done.stdout.splitlines())
    for path in field_paths(OcecRunConfig()):
        found = re.search(rf"--{path}[ ,](.*?)\(default: ", text)
        assert found is not None, path
        description = re.sub(r"\{.*?\}|--\S+", "", found[1])
        assert len(re.findall(r"\b[A-Za-z]{2,}\b", description)) >= 1, path
        assert found[1].count("--") <= 1, f"{path} is not described"
