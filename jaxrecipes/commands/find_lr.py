"""Suggests a learning rate: trains briefly with a growing rate, and finds where the loss falls
fastest.

  jaxrecipes find_lr --config NAME[:PRESET] [--output FOLDER] [--start_rate 1e-7]
                            [--end_rate 1] [--num_steps 100] [--FIELD VALUE ...]

Prints one JSON object (the rate of the steepest descent, that of the lowest loss, and the command
that trains with the first) and leaves a page (report.html), a plot and the curve in FOLDER. Fields
of the config are flags, as for train.
"""

import dataclasses
import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxrecipes import cli
from jaxrecipes.files import new_folder, write_json
from jaxrecipes.paths import check_output_folder, user_path
from jaxrecipes.runs.data import recipe_data
from jaxrecipes.runs.init_from import check_one_stage, with_init_from
from jaxrecipes.runs.recipe_config import chosen, recipe_and_config
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.runs.runtime import set_up_jax
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import create_state, starting_weights
from jaxrecipes.tune.lr_finder import (
    RangeTest,
    check_rates,
    find_learning_rate,
    train_command,
)


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--config", required=True, help="NAME or FILE.py, with :PRESET or without")
    flags.add_argument(
        "--output",
        type=cli.path,
        help="folder for the plot and the curve (default: a new one under runs/)",
    )
    flags.add_argument("--start_rate", type=float, default=1e-7, help="of the first step (1e-7)")
    flags.add_argument("--end_rate", type=float, default=1.0, help="of the last step (1)")
    flags.add_argument("--num_steps", type=int, default=100, help="in all (100)")
    own, overrides = flags.parse_known_args()
    options: dict[str, Any] = {
        "start_rate": own.start_rate,
        "end_rate": own.end_rate,
        "num_steps": own.num_steps,
    }
    _check_test(**options)
    output = own.output or pathlib.Path("runs")
    check_output_folder(output, what="--output")
    module, config = recipe_and_config(own.config, overrides)
    module.check_config(config)
    check_one_stage(config, "find_lr")
    folder = own.output or new_folder(output, "find_lr")
    words = ("--config", own.config, *overrides)
    result = _find(module, config, folder, words=words, **options)
    if result.suggestion is None:
        logging.getLogger("jaxrecipes").warning(
            "the loss diverged at once: try a lower --start_rate"
        )
    found = {
        "suggestion": result.suggestion,
        "lowest_loss_rate": result.lowest_loss_rate,
        "steps": len(result.losses),
        "train": train_command(result, *words),
        "plot": str(folder / "learning_rate.png"),
        "page": str(folder / "report.html"),
    }
    print(json.dumps(found))


def find_lr(
    config: Any,
    output: str | pathlib.Path,
    *,
    fields: Mapping[str, Any] | None = None,
    start_rate: float = 1e-7,
    end_rate: float = 1.0,
    num_steps: int = 100,
) -> RangeTest:
    """Suggests a learning rate, as `jaxrecipes find_lr` does.

    Args:
      config: a recipe's config, or what `--config` takes.
      output: folder for the plot and the curve.
      fields: values in place of the config's, by dotted name.
      start_rate: of the first step.
      end_rate: of the last step.
      num_steps: in all.

    Raises:
      ValueError: rates out of bounds, or a config or data that cannot be trained.
    """
    _check_test(start_rate, end_rate, num_steps)
    words: list[str] = []  # none for a config that no command can name
    if isinstance(config, str):
        given = (fields or {}).items()
        words = ["--config", config, *(w for n, v in given for w in (f"--{n}", str(v)))]
    module, config = chosen(config, fields)
    module.check_config(config)
    check_one_stage(config, "find_lr")
    folder = user_path(output)
    check_output_folder(folder, what="--output")
    options: dict[str, Any] = {
        "start_rate": start_rate,
        "end_rate": end_rate,
        "num_steps": num_steps,
    }
    return _find(module, config, folder, words=words, **options)


def _find(
    module: RecipeModule,
    config: Any,
    folder: pathlib.Path,
    *,
    words: Sequence[str],
    start_rate: float,
    end_rate: float,
    num_steps: int,
) -> RangeTest:
    """The test; `words` are the config and its flags on a command line, or empty."""
    set_up_jax(config)
    folder.mkdir(parents=True, exist_ok=True)

    # No report: what one range test saw is no record for the next in the same folder.
    splits = module.load_data(config, report_dir=None, train=True)
    one_call = dataclasses.replace(config.loop, steps_per_call=num_steps)
    data = recipe_data(
        module,
        dataclasses.replace(config, loop=one_call),
        {"train": splits["train"]},
        make_mesh(),
    )
    recipe = module.make_recipe(
        config, DataInfo.of(splits["train"], steps_per_epoch=data.steps_per_epoch)
    )
    recipe = with_init_from(recipe, config.init_from)
    create = jax.jit(lambda key, given: create_state(recipe, key, given=given))
    state = create(jax.random.key(config.seed), starting_weights(recipe))
    result = find_learning_rate(
        recipe,
        state,
        data.train,
        start_rate=start_rate,
        end_rate=end_rate,
        num_steps=num_steps,
    )
    from jaxrecipes.report.plots import learning_rate_finder
    from jaxrecipes.tune.lr_page import write_lr_page

    learning_rate_finder(
        result.learning_rates,
        result.smoothed_losses,
        result.suggestion,
        folder / "learning_rate.png",
    )
    curve = {name: value.tolist() for name, value in vars(result).items() if name != "suggestion"}
    write_json(folder / "learning_rate.json", {"suggestion": result.suggestion, **curve})
    train = train_command(result, *words) if words else ""
    write_lr_page(result, folder, train=train)
    return result


def _check_test(start_rate: float, end_rate: float, num_steps: int) -> None:
    if num_steps < 2:
        raise ValueError(f"--num_steps is {num_steps}; expected 2 or more")
    check_rates(start_rate, end_rate)
