"""The plan of a run, against what its arrays and its compiled step take."""

import collections
import json

import jax
import pytest
from toy_recipe import toy_arrays, toy_config, toy_recipe

from jaxrecipes.plan.devices import machine_of
from jaxrecipes.plan.figures import bounds_of, compile_step
from jaxrecipes.plan.kernels import Collective, Kernel, Work
from jaxrecipes.plan.page import write_plan_page
from jaxrecipes.plan.plan import plan
from jaxrecipes.plan.state_bytes import bytes_by_module, bytes_by_part
from jaxrecipes.plan.subject import Subject, abstract_state
from jaxrecipes.plan.suggest import suggestions
from jaxrecipes.plan.text import plan_text
from jaxrecipes.sharding import abstract_mesh
from jaxrecipes.train.state import create_state

SPEEDS = {"bandwidth_gbs": 1000.0, "bf16_tflops": 100.0, "float32_tflops": 50.0}


def subject_of(config):
    return Subject(config=config, recipe=toy_recipe(width=256), arrays=toy_arrays(), examples=1000)


@pytest.fixture(scope="module")
def subject():
    return subject_of(toy_config())


@pytest.fixture(scope="module")
def step(subject):
    return compile_step(subject, jax.devices()[:1], machine_of("cpu:1", **SPEEDS))


def test_bytes_of_the_state_are_those_of_its_arrays(subject):
    state = create_state(subject.recipe, jax.random.key(0))
    parts = bytes_by_part(bytes_by_module(abstract_state(subject.recipe), abstract_mesh(1, 1)))
    whole = {"params": "parameters", "ema_params": "averages"}
    for field, part in whole.items():
        leaves = jax.tree.leaves(getattr(state, field))
        assert parts[part] == sum(leaf.nbytes for leaf in leaves)
    assert parts["moments"] == 2 * parts["parameters"]
    assert sum(parts.values()) == sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def test_fsdp_splits_what_is_large(subject):
    state = abstract_state(toy_recipe(width=4096))
    whole, split = (bytes_by_module(state, abstract_mesh(count, 2)) for count in (1, 2))
    assert split["hidden/kernel"]["moments"] == whole["hidden/kernel"]["moments"] / 2
    assert split["out/bias"] == whole["out/bias"]


def test_arguments_are_the_state_and_the_data(subject, step):
    state = sum(
        bytes_by_part(bytes_by_module(abstract_state(subject.recipe), abstract_mesh(1, 1))).values()
    )
    _, data = subject.data_bytes(None)
    assert data == 1000 * (6 * 4 + 4)
    assert step.arguments == pytest.approx(state + data, rel=0.01)
    assert step.needed >= step.arguments + step.temporaries


def test_a_compiled_step_counts_products_and_kernels(step):
    hidden = 2 * 8 * 6 * 256
    assert hidden <= step.flops["f32"] <= 5 * hidden
    assert step.kernels > 10
    assert not step.collectives
    assert step.bounds.overlapping <= step.bounds.in_turn


def test_the_largest_batch_is_found_and_compiled(subject, step):
    machine = machine_of("cpu:1", memory_gb=2 * step.needed / 1e9, **SPEEDS)
    (found,) = suggestions(subject, step, machine, jax.devices()[:1], subject_of)
    size = found.flags["data.batch_size"]
    assert size > subject.batch_size
    assert found.step.batch_size == size
    assert found.step.fits(machine.device)
    assert found.step.needed > 0.85 * machine.device.usable_bytes


def test_nothing_is_suggested_for_devices_of_unknown_memory(subject, step):
    assert not suggestions(subject, step, machine_of("cpu:2"), jax.devices()[:1], subject_of)


@pytest.mark.parametrize(
    ("flops", "traffic", "collective", "launch_us", "by"),
    [
        (1e12, 1e6, 0, 0.0, "matmul"),
        (1e6, 1e9, 0, 0.0, "memory"),
        (1e6, 1e6, 0, 1e4, "launches"),
        (1e6, 1e6, 1e9, 0.0, "network"),
    ],
)
def test_the_bound_is_what_takes_longest(flops, traffic, collective, launch_us, by):
    machine = machine_of("h200:1x2", launch_us=launch_us, link_gbs=10.0, **SPEEDS)
    kernel = Kernel(collections.Counter({"bf16": flops}), traffic, 1)
    work = Work([kernel], [Collective("all-reduce", collective, 0, (), 1)], 0, 0)
    assert bounds_of(work, machine).by == by


def test_mfu_is_of_the_peak_of_16_bit_products():
    kernel = Kernel(collections.Counter({"bf16": 1e12}), 0.0, 3)
    bounds = bounds_of(Work([kernel], [], 0, 0), machine_of("h200", **SPEEDS))
    assert bounds.overlapping == pytest.approx(0.03)
    assert bounds.mfu == pytest.approx(1.0)


def test_a_step_without_known_speeds_has_no_bounds():
    assert bounds_of(Work([], [], 0, 0), machine_of("cpu:2")) is None


LARGE = {
    "ocec:seed": 1,
    "universal_face:seed": 50,
    "face3d:recommended": 50,
    "clip_iqa:scenario_large": 1500,
    "hand_pose:stage1": 1500,
}


@pytest.mark.parametrize("config", LARGE)
def test_every_recipe_is_planned_without_its_files(config):
    whole = plan(config, machine_of("h200:1x1"), compiled=False).parts()["parameters"]
    split = plan(
        config,
        machine_of("h200:1x8"),
        fields={"parallel.fsdp_devices": 8, "data.batch_size": 8},
        compiled=False,
    ).parts()["parameters"]
    assert whole > LARGE[config] * 1e6
    assert split < whole / 4


def test_a_batch_that_does_not_divide_is_said_with_one_that_does():
    fields = {"parallel.fsdp_devices": 8, "data.batch_size": 12}
    with pytest.raises(ValueError, match="choose 8 or 16"):
        plan("ocec", machine_of("h200:1x8"), fields=fields, compiled=False)


def test_stored_embeddings_cannot_be_planned():
    with pytest.raises(ValueError, match="only their file says"):
        plan("clip_iqa:image_embeddings", machine_of("h200"), compiled=False)


def test_a_plan_is_json_text_and_a_page(tmp_path):
    made = plan("ocec", machine_of("h200:1x8"), compiled=False)
    assert json.loads(json.dumps(made.as_json()))["state_bytes"] == made.parts()
    assert "parameters" in plan_text(made)
    page = write_plan_page(made, tmp_path / "plan.html").read_text()
    assert all(name.split("/")[0] in page for name in made.modules)
