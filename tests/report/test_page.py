import html as html_escapes
import html.parser
import json
import re

import pytest

from jaxrecipes.report.plots import roc_curve
from jaxrecipes.report.run_page import write_run_page
from jaxrecipes.report.sections import shown


class Checker(html.parser.HTMLParser):
    """Collects addresses, and fails on tags that are not closed in order."""

    VOID = ("meta", "img", "wbr")

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
            "seconds": 185.0,
            "num_skipped": 3,
        },
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    roc_curve([0, 1], [0, 1], 0.5, tmp_path / "plots" / "roc.png")
    return tmp_path


def test_page_is_one_file_without_scripts_and_well_formed(run_dir):
    checker = parse(write_run_page(run_dir).read_text())
    assert "script" not in checker.tags
    assert [address[:22] for address in checker.addresses] == ["data:image/png;base64,"]


def test_page_shows_metrics_facts_and_config_as_escaped_text(run_dir):
    page = write_run_page(run_dir).read_text()
    for text in ("0.9877", "0.9123", "3m 05s", "3 steps were skipped", "&lt;script&gt;alert(1)"):
        assert text in page


def test_an_empty_folder_gets_a_page(tmp_path):
    assert "nothing to show" in write_run_page(tmp_path).read_text()


def test_a_damaged_file_is_named_and_the_rest_is_shown(run_dir):
    (run_dir / "history.json").write_text('[{"epoch": 1,')
    page = write_run_page(run_dir).read_text()
    parse(page)
    assert "history.json could not be read" in page
    assert "0.9877" in page


def test_a_long_run_lists_a_sample_with_its_first_and_last_epoch(run_dir):
    history = [{"epoch": e, "step": e, "train": {}, "val": {}} for e in range(1, 5001)]
    (run_dir / "history.json").write_text(json.dumps(history))
    page = write_run_page(run_dir).read_text()
    assert "5,000 validations, 200 of them shown" in page
    assert "<th>1</th>" in page
    assert "<th>5,000</th>" in page


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        write_run_page(tmp_path / "none")


def test_tables_are_shown_as_escaped_text_and_long_ones_in_part(run_dir):
    table = 'prompt,srocc\n"<b>two,\nlines</b>",0.5\n' + "row,0.25\n" * 60
    (run_dir / "plots" / "agreement_val.csv").write_text(table)
    (run_dir / "plots" / "empty.csv").write_text("")
    page = write_run_page(run_dir).read_text()
    parse(page)
    assert "&lt;b&gt;two,\nlines&lt;/<wbr>b&gt;" in page
    assert "61 rows, the first 50 shown; all in plots/agreement_val.csv" in page
    assert page.count("<td>0.25</td>") == 49


@pytest.fixture
def finished(tmp_path):
    """A run of three epochs, the second the best, that was stopped early."""

    def entry(epoch, f1):
        train = {"loss": 0.4, "loss/bce": 0.4, "f1": f1 + 0.02}
        val = {"loss": 0.5, "loss/bce": 0.5, "f1": 0.1, "f1_ema": f1}
        return {"epoch": epoch, "step": 9 * epoch, "train": train, "val": val, "hparams": {}}

    history = [entry(1, 0.7), entry(2, 0.9), entry(3, 0.8)]
    best, final = ({"epoch": e["epoch"], "step": e["step"], **e["val"]} for e in history[1:])
    summary = {"best": best, "final": final, "test": {}, "selected_by": "f1_ema"}
    summary |= {"stopped_early": True, "num_skipped": 3, "num_params": 12345}
    config = {"recipe": "ocec", "epochs": 9, "steps": None, "select_metric": "f1"}
    config |= {"early_stopping": {"monitor": "loss", "patience_epochs": 1}}
    for name, value in {"history": history, "summary": summary, "config": config}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "unreadable_val.csv").write_text("name,reason\na.png,empty\nb.png,empty\n")
    return tmp_path


def shown_text(page: str) -> str:
    """What a reader sees of it, in order."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.S)
    return re.sub(
        r"\s+", " ", html_escapes.unescape(re.sub("<[^>]+>", " ", body.replace("<wbr>", "")))
    )


def test_the_page_begins_with_what_selected_and_what_went_wrong(finished, monkeypatch):
    monkeypatch.chdir(finished.parent)
    page = write_run_page(finished).read_text()
    first, _ = shown_text(page).split("Metrics")
    wanted = [
        "12,345 parameters",
        "f1_ema on validation, best 0.9000",
        "epoch 2 of 9 training 0.9200 gap to training -0.0200 at the end 0.8000",
        "3 steps were skipped",
        "2 images of val could not be read; see unreadable_val.csv.",
        "Stopped early after epoch 3: loss did not improve for 1 validations",
        f"jaxrecipes export --checkpoint {finished.name} --format onnx",
    ]
    places = [first.index(text) for text in wanted]
    assert places == sorted(places)
    assert "<svg" in page[: page.index("Metrics")]


def test_the_best_epoch_stands_out_in_a_table_of_what_selects(finished):
    page = write_run_page(finished).read_text()
    table = page[page.index("<h2>Epochs</h2>") :]
    assert "epoch f1_ema f1, training loss loss, training 1 0.7000" in shown_text(table)
    (row,) = re.findall(r'<tr class="chosen">.*?</tr>', table, flags=re.S)
    assert "2 0.9000" in shown_text(row)


def test_no_number_is_shown_twice(finished):
    page = shown_text(write_run_page(finished).read_text())
    metrics = page[page.index("Metrics") : page.index("Epochs")]
    assert "loss/bce" not in metrics  # it is the loss
    summary = json.loads((finished / "summary.json").read_text())
    (finished / "summary.json").write_text(json.dumps(summary | {"final": summary["best"]}))
    assert "at the end" not in shown_text(write_run_page(finished).read_text())


def test_a_run_that_is_not_finished_says_how_to_go_on(finished, monkeypatch):
    monkeypatch.chdir(finished)
    (finished / "summary.json").unlink()
    first = shown_text(write_run_page(finished).read_text()).split("Metrics")[0]
    assert "not finished" in first
    assert "f1_ema on validation, at the last epoch 0.8000" in first
    assert "jaxrecipes train --config config.json --workdir ." in first


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),  # noqa: RUF001
        (True, "yes"),
        (12345, "12,345"),
        (0.98765432, "0.9877"),
        (-0.5, "-0.5000"),
        (157.77, "157.8"),
        (1234.56, "1,234.6"),
        (3e-5, "3e-05"),
        (0.00123456, "0.00123"),
        (float("nan"), "nan"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_numbers_have_one_format(value, text):
    assert shown(value) == text


def test_a_picture_says_what_it_shows(run_dir):
    assert "ROC: ROC" in write_run_page(run_dir).read_text()
