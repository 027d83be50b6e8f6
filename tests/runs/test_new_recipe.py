import pytest

from jaxrecipes.config import import_file
from jaxrecipes.runs.new_recipe import new_recipe


def test_a_new_recipe_passes_its_own_test(tmp_path):
    file, test = new_recipe("rings", tmp_path)
    assert (file.name, test.name) == ("rings.py", "test_rings.py")
    module = import_file(test)
    assert str(file) == module.FILE
    (tmp_path / "run").mkdir()
    module.test_it_learns(tmp_path / "run")


@pytest.mark.parametrize("name", ["ocec", "two words", "1st"])
def test_a_name_that_cannot_be_a_recipes_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be a recipe's name"):
        new_recipe(name, tmp_path)


def test_no_file_is_overwritten(tmp_path):
    (tmp_path / "test_mine.py").write_text("kept")
    with pytest.raises(ValueError, match="exists already"):
        new_recipe("mine", tmp_path)
    assert not (tmp_path / "mine.py").exists()
