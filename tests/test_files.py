import pytest

from jaxrecipes.files import check_content

POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 605157884\n"
)


def test_a_file_without_content_is_one_clear_line(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_text(POINTER)
    with pytest.raises(ValueError, match="is a Git LFS pointer, not the file itself; run git lfs"):
        check_content(file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="is an empty file"):
        check_content(file)
    file.write_bytes(b"version 1")
    check_content(file)
