"""The rule table of OCEC: every tensor of every backbone and head, in the original's order."""

from collections.abc import Iterator

from jaxrecipes.convert.rules import (
    BATCH_NORM,
    CONV,
    DEPTHWISE,
    LINEAR,
    POINTWISE,
    SAME,
    Layout,
    Rule,
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
    return rules + list(_head(config))


def _weight(source: str, target: str, layout: Layout, *, bias: bool = True) -> Iterator[Rule]:
    yield Rule(f"{source}.weight", f"params/{target}/kernel", layout)
    if bias:
        yield Rule(f"{source}.bias", f"params/{target}/bias")


def _batch_norm(source: str, target: str) -> Iterator[Rule]:
    for theirs, collection, ours in BATCH_NORM:
        yield Rule(f"{source}.{theirs}", f"{collection}/{target}/{ours}")


def _layer_norm(source: str, target: str) -> Iterator[Rule]:
    yield Rule(f"{source}.weight", f"params/{target}/scale")
    yield Rule(f"{source}.bias", f"params/{target}/bias")


def _baseline_stem() -> Iterator[Rule]:
    yield from _weight("stem.0", "stem/conv", CONV, bias=False)
    yield from _batch_norm("stem.1", "stem/norm")


def _inverted_stem() -> Iterator[Rule]:
    yield from _weight("stem.0", "stem/conv1", CONV, bias=False)
    yield from _batch_norm("stem.1", "stem/norm1")
    yield from _weight("stem.3", "stem/conv2", CONV, bias=False)
    yield from _batch_norm("stem.4", "stem/norm2")


def _convnext_stem() -> Iterator[Rule]:
    yield from _weight("stem.0", "stem/conv", CONV)
    yield from _layer_norm("stem.1.norm", "stem/norm")


def _baseline_block(config: OcecConfig, i: int) -> Iterator[Rule]:
    for part, layout in (("depthwise", DEPTHWISE), ("pointwise", POINTWISE)):
        yield from _weight(f"features.{i}.{part}.0", f"blocks_{i}/{part}", layout, bias=False)
        yield from _batch_norm(f"features.{i}.{part}.1", f"blocks_{i}/{part}_norm")


def _inverted_block(config: OcecConfig, i: int) -> Iterator[Rule]:
    # The original numbers the members of one sequence: convolution, norm, activation, ...
    source, target, at = f"features.{i}.block", f"blocks_{i}", 0
    if config.expansion != 1:
        yield from _weight(f"{source}.0", f"{target}/expand", POINTWISE, bias=False)
        yield from _batch_norm(f"{source}.1", f"{target}/expand_norm")
        at = 3
    yield from _weight(f"{source}.{at}", f"{target}/depthwise", DEPTHWISE, bias=False)
    yield from _batch_norm(f"{source}.{at + 1}", f"{target}/depthwise_norm")
    at += 3
    if config.se_reduction > 0:
        gate = f"{target}/squeeze_excite"
        yield from _weight(f"{source}.{at}.fc.0", f"{gate}/reduce", POINTWISE)
        yield from _weight(f"{source}.{at}.fc.2", f"{gate}/expand", POINTWISE)
        at += 1
    yield from _weight(f"{source}.{at}", f"{target}/project", POINTWISE, bias=False)
    yield from _batch_norm(f"{source}.{at + 1}", f"{target}/project_norm")


def _convnext_block(config: OcecConfig, i: int) -> Iterator[Rule]:
    source, target = f"features.{i}", f"blocks_{i}"
    if config.strides[i] == 1:
        unit = f"{source}.0"
    else:
        yield from _layer_norm(f"{source}.0.op.0.norm", f"{target}/downsample_norm")
        yield from _weight(f"{source}.0.op.1", f"{target}/downsample", CONV)
        unit = f"{source}.1"
    yield Rule(f"{unit}.gamma", f"params/{target}/gamma")
    yield from _weight(f"{unit}.dwconv", f"{target}/depthwise", DEPTHWISE)
    yield from _layer_norm(f"{unit}.norm.norm", f"{target}/norm")
    yield from _weight(f"{unit}.pwconv1", f"{target}/expand", LINEAR)
    yield from _weight(f"{unit}.pwconv2", f"{target}/project", LINEAR)


def _encoder_layer(source: str, target: str) -> Iterator[Rule]:
    attention = f"{source}.self_attn"
    yield Rule(f"{attention}.in_proj_weight", f"params/{target}/self_attn/in_proj/kernel", LINEAR)
    yield Rule(f"{attention}.in_proj_bias", f"params/{target}/self_attn/in_proj/bias", SAME)
    yield from _weight(f"{attention}.out_proj", f"{target}/self_attn/out_proj", LINEAR)
    yield from _weight(f"{source}.linear1", f"{target}/linear1", LINEAR)
    yield from _weight(f"{source}.linear2", f"{target}/linear2", LINEAR)
    yield from _layer_norm(f"{source}.norm1", f"{target}/norm1")
    yield from _layer_norm(f"{source}.norm2", f"{target}/norm2")


def _mixer_layer(source: str, target: str) -> Iterator[Rule]:
    for part in ("token", "channel"):
        norm = f"norm_{part}s"
        yield from _layer_norm(f"{source}.{norm}", f"{target}/{norm}")
        for name in (f"{part}_fc1", f"{part}_fc2"):
            yield from _weight(f"{source}.{name}", f"{target}/{name}", LINEAR)


def _head(config: OcecConfig) -> Iterator[Rule]:
    if config.head == "avg":
        yield from _batch_norm("head.0", "head/norm")
        yield from _weight("head.2", "head/linear", LINEAR)
        return
    if config.head == "avgmax_mlp":
        yield from _batch_norm("head.0", "head/norm")
        yield from _weight("head.2", "head/hidden", LINEAR)
        # The original leaves out its second dropout, and so shifts the numbers, at rate 0.
        last = "head.5" if config.dropout != 0 else "head.4"
        yield from _weight(last, "head/linear", LINEAR)
        return
    for i in range(config.token_mixer_layers):
        if config.head == "transformer":
            yield from _encoder_layer(f"head.mixer.layers.{i}", f"head/layers_{i}")
        else:
            yield from _mixer_layer(f"head.mixer.{i}", f"head/layers_{i}")
    yield from _layer_norm("head.final_norm", "head/final_norm")
    yield from _weight("head.fc", "head/linear", LINEAR)
