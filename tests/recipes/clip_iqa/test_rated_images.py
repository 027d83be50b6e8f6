"""Rated images: what is read, and what is refused."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxrecipes.recipes.clip_iqa.rated_images import read_rated_images

HEADER = "name,prompt,mos_quality,mos_align,adj1\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def png(height=4, width=6):
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def test_a_csv_gives_prompts_and_scores_over_five(tmp_path):
    file = write(tmp_path / "d.csv", HEADER + 'a.png,"a cat, blue",2.5,5,x\nb.png,a dog,0,1,\n')
    table = read_rated_images(file)
    assert table.prompts.tolist() == ["a cat, blue", "a dog"]
    np.testing.assert_allclose(table.quality, [0.5, 0.0])
    np.testing.assert_allclose(table.consistency, [1.0, 0.2])
    assert table.file_of(1) == tmp_path / "b.png"
    assert table.generators is None
    assert table.split is None


def test_parquet_has_images_splits_and_generators(tmp_path):
    columns = {
        "split": ["Train", "valid"],
        "name": ["a.png", "b.png"],
        "prompt": ["x", "y"],
        "mos_quality": [1.0, 2.0],
        "mos_align": [3.0, 4.0],
        "generator": ["g", "h"],
        "image_bytes": [png(), png(8, 2)],
    }
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    table = read_rated_images(tmp_path / "d.parquet")
    table.check_images_exist()
    assert table.split.tolist() == ["train", "val"]
    assert table.generators.tolist() == ["g", "h"]
    assert table.image_sizes().tolist() == [[4, 6], [8, 2]]


def test_embeddings_come_as_unit_vectors_of_one_length(tmp_path):
    columns = {"name": ["a", "b"], "prompt": ["x", "y"], "mos_quality": [1, 2], "mos_align": [3, 4]}
    file = tmp_path / "d.parquet"
    pq.write_table(pa.table({**columns, "image_embedding": [[3.0, 4.0], [0.0, -2.0]]}), file)
    table = read_rated_images(file, embeddings=True)
    np.testing.assert_allclose(table.embeddings, [[0.6, 0.8], [0.0, -1.0]], rtol=1e-6)
    assert read_rated_images(file).embeddings is None

    pq.write_table(pa.table({**columns, "image_embedding": [[3.0], [0.0, -2.0]]}), file)
    with pytest.raises(ValueError, match="expected lists of equally many finite numbers"):
        read_rated_images(file, embeddings=True)
    pq.write_table(pa.table(columns), file)
    with pytest.raises(ValueError, match="lacks the column image_embedding"):
        read_rated_images(file, embeddings=True)


def test_the_named_column_of_explanations_is_read_and_an_empty_one_is_none(tmp_path):
    header = "name,Prompt,mos_quality,mos_align,explanation, Why\n"
    file = write(tmp_path / "d.csv", header + "a,b,1,1,other,good\nc,d,1,1,other,\n")
    table = read_rated_images(file, explanation_column="Why")
    assert table.explanations.tolist() == ["good", None]


def test_scores_may_be_missing_where_none_are_needed(tmp_path):
    table = read_rated_images(write(tmp_path / "d.csv", "name,prompt\na,b\n"), rated=False)
    assert np.isnan(table.quality).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,prompt,mos_quality\na,b,1\n", "lacks the column mos_align"),
        ("", "is an empty file"),
        ("\n", "lacks the column name"),
        (HEADER, "no rows"),
        (HEADER + "a,,1,1,\n", "1 of 1 rows have no prompt, the first is row 0"),
        (HEADER + "a,b,5.5,1,\n", "mos_quality of .* is '5.5' in row 0"),
        (HEADER + "a,b,1,nan,\n", "mos_align of .* is 'nan' in row 0"),
        (HEADER + "a,b,1,x,\n", "mos_align of .* is 'x' in row 0"),
        (HEADER + "a,b,1,inf,\n", "mos_align of .* is 'inf' in row 0"),
        (HEADER + "a,b,1,0_4,\n", "mos_align of .* is '0_4' in row 0"),
        (HEADER + "a,b,c,1,1,\n", "row 0 .* has 6 cells, the header 5"),
        ("name,name,prompt,mos_quality,mos_align\na,a,b,1,1\n", "column name more than once"),
        ("split,name,prompt,mos_quality,mos_align\nx,a,b,1,1\n", "the split is 'x' in row 0"),
    ],
)
def test_a_bad_csv_is_one_clear_error(tmp_path, text, says):
    with pytest.raises(ValueError, match=says):
        read_rated_images(write(tmp_path / "d.csv", text))


def test_missing_explanations_and_images_are_errors(tmp_path):
    file = write(tmp_path / "d.csv", HEADER + "a.png,b,1,1,\n")
    with pytest.raises(ValueError, match="lacks the column explanation"):
        read_rated_images(file, explanation_column="explanation")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images .* a.png; data.image_folder"):
        read_rated_images(file).check_images_exist()


@pytest.mark.parametrize("cell", [b"a cat", ["a", "cat"], 3, {"text": "a cat"}])
@pytest.mark.parametrize("column", ["prompt", "name"])
def test_what_is_no_text_is_refused_by_row(tmp_path, column, cell):
    columns = {"name": ["a"], "prompt": ["x"], "mos_quality": [1], "mos_align": [3]}
    pq.write_table(pa.table(columns | {column: [cell]}), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match=rf"{column} of .* in row 0 \(from 0\); expected a text"):
        read_rated_images(tmp_path / "d.parquet")


def test_an_unknown_generator_is_unknown(tmp_path):
    columns = {"name": ["a"] * 3, "prompt": ["x"] * 3, "mos_quality": [1] * 3, "mos_align": [3] * 3}
    pq.write_table(pa.table(columns | {"generator": [7, None, 8]}), tmp_path / "d.parquet")
    table = read_rated_images(tmp_path / "d.parquet")
    assert table.generators.tolist() == ["7", "unknown", "8"]


@pytest.mark.parametrize("vector", [None, [0.0, 0.0], [1e30, 0.0], [None, 1.0], [1.0]])
def test_an_embedding_without_direction_is_named_by_row(tmp_path, vector):
    columns = {"name": ["a"] * 3, "prompt": ["x"] * 3, "mos_quality": [1] * 3, "mos_align": [3] * 3}
    columns["image_embedding"] = [[1.0, 2.0], vector, [3.0, 4.0]]
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match=r"image_embedding.* row 1"):
        read_rated_images(tmp_path / "d.parquet", embeddings=True)


@pytest.mark.parametrize(("best", "warned"), [("0.9", True), ("4.5", False)])
def test_scores_that_look_like_shares_are_warned_of(tmp_path, caplog, best, warned):
    read_rated_images(write(tmp_path / "d.csv", HEADER + f"a,b,0.1,{best},\n" * 20))
    assert ("all scores lie between 0 and 1" in caplog.text) == warned
