"""The rule table of the hand_pose network, and the original's buffers that are not ours."""

from collections.abc import Iterator

import numpy as np

from jaxrecipes.convert.rules import (
    FIRST,
    LINEAR,
    Rule,
    batch_norm_rules,
    norm_rules,
    prefixed,
    weight_rules,
)
from jaxrecipes.models.dinov2.rules import dinov2_rules
from jaxrecipes.recipes.faces.feature_infusion_rules import infusion_rules
from jaxrecipes.recipes.hand_pose.decoder import AXES, bin_centres
from jaxrecipes.recipes.hand_pose.network_config import HandPoseConfig, PerspectiveConfig
from jaxrecipes.recipes.hand_pose.perspective_embedding import cell_centres
from jaxrecipes.recipes.hand_pose.temporal_refiner import rotary_frequencies


def hand_pose_rules(config: HandPoseConfig) -> list[Rule]:
    """One rule per tensor; targets start with "params/" or "batch_stats/".

    `handec.init_hand_pose` is taken as `[1, n]`; the original's is `[n]` for 6-D mean hands.
    """
    backbone = dinov2_rules(config.backbone, "huggingface")
    infused = len(config.infusion_layer or ())
    infusion = (
        infusion_rules(infused, source="backbone.", target="backbone/infusion/") if infused else ()
    )
    refiner = refiner_rules(config.temporal.layers) if config.temporal is not None else ()
    return [
        *prefixed(backbone, "backbone.backbone.", "params/backbone/dinov2/"),
        *infusion,
        *perspective_rules(config.persp_info_embed),
        *decoder_rules(config),
        *refiner,
    ]


def hand_pose_buffers(config: HandPoseConfig) -> dict[str, np.ndarray]:
    """What the original keeps with its weights and ours computes from its configuration."""
    buffers = {
        "img_mean": np.array(config.img_mean, np.float32),
        "img_std": np.array(config.img_std, np.float32),
    }
    for axis, centres in zip(AXES, bin_centres(config), strict=True):
        buffers[f"handec.deccam.{axis}_centers"] = np.asarray(centres)
    if config.persp_info_embed.type == "ca":
        edge = np.asarray(cell_centres(config.persp_info_embed.num_sample))
        buffers["persp_info_embedder.grid_edge"] = edge
        uv = np.stack(np.meshgrid(edge, edge, indexing="ij"), axis=-1)
        buffers["persp_info_embedder.grid_uv"] = uv
    if config.temporal is not None:
        frequencies = np.asarray(rotary_frequencies(config.width // config.temporal.heads))
        for i in range(config.temporal.layers):
            buffers[f"temporal_refiner.layers.{i}.0.fn.pe.inv_freq"] = frequencies
    return buffers


def decoder_rules(config: HandPoseConfig, *, source: str = "handec.") -> Iterator[Rule]:
    """Those of `HandDecoder`, whose keys start with `source`."""
    ours = "params/handec"
    for name in ("init_hand_pose", "init_betas", "init_cam"):
        yield Rule(f"{source}{name}", f"{ours}/{name}", FIRST)
    if config.handec.denorm_output is not None:
        for name in ("scale_tril", "output_mean"):
            yield Rule(f"{source}{name}", f"{ours}/{name}")
    size = config.handec.num_head, config.handec.dim_head
    projected = size != (1, config.width)
    yield from _token_decoder(
        f"{source}transformer", f"{ours}/transformer", config.handec.num_layer, projected=projected
    )
    yield from weight_rules(f"{source}decpose", f"{ours}/decpose")
    yield from weight_rules(f"{source}decshape", f"{ours}/decshape")
    for axis in AXES:
        yield from weight_rules(f"{source}deccam.dec{axis}", f"{ours}/dec{axis}", bias=False)


def perspective_rules(
    config: PerspectiveConfig, *, source: str = "persp_info_embedder."
) -> Iterator[Rule]:
    """Those of `PerspectiveEmbedding`, whose keys start with `source`."""
    ours = "persp_info_embedder"
    if config.type == "ca":
        yield from _token_decoder(f"{source}net", f"params/{ours}/net", 1, projected=True)
        theirs = f"{source}zero_linear"
        yield from weight_rules(theirs, f"params/{ours}/zero_linear", bias=False)
    elif config.type == "dense":
        for i in (1, 2, 3):
            yield from weight_rules(f"{source}mlp.{3 * i - 3}", f"params/{ours}/dense{i}")
            yield from batch_norm_rules(f"{source}mlp.{3 * i - 2}", f"{ours}/norm{i}")


def refiner_rules(layers: int, *, source: str = "temporal_refiner.") -> Iterator[Rule]:
    """Those of `TemporalRefiner`, whose keys start with `source`."""
    for i in range(layers):
        theirs, ours = f"{source}layers.{i}", f"params/temporal_refiner/layers_{i}"
        yield from norm_rules(f"{theirs}.0.norm", f"{ours}/norm1")
        yield from _self_attention(f"{theirs}.0.fn", f"{ours}/self_attn", projected=True)
        yield from norm_rules(f"{theirs}.1.norm", f"{ours}/norm2")
        yield from _feed_forward(f"{theirs}.1.fn", f"{ours}/mlp")
    yield from weight_rules(f"{source}zero_linear", "params/temporal_refiner/zero_linear")


def _token_decoder(source: str, target: str, layers: int, *, projected: bool) -> Iterator[Rule]:
    yield Rule(f"{source}.pos_embedding", f"{target}/pos_embedding", FIRST)
    yield from weight_rules(f"{source}.to_token_embedding", f"{target}/token_embedding")
    for i in range(layers):
        theirs, ours = f"{source}.transformer.layers.{i}", f"{target}/layers_{i}"
        yield from norm_rules(f"{theirs}.0.norm", f"{ours}/norm1")
        yield from _self_attention(f"{theirs}.0.fn", f"{ours}/self_attn", projected=projected)
        yield from norm_rules(f"{theirs}.1.norm", f"{ours}/norm2")
        yield from weight_rules(f"{theirs}.1.fn.to_q", f"{ours}/cross_attn/q", bias=False)
        yield Rule(f"{theirs}.1.fn.to_kv.weight", f"{ours}/cross_attn/kv", LINEAR)
        if projected:
            yield from weight_rules(f"{theirs}.1.fn.to_out.0", f"{ours}/cross_attn/out")
        yield from norm_rules(f"{theirs}.2.norm", f"{ours}/norm3")
        yield from _feed_forward(f"{theirs}.2.fn", f"{ours}/mlp")


def _self_attention(source: str, target: str, *, projected: bool) -> Iterator[Rule]:
    yield Rule(f"{source}.to_qkv.weight", f"{target}/qkv", LINEAR)
    if projected:
        yield from weight_rules(f"{source}.to_out.0", f"{target}/out")


def _feed_forward(source: str, target: str) -> Iterator[Rule]:
    yield from weight_rules(f"{source}.net.0", f"{target}/linear1")
    yield from weight_rules(f"{source}.net.3", f"{target}/linear2")
