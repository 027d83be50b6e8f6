"""The hand_pose network, part by part and whole, against the original's vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from jax.flatten_util import ravel_pytree

from jaxrecipes.convert import from_torch
from jaxrecipes.convert.rules import load_tensors
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.recipes.hand_pose.blocks import rotate_pairs
from jaxrecipes.recipes.hand_pose.constants import sixd_as
from jaxrecipes.recipes.hand_pose.decoder import HandDecoder
from jaxrecipes.recipes.hand_pose.network import HandPose
from jaxrecipes.recipes.hand_pose.network_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
    TemporalConfig,
)
from jaxrecipes.recipes.hand_pose.original_rules import (
    decoder_rules,
    perspective_rules,
    refiner_rules,
)
from jaxrecipes.recipes.hand_pose.perspective_embedding import PerspectiveEmbedding
from jaxrecipes.recipes.hand_pose.temporal_refiner import TemporalRefiner, rotary_frequencies

BACKBONE = Dinov2Config(width=16, depth=2, num_heads=2, mlp_ratio=2, image_size=70)
OUTPUTS = {
    "pose": "pose",
    "betas": "betas",
    "trans": "trans",
    **{f"log_heatmap_{axis}": f"log_hm_{axis}" for axis in "xyz"},
}
HEADS = {"backbone": {"num_heads": 2}, "handec": {"num_head": 3}}


def decoder(joint_type="3", *, norm_by_hand=True, denorm_output=None):
    handec = HandDecoderConfig(
        num_layer=2,
        num_head=3,
        dim_head=8,
        dim_mlp=24,
        width=24,
        heatmap_resolution=(16, 12, 20),
        denorm_output=denorm_output,
    )
    return HandDecoder(
        HandPoseConfig(
            backbone=BACKBONE,
            img_size=56,
            joint_type=joint_type,
            norm_by_hand=norm_by_hand,
            handec=handec,
        )
    )


def loaded(rules, state_dict, module, name, *inputs):
    """The part's variables from the original's tensors, buffers left out."""
    shapes = jax.eval_shape(lambda key: module.init(key, *inputs, train=False), jax.random.key(0))
    wanted = {key for rule in rules for key in rule.sources}
    tensors = {key: array for key, array in state_dict.items() if key in wanted}
    template = {collection: {name: tree} for collection, tree in shapes.items()}
    return {c: tree[name] for c, tree in load_tensors(rules, tensors, template).items()}


def tensors(arrays):
    found = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    if "init_hand_pose" in found:
        found["init_hand_pose"] = found["init_hand_pose"].reshape(1, -1)
    return found


def close(ours, theirs, tolerance, name=""):
    np.testing.assert_allclose(
        np.asarray(ours), theirs, rtol=0, atol=tolerance * np.abs(theirs).max() + 1e-12,
        err_msg=name,
    )  # fmt: skip


def close_gradients(rules, grads, name, arrays, prefix="grad/", tolerance=2e-4):
    leaves = flatten_dict({"params": {name: grads}}, sep="/")
    compared = [rule for rule in rules if prefix + rule.source in arrays]
    assert compared
    for rule in compared:
        ours = rule.layout.to_torch(np.asarray(leaves[rule.target]))
        close(ours, arrays[prefix + rule.source], tolerance, rule.source)


@pytest.mark.parametrize(
    ("case", "module"),
    [
        ("axisangle", decoder()),
        ("sixd_mean", decoder("6d", norm_by_hand=False)),
        ("quat_mean", decoder("quat")),
        ("denorm", decoder(denorm_output="statistics.npz")),
    ],
)
def test_decoder_and_heads_are_the_originals(golden, case, module):
    arrays = golden(f"hand_pose/handec_{case}")
    if case == "denorm":  # the weights and the features are the same
        arrays = golden("hand_pose/handec_axisangle") | arrays
    context = arrays["in/context"]
    rules = list(decoder_rules(module.config, source=""))
    variables = loaded(rules, tensors(arrays), module, "handec", context)
    outputs = jax.jit(lambda v: module.apply(v, context, train=False))(variables)
    assert set(outputs) == set(OUTPUTS)
    for ours, theirs in OUTPUTS.items():
        close(outputs[ours], arrays[f"out/{theirs}"], 2e-6, ours)


def test_mean_hand_in_another_representation_is_the_originals(golden):
    sixd = golden("hand_pose/handec_sixd_mean")["sd/init_hand_pose"]
    quat = golden("hand_pose/handec_quat_mean")["sd/init_hand_pose"]
    np.testing.assert_allclose(sixd_as(sixd, "quat"), quat[0], atol=1e-6)


@pytest.fixture(scope="module")
def decoder_setup(golden):
    arrays, module = golden("hand_pose/handec_axisangle"), decoder()
    rules = list(decoder_rules(module.config, source=""))
    variables = loaded(rules, tensors(arrays), module, "handec", arrays["in/context"])
    return arrays, module, rules, variables["params"]


def test_decoder_gradients_are_the_originals(decoder_setup):
    arrays, module, rules, params = decoder_setup

    def objective(params, context):
        outputs = module.apply({"params": params}, context, train=False)
        return sum(
            jnp.sum(outputs[ours] * arrays[f"in/cot_{theirs}"]) for ours, theirs in OUTPUTS.items()
        )

    grads, context = jax.jit(jax.grad(objective, argnums=(0, 1)))(params, arrays["in/context"])
    close(context, arrays["grad/context"], 2e-6)
    close_gradients(rules, grads, "handec", arrays, tolerance=5e-6)


def test_ten_steps_of_adamw_are_the_originals(decoder_setup):
    arrays, module, rules, params = decoder_setup
    tx = optax.adamw(float(arrays["traj/lr"]), weight_decay=float(arrays["traj/weight_decay"]))
    constant = {name: params[name] for name in params if name.startswith("init_")}
    trained = {name: params[name] for name in params if name not in constant}
    trained, tree = ravel_pytree(trained)  # one array: less to compile

    def objective(trained):
        params = tree(trained) | constant
        outputs = module.apply({"params": params}, arrays["in/context"], train=False)
        off = {name: outputs[name] - arrays[f"traj/target_{name}"] for name in list(OUTPUTS)[:3]}
        return (
            jnp.abs(off["pose"]).mean() + jnp.abs(off["betas"]).mean() + (off["trans"] ** 2).mean()
        )

    @jax.jit
    def train(trained):
        def step(carry, _):
            trained, state = carry
            loss, grads = jax.value_and_grad(objective)(trained)
            updates, state = tx.update(grads, state, trained)
            return (optax.apply_updates(trained, updates), state), loss

        (trained, _), losses = jax.lax.scan(step, (trained, tx.init(trained)), length=10)
        return trained, losses

    final, losses = train(trained)
    np.testing.assert_allclose(losses, arrays["traj/loss"], rtol=1e-5)
    close_gradients(rules, {**tree(final), **constant}, "handec", arrays, "traj/final/", 1e-4)


@pytest.fixture(scope="module")
def camera(golden):
    def load(case):
        arrays = golden(f"hand_pose/persp_info_{case}")
        return arrays, [arrays[f"in/{name}"] for name in ("feats", "bbox", "focal", "princpt")]

    return load


def test_attention_to_viewing_rays_is_the_originals(camera):
    arrays, inputs = camera("ca")
    config = PerspectiveConfig(num_sample=4)
    module, rules = PerspectiveEmbedding(config), list(perspective_rules(config, source=""))
    variables = loaded(rules, tensors(arrays), module, "persp_info_embedder", *inputs)

    def objective(params, features):
        told = module.apply({"params": params}, features, *inputs[1:], train=True)
        return jnp.sum(told * arrays["in/cotangent"]), told

    grad = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))
    (grads, features), told = grad(variables["params"], inputs[0])
    close(told, arrays["out/feats"], 2e-6)
    close(features, arrays["grad/feats"], 5e-6)
    close_gradients(rules, grads, "persp_info_embedder", arrays, tolerance=5e-6)


def test_perceptron_of_viewing_rays_is_the_originals(camera):
    arrays, inputs = camera("dense")

    rules = list(perspective_rules(PerspectiveConfig(type="dense"), source=""))

    @jax.jit
    def run(variables):
        told = {}
        for fusion, train in (("all", False), ("patch", False), ("all", True)):
            config = PerspectiveConfig(type="dense", num_sample=4, pie_fusion=fusion)
            apply = PerspectiveEmbedding(config).apply
            name = f"out/{'train' if train else 'eval'}_{fusion}"
            told[name] = apply(variables, *inputs, train=train, mutable=["batch_stats"])[0]
        return told

    module = PerspectiveEmbedding(PerspectiveConfig(type="dense", num_sample=4))
    told = run(loaded(rules, tensors(arrays), module, "persp_info_embedder", *inputs))
    for name, features in told.items():
        close(features, arrays[name], 2e-6, name)


def test_temporal_refiner_is_the_originals(golden):
    arrays = golden("hand_pose/temporal_encoder")
    tokens, timestamp = arrays["in/token"], arrays["in/timestamp"]
    module = TemporalRefiner(TemporalConfig(layers=2, heads=int(arrays["cfg/heads"])))
    rules = list(refiner_rules(2, source=""))
    variables = loaded(rules, tensors(arrays), module, "temporal_refiner", tokens, timestamp)

    def objective(params, tokens):
        refined = module.apply({"params": params}, tokens, timestamp, train=False)
        return jnp.sum(refined * arrays["in/cotangent"]), refined

    grad = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))
    (grads, gradient), refined = grad(variables["params"], tokens)
    close(refined, arrays["out/token"], 2e-6)
    close(gradient, arrays["grad/token"], 5e-6)
    close_gradients(rules, grads, "temporal_refiner", arrays, tolerance=5e-6)


def test_rotary_positions_are_the_originals(golden):
    arrays = golden("hand_pose/temporal_encoder")
    angles = arrays["in/timestamp"][:, None, :, None] / 20.0 * rotary_frequencies(4)
    close(rotate_pairs(arrays["in/rope_q"], angles), arrays["out/rope_q"], 1e-6)


def network(golden, extra, config):
    state_dict = golden("hand_pose/posenet_weights") | golden("hand_pose/posenet_weights_persp")
    model, params, _ = from_torch("hand_pose", state_dict | extra, config)
    return model, {"params": params}


def inputs_of(model, arrays):
    patch = arrays["in/patches"].transpose(0, 1, 3, 4, 2)
    mean, std = (np.float32(x) for x in (model.config.img_mean, model.config.img_std))
    names = ("patch_bbox", "focal", "princpt", "timestamp")
    return {"patch": (patch - mean) / std, **{name: arrays[f"in/{name}"] for name in names}}


def test_network_is_the_originals_at_three_depths(golden):
    arrays, case = golden("hand_pose/posenet_stage1"), "posenet_stage1_seed/"
    outputs = golden("hand_pose/posenet_losses")
    arrays |= {k.removeprefix(case): v for k, v in outputs.items() if k.startswith(case)}
    model, variables = network(golden, {}, HEADS)

    def run(module, inputs):
        camera = (inputs[name][:, 0] for name in ("patch_bbox", "focal", "princpt"))
        backbone = module.backbone(inputs["patch"][:, 0], train=False)
        features = module.persp_info_embedder(backbone, *camera, train=False)
        return backbone, features, module.handec(features, train=False)

    apply = jax.jit(lambda v, x: model.apply(v, x, method=run))
    backbone, features, outputs = apply(variables, inputs_of(model, arrays))
    close(backbone, arrays["out/backbone_feats"], 2e-6)
    close(features, arrays["out/feats_after_pie"], 2e-6)
    for ours, theirs in (OUTPUTS | {"betas": "shape"}).items():
        close(outputs[ours], arrays[f"out/{theirs}"][:, 0], 5e-6, ours)


def test_stage_2_is_the_originals(golden):
    arrays = golden("hand_pose/posenet_stage2")
    config = HEADS | {"stage": "stage2", "num_frame": 3, "temporal_encoder": {"heads": 2}}
    model, variables = network(golden, tensors(arrays), config)
    assert isinstance(model, HandPose)
    outputs = jax.jit(lambda v, x: model.apply(v, x, train=False))(
        variables, inputs_of(model, arrays)
    )
    for ours, theirs in (OUTPUTS | {"betas": "shape"}).items():
        close(outputs[ours], arrays[f"out/{theirs}"], 5e-6, ours)
