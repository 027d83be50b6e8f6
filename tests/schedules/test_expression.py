import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes import schedules
from jaxrecipes.schedules.expression import CONSTRUCTORS

NAMES = {"epoch": 92.0, "run": 920.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", schedules.constant(0.5)),
        (" -1e-3 ", schedules.constant(-1e-3)),
        ("2*(3 - 1)/4 + 1", schedules.constant(2)),
        ("run / epoch", schedules.constant(10)),
        ("delayed(0.3, start_step=2*epoch)", schedules.delayed(0.3, start_step=184)),
        (
            "join((linear(0, 1e-3, steps=epoch), cosine(1e-3, steps=run - epoch)), (epoch,))",
            schedules.join(
                [schedules.linear(0, 1e-3, steps=92), schedules.cosine(1e-3, steps=828)], [92]
            ),
        ),
        ("multistep(1, milestones=[3, 5])", schedules.multistep(1, milestones=(3, 5))),
        (
            'cyclic(0.1, 1, mode="triangular2", step_size_down=None)',
            schedules.cyclic(0.1, 1, mode="triangular2"),
        ),
        (
            "one_cycle(1, total_steps=run, three_phase=True)",
            schedules.one_cycle(1, total_steps=920, three_phase=True),
        ),
        (
            "every(exponential(1, gamma=.9), epoch)",
            schedules.every(schedules.exponential(1, gamma=0.9), 92),
        ),
    ],
)
def test_reads_numbers_and_calls(text, expected):
    assert schedules.parse(text, names=NAMES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("delay(0.3, start_step=5)", "unknown schedule 'delay'.*'delayed'"),
        ("delayed(0.3, start_steps=5)", "no argument 'start_steps'.*'start_step'"),
        ("2*epcoh", "unknown name 'epcoh'.*'epoch'"),
        ("delayed(0.3)", "missing.*'start_step'"),
        ("cosine(1, 2, 3, 4)", "too many positional"),
        ("cosine(1, **{})", "no argument"),
        ("cosine(1, steps=0)", "steps=0"),
        ("cosine('1', steps=3)", "peak='1'"),
        ("cyclic(0, 1, mode='square')", "'square'"),
        ("2 * cosine(1, steps=3)", "not a number.*scale"),
        ("'text'", "expected a number or a schedule"),
        ("None", "expected a number or a schedule"),
        ("(1, 2)", "expected a number or a schedule"),
        ("True", "expected a number or a schedule"),
        ("1 / 0", "division by zero"),
        ("2 ** 3", "neither a number nor a call"),
        ("cosine(1,", "never closed"),
        ("", "schedule ''"),
        ("1 if 1 else 2", "neither"),
        ("join((1, 2), (3,))[0]", "neither"),
        ("x.y(3)", "neither"),
        ("(lambda: 1)()", "neither"),
        ("__import__('os')", "unknown schedule '__import__'"),
        ("(" * 500 + "1" + ")" * 500, "schedule"),
        ("-" * 5000 + "1", "schedule"),
        ("1j", "neither"),
    ],
)
def test_anything_else_is_a_clear_error(text, message):
    with pytest.raises(ValueError, match=message):
        schedules.parse(text, names=NAMES)


def test_every_public_constructor_can_be_written():
    others = {"Schedule", "ScheduleLike", "as_schedule", "check_text", "evaluate", "parse"}
    assert set(CONSTRUCTORS) == set(schedules.__all__) - others


@settings(deadline=None, max_examples=200)
@given(st.floats(allow_nan=False), st.floats(1e-3, 1e9), st.lists(st.floats(0, 1e6), max_size=4))
def test_repr_reads_back_for_any_numbers(value, steps, milestones):
    for schedule in (
        schedules.cosine(value, steps=steps),
        schedules.multistep(value, milestones=milestones),
    ):
        assert schedules.parse(repr(schedule)) == schedule


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="cosine(1, steps=)*+-/.'\"[]{}:lambda_", max_size=40))
def test_random_text_is_a_schedule_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(schedules.parse(text), schedules.Schedule)
