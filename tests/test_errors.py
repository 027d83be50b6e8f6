"""What is said is short, names the file, and says more than the type of an exception."""

import errno

import pytest

from jaxrecipes.errors import cause, hint, nearest, os_error, telling, unknown_name


def test_of_many_known_names_a_dozen_and_the_count_are_said():
    said = hint("field_7", [f"field_{i:03d}" for i in range(200)])
    assert "did you mean 'field_" in said
    assert said.endswith("and 188 more")
    assert len(said) < 250


def test_a_long_unknown_name_is_cut_in_the_middle():
    said = str(unknown_name("preset", "x" * 5000, ["default"]))
    assert len(said) < 200
    assert said.endswith("Known: default")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("optim"), "KeyError: 'optim'"),
        (AssertionError(), "AssertionError"),
        (ValueError("bad"), "ValueError: bad"),
        (TypeError("it wants\n  a  number"), "it wants a number"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x.pt"), "x.pt: it is a folder where"),
    ],
)
def test_a_cause_is_one_line_with_its_type_where_it_says_too_little(error, said):
    assert cause(error).startswith(said)


def test_an_os_error_has_the_file_first_and_both_of_a_rename():
    assert os_error(OSError(errno.EEXIST, "File exists", "/dev/null")) == (
        "/dev/null: it is there already, and no folder"
    )
    both = OSError(errno.EACCES, "Permission denied", "a", None, "b")
    assert os_error(both).startswith("a -> b: permission denied")


def test_only_the_named_kinds_are_told():
    told = pytest.raises(ValueError, match=r"^x.npz is damaged: KeyError: 'a'$")
    with told, telling("x.npz is damaged", KeyError):
        raise KeyError("a")
    with pytest.raises(RuntimeError), telling("x.npz is damaged", KeyError):
        raise RuntimeError("our own")


def test_an_abbreviation_means_a_name_of_its_own_section_first():
    known = {"loss_weighting.learning_rate", "optim.learning_rate", "backbone.learning_rate"}
    assert nearest("optim.lr", known) == "optim.learning_rate"
    assert nearest("backbone.lr", known) == "backbone.learning_rate"
