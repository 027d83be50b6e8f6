import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxrecipes.data.parquet_files import column_names, find_parquet_files, read_columns
from jaxrecipes.recipes.ocec.labelled_images import read_labelled_images


def table(images, kind=None):
    count = len(images)
    columns = {
        "split": ["train"] * count,
        "image_path": [f"{i}.png" for i in range(count)],
        "class_id": list(range(count)),
        "image_bytes": pa.array(images, kind),
    }
    return pa.table(columns)


def encoded(file):
    return [image for chunk in read_labelled_images(file).iter_encoded() for image in chunk]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3)])
def test_images_are_read_from_every_binary_column(tmp_path, kind):
    pq.write_table(table([b"one", None], kind), tmp_path / "d.parquet")
    assert encoded(tmp_path / "d.parquet") == [b"one", None]


def test_images_are_read_from_the_struct_of_hugging_face(tmp_path):
    cells = [{"bytes": b"one", "path": "a"}, {"bytes": None, "path": "1.png"}, None]
    pq.write_table(table(cells), tmp_path / "d.parquet")
    assert encoded(tmp_path / "d.parquet") == [b"one", None, None]


@pytest.mark.parametrize("cell", ["aGVsbG8=", [1, 2], 3, {"path": "1.png"}])
def test_a_column_of_another_type_is_one_line(tmp_path, cell):
    pq.write_table(table([cell]), tmp_path / "d.parquet")
    with pytest.raises(
        ValueError, match=r"image_bytes holds .*; expected encoded image files"
    ) as error:
        read_labelled_images(tmp_path / "d.parquet")
    assert "\n" not in str(error.value)


def test_a_file_that_is_cut_off_damaged_or_no_parquet_is_one_line(tmp_path):
    file = tmp_path / "d.parquet"
    pq.write_table(table([b"x" * 5000 + bytes([i]) for i in range(9)]), file)
    content = file.read_bytes()
    damaged = content[:4] + b"\xff" * 300 + content[304:]
    for bad in (b"", content[:500], content[:-8], b"text", damaged):
        file.write_bytes(bad)
        with pytest.raises(
            ValueError, match=r"is not a readable parquet|is an empty file"
        ) as error:
            read_columns(file, ["image_bytes", "image_path", "split"])
        assert "\n" not in str(error.value)
        assert str(file) in str(error.value)


def test_a_column_that_stands_twice_is_refused(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"]), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match="has the column a more than once"):
        column_names(tmp_path / "d.parquet")


def test_copies_that_a_mac_leaves_are_passed_over(tmp_path):
    for name in ("._dataset_0001.parquet", "dataset_0001.parquet"):
        pq.write_table(table([b"x"]), tmp_path / name)
    assert [file.name for file in find_parquet_files(tmp_path)] == ["dataset_0001.parquet"]
