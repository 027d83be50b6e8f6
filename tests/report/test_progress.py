import io

import pytest

from jaxrecipes.report.progress import Progress, duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_per_interval_and_one_at_the_end():
    log, clock = io.StringIO(), Clock()
    with Progress("decoding", total=100, unit="images", stream=log, clock=clock) as progress:
        for _ in range(100):
            clock.now += 0.25
            progress.advance()
    assert log.getvalue().splitlines() == [
        "decoding: 40/100 images (40%), 4 images/s, 15s left",
        "decoding: 80/100 images (80%), 4 images/s, 5.0s left",
        "decoding: 100/100 images (100%), 4 images/s, 25s",
    ]


def test_it_is_a_callback_that_learns_the_total():
    log, clock = io.StringIO(), Clock()
    with Progress("decoding", stream=log, clock=clock) as progress:
        clock.now = 2.0
        progress(30, 60)
        progress(60, 60)
    assert log.getvalue() == "decoding: 60/60 steps (100%), 30 steps/s, 2.0s\n"


def test_postfix_is_shown_until_the_next_one():
    log, clock = io.StringIO(), Clock()
    with Progress("epoch 1", total=2, stream=log, clock=clock) as progress:
        clock.now = 1.0
        progress.advance(1, {"loss": 0.123456})
        progress.advance(1)
    assert "loss 0.1235" in log.getvalue()


def test_without_a_last_line_a_short_epoch_prints_nothing():
    log = io.StringIO()
    with Progress("epoch 1", total=2, stream=log, last_line=False) as progress:
        progress.advance(2)
    assert log.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_an_interrupt_goes_on_and_says_where_it_stopped(stream):
    def interrupted():
        with Progress("epoch 1", total=9, stream=stream) as progress:
            progress.advance(4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "4/9" in stream.getvalue()


def test_a_terminal_gets_a_bar_and_brackets_are_text():
    terminal = Terminal()
    with Progress("[run] epoch", total=2, stream=terminal) as progress:
        progress.advance(2)
    assert "[run] epoch" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()


def test_durations_read_well():
    spans = (0.5, 42, 59.7, 185, 7620, 273600)
    assert [duration(s) for s in spans] == ["0.5s", "42s", "1m 00s", "3m 05s", "2h 07m", "3d 04h"]
