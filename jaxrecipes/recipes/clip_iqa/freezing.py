"""Which parameters of clip_iqa are not trained, as rules over their paths.

Two reasons: the config freezes them, or nothing depends on them. PyTorch leaves the latter as they
are, decay included; so do we.
"""

from jaxrecipes.models.clip.config import ClipConfig
from jaxrecipes.recipes.clip_iqa.config import FreezeConfig, IqaRunConfig
from jaxrecipes.recipes.clip_iqa.network_config import ClipIqaConfig

_EMBEDDINGS = (
    "^clip/(vision|text)/(class|position|token)_embedding$",
    "^clip/vision/patch_embedding/",
)
INERT = "^refinement_module/.*/query_key/"
"""Parameters whose gradient is always 0: they decay."""


def frozen_rules(freeze: FreezeConfig, clip: ClipConfig, *, layers: int) -> tuple[str, ...]:
    """What the config freezes, with `layers` in place of its own; each rule matches something."""
    if freeze.mode == "none":
        return ()
    if freeze.mode == "clip":
        return ("^clip/",)
    blocks = [
        f"^clip/{name}/blocks_({'|'.join(map(str, range(min(layers, depth))))})/"
        for name, depth in (("vision", clip.vision.depth), ("text", clip.text.depth))
        if layers
    ]
    return (*_EMBEDDINGS, *blocks, *(("^clip/vision/pre_norm/",) if freeze.pre_norm else ()))


def unused_rules(network: ClipIqaConfig, *, explanations: bool) -> tuple[str, ...]:
    """What nothing depends on; each rule matches something."""
    rules = ["^clip/logit_scale$"]
    if not explanations:
        rules.append("^rationale_head/")
    if network.heads.mode == "traditional":
        rules.append("^filip_(scale|bias)$")
        clip = network.clip
        if {clip.vision.width, clip.text.width} != {clip.projection_dim}:
            rules.append("^seq_proj_(img|txt)_kernel$")
        if not network.heads.two_branch:
            rules.append("^c_(scale|bias)$")
    return tuple(rules)


def freezing_plan(
    config: IqaRunConfig, *, steps_per_epoch: int
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """(first step, rules) of each stage of the run; one stage without `freeze.plan`."""
    network = config.network
    always = (
        *unused_rules(network, explanations=config.loss.explanations),
        *(("^clip/vision/",) if config.data.image_embeddings else ()),
        *config.optim.frozen,
    )
    plan = config.freeze.plan or {1: config.freeze.layers}
    return tuple(
        (
            (epoch - 1) * steps_per_epoch,
            always + frozen_rules(config.freeze, network.clip, layers=layers),
        )
        for epoch, layers in sorted(plan.items())
    )
