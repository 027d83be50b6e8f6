"""The rule table of feature infusion."""

from collections.abc import Iterator

from jaxrecipes.convert.rules import CONV, LINEAR, POINTWISE, Rule, batch_norm_rules, weight_rules


def infusion_rules(num_states: int, *, source: str = "", target: str = "") -> Iterator[Rule]:
    """One rule per tensor of `FeatureInfusion`, in the original's order.

    Args:
      num_states: how many hidden states are fused.
      source: prefix of the original's keys, such as "backbone.".
      target: prefix of our paths inside of "params" and "batch_stats", such as "infusion/".
    """
    layers = [
        *((f"projection_cls.{i}", f"cls_{i}", LINEAR) for i in range(num_states)),
        *((f"projections_map.{i}", f"map_{i}", POINTWISE) for i in range(num_states)),
        ("fusion_cls", "cls_fusion", LINEAR),
        ("fusion_conv", "map_fusion", CONV),
    ]
    for theirs, ours, layout in layers:
        yield from weight_rules(f"{source}{theirs}.0", f"params/{target}{ours}", layout)
        yield from batch_norm_rules(f"{source}{theirs}.1", f"{target}{ours}_norm")
