"""Run by test_clip_iqa_devices.py in a process of its own: steps of clip_iqa on all devices there
are, what came out as JSON on standard output.

clip_devices_worker.py FSDP_DEVICES
"""

import json
import sys

import jax
import numpy as np

from jaxrecipes.data.indexed import IndexedRows
from jaxrecipes.models.clip_config import ClipConfig, ClipTextConfig, ClipVisionConfig
from jaxrecipes.recipes.clip_iqa.config import (
    AugmentConfig,
    ClipSource,
    FreezeConfig,
    IqaDataConfig,
    IqaRunConfig,
)
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.sharding import bytes_per_device, make_mesh
from jaxrecipes.train.config import LoopConfig, OptimConfig
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.splits import make_run_data

STEPS, IMAGES = 4, 32
CLIP = ClipConfig(
    vision=ClipVisionConfig(
        image_size=32, patch_size=8, width=64, depth=1, num_heads=4, mlp_width=256
    ),
    text=ClipTextConfig(
        width=64, depth=1, num_heads=4, mlp_width=256, vocab_size=256, context_length=16
    ),
    projection_dim=64,
)


def main(fsdp_devices):
    config = IqaRunConfig(
        clip=ClipSource(size="custom", custom=CLIP),
        freeze=FreezeConfig(mode="partial", layers=0),
        augment=AugmentConfig(enabled=False),
        data=IqaDataConfig(batch_size=16),
        optim=OptimConfig(learning_rate=1e-3, clip_norm=1.0),
        loop=LoopConfig(steps_per_call=1),
    )
    rng, mesh = np.random.default_rng(0), make_mesh(int(fsdp_devices))
    arrays = {
        "image": rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8),
        "tokens": IndexedRows(rng.integers(1, 256, (8, 12)).astype(np.int32), np.arange(32) % 8),
        "quality": rng.random(IMAGES, np.float32),
        "consistency": rng.random(IMAGES, np.float32),
    }
    data = make_run_data({"train": arrays}, config, mesh)
    recipe = make_recipe(config, steps_per_epoch=data.steps_per_epoch)
    programs = Programs(recipe, data, steps_per_call=1, mesh=mesh)
    state = programs.initial_state(recipe, jax.random.key(0))
    sums, losses = programs.train.zeros(programs.sum_shapes), []
    for step in range(STEPS):
        items = data.train.training_items(step, 1)
        state, sums, log = programs.train(state, sums, data.train.source, items, np.int32(1))
        losses.append(float(log["loss"]))
    magnitude = jax.jit(lambda tree: jax.tree.map(lambda leaf: abs(leaf).sum(), tree))
    print(
        json.dumps(
            {
                "devices": jax.device_count(),
                "losses": losses,
                "projection": float(
                    magnitude(state.params["clip"]["vision"]["projection"])["kernel"]
                ),
                "params": max(bytes_per_device(state.params).values()),
                "optimizer": max(bytes_per_device(state.opt_state).values()),
                "compilations": programs.train.num_compilations,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
