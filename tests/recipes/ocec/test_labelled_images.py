import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxrecipes.data.parquet_files import find_parquet_files
from jaxrecipes.data.sizes_from_text import parse_image_size, parse_token_grid
from jaxrecipes.recipes.ocec.examples import pos_weight, sampling_weights
from jaxrecipes.recipes.ocec.labelled_images import (
    NoUsableRowsError,
    check_labels,
    check_trainable,
    read_labelled_images,
)


def png(width=6, height=4, value=90):
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def rules(golden):
    return json.loads((golden.path / "ocec/data_rules.json").read_text())


def write(file, rows):
    rows = [{k: png() if v == "PNG" else v for k, v in row.items()} for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=3)
    return file


def row(path="a.png", **fields):
    return {"split": "train", "label": "open", "class_id": 1, "image_path": path} | fields


def test_every_case_of_the_data_rules(rules, tmp_path):
    errors = {"ValueError": ValueError, "RuntimeError": RuntimeError}
    for name, case in rules["collect"].items():
        file = write(tmp_path / name / "dataset.parquet", case["rows"])
        for image in case["existing_files"]:
            (file.parent / image).parent.mkdir(parents=True, exist_ok=True)
            (file.parent / image).write_bytes(png())
        expected = case["expected"]
        if "collect_error" in expected:
            with pytest.raises(errors[expected["collect_error"]]):
                read_labelled_images(file.parent)
            continue
        data = read_labelled_images(file.parent)
        samples = expected["samples"]
        columns = {
            "index": data.rows,
            "path": data.paths,
            "label": data.labels,
            "label_name": data.label_names,
            "split": data.split,
            "source": data.source,
            "base_frame": data.base_frame,
            "has_bytes": [image is not None for chunk in data.iter_encoded(2) for image in chunk],
            "file_found": [data.file_of(i).is_file() for i in range(len(data))],
        }
        for field, values in columns.items():
            assert list(values) == [sample[field] for sample in samples], (name, field)
        if "split_error" in expected:
            with pytest.raises(errors[expected["split_error"]]):
                check_trainable(data)
            continue
        assert data.split_counts() == expected["split_counts"], name
        labels = data.subset("train").labels
        if len(np.unique(labels)) == 1:
            with pytest.warns(UserWarning, match="class is missing"):
                weight = pos_weight(labels)
        else:
            weight = pos_weight(labels)
        assert weight == pytest.approx(expected["pos_weight_train"], rel=1e-6), name
        np.testing.assert_allclose(sampling_weights(labels), expected["sampler_weights_train"])
        for index, wanted in enumerate(expected["load_image"]):
            if wanted == "FileNotFoundError":
                with pytest.raises(FileNotFoundError, match="not embedded"):
                    data.load_image(index)
            else:
                image = data.load_image(index)
                assert [image.width, image.height, image.mode] == wanted


@pytest.mark.parametrize(
    ("parse", "cases"),
    [(parse_image_size, "image_size_text"), (parse_token_grid, "token_grid_text")],
)
def test_sizes_in_text(rules, parse, cases):
    for text, wanted in rules[cases]:
        if wanted == "error":
            with pytest.raises(ValueError, match="such as"):
                parse(text)
        else:
            assert list(parse(text)) == wanted


@pytest.mark.parametrize(("text", "wanted"), [("+5", (5, 5)), ("+24x 40", (24, 40))])
def test_a_size_is_read_as_by_int(text, wanted):
    assert parse_image_size(text) == wanted


@pytest.mark.parametrize("text", ["+", "5-", "2 4", "0x10"])
def test_what_int_refuses_is_no_size(text):
    with pytest.raises(ValueError, match="such as"):
        parse_image_size(text)


def test_a_folder_with_numbered_files_is_read_in_their_order(tmp_path):
    write(tmp_path / "dataset_0002.parquet", [row("2.png", image_bytes=png(value=20))] * 4)
    write(tmp_path / "dataset_0001.parquet", [row("1.png", image_bytes=png(value=10))] * 4)
    write(tmp_path / "other.parquet", [row("3.png")])
    data = read_labelled_images(tmp_path)
    assert data.paths.tolist() == ["1.png"] * 4 + ["2.png"] * 4
    assert data.load_image(5).getpixel((0, 0)) == (20, 20, 20)


def test_a_folder_falls_back_to_any_parquet(tmp_path):
    write(tmp_path / "b.parquet", [row()])
    write(tmp_path / "a.parquet", [row()])
    assert [file.name for file in find_parquet_files(tmp_path)] == ["a.parquet", "b.parquet"]
    write(tmp_path / "dataset.parquet", [row()])
    assert [file.name for file in find_parquet_files(tmp_path)] == ["dataset.parquet"]


def test_relative_paths_start_at_the_first_files_folder(tmp_path):
    data = read_labelled_images(write(tmp_path / "x" / "d.parquet", [row("eyes/1.png")]))
    assert data.file_of(0) == tmp_path / "x" / "eyes" / "1.png"


def test_null_cells_are_blank_paths_and_unknown_sources(tmp_path):
    rows = [row(None, source="s"), row("b.png", source=None), row(split=None)]
    data = read_labelled_images(write(tmp_path / "d.parquet", rows))
    assert data.paths.tolist() == ["b.png"]
    assert data.source.tolist() == ["unknown"]


def test_the_encoded_images_of_a_subset_are_its_own(tmp_path):
    rows = [
        row(f"{i}.png", split=("train", "val")[i % 2], image_bytes=png(value=i)) for i in range(11)
    ]
    data = read_labelled_images(write(tmp_path / "d.parquet", rows)).subset("val")
    found = [image for chunk in data.iter_encoded(2) for image in chunk]
    assert found == [png(value=i) for i in (1, 3, 5, 7, 9)]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (
            [{"label": "open", "image_path": "a"}],
            ValueError,
            "split.*columns are label, image_path",
        ),
        ([{"split": "train", "image_path": "a"}], ValueError, "class_id or label"),
        ([row(split="later")], NoUsableRowsError, "of 1 rows none"),
        (
            [row(class_id=None, label="half")],
            ValueError,
            "row 0.*'half' is neither open nor closed",
        ),
        ([row(class_id="one")], ValueError, "class_id is 'one'; expected 0"),
    ],
)
def test_bad_tables_are_refused(tmp_path, rows, error, message):
    with pytest.raises(error, match=message):
        read_labelled_images(write(tmp_path / "d.parquet", rows))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*does not exist"):
        read_labelled_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no parquet file"):
        read_labelled_images(tmp_path)


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    (tmp_path / "d.parquet").write_bytes(b"not a parquet file at all")
    with pytest.raises(ValueError, match="not a readable parquet"):
        read_labelled_images(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(split="val")], "no row of the train split"),
        ([row(), row()], "all 2 train rows are open"),
        ([row(), row(class_id=7)], r"found \[7\]"),
    ],
)
def test_data_that_cannot_train_is_refused(tmp_path, rows, message):
    data = read_labelled_images(write(tmp_path / "d.parquet", rows))
    with pytest.raises(ValueError, match=message):
        check_trainable(data)


@pytest.mark.parametrize("ids", [[1.0, 0.0, None], [True, False, None], ["1", " 0 ", None]])
def test_a_class_number_may_have_any_type_that_keeps_it(tmp_path, ids):
    rows = [row(class_id=value, label=" OPEN ") for value in ids]
    assert read_labelled_images(write(tmp_path / "d.parquet", rows)).labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("value", [0.97, float("inf"), 2**40, "open"])
def test_a_class_number_that_would_be_changed_is_refused_by_row(tmp_path, value):
    kind = type(value)
    rows = [row(class_id=kind(1) if kind is not str else "1"), row("b.png", class_id=value)]
    with pytest.raises(
        ValueError, match=r"row 1 of .*\(b.png\): class_id is .*; expected 0 \(closed"
    ):
        read_labelled_images(write(tmp_path / "d.parquet", rows))


def test_a_label_that_is_no_class_is_refused_by_row(tmp_path):
    rows = [row(), row(class_id=0, label="closed"), row("c.png", class_id=7)]
    with pytest.raises(ValueError, match=r"found \[7\] in 1 rows, the first is row 2 .*: c.png"):
        check_labels(read_labelled_images(write(tmp_path / "d.parquet", rows)))


def test_rows_that_are_left_out_or_contradict_themselves_are_named(tmp_path, caplog):
    rows = [row(None), row(), row(split="later"), row(class_id=0, label="open"), row(" ")]
    data = read_labelled_images(write(tmp_path / "d.parquet", rows))
    assert data.rows.tolist() == [1, 3]
    assert "left out 2 rows without an image_path (from 0): 0, 4" in caplog.text
    assert "left out 1 row of an unknown split (from 0): 2" in caplog.text
    assert "class_id counts: 1 row (from 0): 3" in caplog.text
