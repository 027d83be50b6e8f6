"""Every recipe at its smallest, with most of what its program can hold, for tests that trace it."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxrecipes.models.clip.config import ClipConfig, ClipTextConfig, ClipVisionConfig
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.recipes import clip_iqa, face3d, hand_pose, ocec, universal_face
from jaxrecipes.recipes.clip_iqa import config as iqa
from jaxrecipes.recipes.clip_iqa.network_config import HeadsConfig
from jaxrecipes.recipes.face3d import config as face3d_config
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.hand_pose import config as hand
from jaxrecipes.recipes.hand_pose.network_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
    TemporalConfig,
)
from jaxrecipes.recipes.ocec import config as eye
from jaxrecipes.recipes.ocec.network_config import OcecConfig
from jaxrecipes.recipes.universal_face import config as face
from jaxrecipes.recipes.universal_face.network_config import UniversalFaceConfig
from jaxrecipes.train.config import EmaConfig, OptimConfig
from jaxrecipes.train.recipe import DataInfo, Recipe

BATCH = 4
FACES = FaceDataConfig(batch_size=BATCH, reflect_prob=0.5)
CLIPPED = OptimConfig(clip_norm=1.0, no_decay=("bias",), learning_rate_factors={"kernel": 0.5})
CLIP = ClipConfig(
    vision=ClipVisionConfig(
        image_size=8, patch_size=4, width=8, depth=2, num_heads=2, mlp_width=12
    ),
    text=ClipTextConfig(
        width=8, depth=2, num_heads=2, mlp_width=12, vocab_size=20, context_length=6
    ),
    projection_dim=6,
)
HAND = HandPoseConfig(
    backbone=Dinov2Config(width=16, depth=1, num_heads=2, mlp_ratio=2.0, image_size=28),
    img_size=28,
    persp_info_embed=PerspectiveConfig(type="none"),
    handec=HandDecoderConfig(
        num_layer=1, num_head=2, dim_head=8, dim_mlp=16, heatmap_resolution=(8,)
    ),
)


@dataclasses.dataclass(frozen=True)
class Small:
    """A recipe, and the shapes of a batch to train on and to evaluate."""

    recipe: Recipe
    train: dict[str, jax.ShapeDtypeStruct]
    evaluate: dict[str, jax.ShapeDtypeStruct]


def small_recipes() -> dict[str, Small]:
    return _ocec() | _faces() | _clip_iqa() | _hand_pose()


def _shapes(leading: tuple[int, ...], shapes: dict[str, tuple[int, ...]], **dtypes):
    return {
        name: jax.ShapeDtypeStruct((*leading, *shape), dtypes.get(name, jnp.float32))
        for name, shape in shapes.items()
    }


def _small(recipe: Recipe, shapes: dict[str, tuple[int, ...]], **dtypes) -> Small:
    steps = recipe.accumulation_steps
    return Small(
        recipe,
        _shapes((BATCH,) if steps == 1 else (steps, BATCH), shapes, **dtypes),
        _shapes((BATCH,), shapes | {"mask": ()}, **dtypes),
    )


def _ocec() -> dict[str, Small]:
    everything = eye.AugmentConfig(clahe_prob=0.5, crop_prob=0.5, mixup_prob=0.5, cutmix_prob=0.5)
    configs = {
        "avg": ({"head_variant": "avg"}, {}),
        "focal": (
            {"head_variant": "avgmax_mlp", "arch_variant": "inverted_se"},
            {
                "loss": eye.LossConfig(kind="focal"),
                "augment": everything,
                "optim": OptimConfig(optimizer="sgd"),
                "precision": "float16",
            },
        ),
        "mlp_mixer": (
            {"head_variant": "mlp_mixer"},
            {
                "optim": dataclasses.replace(
                    CLIPPED, accumulation_steps=2, schedule="cosine", warmup_epochs=2
                ),
                "drop_path_rate": 0.1,
                "ema": EmaConfig(warmup=True),
            },
        ),
    }
    data = eye.EyeDataConfig(image_size=(16, 16), batch_size=BATCH)
    made = {}
    for name, (model, fields) in configs.items():
        size = {"base_channels": 4, "num_blocks": 3, "token_mixer_grid": (2, 2)}
        config = eye.OcecRunConfig(data=data, model=OcecConfig(**size | model), **fields)
        recipe = ocec.make_recipe(config, DataInfo(steps_per_epoch=10))
        shapes = {"image": (16, 16, 3), "label": ()}
        made[f"ocec {name}"] = _small(recipe, shapes, image=jnp.uint8, label=jnp.int32)
    return made


def _faces() -> dict[str, Small]:
    made = {}
    shapes = {"src": (16,), "tgt": (16,), "pose": (3,), "person": (), "keypoints_3d": (5, 3)}
    size = {"d_model": 16, "nhead": 2, "num_layers": 1, "dim_feedforward": 16, "dropout": 0.1}
    models = {
        "decoder": {"use_pose_attention": True},
        "keypoints": {"use_spatial_attention": True},
    }
    for name, model in models.items():
        config = face3d_config.Face3DRunConfig(
            data=FACES,
            model=Face3DConfig(**size | model),
            loss=face3d_config.LossConfig(focal_gamma=0.5, angle_kappa=0.5),
        )
        recipe = face3d.make_recipe(config, DataInfo(steps_per_epoch=10))
        made[f"face3d {name}"] = _small(recipe, shapes, person=jnp.int32)
    for phrases in (False, True):
        model = UniversalFaceConfig(
            **{"feat_dim": 16, "id_dim": 8, "pose_dim": 6, "num_pose_bins": 5},
            **{"transformer_depth": 1, "transformer_heads": 2, "transformer_mlp_dim": 12},
            **{"use_clip_pose_encoder": phrases, "pose_text_dim": 8},
        )
        config = face.UniversalFaceRunConfig(
            data=FACES, model=model, optim=OptimConfig(optimizer="adam", clip_norm=1.0)
        )
        recipe = universal_face.make_recipe(config, DataInfo(steps_per_epoch=10))
        name = "universal_face" + (" phrases" if phrases else "")
        made[name] = _small(recipe, shapes, person=jnp.int32)
    return made


def _clip_iqa() -> dict[str, Small]:
    source = iqa.ClipSource(size="custom", custom=CLIP)
    shapes: dict[str, tuple[int, ...]] = {"image": (10, 10, 3), "tokens": (6,)}
    shapes |= {"quality": (), "consistency": ()}
    explained = {"explanation_tokens": (6,), "has_explanation": ()}
    configs = {
        "residual": ({"freeze": iqa.FreezeConfig(mode="partial", layers=1)}, shapes),
        "traditional": (
            {
                "heads": HeadsConfig(
                    mode="traditional",
                    two_branch=True,
                    refinement=True,
                    **{"refinement_layers": 1, "refinement_heads": 2, "refinement_dim": 8},
                ),
                "loss": iqa.LossConfig(explanations=True, label_smoothing=0.1),
            },
            shapes | explained,
        ),
    }
    made = {}
    for name, (fields, arrays) in configs.items():
        config = iqa.IqaRunConfig(clip=source, **fields)
        recipe = clip_iqa.make_recipe(config, DataInfo(steps_per_epoch=10))
        made[f"clip_iqa {name}"] = _small(
            recipe, arrays, image=jnp.uint8, tokens=jnp.int32, explanation_tokens=jnp.int32
        )
    return made


def _hand_pose() -> dict[str, Small]:
    labels = {
        **{"hand_bbox": (4,), "joint_img": (21, 2), "joint_cam": (21, 3), "joint_valid": (21,)},
        **{"mano_pose": (48,), "mano_shape": (10,), "mano_valid": (), "timestamp": ()},
        **{"focal": (2,), "princpt": (2,), "image": (20, 24, 3)},
    }
    source = hand.BackboneSource(size="custom", learning_rate=1e-3)
    configs = {
        "stage1": (
            HAND,
            {
                "augment": hand.AugmentConfig(
                    persp_rot_max=0.3, pixels="aggressive", perspective_normalization=True
                ),
                "dropout": hand.DropoutConfig(warmup_steps=5, ramp_steps=5),
                "loss": hand.LossConfig(reproj_type="robust_l1", reduction="valid"),
            },
        ),
        "rays": (
            dataclasses.replace(
                HAND, persp_info_embed=PerspectiveConfig(num_sample=2), joint_type="6d"
            ),
            {"augment": hand.AugmentConfig(pixels="none", crop="affine")},
        ),
        "stage2": (
            dataclasses.replace(
                HAND,
                num_frame=2,
                infusion_layer=(0, 1),
                persp_info_embed=PerspectiveConfig(type="dense", num_sample=2),
                temporal=TemporalConfig(layers=1, heads=2),
                joint_type="quat",
                norm_by_hand=False,
            ),
            {
                "backbone": dataclasses.replace(source, learning_rate=None),
                "loss": hand.LossConfig(supervise_heatmap=False, fk_grad=False),
            },
        ),
    }
    made = {}
    for name, (network, fields) in configs.items():
        config = hand.HandRunConfig(
            **{"backbone": source, "model": network, "steps": 100, "precision": "bfloat16"} | fields
        )
        recipe = hand_pose.make_recipe(config, DataInfo(steps_per_epoch=10))
        frames = {key: (network.num_frame, *shape) for key, shape in labels.items()}
        frames |= {"image_size": (2,), "left": ()}
        made[f"hand_pose {name}"] = _small(
            recipe, frames, image=jnp.uint8, image_size=jnp.int32, left=jnp.float32
        )
    return made
