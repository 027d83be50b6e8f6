"""The rule tables of the universal face network and of its loss object."""

from collections.abc import Iterator

from jaxrecipes.convert.rules import LINEAR, Rule, in_params, norm_rules, weight_rules
from jaxrecipes.recipes.faces.original_files import POSE_TABLE
from jaxrecipes.recipes.universal_face.network_config import UniversalFaceConfig

LOSS_RULES = [
    Rule(f"{name}_proj.weight", f"params/loss_projections/{name}/kernel", LINEAR)
    for name in ("id_to_feat", "feat_to_id")
]
"""The tensors of the original's loss object, which are parameters of ours."""


def universal_face_rules(config: UniversalFaceConfig) -> list[Rule]:
    """One rule per tensor of the original network, in the order of its state dict.

    Targets start with "params/" or "batch_stats/". The order of the "params/" rules is also the
    order in which the original's optimizer numbers its parameters.
    """
    rules = [
        Rule("pos_encoding", "pos_encoding"),
        Rule("pose_prototypes", "batch_stats/pose_prototypes"),
        *weight_rules("feat_proj.0", "feat_proj"),
        *norm_rules("feat_proj.1", "feat_norm"),
        *weight_rules("ortho_proj.W_id", "id_proj", bias=False),
        *weight_rules("ortho_proj.W_pose", "pose_proj", bias=False),
        *weight_rules("token_proj", "token_proj"),
    ]
    for i in range(config.transformer_depth):
        rules += _block(f"pose_encoder.layers.{i}", f"blocks_{i}", config.use_clip_pose_encoder)
    rules += [
        *norm_rules("pose_encoder.norm", "norm"),
        *weight_rules("id_enhancer.gate_net.0", "id_enhancer/gate_hidden"),
        *weight_rules("id_enhancer.gate_net.2", "id_enhancer/gate_out"),
        *weight_rules("id_enhancer.pose_proj", "id_enhancer/pose_proj", bias=False),
        *weight_rules("pose_head.0", "pose_head/hidden"),
        *weight_rules("pose_head.3", "pose_head/out"),
    ]
    return in_params(rules)


def _block(source: str, target: str, text: bool) -> Iterator[Rule]:
    yield from weight_rules(f"{source}.attn.qkv", f"{target}/attn/qkv")
    encoder, hidden, out = f"{source}.attn.pose_encoder", "0", "2"
    if text:
        yield Rule(f"{encoder}.{POSE_TABLE}", f"batch_stats/{target}/attn/pose_text/table")
        hidden, out = "proj.0", "proj.3"
    yield from weight_rules(f"{encoder}.{hidden}", f"{target}/attn/pose_hidden")
    yield from weight_rules(f"{encoder}.{out}", f"{target}/attn/pose_out")
    yield from weight_rules(f"{source}.attn.proj", f"{target}/attn/proj")
    yield from norm_rules(f"{source}.norm1.norm", f"{target}/norm1/norm")
    yield from weight_rules(f"{source}.norm1.pose_embedding.0", f"{target}/norm1/pose_hidden")
    yield from weight_rules(f"{source}.norm1.pose_embedding.2", f"{target}/norm1/pose_out")
    yield from norm_rules(f"{source}.norm2", f"{target}/norm2")
    yield from weight_rules(f"{source}.mlp.0", f"{target}/mlp_hidden")
    yield from weight_rules(f"{source}.mlp.3", f"{target}/mlp_out")
