"""The compiled OCEC program: what its speed on CPU rests on, as far as it is deterministic."""

import re

import jax
import numpy as np
import pytest

from jaxrecipes.recipes.ocec.config import EyeDataConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.examples import Eyes
from jaxrecipes.recipes.ocec.network import OcecConfig
from jaxrecipes.recipes.ocec.recipe import make_recipe
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import LoopConfig
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.run_data import make_run_data

STEPS_PER_CALL = 8
SMALL = OcecRunConfig(
    model=OcecConfig(base_channels=16, num_blocks=4),
    data=EyeDataConfig(image_size=(24, 40), batch_size=64),
    loop=LoopConfig(steps_per_call=STEPS_PER_CALL),
)
FLAGSHIP = OcecRunConfig(
    model=OcecConfig(base_channels=64, num_blocks=8),
    data=EyeDataConfig(image_size=(32, 64), batch_size=256),
    loop=LoopConfig(steps_per_call=STEPS_PER_CALL),
)


class Trainer:
    """The recipe on 512 random images, run in calls of any number of steps."""

    def __init__(self, config):
        self.config = config
        rng = np.random.default_rng(0)
        arrays = {
            "image": rng.integers(0, 256, (512, *config.data.image_size, 3), dtype=np.uint8),
            "label": rng.integers(0, 2, 512).astype(np.int32),
        }
        train = Eyes(arrays, [""] * 512, [""] * 512)
        mesh = make_mesh(1)
        self.data = make_run_data({"train": arrays}, self.config, mesh)
        self.recipe = make_recipe(
            self.config, DataInfo(steps_per_epoch=self.data.steps_per_epoch, train=train)
        )
        self.key = jax.random.key(0)
        self.programs = Programs(self.recipe, self.data, steps_per_call=STEPS_PER_CALL, mesh=mesh)
        self.program = self.programs.train

    def start(self):
        state = self.programs.initial_state(self.recipe, self.key)
        return state, self.program.zeros(self.programs.sum_shapes)

    def arguments(self, step, count):
        return self.data.train.source, self.data.train.training_items(step, count), np.int32(count)

    def run(self, counts):
        state, sums = self.start()
        step = 0
        for count in counts:
            state, sums, log = self.program(state, sums, *self.arguments(step, count))
            step += count
        state = state.replace(key=jax.random.key_data(state.key))
        return jax.device_get((state, sums, log))

    def compiled(self):
        return self.program.compiled(*self.start(), *self.arguments(0, STEPS_PER_CALL))


@pytest.fixture(scope="module")
def trainer():
    return Trainer(SMALL)


@pytest.fixture(scope="module", params=["small", "flagship"])
def compiled(request):
    """A compiled program and the bytes of temporaries that it may take.

    They take 17 and 653 MB. Much more would mean that the backward pass keeps what it should
    compute again, or that the loop over steps keeps temporaries of more than one.
    """
    if jax.default_backend() != "cpu":
        pytest.skip("the formulation of other backends is their own")
    if request.param == "small":
        return request.getfixturevalue("trainer").compiled(), 20e6
    return Trainer(FLAGSHIP).compiled(), 680e6


def test_steps_in_other_calls_give_the_same_numbers_from_one_compilation(trainer):
    full_call, partial_calls = trainer.run([8]), trainer.run([3, 1, 4])
    for a, b in zip(jax.tree.leaves(full_call), jax.tree.leaves(partial_calls), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(partial_calls[0].step) == 8
    assert trainer.program.num_compilations == 1


def test_the_cpu_program_has_no_convolution(compiled):
    """XLA runs a grouped convolution, and any convolution inside a loop, without a fast kernel."""
    program, _ = compiled
    assert not re.findall(r"\S+ = \S+ convolution\(", program.as_text())


def test_temporary_memory_stays_small(compiled):
    program, max_temp_bytes = compiled
    assert program.memory_analysis().temp_size_in_bytes < max_temp_bytes
