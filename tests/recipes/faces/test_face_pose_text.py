"""Both face recipes with CLIP's phrases for poses."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.convert import from_torch, to_torch
from jaxrecipes.convert.rules import dump_tensors
from jaxrecipes.export.onnx import check_onnx, onnx_model
from jaxrecipes.models.clip.config_files import from_huggingface
from jaxrecipes.models.clip.network import Clip
from jaxrecipes.models.clip.rules import clip_rules
from jaxrecipes.models.clip.weights import write_clip
from jaxrecipes.recipes.face3d import network as face3d_networks
from jaxrecipes.recipes.face3d.config import Face3DRunConfig
from jaxrecipes.recipes.face3d.decoder import TextPoseEncoder
from jaxrecipes.recipes.face3d.network import Face3DConfig
from jaxrecipes.recipes.faces.original_files import numbered
from jaxrecipes.recipes.faces.pose_text import POSE_PHRASES, pose_text_table
from jaxrecipes.recipes.faces.pose_text_source import with_table
from jaxrecipes.recipes.universal_face.blocks import PoseAttention
from jaxrecipes.recipes.universal_face.config import UniversalFaceRunConfig
from jaxrecipes.recipes.universal_face.network import UniversalFace, UniversalFaceConfig
from jaxrecipes.recipes.universal_face.original import loss_to_torch
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import create_state, starting_weights
from jaxrecipes.train.step import make_train_step

face3d, universal_face = load_recipe("face3d"), load_recipe("universal_face")

WIDTH = 64  # of CLIP's features here
UNIVERSAL = UniversalFaceConfig(
    feat_dim=16,
    id_dim=8,
    pose_dim=8,
    num_pose_bins=4,
    transformer_depth=1,
    transformer_heads=2,
    transformer_mlp_dim=16,
    use_clip_pose_encoder=True,
    pose_text_dim=WIDTH,
)
FACE3D = Face3DConfig(
    model_type="decoder_only_clip",
    d_model=16,
    nhead=2,
    num_layers=1,
    num_decoder_layers=1,
    dim_feedforward=16,
    use_pose_attention=True,
    pose_text_dim=WIDTH,
)
RECIPES: dict[str, tuple[Any, Any]] = {
    "universal_face": (universal_face, UniversalFaceRunConfig(model=UNIVERSAL)),
    "face3d": (face3d, Face3DRunConfig(model=FACE3D)),
}
POSES = np.array([[-50, -30, 0], [-45, 20, 10], [0, 0, -20], [44, 25, 9], [60, -20, 30]], "f4")
PHRASES = (
    "left profile view, looking down, upright",
    "left three-quarter view, looking up, tilted right",
    "frontal view, level gaze, tilted left",
    "right three-quarter view, looking up, upright",
    "right profile view, level gaze, tilted right",
)
both = pytest.mark.parametrize("name", RECIPES)


@pytest.fixture(scope="module")
def clip():
    """A CLIP with one thin block in each tower: (config, params)."""
    tower = {"hidden_size": WIDTH, "num_attention_heads": 1, "intermediate_size": 8}
    tower |= {"num_hidden_layers": 1, "image_size": 4, "patch_size": 2}
    towers = {"text_config": tower, "vision_config": tower}
    config = from_huggingface({"projection_dim": WIDTH, **towers})
    images, tokens = np.zeros((1, 4, 4, 3), np.float32), np.zeros((1, 2), np.int32)
    shapes = jax.eval_shape(Clip(config).init, jax.random.key(0), images, tokens)["params"]
    rng = np.random.default_rng(0)
    return config, jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def folder(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "tiny"
    write_clip(path, *clip)
    return str(path)


@pytest.fixture(scope="module")
def table(clip):
    return pose_text_table(*clip)


@pytest.fixture(scope="module")
def recipes(folder):
    """Recipes that start from the CLIP; `init` gives the same variables every time."""
    made = {}
    for name, (module, config) in RECIPES.items():
        config = dataclasses.replace(config, pose_text_clip=folder)
        recipe = module.make_recipe(config, DataInfo(steps_per_epoch=2, train=[]))
        params, batch_stats = jax.jit(recipe.init)(jax.random.key(0))
        made[name] = dataclasses.replace(recipe, init=lambda key, v=(params, batch_stats): v)
    return made


def tables(batch_stats):
    leaves = jax.tree_util.tree_leaves_with_path(batch_stats)
    return [leaf for path, leaf in leaves if path[-1].key == "table"]


def batch():
    rng = np.random.default_rng(1)
    src, tgt = (rng.normal(size=(len(POSES), 16)).astype(np.float32) for _ in range(2))
    return {"src": src, "tgt": tgt, "pose": POSES, "person": np.arange(len(POSES), dtype=np.int32)}


def draw(shapes, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)


def rows_of(table):
    return table[[POSE_PHRASES.index(phrase) for phrase in PHRASES]].astype(np.float64)


def test_attention_is_shifted_by_the_code_of_the_phrase(table):
    model = PoseAttention(2, text_dim=WIDTH)
    x = np.random.default_rng(2).normal(size=(len(POSES), 3, 8)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, POSES, train=False))
    params = draw(shapes["params"], 3)
    stats = {"pose_text": {"table": table}}
    found: Any = model.apply({"params": params, "batch_stats": stats}, x, POSES, train=False)

    def linear(name, y):
        return y @ params[name]["kernel"].astype(np.float64) + params[name]["bias"]

    code = linear("pose_out", np.maximum(linear("pose_hidden", rows_of(table)), 0))
    query, key, value = np.split(linear("qkv", x) + code[:, None], 3, axis=-1)
    mixed = np.zeros_like(query)
    for head in (np.s_[..., :4], np.s_[..., 4:]):
        scores = query[head] @ key[head].swapaxes(1, 2) / 2.0
        probs = np.exp(scores - scores.max(-1, keepdims=True))
        mixed[head] = probs / probs.sum(-1, keepdims=True) @ value[head]
    wanted = linear("proj", mixed)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_the_decoders_pose_code_is_that_of_the_phrase(table):
    model = TextPoseEncoder(WIDTH, 8)
    call: dict[str, Any] = {"train": False, "dropout_rate": 0.1}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), POSES, **call))
    params = draw(shapes["params"], 4)
    assert params["dense1"]["kernel"].shape == (WIDTH, 512)
    stats = {"pose_text": {"table": table}}
    found: Any = model.apply({"params": params, "batch_stats": stats}, POSES, **call)
    hidden = rows_of(table) @ params["dense1"]["kernel"] + params["dense1"]["bias"]
    wanted = np.maximum(hidden, 0) @ params["dense2"]["kernel"] + params["dense2"]["bias"]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@both
def test_a_new_run_holds_the_features_outside_its_parameters(recipes, table, name):
    params, batch_stats = recipes[name].init(jax.random.key(0))
    (found,) = tables(batch_stats)
    np.testing.assert_array_equal(found, table)
    assert not tables(params)


def test_training_learns_the_projection_and_leaves_the_table(recipes, table):
    recipe = recipes["face3d"]
    state = jax.jit(lambda key: create_state(recipe, key))(jax.random.key(0))
    new, _ = jax.jit(make_train_step(recipe))(state, jax.tree.map(jnp.asarray, batch()))
    (found,) = tables(new.batch_stats)
    np.testing.assert_array_equal(found, table)
    before, after = (s.params["pose_encoder"]["dense1"]["kernel"] for s in (state, new))
    assert np.abs(after - before).max() > 0


@both
def test_the_codes_dropout_is_a_rate_of_its_own(recipes, name):
    recipe = recipes[name]
    params, batch_stats = recipe.init(jax.random.key(0))
    assert float(recipe.hparams["pose_text_dropout_rate"](0)) == pytest.approx(0.1)
    rates = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0, "pose_text_dropout_rate": 0.0}
    inputs = {part: jnp.asarray(batch()[part]) for part in ("src", "pose")}

    @jax.jit
    def outputs(hparams):
        options = {"hparams": hparams, "train": True, "key": jax.random.key(5)}
        return recipe.apply_fn(params, batch_stats, inputs, **options)[0]

    plain, dropped = outputs(rates), outputs(rates | {"pose_text_dropout_rate": 0.5})
    pairs = zip(jax.tree.leaves(plain), jax.tree.leaves(dropped), strict=True)
    assert any(np.abs(a - b).max() > 0 for a, b in pairs)


@both
def test_a_run_goes_on_without_the_clip_and_none_starts_without(name):
    module, config = RECIPES[name]
    config = dataclasses.replace(config, pose_text_clip="checkpoint")
    module.check_config(config)
    recipe = module.make_recipe(config, DataInfo(steps_per_epoch=2, train=[]))
    shapes = jax.eval_shape(recipe.init, jax.random.key(0))[1]
    assert {leaf.shape for leaf in tables(shapes)} == {(45, WIDTH)}
    with pytest.raises(jax.errors.JaxRuntimeError, match="--pose_text_clip"):
        jax.block_until_ready(with_table({"pose_text": {"table": jnp.zeros((45, 2))}}, None))
    with pytest.raises(ValueError, match=r"no checkpoint.*--pose_text_clip"):
        starting_weights(recipe)


@both
def test_a_missing_or_unfit_clip_is_refused(name, folder):
    module, config = RECIPES[name]
    with pytest.raises(ValueError, match=r"--pose_text_clip.*not downloaded"):
        module.check_config(config)
    with pytest.raises(FileNotFoundError, match=r"no CLIP at nowhere.*not downloaded"):
        module.check_config(dataclasses.replace(config, pose_text_clip="nowhere"))
    model = dataclasses.replace(config.model, pose_text_dim=512)
    config = dataclasses.replace(config, model=model, pose_text_clip=folder)
    with pytest.raises(ValueError, match=r"give --model\.pose_text_dim 64"):
        module.make_recipe(config, DataInfo(steps_per_epoch=2, train=[]))
    with pytest.raises(
        ValueError, match=r"pose_text_dropout is 1.5; expected 0 <= pose_text_dropout < 1"
    ):
        dataclasses.replace(config, pose_text_dropout=1.5)


@both
def test_the_originals_copies_of_clip_become_tables(recipes, clip, table, name, caplog):
    drawn, stats = recipes[name].init(jax.random.key(0))
    config = RECIPES[name][1].model
    ours = to_torch(name, drawn, stats, config)
    if name == "universal_face":
        ours |= loss_to_torch(drawn)
    copy = dump_tensors(clip_rules(clip[0], "openai"), clip[1])
    theirs: dict[str, Any] = {}
    for key, array in ours.items():
        if key.endswith(".pose_text"):
            encoder = key.removesuffix("pose_text")
            theirs |= {f"{encoder}clip_model.{part}": value for part, value in copy.items()}
        else:
            theirs[key] = array
    assert any(key.endswith("pose_encoder.proj.3.weight") for key in theirs)
    with caplog.at_level("INFO", logger="jaxrecipes"):
        _, params, batch_stats = from_torch(
            name, theirs, {**dataclasses.asdict(config), "pose_text_dim": 512}
        )
    assert "copies of CLIP left out" in caplog.text
    for found in tables(batch_stats):
        np.testing.assert_allclose(found, table, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, params, dict(drawn))


def test_the_optimizers_numbers_pass_over_the_copies():
    keys = ["a", "e.clip_model.x", "e.clip_model.y", "pose_prototypes", "e.proj.0.weight"]
    state = {"param_groups": [{"params": [0, 1, 2, 3], "lr": 1.0}], "state": {}}
    found: Any = numbered(state, dict.fromkeys(keys))
    assert found["param_groups"][0]["params"] == [0, 3]
    trained_alone = {"param_groups": [{"params": [0, 1]}], "state": {}}
    assert numbered(trained_alone, dict.fromkeys(keys)) is trained_alone


@both
def test_onnx_looks_up_the_phrase(recipes, name):
    pytest.importorskip("onnxruntime")
    recipe = recipes[name]
    params, batch_stats = recipe.init(jax.random.key(0))
    some = {n: np.resize(batch()[n], (8, *batch()[n].shape[1:])) for n in ("src", "pose")}
    networks = {"face3d": face3d_networks.face3d, "universal_face": UniversalFace}
    network = networks[name](RECIPES[name][1].model)

    def heads(variables, inputs):
        if name == "face3d":
            return {"frontal": network.apply(variables, inputs, train=False)}
        return network.apply(variables, inputs["src"], inputs["pose"], mode="inference")

    variables = {"params": params, "batch_stats": batch_stats}
    shapes = {n: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for n, x in some.items()}
    model = onnx_model(heads, variables, shapes).SerializeToString()
    assert check_onnx(model, lambda inputs: heads(variables, inputs), some) < 1e-5
