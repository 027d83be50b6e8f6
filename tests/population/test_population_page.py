"""The example of docs/population.md does what the page says."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / "docs/population.md"


def test_the_example_halves_a_population_in_one_program():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(block, names)
    assert names["active"].sum() == 1
    assert names["program"].num_compilations == 1
    steps = names["states"].step.tolist()
    assert sorted(steps) == [8, 8, 16, 16]
    assert int(names["best"].step) == 16
