import pytest

from jaxrecipes.data.csv_files import read_csv


def read(tmp_path, content):
    (tmp_path / "d.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv(tmp_path / "d.csv")


def test_quotes_line_ends_marks_and_case_are_read(tmp_path):
    columns = read(tmp_path, '\ufeff Name ,PROMPT\r\na.png,"a cat,\r\nblue ""one"""\r\n\r\nb,c\r\n')
    assert columns == {"name": ["a.png", "b"], "prompt": ['a cat,\r\nblue "one"', "c"]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "name;mos\na;3,5\n",
            r"separated by ';', and numbers such as 3,5 .*; expected commas .* \(3.5\)$",
        ),
        ("name;mos\na;b\n", r"separated by ';', as .*; expected commas between cells$"),
        ("name\tmos\na\t3.5\n", r"separated by '\\t', as .*; expected commas between cells$"),
        ("name,mos\na,3,5\n", "row 0 .* has 3 cells, the header 2; quote"),
        ('name,mos\na,"3\n', "not a readable CSV file in UTF-8: .*unexpected end"),
        ("name,mos\né,3\n".encode("latin-1"), "not a readable CSV file in UTF-8"),
        ("name,mos\na,3\n".encode("utf-16"), "is text in UTF-16; save it as CSV in UTF-8"),
        ("Name, name \na,b\n", "has the column name more than once"),
        ("name,mos\na,\0" + "x" * 200_000, "not a readable CSV file"),
    ],
)
def test_what_cannot_be_read_exactly_is_one_line(tmp_path, content, says):
    with pytest.raises(ValueError, match=says) as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)
