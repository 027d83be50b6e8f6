import dataclasses
import json
import re

import pytest

from jaxrecipes.config import diff, from_dict, load_config, to_dict
from jaxrecipes.recipes.clip_iqa.config import FreezeConfig
from jaxrecipes.recipes.ocec.config import OcecRunConfig
from jaxrecipes.train.config import DataConfig, OptimConfig, RunConfig

CONFIG = """
from jaxrecipes.recipes.ocec import Config
from jaxrecipes.train.config import OptimConfig

def get_config(preset="default"):
    return Config({fields})
"""


def config_file(tmp_path, fields):
    path = tmp_path / "toy.py"
    path.write_text(CONFIG.format(fields=fields))
    return str(path)


def test_overrides_are_typed(tmp_path):
    spec = config_file(tmp_path, "epochs=4")
    flags = "--optim.learning_rate 2e-4 --optim.no_decay /bias$ --data.path eyes.parquet"
    flags += " --model.dropout delayed(0.5,start_step=epoch) --ema.no-enabled"
    config = load_config(spec, flags.split())
    assert config.epochs == 4
    assert config.optim == OptimConfig(learning_rate=2e-4, no_decay=("/bias$",))
    assert config.data.path == "eyes.parquet"
    assert config.model.dropout == "delayed(0.5,start_step=epoch)"
    assert not config.ema.enabled


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("epoch=4", r"unknown field of OcecRunConfig 'epoch'; did you mean 'epochs'\?"),
        ("optim=OptimConfig(lerning_rate=1.0)", "'learning_rate'"),
        ("epochs='ten'", "epochs is 'ten' .str.; expected int"),
        (
            "optim=OptimConfig(clip_norm=-1.0)",
            "OptimConfig.clip_norm is -1.0; expected clip_norm > 0",
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
        data=DataConfig(path="x"),
        optim=OptimConfig(frozen=("a",), weight_decay="linear(0, 0.1, steps=run)"),
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
    with pytest.raises(ValueError, match=r"OptimConfig\.frozen is 'head' .str.; expected tuple"):
        OptimConfig(frozen="head")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--optim.b1 2.0", "optim.b1 is 2.0; expected 0 <= b1 < 1"),
        ("--optim.b2 1.0", "optim.b2 is 1.0; expected 0 <= b2 < 1"),
        ("--optim.eps nan", "optim.eps is nan; expected a finite number, eps >= 0"),
        ("--optim.learning_rate inf", "optim.learning_rate is inf; expected a finite number"),
        ("--optim.weight_decay -1", "optim.weight_decay is -1.0; expected weight_decay >= 0"),
        ("--augment.flip_prob 5", "augment.flip_prob is 5.0; expected 0 <= flip_prob <= 1"),
        ("--model.dropout 2", "model.dropout is 2.0; expected 0 <= dropout < 1"),
        ("--plateau.factor -1", "plateau.factor is -1.0; expected 0 < factor < 1"),
        (
            "--plateau.cooldown_epochs -1",
            "cooldown_epochs is -1; expected cooldown_epochs >= 0",
        ),
        ("--optim.learning_rate_factors ^head -1", "optim.learning_rate_factors['^head'] is -1.0"),
        ("--data.std 1 0 1", "data.std[1] is 0.0; expected std[1] > 0"),
        ("--seed -1", "seed is -1; expected 0 <= seed < 4294967296"),
    ],
)
def test_flags_out_of_bounds_are_refused_by_name(flags, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_config("configs/ocec.py", flags.split())


def test_help_shows_the_bounds(capsys):
    with pytest.raises(SystemExit):
        load_config("configs/ocec.py", ["--help"])
    shown = capsys.readouterr().out
    for line in (
        "--optim.b1 0<=FLOAT<1|SCHEDULE",
        "--optim.clip_norm FLOAT>0|None|SCHEDULE",
        "--epochs INT>=1",
    ):
        assert line in shown


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.num_blocks", 0.5, "model.num_blocks is 0.5 (float); expected int"),
        ("loop.keep_latest", 2.7, "loop.keep_latest is 2.7 (float); expected int"),
        ("epochs", 2.0, "epochs is 2.0 (float); expected int"),
        ("epochs", True, "epochs is True (bool); expected int"),
        ("ema.enabled", -1, "ema.enabled is -1 (int); expected bool"),
        ("ema.enabled", "false", "ema.enabled is 'false' (str); expected bool"),
        (
            "model.token_mixer_grid",
            "24",
            "token_mixer_grid is '24' (str); expected tuple[int, int]",
        ),
        ("data.image_size", [24, 40, 3], "data.image_size is (24, 40, 3) (tuple); expected"),
        ("optim.b1", "0.9", "optim.b1 is '0.9' (str); expected float | a schedule"),
        ("optim.b1", 2.0, "optim.b1 is 2.0; expected 0 <= b1 < 1"),
        ("optim.eps", float("nan"), "optim.eps is nan; expected a finite number"),
        ("optim.frozen", "head", "optim.frozen is 'head' (str); expected tuple[str, ...]"),
        ("data.path", 5, "data.path is 5 (int); expected str | None"),
        ("optim.b1", "linea(0, 1)", "optim.b1 is no number and no schedule: "),
        ("optim.learning_rate_factors", ["b1"], "is ['b1'] (list); expected dict[str, float]"),
        ("model.arch_variant", "convnet", "did you mean 'convnext'"),
        ("optim", 3, "optim"),
    ],
)
def test_a_stored_value_is_not_turned_into_another(field, value, message):
    stored = to_dict(OcecRunConfig())
    *parents, last = field.split(".")
    part = stored
    for name in parents:
        part = part[name]
    part[last] = value
    with pytest.raises(ValueError, match=rf"does not fit OcecRunConfig: .*{re.escape(message)}"):
        from_dict(OcecRunConfig, stored)


def test_a_stored_float_may_be_whole_and_keys_may_be_numbers():
    stored = to_dict(RunConfig()) | {"optim": {"learning_rate": 1}}
    assert from_dict(RunConfig, stored).optim.learning_rate == 1.0
    plan = FreezeConfig(mode="partial", plan={1: 8, 4: 2})
    assert from_dict(FreezeConfig, to_dict(plan)) == plan


def test_flags_replace_parameter_groups_and_schedules_that_a_preset_has():
    flags = ["--optim.learning_rate_factors", "^head/", "3", "--epochs", "2"]
    config = load_config("configs/clip_iqa.py", flags)
    assert config.optim.learning_rate_factors == {"^head/": 3.0}
    scheduled = load_config("configs/hand_pose.py", ["--dropout.rate", "ramp(0, 0.2, end_step=9)"])
    assert scheduled.dropout.rate == "ramp(0, 0.2, end_step=9)"
    with pytest.raises(ValueError, match=r"expected pairs of STR and FLOAT>=0, got '\^head/'"):
        load_config("configs/clip_iqa.py", flags[:2])


def test_help_says_what_changes_without_a_compile(capsys):
    with pytest.raises(SystemExit):
        load_config("configs/ocec.py", ["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Weight decay of all parameters that no_decay does not match. Changes without" in shown
    assert "Passes over the training data in total (including those before a run was" in shown


@pytest.mark.parametrize("said", [["--ema.enabled", "False"], ["--ema.enabled=false"]])
def test_a_switch_takes_its_value_as_a_config_file_would_say_it(said):
    config = load_config("configs/ocec.py")
    off = load_config("configs/ocec.py", [*said, "--epochs", "3"])
    assert (config.ema.enabled, off.ema.enabled, off.epochs) == (True, False, 3)
    assert load_config("configs/ocec.py", ["--ema.enabled", "True"]) == config


def test_a_switch_with_another_value_is_refused():
    with pytest.raises(ValueError, match=r"--ema.enabled is 'no'; expected True or False"):
        load_config("configs/ocec.py", ["--ema.enabled=no"])
