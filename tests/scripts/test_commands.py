"""The program `jaxrecipes`: its overview, its commands, and the names of packaged presets."""

import ast
import re
import subprocess
import sys

import pytest
from script_runs import ROOT

from jaxrecipes import commands, errors
from jaxrecipes.runs.recipe_config import recipe_and_config

NAMES = sorted(file.stem for file in (ROOT / "scripts").glob("*.py"))


def program(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "jaxrecipes", *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_the_overview_has_every_command_and_is_quick():
    done = program("--help")
    assert done.returncode == 0
    for name in NAMES:
        assert re.search(rf"^  {name} +[A-Z].+\.$", done.stdout, re.MULTILINE), name
    code = "import sys, jaxrecipes.commands as c; c._overview(); print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_an_unknown_command_gets_the_nearest():
    done = program("trein")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown command 'trein'; did you mean 'train'?")


def test_the_version_is_the_packages():
    assert program("--version").stdout.startswith("jaxrecipes 0.")


@pytest.mark.parametrize("name", NAMES)
def test_every_script_calls_its_command(name):
    tree = ast.parse((ROOT / "scripts" / f"{name}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [a.value for node in calls for a in node.args if isinstance(a, ast.Constant)] == [name]
    assert (ROOT / "jaxrecipes/commands" / f"{name}.py").is_file()


def test_a_packaged_preset_trains_in_an_empty_folder(tiny, tmp_path):
    flags = ["--config", "ocec:default", *tiny[2:], "--epochs", "1"]
    done = program("train", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "report.html").is_file()


def test_a_name_and_a_file_give_the_same_config():
    name, file = (
        recipe_and_config(spec) for spec in ("ocec:seed", str(ROOT / "configs/ocec.py:seed"))
    )
    assert name[1] == file[1]
    with pytest.raises(ValueError, match="unknown preset 'sed'; did you mean 'seed'"):
        recipe_and_config("ocec:sed")
    with pytest.raises(ValueError, match="unknown recipe 'ocek'; did you mean 'ocec'"):
        recipe_and_config("ocek")


def test_install_commands_work_for_whoever_reads_them(tmp_path, monkeypatch):
    assert errors.install_command("export") == f"pip install -e '{ROOT}[export]'"
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "jaxrecipes" / "errors.py"))
    assert errors.install_command("export") == "pip install 'jaxrecipes[export]'"


def test_the_installed_program_is_the_same():
    assert commands.main.__module__ == "jaxrecipes.commands"
    assert 'jaxrecipes = "jaxrecipes.commands:main"' in (ROOT / "pyproject.toml").read_text()
