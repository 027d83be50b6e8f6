"""Bytes that a train step takes on each device, whole and split over several (FSDP).

    python benchmarks/fsdp_bytes.py --config configs/clip_iqa.py:scenario_large \
        --clip.weights None --data.path None --data.embedded_train 32 --data.embedded_val 8 \
        --data.batch_size 8

Takes the config's flags as scripts/train.py does. The step is compiled for CPU devices that the
host fakes, and never run: no weights are read and no state is made, so that a network can be judged
that has no room here. Of the data only shapes matter; a little is enough.

`temporary` is what the compiled step holds at once beside its arguments: activations, gradients,
and with FSDP the weights that are gathered. It is the CPU compiler's figure, scheduled for little
memory; an accelerator's differs.
"""

import argparse
import pathlib
import time
from typing import Any

import jax
import numpy as np
from report import machine, print_table, write_json

from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.sharding import make_mesh, shard_bytes
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.run_data import make_run_data

_COMPILER_OPTIONS: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",  # of machine code; buffers are the same
    "xla_cpu_enable_concurrency_optimized_scheduler": False,
}


def figures(
    recipe: Recipe, config: RunConfig, arrays: Any, *, devices: int, compiled: bool
) -> dict[str, Any]:
    """Megabytes on each of `devices` devices that share one batch and, if several, the state."""
    mesh = make_mesh(devices, devices=jax.devices()[:devices])
    data = make_run_data({"train": arrays}, config, mesh)
    programs = Programs(recipe, data, steps_per_call=1, mesh=mesh)
    state, shardings = programs.abstract_state, programs.train.shardings
    parts = {
        "params": (state.params, shardings.params),
        "optimizer": (state.opt_state, shardings.opt_state),
        "averages": (state.ema_params, shardings.ema_params),
    }
    found: dict[str, Any] = {f"{part} MB": shard_bytes(*both) / 1e6 for part, both in parts.items()}
    if compiled:
        start = time.perf_counter()
        items = data.train.training_items(0, 1, padded_to=1)
        sums = programs.train.zeros(programs.sum_shapes)
        lowered = programs.train.lower(state, sums, data.train.source, items, np.int32(1))
        program = lowered.compile(compiler_options=_COMPILER_OPTIONS)
        memory = program.memory_analysis()
        found |= {
            "temporary MB": memory.temp_size_in_bytes / 1e6,
            "arguments MB": memory.argument_size_in_bytes / 1e6,
            "GFLOP": (program.cost_analysis() or {}).get("flops", float("nan")) / 1e9,
            "compilation s": round(time.perf_counter() - start, 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--config", required=True, help="as of scripts/train.py, with its flags")
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 8], help="a column of each")
    parser.add_argument("--no-compile", action="store_true", help="the state's bytes alone")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    args, overrides = parser.parse_known_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(args.devices))
    module, config = recipe_and_config(args.config, overrides)
    train = module.load_data(config, report_dir=None, train=True)["train"]
    recipe = module.make_recipe(config, DataInfo(steps_per_epoch=100, train=train))
    columns = {
        f"{devices} devices" if devices > 1 else "1 device": figures(
            recipe, config, train.arrays, devices=devices, compiled=not args.no_compile
        )
        for devices in args.devices
    }
    print(f"{module.name}, a global batch of {config.data.batch_size}; on each device:")
    print_table(columns)
    write_json({"machine": machine("jax"), "devices": columns}, args.json)


if __name__ == "__main__":
    main()
