"""Run by test_fsdp.py in a process of its own: steps of recipes on one device and with their state
split over all there are, what came out of each as JSON on standard output.
"""

import json

import jax
import numpy as np

from jaxrecipes.data.indexed_rows import IndexedRows
from jaxrecipes.models.clip.config import ClipConfig, ClipTextConfig, ClipVisionConfig
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.recipes.clip_iqa import config as clip_iqa
from jaxrecipes.recipes.hand_pose import config as hand_pose
from jaxrecipes.recipes.hand_pose.hands.draw import synthetic_hands
from jaxrecipes.recipes.hand_pose.network_config import HandDecoderConfig, HandPoseConfig
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.sharding import bytes_per_device, make_mesh
from jaxrecipes.train.config import LoopConfig, OptimConfig
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.run_data import make_run_data

STEPS, EXAMPLES = 4, 32
TRAINING = {
    "optim": OptimConfig(learning_rate=1e-3, schedule="constant", clip_norm=1.0),
    "loop": LoopConfig(steps_per_call=1),
}
CLIP = ClipConfig(
    vision=ClipVisionConfig(
        image_size=32, patch_size=8, width=64, depth=1, num_heads=4, mlp_width=256
    ),
    text=ClipTextConfig(
        width=64, depth=1, num_heads=4, mlp_width=256, vocab_size=256, context_length=16
    ),
    projection_dim=64,
)
HAND = HandPoseConfig(
    backbone=Dinov2Config(width=64, depth=1, num_heads=4, image_size=42),
    img_size=28,
    handec=HandDecoderConfig(
        num_layer=1, num_head=4, dim_head=16, dim_mlp=256, heatmap_resolution=64
    ),
)
CONFIGS = {
    "clip_iqa": clip_iqa.IqaRunConfig(
        clip=clip_iqa.ClipSource(size="custom", custom=CLIP),
        freeze=clip_iqa.FreezeConfig(mode="partial", layers=0),
        augment=clip_iqa.AugmentConfig(enabled=False),
        data=clip_iqa.IqaDataConfig(batch_size=16),
        **TRAINING,
    ),
    "hand_pose": hand_pose.HandRunConfig(
        backbone=hand_pose.BackboneSource(size="custom", learning_rate=1e-3),
        model=HAND,
        augment=hand_pose.AugmentConfig(pixels="none"),
        data=hand_pose.HandDataConfig(batch_size=16),
        dropout=hand_pose.DropoutConfig(warmup_steps=2),
        loss=hand_pose.LossConfig(heatmap_sigma=0.3),
        remat=True,
        **TRAINING,
    ),
}


def examples(name):
    if name == "hand_pose":
        return synthetic_hands(EXAMPLES, seed=0, image_size=32)
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (EXAMPLES, 32, 32, 3), dtype=np.uint8),
        "tokens": IndexedRows(rng.integers(1, 256, (8, 12)).astype(np.int32), np.arange(32) % 8),
        "quality": rng.random(EXAMPLES, np.float32),
        "consistency": rng.random(EXAMPLES, np.float32),
    }


def figures(config, mesh):
    data = make_run_data({"train": examples(config.RECIPE)}, config, mesh)
    recipe = load_recipe(config.RECIPE).make_recipe(
        config, DataInfo(steps_per_epoch=data.steps_per_epoch)
    )
    programs = Programs(recipe, data, steps_per_call=1, mesh=mesh)
    state = programs.initial_state(recipe, jax.random.key(0))
    sums, losses = programs.train.zeros(programs.sum_shapes), []
    for step in range(STEPS):
        items = data.train.training_items(step, 1)
        state, sums, log = programs.train(state, sums, data.train.source, items, np.int32(1))
        losses.append(float(log["loss"]))
    magnitude = jax.jit(lambda tree: sum(abs(leaf).sum() for leaf in jax.tree.leaves(tree)))
    return {
        "losses": losses,
        "magnitude": float(magnitude(state.params)),
        "devices": len(state.step.sharding.device_set),
        "params": max(bytes_per_device(state.params).values()),
        "optimizer": max(bytes_per_device(state.opt_state).values()),
        "compilations": programs.train.num_compilations,
    }


def main():
    devices = jax.devices()
    meshes = make_mesh(devices=devices[:1]), make_mesh(len(devices))
    found = {name: [figures(config, mesh) for mesh in meshes] for name, config in CONFIGS.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
