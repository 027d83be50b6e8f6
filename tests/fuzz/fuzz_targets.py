"""What is fuzzed: a good input, how it is damaged, and what the library is asked to do with it."""

import csv
import functools
import io
import json
import pathlib
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_mutators import damaged, damaged_json, damaged_pickle, damaged_text, damaged_zip, flags
from PIL import Image
from safetensors.numpy import save

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.config import field_paths, to_dict, with_overrides
from jaxrecipes.convert.weight_files import read_state_dict
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.data.decode import decode_images
from jaxrecipes.models.clip.config_files import from_huggingface as clip_config
from jaxrecipes.models.clip.config_files import from_open_clip
from jaxrecipes.models.clip.config_files import to_huggingface as to_clip_json
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.models.dinov2.config_files import from_huggingface as dinov2_config
from jaxrecipes.models.dinov2.config_files import to_huggingface as to_dinov2_json
from jaxrecipes.models.hand.mano import read_mano
from jaxrecipes.recipes.clip_iqa.rated_images import read_rated_images
from jaxrecipes.recipes.faces.folder import read_face_folder
from jaxrecipes.recipes.faces.make_folder import convert_features, make_face_folder
from jaxrecipes.recipes.hand_pose.constants import read_output_statistics
from jaxrecipes.recipes.hand_pose.hands.draw import as_sequences, synthetic_hands
from jaxrecipes.recipes.hand_pose.make_shards import make_hand_shards
from jaxrecipes.recipes.hand_pose.shards import read_hand_clips, write_hand_shards
from jaxrecipes.recipes.ocec.labelled_images import read_labelled_images
from jaxrecipes.recipes.ocec.make_parquet import make_parquet
from jaxrecipes.recipes.ocec.original import import_torch
from jaxrecipes.report.comparison import as_json, compare_runs
from jaxrecipes.report.run_page import write_run_page
from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.schedules.expression import parse
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.tune.space import parse_parameter

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = ("clip_iqa", "face3d", "hand_pose", "ocec", "universal_face")

Make = Callable[[random.Random, pathlib.Path], Callable[[], Any]]
"""`make(rng, folder)`: writes a damaged input to the empty folder and gives what is done with it.
`folder / "canary"` comes into being only if the library runs the input's code."""


def targets(base: pathlib.Path) -> dict[str, Make]:
    """All targets by name.

    Args:
      base: a folder for good inputs, which are made when a target first needs them.
    """
    return {
        **{f"flags/{name}": _flags(name) for name in RECIPES},
        **{f"json/{name}": _json_config(name) for name in RECIPES},
        "config file": _config_file(),
        "schedule": _schedule(),
        "search range": _search_range(),
        "torch/file": _torch_file(base),
        "torch/tree": _torch_tree(base),
        "mano": _mano(),
        "safetensors": _safetensors(),
        "npz/statistics": _statistics(),
        "npz/features": _features(),
        "json/clip": _network_json(to_clip_json(from_open_clip(_OPEN_CLIP)), clip_config),
        "json/open_clip": _network_json(_OPEN_CLIP, from_open_clip),
        "json/dinov2": _network_json(_DINOV2, dinov2_config),
        "parquet/eyes": _parquet(_EYES, read_labelled_images),
        "parquet/values": _parquet_values(),
        "parquet/ratings": _parquet(_RATINGS, read_rated_images),
        "parquet/hands": _parquet(_hands_table(), _shards_from),
        "csv/ratings": _csv(_ratings_csv(), read_rated_images),
        "csv/annotation": _csv("a/open_1.png,1\na/b.png,0\n" * 9, _annotated),
        "tar/hands": _tar(base),
        "images": _images(),
        "face folder": _face_folder(base),
        "checkpoint": _checkpoint(base),
        "run": _run(base),
    }


@functools.cache
def _default(name: str) -> RunConfig:
    return recipe_and_config(str(ROOT / "configs" / f"{name}.py"), [])[1]


def _checked(name: str, config: Any) -> None:
    """What every config that is taken must be: finite, checked, and the same after JSON."""
    stored = to_dict(config)
    json.dumps(stored, allow_nan=False)
    load_recipe(name).check_config(config)


def _flags(name: str) -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        config = _default(name)
        given = flags(rng, list(field_paths(config)))
        return lambda: _checked(name, with_overrides(config, given, "CONFIG"))

    return make


def _json_config(name: str) -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        stored = {"recipe": name} | to_dict(_default(name))
        file = _written(folder / "config.json", damaged_json(rng, stored))

        def use() -> None:
            config = recipe_and_config(str(file), [])[1]
            _checked(config.RECIPE, config)

        return use

    return make


def _config_file() -> Make:
    text = (ROOT / "configs" / "universal_face.py").read_text()

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        file = _written(folder / "own.py", damaged_text(rng, text))
        return lambda: _checked("universal_face", recipe_and_config(str(file), [])[1])

    return make


_SCHEDULES = (
    "delayed(0.3, start_step=2*epoch)",
    "join((warmup(1e-3, 10), cosine(1e-3, decay_steps=run, floor=1e-5)), (10,))",
    "scale(linear(0, 1, steps=2*epoch), 0.5)",
    "multistep(0.1, (10, 20.5, -3e2), gamma=.5)",
    "one_cycle(1e-2, total_steps=run)",
    "ramp(0, 1, start_step=epoch, end_step=run)",
)


def _schedule() -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        text = damaged_text(rng, rng.choice(_SCHEDULES)).decode(errors="surrogateescape")
        return lambda: parse(text, names={"epoch": 92.0, "run": 920.0})

    return make


def _search_range() -> Make:
    texts = ("optim.learning_rate=1e-4:1e-2:log", "model.num_blocks=2:6:2", "loss.kind=bce,focal")

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        text = damaged_text(rng, rng.choice(texts)).decode(errors="surrogateescape")
        return lambda: parse_parameter(text, _default("ocec"))

    return make


@functools.cache
def _ocec_file(base: pathlib.Path) -> pathlib.Path:
    """A checkpoint as the original's program writes it: weights, moments, scheduler, metrics."""
    from jaxrecipes.runs.trained import Trained
    from jaxrecipes.train.state import create_state

    module = load_recipe("ocec")
    sizes = ["--model.base_channels", "4", "--model.num_blocks", "1", "--optim.schedule"]
    config = with_overrides(_default("ocec"), [*sizes, "plateau"], "CONFIG")
    recipe = module.make_recipe(config, DataInfo(steps_per_epoch=4))
    shapes = jax.eval_shape(lambda key: create_state(recipe, key), jax.random.key(0))
    state = jax.tree.map(_zeros, shapes)
    entry = {"epoch": 1, "step": 0, "train": {"loss": 1.0}, "val": {"loss": 1.0, "f1_ema": 0.5}}
    metadata = {"history": [entry], "steps_per_epoch": 4}
    file = base / "ocec.pt"
    module.export_torch(Trained(module, config, recipe, state, 0, metadata), file, weights="auto")
    return file


def _zeros(leaf: Any) -> Any:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return jnp.zeros(leaf.shape, leaf.dtype)


def _torch_file(base: pathlib.Path) -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        data = damaged_zip(rng, _ocec_file(base).read_bytes(), str(folder / "canary"))
        file = _written(folder / "x.pt", data)

        def use() -> None:
            import_torch(file, folder / "run")
            read_state_dict(file)

        return use

    return make


def _torch_tree(base: pathlib.Path) -> Make:
    """Whole files of wrong contents: keys that are missing, other types, other shapes."""

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        from jaxrecipes.convert.reader import load_torch

        tree = load_torch(_ocec_file(base))
        for _ in range(rng.randint(1, 3)):
            _change_tree(rng, tree)
        save_torch(folder / "x.pt", tree)
        return lambda: import_torch(folder / "x.pt", folder / "run")

    return make


def _change_tree(rng: random.Random, tree: Any) -> None:
    values = (None, True, -1, 0, 2.5, float("nan"), "x", "", [], {}, (1, 2), np.zeros(3))
    while tree:
        key = rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        inner = tree[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.75:
            tree = inner
            continue
        if isinstance(inner, np.ndarray) and rng.random() < 0.5:
            strange = (inner[..., None], inner.astype(np.int8), inner.ravel()[:0])
            tree[key] = rng.choice(strange) if inner.ndim else inner[None]
        elif rng.random() < 0.3:
            del tree[key]
        else:
            tree[key] = rng.choice(values)
        return


def _mano() -> Make:
    fields = {
        "v_template": np.zeros((30, 3)),
        "shapedirs": np.zeros((30, 3, 10)),
        "posedirs": np.zeros((30, 3, 135)),
        "J_regressor": np.zeros((16, 30)),
        "weights": np.zeros((30, 16)),
        "hands_mean": np.zeros(45),
        "f": np.zeros((8, 3), np.uint32),
        "kintree_table": np.zeros((2, 16), np.int64),
    }
    pickled = pickle.dumps(fields, protocol=2)
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **fields)

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        if rng.random() < 0.7:
            data = damaged_pickle(rng, pickled, str(folder / "canary"))
            file = _written(folder / "x.pkl", data)
        else:
            file = _written(folder / "x.npz", damaged_zip(rng, stream.getvalue()))
        return lambda: read_mano(file)

    return make


def _safetensors() -> Make:
    arrays = {f"a.{i}.weight": np.ones((3, i + 1), np.float32) for i in range(4)}
    data = save(arrays, metadata={"step": "3"})

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        head = int.from_bytes(data[:8], "little") + 8
        changed = damaged(rng, data[:head]) + data[head:] if rng.random() < 0.7 else None
        file = _written(folder / "x.safetensors", changed or damaged(rng, data))
        return lambda: read_state_dict(file)

    return make


def _statistics() -> Make:
    stream = io.BytesIO()
    np.savez(stream, mean=np.zeros(4), cov=np.eye(4))

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        file = _written(folder / "x.npz", damaged_zip(rng, stream.getvalue()))
        return lambda: read_output_statistics(str(file), 4)

    return make


def _features() -> Make:
    stream = io.BytesIO()
    np.savez(
        stream,
        embeddings=np.eye(6, 5, dtype=np.float32) + 0.1,
        person=np.array(["a", "a", "b", "b", "c", "c"]),
        pose=np.tile(np.array([[0.0, 0, 0], [1, 40, 2]]), (3, 1)),
    )

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        file = _written(folder / "x.npz", damaged_zip(rng, stream.getvalue()))
        order = ["roll", "yaw", "pitch"]
        return lambda: convert_features(file, folder / "out", pose_order=order)

    return make


_OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 512,
            "heads": 8,
            "layers": 12,
        },
    }
}


_DINOV2 = to_dinov2_json(Dinov2Config(width=16, depth=1, num_heads=2))


def _network_json(good: Any, read: Callable[[Any], Any]) -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        from jaxrecipes.convert.weight_files import read_json

        file = _written(folder / "config.json", damaged_json(rng, good))
        return lambda: read(read_json(file))

    return make


def _png(size: tuple[int, int] = (8, 8), mode: str = "RGB", kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind)
    return stream.getvalue()


_EYES = {
    "split": ["train", "val"] * 4,
    "class_id": [0, 1] * 4,
    "label": ["closed", "open"] * 4,
    "image_path": [f"{i}.png" for i in range(8)],
    "image_bytes": [_png()] * 8,
}
_RATINGS = {
    "name": [f"{i}.png" for i in range(8)],
    "prompt": ["a cat"] * 8,
    "mos_quality": [1.0, 2.5] * 4,
    "mos_align": [3.0, 4.5] * 4,
    "image_bytes": [_png()] * 8,
}


def _parquet(columns: dict[str, list], read: Callable[[pathlib.Path], Any]) -> Make:
    @functools.cache
    def good() -> bytes:
        stream = io.BytesIO()
        pq.write_table(pa.table(columns), stream)
        return stream.getvalue()

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        file = _written(folder / "x.parquet", damaged(rng, good()))
        return lambda: read(file)

    return make


def _parquet_values() -> Make:
    """Good files of wrong contents."""
    kinds: tuple[Any, ...] = (
        *(1, 0.97, float("nan"), 2**62, "x", "", "a\0b", "open", b"\xff\xfe", b"", None, True),
        *(
            [],
            [1],
            {"a": 1},
            {"bytes": b"x", "path": None},
            "x" * 3000,
            _png()[:20],
            _png(kind="GIF"),
        ),
    )

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        columns: dict[str, Any] = dict(_EYES)
        for name in rng.sample(sorted(columns), rng.randint(1, 2)):
            value = rng.choice(kinds)
            match rng.randrange(4):
                case 0:
                    del columns[name]
                case 1 if value is not None:
                    columns[name] = [value, None] * 4
                case _:
                    columns[name] = [value] * 8
        pq.write_table(pa.table(columns), folder / "x.parquet")

        def use() -> None:
            images = read_labelled_images(folder / "x.parquet")
            decode_images(images, (8, 8), cache_dir=folder / "cache", num_threads=1)

        return use

    return make


@functools.cache
def _hands_table() -> dict[str, list]:
    joints = np.random.default_rng(0).uniform(-40, 40, (4, 21, 3)) + np.array([0, 0, 500])
    return {
        "split": ["train", "val"] * 2,
        "K": [[200.0, 0, 16, 0, 210, 12, 0, 0, 1]] * 4,
        "joints_cam_mm": joints.reshape(4, 63).tolist(),
        "joints_uv": np.tile(np.arange(42.0) / 3, (4, 1)).tolist(),
        "image_bytes": [_png((32, 24), kind="JPEG")] * 4,
    }


def _shards_from(file: pathlib.Path) -> None:
    make_hand_shards(file, file.parent / "out", handedness="left")


def _ratings_csv() -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["name", "prompt", "mos_quality", "mos_align"])
    writer.writerows([f"{i}.png", 'a "cat", sitting', 1 + i / 4, 2 + i / 4] for i in range(8))
    return stream.getvalue()


def _csv(good: str, read: Callable[[pathlib.Path], Any]) -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        file = _written(folder / "x.csv", damaged_text(rng, good))
        return lambda: read(file)

    return make


def _annotated(file: pathlib.Path) -> None:
    (file.parent / "a").mkdir()
    for name in ("open_1.png", "b.png"):
        (file.parent / "a" / name).touch()
    make_parquet(file.parent / "out.parquet", annotations=[file], images=[])


@functools.cache
def _hand_tar(base: pathlib.Path) -> bytes:
    write_hand_shards(as_sequences(synthetic_hands(2, seed=0, image_size=32)), base / "tars")
    (file,) = (base / "tars").glob("*.tar")
    return file.read_bytes()


def _tar(base: pathlib.Path) -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        file = _written(folder / "x-000000.tar", damaged(rng, _hand_tar(base)))
        return lambda: read_hand_clips(file, cache_dir=folder / "cache")

    return make


def _images() -> Make:
    good = [_png(), _png(mode="P"), _png(kind="JPEG"), _png(kind="WEBP"), _png(kind="TIFF")]

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        images = [damaged(rng, rng.choice(good)) for _ in range(8)]
        pq.write_table(pa.table(_EYES | {"image_bytes": images}), folder / "x.parquet")

        def use() -> None:
            images = read_labelled_images(folder / "x.parquet")
            decode_images(images, (8, 8), cache_dir=folder / "cache", num_threads=1)

        return use

    return make


@functools.cache
def _faces(base: pathlib.Path) -> pathlib.Path:
    pose = np.tile(np.array([[0.0, 0, 0], [1, 40, 2]]), (3, 1))
    person = np.array(["a", "a", "b", "b", "c", "c"])
    points = np.random.default_rng(0).normal(size=(6, 5, 3))
    make_face_folder(base / "faces", np.eye(6, 5) + 0.1, person, pose, keypoints=points)
    return base / "faces"


def _face_folder(base: pathlib.Path) -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        shutil.copytree(_faces(base), folder / "faces")
        file = rng.choice(sorted((folder / "faces").iterdir()))
        good = file.read_bytes()
        whole = file.suffix == ".json" and rng.random() < 0.8
        file.write_bytes(damaged_json(rng, json.loads(good)) if whole else damaged(rng, good))

        def use() -> None:
            views = read_face_folder(folder / "faces", keypoints=True)
            for side in (views.front, views.video):
                rows = np.arange(len(side))
                side.take_features(rows)
                side.take_keypoints(rows)

        return use

    return make


@functools.cache
def _saved(base: pathlib.Path) -> pathlib.Path:
    tree = {"params": {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}, "step": jnp.int32(4)}
    with CheckpointManager(base / "checkpoints") as checkpoints:
        checkpoints.save(4, tree, metadata={"recipe": "toy", "history": [1, 2]}, score=0.5)
    return base / "checkpoints"


def _checkpoint(base: pathlib.Path) -> Make:
    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        shutil.copytree(_saved(base), folder / "checkpoints")
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        for file in rng.sample(files, rng.randint(1, 2)):
            if rng.random() < 0.2:
                file.unlink()
            else:
                file.write_bytes(damaged(rng, file.read_bytes()))

        def use() -> None:
            with CheckpointManager(folder / "checkpoints") as checkpoints:
                for step in checkpoints.all_steps:
                    checkpoints.metadata(step)
                    checkpoints.restore(checkpoints.shapes(step), step=step, partial=True)

        return use

    return make


def _run(base: pathlib.Path) -> Make:
    """What a run leaves beside its checkpoints, for the comparison and the page."""
    metrics = {"loss": 0.5, "f1": 0.9}
    entry = {"epoch": 1, "step": 8, "train": metrics, "val": metrics, "seconds": 1.0}
    entry |= {"hparams": {"learning_rate": 1e-3}, "examples_per_second": 100.0}
    best = {"epoch": 1, "step": 8} | metrics
    files = {
        "history": [entry, entry | {"epoch": 2, "step": 16}],
        "summary": {"best": best, "final": best, "test": {}, "selected_by": "f1"}
        | {"stopped_early": False, "seconds": 2.0, "num_params": 10},
        "config": {"recipe": "ocec", "steps": None, "loop": {"validate_every_steps": None}},
    }

    def make(rng: random.Random, folder: pathlib.Path) -> Callable[[], None]:
        for name in ("run", "other"):
            for file, good in files.items():
                _written(folder / name / f"{file}.json", json.dumps(good).encode())
        file = rng.choice(sorted(files))
        _written(folder / "run" / f"{file}.json", damaged_json(rng, files[file]))

        def use() -> None:
            write_run_page(folder / "run")
            as_json(compare_runs({name: folder / name for name in ("run", "other")}))

        return use

    return make


def _written(file: pathlib.Path, data: bytes) -> pathlib.Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def cases(
    base: pathlib.Path, folder: pathlib.Path, *, seed: int, numbers: range, only: str = ""
) -> Iterator[tuple[str, int, Callable[[], Any], pathlib.Path]]:
    """(target, number, what to run, its canary) of each case, the targets in turn.

    A case depends on its target's name, its number and the seed alone.
    """
    made = {name: make for name, make in targets(base).items() if only in name}
    for number in numbers:
        name = list(made)[number % len(made)]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rng = random.Random(f"{seed}/{name}/{number // len(made)}")
        yield name, number, made[name](rng, folder), folder / "canary"
