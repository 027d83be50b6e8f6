"""The rule table of the clip_iqa network."""

from collections.abc import Iterator

from jaxrecipes.convert.rules import (
    LINEAR,
    Rule,
    attention_rules,
    feed_forward_rules,
    norm_rules,
    prefixed,
    weight_rules,
)
from jaxrecipes.models.clip.rules import clip_rules
from jaxrecipes.recipes.clip_iqa.network_config import ClipIqaConfig

REFINEMENT = "refinement_module"


def clip_iqa_rules(config: ClipIqaConfig) -> list[Rule]:
    """One rule per tensor, with targets such as "clip/vision/pre_norm/scale"."""
    residual = config.heads.mode == "residual"
    heads = _residual() if residual else _traditional(config)
    scalars = [rule for rule in heads if "." not in rule.source]
    modules = [rule for rule in heads if "." in rule.source]
    clip = prefixed(clip_rules(config.clip, "huggingface"), "clip.", "clip/")
    return [*scalars, *clip, *modules, *_normed("rationale_head", {1: "dense"})]


def _residual() -> list[Rule]:
    return [
        *_scalars("c_base_scale", "c_base_bias"),
        *weight_rules("q_base_head", "q_base_head"),
        *weight_rules("q_delta_head.0", "q_delta_head/dense1"),
        *weight_rules("q_delta_head.3", "q_delta_head/dense2"),
        *_normed("c_delta_head", {1: "dense1", 4: "dense2", 6: "dense3"}),
    ]


def _traditional(config: ClipIqaConfig) -> list[Rule]:
    clip = config.clip
    widths = {"seq_proj_img": clip.vision.width, "seq_proj_txt": clip.text.width}
    return [
        *_scalars("c_scale", "c_bias", "filip_scale", "filip_bias"),
        *weight_rules("q_head", "q_head"),
        *(
            Rule(f"{name}.weight", f"{name}_kernel", LINEAR)
            for name, width in widths.items()
            if width != clip.projection_dim
        ),
        *_normed("c_head", {1: "dense1", 3: "dense2"}),
        *(_refinement(config.heads.refinement_layers) if config.heads.refinement else ()),
    ]


def _refinement(layers: int) -> Iterator[Rule]:
    yield Rule(f"{REFINEMENT}.residual_scale", f"{REFINEMENT}/residual_scale")
    yield from weight_rules(f"{REFINEMENT}.input_proj.0", f"{REFINEMENT}/input_proj")
    yield from norm_rules(f"{REFINEMENT}.input_proj.1", f"{REFINEMENT}/input_norm")
    for i in range(layers):
        theirs, ours = f"{REFINEMENT}.transformer.layers.{i}", f"{REFINEMENT}/layers_{i}"
        yield from attention_rules(f"{theirs}.self_attn", f"{ours}/self_attn")
        yield from feed_forward_rules(theirs, ours)
    yield from norm_rules(f"{REFINEMENT}.residual_head.0", f"{REFINEMENT}/head_norm")
    yield from weight_rules(f"{REFINEMENT}.residual_head.1", f"{REFINEMENT}/head1")
    yield from weight_rules(f"{REFINEMENT}.residual_head.4", f"{REFINEMENT}/head2")


def _scalars(*names: str) -> Iterator[Rule]:
    for name in names:
        yield Rule(name, name)


def _normed(name: str, layers: dict[int, str]) -> Iterator[Rule]:
    """A norm and the linear layers after it, by their numbers in the original's sequence."""
    yield from norm_rules(f"{name}.0", f"{name}/norm")
    for number, ours in layers.items():
        yield from weight_rules(f"{name}.{number}", f"{name}/{ours}")
