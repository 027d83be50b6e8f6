import dataclasses
import json

import pytest

from jaxrecipes.config import diff, from_dict, load_config, to_dict
from jaxrecipes.train.config import DataConfig, OptimConfig, RunConfig

CONFIG = """
from jaxrecipes.recipes.ocec import CONFIG
from jaxrecipes.train.config import OptimConfig

def get_config(preset="default"):
    return CONFIG({fields})
"""


def config_file(tmp_path, fields):
    path = tmp_path / "toy.py"
    path.write_text(CONFIG.format(fields=fields))
    return str(path)


def test_overrides_are_typed(tmp_path):
    spec = config_file(tmp_path, "epochs=4")
    flags = "--optim.learning_rate 2e-4 --optim.no_decay /bias$ --data.path eyes.parquet"
    flags += " --schedules dropout_rate 0.5 --ema.no-enabled"
    config = load_config(spec, flags.split())
    assert config.epochs == 4
    assert config.optim == OptimConfig(learning_rate=2e-4, no_decay=("/bias$",))
    assert config.data.path == "eyes.parquet"
    assert config.schedules == {"dropout_rate": "0.5"}
    assert not config.ema.enabled


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("epoch=4", r"unknown field of OcecRunConfig 'epoch'; did you mean 'epochs'\?"),
        ("optim=OptimConfig(lerning_rate=1.0)", "'learning_rate'"),
        ("epochs='ten'", "epochs is 'ten' .str.; it wants int"),
        (
            "optim=OptimConfig(clip_norm=-1.0)",
            "OptimConfig.clip_norm is -1.0; it wants clip_norm > 0",
        ),
    ],
)
def test_a_wrong_field_in_the_file_is_named(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        load_config(config_file(tmp_path, fields))


def test_sizes_are_written_in_any_of_the_usual_forms():
    for text in (["32x64"], ["32", "64"], ["32,64"]):
        assert load_config("configs/ocec.py", ["--data.image_size", *text]).data.image_size == (
            32,
            64,
        )


def test_a_config_survives_json():
    config = RunConfig(
        epochs=3,
        schedules={"dropout_rate": "0.1"},
        data=DataConfig(path="x"),
        optim=OptimConfig(frozen=("a",)),
    )
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_a_stored_field_that_is_not_known_is_named():
    values = to_dict(RunConfig()) | {"lr": 1.0}
    with pytest.raises(ValueError, match=r"does not fit RunConfig.*\(lr\)"):
        from_dict(RunConfig, values)


def test_the_difference_of_two_configs_names_the_fields():
    old = to_dict(RunConfig())
    new = to_dict(dataclasses.replace(RunConfig(), epochs=31, optim=OptimConfig(b1=0.8)))
    assert diff(old, new) == ["epochs: 30 -> 31", "optim.b1: 0.9 -> 0.8"]
    assert diff(old, old) == []


def test_types_are_checked_where_a_part_is_made():
    with pytest.raises(ValueError, match=r"OptimConfig\.frozen is 'head' .str.; it wants tuple"):
        OptimConfig(frozen="head")  # type: ignore[arg-type]
