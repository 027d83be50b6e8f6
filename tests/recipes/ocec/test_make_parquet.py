import io
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxrecipes.recipes.ocec.labelled_images import read_labelled_images
from jaxrecipes.recipes.ocec.make_parquet import (
    count_classes,
    make_parquet,
    source_of,
    split_by_label,
)


def touch(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(stream, "PNG")
    file.write_bytes(stream.getvalue())
    return file


def annotate(file, lines):
    for line in lines:
        touch(file.parent / line.split(",")[0])
    file.write_text("".join(line + "\n" for line in lines))
    return file


def test_columns_labels_and_sources_follow_the_rules(tmp_path):
    lines = [
        "cropped/100000001/a_open_1.png,1",
        "cropped/100000001/a_closed_2.png,1",  # the stem wins for the text, not for the number
        "cropped/00042/plain.png,0",
        "elsewhere/plain.png,1",
    ]
    annotation = annotate(tmp_path / "annotation.csv", lines)
    (file,) = make_parquet(tmp_path / "out" / "eyes.parquet", annotations=[annotation])
    table = pq.read_table(file)
    assert table.column_names == ["split", "label", "class_id", "image_path", "source"]
    rows = {row["image_path"]: row for row in table.to_pylist()}
    found = {path: (row["label"], row["class_id"], row["source"]) for path, row in rows.items()}
    assert found == {
        "../cropped/100000001/a_open_1.png": ("open", 1, "real_data"),
        "../cropped/100000001/a_closed_2.png": ("closed", 1, "real_data"),
        "../cropped/00042/plain.png": ("closed", 0, "train_dataset"),
        "../elsewhere/plain.png": ("open", 1, "unknown"),
    }
    keys = [(row["split"], row["label"], row["image_path"]) for row in table.to_pylist()]
    assert keys == sorted(keys)
    data = read_labelled_images(file)
    assert all(data.file_of(i).is_file() for i in range(len(data)))


def test_the_split_is_pythons_shuffle_label_by_label():
    labels = {Path(f"{i}.png"): "open" if i % 3 else "closed" for i in range(20)}
    splits = split_by_label(labels, 0.8, 42)
    generator = random.Random(42)
    for label in ("closed", "open"):
        paths = [path for path, name in labels.items() if name == label]
        generator.shuffle(paths)
        count = int(len(paths) * 0.8)
        assert all(splits[path] == "train" for path in paths[:count])
        assert all(splits[path] == "val" for path in paths[count:])


@pytest.mark.parametrize(("ratio", "train"), [(0.01, 1), (0.99, 2)])
def test_each_side_of_a_split_gets_at_least_one(ratio, train):
    labels = {Path(f"{i}.png"): "open" for i in range(3)}
    assert list(split_by_label(labels, ratio, 0).values()).count("train") == train


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("data/cropped/100000000/x.png", "real_data"),
        ("data/cropped/099999999/x.png", "train_dataset"),
        ("data/cropped/12a/x.png", "unknown"),
        ("data/12/x.png", "unknown"),
    ],
)
def test_the_source_is_told_by_the_folder_below_cropped(path, source):
    assert source_of(Path(path)) == source


def test_folders_of_images_are_classed_by_name_and_embedded(tmp_path):
    for name in ("open/1.png", "closed/1.jpg", "open/was_closed.png", "closed/deep/2.png"):
        touch(tmp_path / "eyes" / name)
    (tmp_path / "eyes" / "notes.txt").write_text("no image")
    (file,) = make_parquet(tmp_path / "d.parquet", images=[tmp_path / "eyes"], embed_images=True)
    data = read_labelled_images(file)
    found = dict(zip(data.paths.tolist(), data.labels.tolist(), strict=True))
    assert found == {
        "eyes/open/1.png": 1,
        "eyes/closed/1.jpg": 0,
        "eyes/open/was_closed.png": 1,
        "eyes/closed/deep/2.png": 0,
    }
    assert all(image for chunk in data.iter_encoded() for image in chunk)


def test_the_nearest_folder_with_the_word_decides_before_the_name(tmp_path, caplog):
    eyes = tmp_path / "closed_eyes"
    for name in ("opencv_frame_0.png", "opened/1.png", "EyesOpen2/3.png", "open/x/closed_4.png"):
        touch(eyes / name)
    (file,) = make_parquet(tmp_path / "d.parquet", images=[eyes])
    rows = {row["image_path"]: row for row in pq.read_table(file).to_pylist()}
    found = {path.split("/", 1)[1]: (r["class_id"], r["label"]) for path, r in rows.items()}
    assert found == {
        "opencv_frame_0.png": (0, "closed"),
        "opened/1.png": (0, "closed"),
        "EyesOpen2/3.png": (1, "open"),
        "open/x/closed_4.png": (1, "open"),
    }
    assert "1 images have the class of their folder though their name says otherwise" in caplog.text
    assert {k: v for n in count_classes([file]).values() for k, v in n.items()} == {
        "closed": 1,
        "open": 1,
    }


def test_a_name_decides_where_no_folder_does(tmp_path):
    for name in ("1_open.png", "closed-2.png"):
        touch(tmp_path / "open_and_closed" / name)
    (file,) = make_parquet(tmp_path / "d.parquet", images=[tmp_path / "open_and_closed"])
    assert sorted(pq.read_table(file)["class_id"].to_pylist()) == [0, 1]


def test_a_file_that_is_given_both_classes_is_refused(tmp_path):
    touch(tmp_path / "open" / "1.png")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "2.png").symlink_to(tmp_path / "open" / "1.png")
    with pytest.raises(ValueError, match=r"2.png \(the same file as .*\) is given as open and as"):
        make_parquet(tmp_path / "d.parquet", images=[tmp_path / "open", tmp_path / "closed"])
    annotation = annotate(tmp_path / "a.csv", ["x.png,1", "x.png,0"])
    with pytest.raises(ValueError, match=r"x.png is given as open and as closed"):
        make_parquet(tmp_path / "d.parquet", annotations=[annotation])


def test_an_undecidable_class_is_an_error(tmp_path):
    touch(tmp_path / "eyes" / "1.png")
    with pytest.raises(ValueError, match="cannot tell the class"):
        make_parquet(tmp_path / "d.parquet", images=[tmp_path / "eyes"])


def test_rows_are_spread_over_files_and_duplicates_dropped(tmp_path):
    annotation = annotate(tmp_path / "a.csv", [f"{i}.png,{i % 2}" for i in range(7)] * 2)
    (tmp_path / "._a.csv").write_bytes(b"\0\5\x16\7 what a Mac leaves")
    files = make_parquet(
        tmp_path / "dataset.parquet", annotations=[annotation, tmp_path], max_rows_per_file=3
    )
    assert [file.name for file in files] == [f"dataset_{n:04d}.parquet" for n in (1, 2, 3)]
    data = read_labelled_images(tmp_path)
    assert sorted(data.paths.tolist()) == [f"{i}.png" for i in range(7)]


def test_bad_requests_are_refused(tmp_path):
    annotation = annotate(tmp_path / "a.csv", ["1.png,1"])
    with pytest.raises(ValueError, match="strictly between"):
        make_parquet(tmp_path / "d.parquet", annotations=[annotation], train_ratio=1.0)
    annotation.write_text("1.png,1\n" + "".join(f"gone{i}.png,0\n" for i in range(12)))
    with pytest.raises(FileNotFoundError, match=r"^12 images do not exist: gone0.*gone9\.png$"):
        make_parquet(tmp_path / "d.parquet", annotations=[annotation])
    annotation.write_text("image_path,class_id\n")
    with pytest.raises(ValueError, match=r"line 1 .* no header"):
        make_parquet(tmp_path / "d.parquet", annotations=[annotation])
    annotation.write_bytes(b"\xe9t\xe9.png,1\n")
    with pytest.raises(ValueError, match=r"a.csv is not a readable CSV file in UTF-8"):
        make_parquet(tmp_path / "d.parquet", annotations=[annotation])
    with pytest.raises(ValueError, match="no images"):
        make_parquet(tmp_path / "d.parquet")


def test_the_script_writes_the_file_or_says_why_not(script, tmp_path):
    annotation = annotate(tmp_path / "a.csv", ["1_open.png,1", "2_closed.png,0"])
    command = ["make_dataset", "--output", tmp_path / "d.parquet", "--annotation"]
    done = script(*command, annotation, "--embed-images")
    assert done.code == 0, done.err
    assert done.out.strip() == str(tmp_path / "d.parquet")
    assert "val: 1 closed, 1 open\n" in done.err
    failed = script(*command, tmp_path / "no.csv")
    assert failed.code == 2
    assert failed.err.startswith("error: annotation file")
