"""The rule table of the face3d networks, in the original's order of parameters."""

from collections.abc import Iterator

from jaxrecipes.convert.rules import (
    Rule,
    attention_rules,
    batch_norm_rules,
    feed_forward_rules,
    in_params,
    norm_rules,
    weight_rules,
)
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.faces.original_files import POSE_TABLE


def face3d_rules(config: Face3DConfig) -> list[Rule]:
    """One rule per tensor, in the order of the original's state dict.

    Targets start with "params/" or "batch_stats/". The order of the "params/" rules is also the
    order in which the original's optimizer numbers its parameters.
    """
    if config.model_type == "encoder_decoder":
        return in_params(_encoder_decoder(config))
    if config.model_type == "angle_warping":
        return in_params(_angle_warping(config))
    return in_params(_decoder(config))


def _mlp(source: str, target: str, numbers: tuple[int, int] = (0, 2)) -> Iterator[Rule]:
    for i, number in enumerate(numbers, start=1):
        yield from weight_rules(f"{source}.{number}", f"{target}/dense{i}")


def _transformer(source: str, layers: int, *, decoder: bool) -> Iterator[Rule]:
    for i in range(layers):
        theirs, ours = f"{source}.layers.{i}", f"{source}/layers_{i}"
        for attention in ("self_attn", "multihead_attn") if decoder else ("self_attn",):
            yield from attention_rules(f"{theirs}.{attention}", f"{ours}/{attention}")
        yield from feed_forward_rules(theirs, ours, norms=3 if decoder else 2)


def _angle_pe() -> Iterator[Rule]:
    yield Rule("angle_pe.scale", "angle_pe/scale")
    yield from weight_rules("angle_pe.angle_projection", "angle_pe/angle_projection")


def _angle_conditioned_norm() -> Iterator[Rule]:
    name = "angle_conditioned_norm"
    for part in ("angle_to_scale", "angle_to_shift"):
        yield from _mlp(f"{name}.{part}", f"{name}/{part}")
    yield from norm_rules(f"{name}.layer_norm", f"{name}/layer_norm")


def _decoder(config: Face3DConfig) -> Iterator[Rule]:
    if config.keypoints:
        yield Rule("fusion_weights", "fusion_weights")
    if config.use_spatial_attention:
        for part in ("keypoint_encoder", "attention_generator"):
            yield from _mlp(f"spatial_fusion.{part}", f"spatial_fusion/{part}")
    if config.use_pose_attention:
        for part in ("pose_to_key", "pose_to_value", "feature_to_query"):
            yield from weight_rules(f"pose_attention.{part}", f"pose_attention/{part}")
    if config.keypoints:
        yield from weight_rules("keypoint_encoder.0", "keypoint_encoder/dense1")
        yield from batch_norm_rules("keypoint_encoder.1", "keypoint_encoder/norm")
        yield from weight_rules("keypoint_encoder.4", "keypoint_encoder/dense2")
    if config.encodes_text:
        yield Rule(f"pose_encoder.{POSE_TABLE}", "batch_stats/pose_encoder/pose_text/table")
        yield from _mlp("pose_encoder.proj", "pose_encoder", (0, 3))
    else:
        yield from _mlp("pose_encoder", "pose_encoder")
    yield from weight_rules("input_projection", "input_projection")
    if config.use_angle_pe:
        yield from _angle_pe()
    if config.use_angle_conditioning:
        yield from _angle_conditioned_norm()
    yield from weight_rules("angle_memory_projection", "angle_memory_projection")
    yield from _transformer("transformer_decoder", config.num_layers, decoder=True)
    yield from weight_rules("output_projection", "output_projection")


def _encoder_decoder(config: Face3DConfig) -> Iterator[Rule]:
    yield from weight_rules("input_projection", "input_projection")
    yield from _transformer("encoder", config.num_encoder_layers, decoder=False)
    yield from weight_rules("decoder_input_projection", "decoder_input_projection")
    if config.use_pose_pe:
        yield Rule("pose_pe.scale", "pose_pe/scale")
        yield from _mlp("pose_pe.pose_pe", "pose_pe/pose_pe")
        yield from _angle_pe()
    yield from _angle_conditioned_norm()
    yield from _transformer("decoder", config.num_decoder_layers, decoder=True)
    yield from _output_projection()


def _angle_warping(config: Face3DConfig) -> Iterator[Rule]:
    name = "angle_warping"
    if config.use_basis:
        yield Rule(f"{name}.feature_basis", f"{name}/feature_basis")
    yield from _warp_mlp("angle_to_transform", "transform")
    if config.use_basis:
        yield from weight_rules(f"{name}.attention_selector.0", f"{name}/selector1")
        yield from weight_rules(f"{name}.attention_selector.3", f"{name}/selector2")
    if config.use_refinement:
        yield from _warp_mlp("refinement", "refinement")
    if config.use_attention_refine:
        for i in range(config.num_attention_layers):
            theirs, ours = f"attention_refiners.{i}", f"attention_refiners_{i}"
            yield from attention_rules(f"{theirs}.attention", f"{ours}/attention")
            yield from norm_rules(f"{theirs}.norm", f"{ours}/norm")
    yield from _output_projection()


def _warp_mlp(source: str, target: str) -> Iterator[Rule]:
    """The members of a sequence with norms, activations and dropouts between them."""
    source, target = f"angle_warping.{source}", f"angle_warping/{target}"
    yield from weight_rules(f"{source}.0", f"{target}1")
    yield from norm_rules(f"{source}.1", f"{target}_norm")
    yield from weight_rules(f"{source}.4", f"{target}2")
    yield from weight_rules(f"{source}.7", f"{target}3")


def _output_projection() -> Iterator[Rule]:
    yield from weight_rules("output_projection.0", "output_projection")
    yield from norm_rules("output_projection.1", "output_norm")
