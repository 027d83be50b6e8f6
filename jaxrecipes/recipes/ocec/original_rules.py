"""The rule table of OCEC: every tensor of every backbone and head, in the original's order."""

from collections.abc import Iterator

from jaxrecipes.convert.rules import (
    CONV,
    DEPTHWISE,
    LINEAR,
    POINTWISE,
    Rule,
    batch_norm_rules,
    feed_forward_rules,
    in_params,
    norm_rules,
    weight_rules,
)
from jaxrecipes.recipes.ocec.network_config import OcecConfig


def ocec_rules(config: OcecConfig) -> list[Rule]:
    """One rule per tensor, in the order of the original's state dict.

    Targets start with "params/" or "batch_stats/". The order of the "params/" rules is also the
    order in which the original's optimizer numbers its parameters.
    """
    stem, block = {
        "baseline": (_baseline_stem, _baseline_block),
        "inverted_se": (_inverted_stem, _inverted_block),
        "convnext": (_convnext_stem, _convnext_block),
    }[config.arch_variant]
    rules = list(stem())
    for i in range(config.num_blocks):
        rules += block(config, i)
    return in_params([*rules, *_head(config)])


def _baseline_stem() -> Iterator[Rule]:
    yield from weight_rules("stem.0", "stem/conv", CONV, bias=False)
    yield from batch_norm_rules("stem.1", "stem/norm")


def _inverted_stem() -> Iterator[Rule]:
    yield from weight_rules("stem.0", "stem/conv1", CONV, bias=False)
    yield from batch_norm_rules("stem.1", "stem/norm1")
    yield from weight_rules("stem.3", "stem/conv2", CONV, bias=False)
    yield from batch_norm_rules("stem.4", "stem/norm2")


def _convnext_stem() -> Iterator[Rule]:
    yield from weight_rules("stem.0", "stem/conv", CONV)
    yield from norm_rules("stem.1.norm", "stem/norm")


def _baseline_block(config: OcecConfig, i: int) -> Iterator[Rule]:
    for part, layout in (("depthwise", DEPTHWISE), ("pointwise", POINTWISE)):
        yield from weight_rules(f"features.{i}.{part}.0", f"blocks_{i}/{part}", layout, bias=False)
        yield from batch_norm_rules(f"features.{i}.{part}.1", f"blocks_{i}/{part}_norm")


def _inverted_block(config: OcecConfig, i: int) -> Iterator[Rule]:
    # The original numbers the members of one sequence: convolution, norm, activation, ...
    source, target, at = f"features.{i}.block", f"blocks_{i}", 0
    if config.expansion != 1:
        yield from weight_rules(f"{source}.0", f"{target}/expand", POINTWISE, bias=False)
        yield from batch_norm_rules(f"{source}.1", f"{target}/expand_norm")
        at = 3
    yield from weight_rules(f"{source}.{at}", f"{target}/depthwise", DEPTHWISE, bias=False)
    yield from batch_norm_rules(f"{source}.{at + 1}", f"{target}/depthwise_norm")
    at += 3
    if config.se_reduction > 0:
        gate = f"{target}/squeeze_excite"
        yield from weight_rules(f"{source}.{at}.fc.0", f"{gate}/reduce", POINTWISE)
        yield from weight_rules(f"{source}.{at}.fc.2", f"{gate}/expand", POINTWISE)
        at += 1
    yield from weight_rules(f"{source}.{at}", f"{target}/project", POINTWISE, bias=False)
    yield from batch_norm_rules(f"{source}.{at + 1}", f"{target}/project_norm")


def _convnext_block(config: OcecConfig, i: int) -> Iterator[Rule]:
    source, target = f"features.{i}", f"blocks_{i}"
    if config.strides[i] == 1:
        unit = f"{source}.0"
    else:
        yield from norm_rules(f"{source}.0.op.0.norm", f"{target}/downsample_norm")
        yield from weight_rules(f"{source}.0.op.1", f"{target}/downsample", CONV)
        unit = f"{source}.1"
    yield Rule(f"{unit}.gamma", f"{target}/gamma")
    yield from weight_rules(f"{unit}.dwconv", f"{target}/depthwise", DEPTHWISE)
    yield from norm_rules(f"{unit}.norm.norm", f"{target}/norm")
    yield from weight_rules(f"{unit}.pwconv1", f"{target}/expand")
    yield from weight_rules(f"{unit}.pwconv2", f"{target}/project")


def _encoder_layer(source: str, target: str) -> Iterator[Rule]:
    attention = f"{source}.self_attn"
    yield Rule(f"{attention}.in_proj_weight", f"{target}/self_attn/in_proj/kernel", LINEAR)
    yield Rule(f"{attention}.in_proj_bias", f"{target}/self_attn/in_proj/bias")
    yield from weight_rules(f"{attention}.out_proj", f"{target}/self_attn/out_proj")
    yield from feed_forward_rules(source, target)


def _mixer_layer(source: str, target: str) -> Iterator[Rule]:
    for part in ("token", "channel"):
        norm = f"norm_{part}s"
        yield from norm_rules(f"{source}.{norm}", f"{target}/{norm}")
        for name in (f"{part}_fc1", f"{part}_fc2"):
            yield from weight_rules(f"{source}.{name}", f"{target}/{name}")


def _head(config: OcecConfig) -> Iterator[Rule]:
    if config.head == "avg":
        yield from batch_norm_rules("head.0", "head/norm")
        yield from weight_rules("head.2", "head/linear")
        return
    if config.head == "avgmax_mlp":
        yield from batch_norm_rules("head.0", "head/norm")
        yield from weight_rules("head.2", "head/hidden")
        # The original leaves out its second dropout, and so shifts the numbers, at rate 0.
        last = "head.5" if config.dropout != 0 else "head.4"
        yield from weight_rules(last, "head/linear")
        return
    for i in range(config.token_mixer_layers):
        if config.head == "transformer":
            yield from _encoder_layer(f"head.mixer.layers.{i}", f"head/layers_{i}")
        else:
            yield from _mixer_layer(f"head.mixer.{i}", f"head/layers_{i}")
    yield from norm_rules("head.final_norm", "head/final_norm")
    yield from weight_rules("head.fc", "head/linear")
