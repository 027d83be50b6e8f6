import html.parser
import json

import pytest

from jaxrecipes.report.page import write_page
from jaxrecipes.report.plots import roc_curve


class Checker(html.parser.HTMLParser):
    """Collects addresses, and fails on tags that are not closed in order."""

    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


@pytest.fixture
def run_dir(tmp_path):
    history = [
        {"epoch": e, "step": 9 * e, "train": {"loss": 0.5}, "val": {"loss": None, "f1": 0.91234567}}
        for e in (1, 2)
    ]
    files = {
        "config.json": {"recipe": "ocec", "optim": {"note": "<script>alert(1)</script>"}},
        "history.json": history,
        "summary.json": {
            "best": {"epoch": 2, "f1_ema": 0.98765432},
            "final": {"f1": 0.5},
            "duration_s": 185.0,
            "skipped_updates": 3,
        },
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    roc_curve([0, 1], [0, 1], 0.5, tmp_path / "plots" / "roc.png")
    return tmp_path


def test_page_is_one_file_without_scripts_and_well_formed(run_dir):
    checker = parse(write_page(run_dir).read_text())
    assert "script" not in checker.tags
    assert [address[:22] for address in checker.addresses] == ["data:image/png;base64,"]


def test_page_shows_metrics_facts_and_config_as_escaped_text(run_dir):
    page = write_page(run_dir).read_text()
    for text in ("0.9877", "0.9123", "3m 05s", "skipped_updates", "&lt;script&gt;alert(1)"):
        assert text in page


def test_an_empty_folder_gets_a_page(tmp_path):
    assert "nothing to show" in write_page(tmp_path).read_text()


def test_a_damaged_file_is_named_and_the_rest_is_shown(run_dir):
    (run_dir / "history.json").write_text('[{"epoch": 1,')
    page = write_page(run_dir).read_text()
    parse(page)
    assert "history.json could not be read" in page
    assert "0.9877" in page


def test_a_long_run_lists_a_sample_with_its_first_and_last_epoch(run_dir):
    history = [{"epoch": e, "step": e, "train": {}, "val": {}} for e in range(1, 5001)]
    (run_dir / "history.json").write_text(json.dumps(history))
    page = write_page(run_dir).read_text()
    assert "5000 validations, 200 of them shown" in page
    assert "<td>1</td>" in page
    assert "<td>5000</td>" in page


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        write_page(tmp_path / "none")


def test_tables_are_shown_as_escaped_text_and_long_ones_in_part(run_dir):
    table = 'prompt,srocc\n"<b>two,\nlines</b>",0.5\n' + "row,0.25\n" * 60
    (run_dir / "plots" / "agreement_val.csv").write_text(table)
    (run_dir / "plots" / "empty.csv").write_text("")
    page = write_page(run_dir).read_text()
    parse(page)
    assert "&lt;b&gt;two,\nlines&lt;/b&gt;" in page
    assert "61 rows, the first 50 shown; all in plots/agreement_val.csv" in page
    assert page.count("<td>0.25</td>") == 49
