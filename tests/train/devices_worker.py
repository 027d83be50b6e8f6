"""Run by test_devices.py in a process of its own: toy runs on some devices, one after the other,
their results as JSON on standard output, a line for each.

devices_worker.py RUNS [COORDINATOR NUM_PROCESSES PROCESS_ID], where RUNS is JSON: a list of
[WORKDIR, FSDP_DEVICES, PLACEMENT, EPOCHS].
"""

import json
import pathlib
import sys

import jax

from jaxrecipes.sharding import bytes_per_device, initialize_distributed


def main(runs, coordinator=None, num_processes=None, process_id=None):
    if coordinator:
        initialize_distributed(coordinator, int(num_processes), int(process_id))
    for run in json.loads(runs):
        print(json.dumps(train(*run)))


def train(workdir, fsdp_devices, placement, epochs):
    from toy_recipe import toy_config, toy_fit, toy_recipe  # jax is set up from here on

    from jaxrecipes.train.config import DataConfig, ParallelConfig

    config = toy_config(
        epochs=epochs,
        data=DataConfig(batch_size=16, eval_batch_size=16, placement=placement),
        parallel=ParallelConfig(fsdp_devices=fsdp_devices),
    )
    # A run may go on on other devices, which is a change of its config.
    finished = toy_fit(
        pathlib.Path(workdir), toy_recipe(width=1024), config=config, allow_config_change=True
    )
    history = json.loads((pathlib.Path(workdir) / "history.json").read_text())
    kernel = finished.params["hidden"]["kernel"]
    return {
        "devices": jax.device_count(),
        "losses": [entry["train"]["loss"] for entry in history],
        "val": [entry["val"]["loss_ema"] for entry in history],
        "kernel_sum": float(jax.jit(lambda k: abs(k).sum())(kernel)),
        "kernel_shard": list(kernel.addressable_shards[0].data.shape),
        "bytes_per_device": max(bytes_per_device(finished.params).values()),
        "compilations": finished.summary["compilations"],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
