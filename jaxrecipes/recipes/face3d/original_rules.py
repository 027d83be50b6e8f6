"""The rule table of the face3d networks, in the original's order of parameters.

The original packs queries, keys and values of an attention in one tensor; see
`convert.packed_attention`.
"""

from collections.abc import Iterator

from jaxrecipes.convert.rules import BATCH_NORM, LINEAR, Rule
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.faces.pose_text_weights import POSE_TABLE


def face3d_rules(config: Face3DConfig) -> list[Rule]:
    """One rule per tensor, in the order of the original's state dict.

    Targets start with "params/" or "batch_stats/". The order of the "params/" rules is also the
    order in which the original's optimizer numbers its parameters.
    """
    if config.model_type == "encoder_decoder":
        return list(_encoder_decoder(config))
    if config.model_type == "angle_warping":
        return list(_angle_warping(config))
    return list(_decoder(config))


def _linear(source: str, target: str) -> Iterator[Rule]:
    yield Rule(f"{source}.weight", f"params/{target}/kernel", LINEAR)
    yield Rule(f"{source}.bias", f"params/{target}/bias")


def _mlp(source: str, target: str, numbers: tuple[int, int] = (0, 2)) -> Iterator[Rule]:
    for i, number in enumerate(numbers, start=1):
        yield from _linear(f"{source}.{number}", f"{target}/dense{i}")


def _layer_norm(source: str, target: str) -> Iterator[Rule]:
    yield Rule(f"{source}.weight", f"params/{target}/scale")
    yield Rule(f"{source}.bias", f"params/{target}/bias")


def _attention(source: str, target: str) -> Iterator[Rule]:
    yield Rule(f"{source}.in_proj_weight", f"params/{target}/in_proj/kernel", LINEAR)
    yield Rule(f"{source}.in_proj_bias", f"params/{target}/in_proj/bias")
    yield from _linear(f"{source}.out_proj", f"{target}/out_proj")


def _transformer(source: str, layers: int, *, decoder: bool) -> Iterator[Rule]:
    for i in range(layers):
        theirs, ours = f"{source}.layers.{i}", f"{source}/layers_{i}"
        for attention in ("self_attn", "multihead_attn") if decoder else ("self_attn",):
            yield from _attention(f"{theirs}.{attention}", f"{ours}/{attention}")
        for linear in ("linear1", "linear2"):
            yield from _linear(f"{theirs}.{linear}", f"{ours}/{linear}")
        for norm in ("norm1", "norm2", "norm3") if decoder else ("norm1", "norm2"):
            yield from _layer_norm(f"{theirs}.{norm}", f"{ours}/{norm}")


def _angle_pe() -> Iterator[Rule]:
    yield Rule("angle_pe.scale", "params/angle_pe/scale")
    yield from _linear("angle_pe.angle_projection", "angle_pe/angle_projection")


def _angle_conditioned_norm() -> Iterator[Rule]:
    name = "angle_conditioned_norm"
    for part in ("angle_to_scale", "angle_to_shift"):
        yield from _mlp(f"{name}.{part}", f"{name}/{part}")
    yield from _layer_norm(f"{name}.layer_norm", f"{name}/layer_norm")


def _decoder(config: Face3DConfig) -> Iterator[Rule]:
    if config.keypoints:
        yield Rule("fusion_weights", "params/fusion_weights")
    if config.use_spatial_attention:
        for part in ("keypoint_encoder", "attention_generator"):
            yield from _mlp(f"spatial_fusion.{part}", f"spatial_fusion/{part}")
    if config.use_pose_attention:
        for part in ("pose_to_key", "pose_to_value", "feature_to_query"):
            yield from _linear(f"pose_attention.{part}", f"pose_attention/{part}")
    if config.keypoints:
        yield from _linear("keypoint_encoder.0", "keypoint_encoder/dense1")
        for theirs, collection, ours in BATCH_NORM:
            yield Rule(f"keypoint_encoder.1.{theirs}", f"{collection}/keypoint_encoder/norm/{ours}")
        yield from _linear("keypoint_encoder.4", "keypoint_encoder/dense2")
    if config.encodes_text:
        yield Rule(f"pose_encoder.{POSE_TABLE}", "batch_stats/pose_encoder/pose_text/table")
        yield from _mlp("pose_encoder.proj", "pose_encoder", (0, 3))
    else:
        yield from _mlp("pose_encoder", "pose_encoder")
    yield from _linear("input_projection", "input_projection")
    if config.use_angle_pe:
        yield from _angle_pe()
    if config.use_angle_conditioning:
        yield from _angle_conditioned_norm()
    yield from _linear("angle_memory_projection", "angle_memory_projection")
    yield from _transformer("transformer_decoder", config.num_layers, decoder=True)
    yield from _linear("output_projection", "output_projection")


def _encoder_decoder(config: Face3DConfig) -> Iterator[Rule]:
    yield from _linear("input_projection", "input_projection")
    yield from _transformer("encoder", config.num_encoder_layers, decoder=False)
    yield from _linear("decoder_input_projection", "decoder_input_projection")
    if config.use_pose_pe:
        yield Rule("pose_pe.scale", "params/pose_pe/scale")
        yield from _mlp("pose_pe.pose_pe", "pose_pe/pose_pe")
        yield from _angle_pe()
    yield from _angle_conditioned_norm()
    yield from _transformer("decoder", config.num_decoder_layers, decoder=True)
    yield from _output_projection()


def _angle_warping(config: Face3DConfig) -> Iterator[Rule]:
    name = "angle_warping"
    if config.use_basis:
        yield Rule(f"{name}.feature_basis", f"params/{name}/feature_basis")
    yield from _warp_mlp("angle_to_transform", "transform")
    if config.use_basis:
        yield from _linear(f"{name}.attention_selector.0", f"{name}/selector1")
        yield from _linear(f"{name}.attention_selector.3", f"{name}/selector2")
    if config.use_refinement:
        yield from _warp_mlp("refinement", "refinement")
    if config.use_attention_refine:
        for i in range(config.num_attention_layers):
            theirs, ours = f"attention_refiners.{i}", f"attention_refiners_{i}"
            yield from _attention(f"{theirs}.attention", f"{ours}/attention")
            yield from _layer_norm(f"{theirs}.norm", f"{ours}/norm")
    yield from _output_projection()


def _warp_mlp(source: str, target: str) -> Iterator[Rule]:
    """The members of a sequence with norms, activations and dropouts between them."""
    source, target = f"angle_warping.{source}", f"angle_warping/{target}"
    yield from _linear(f"{source}.0", f"{target}1")
    yield from _layer_norm(f"{source}.1", f"{target}_norm")
    yield from _linear(f"{source}.4", f"{target}2")
    yield from _linear(f"{source}.7", f"{target}3")


def _output_projection() -> Iterator[Rule]:
    yield from _linear("output_projection.0", "output_projection")
    yield from _layer_norm("output_projection.1", "output_norm")
