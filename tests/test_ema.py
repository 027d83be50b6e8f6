import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.ema import ema_decay_at, ema_init, ema_update


@pytest.mark.parametrize("decay", [0.9, 0.99, 0.999])
def test_shadow_equals_the_golden_trajectory(golden, decay):
    arrays = golden("torch_semantics/ema")
    rows = {j: arrays[f"params/{j}"] for j in "01"}
    update = jax.jit(ema_update)
    shadow = ema_init({j: row[0] for j, row in rows.items()})
    for t in range(1, 41):
        shadow = update(shadow, {j: row[t] for j, row in rows.items()}, jnp.float32(decay))
        for j in rows:
            expected = arrays[f"decay_{decay}/shadow/{j}"][t]
            np.testing.assert_allclose(shadow[j], expected, rtol=1e-6, atol=3e-7)


def test_shadows_are_float32_copies_and_counters_are_copied():
    params = {"kernel": jnp.ones(3, jnp.bfloat16), "bias": jnp.ones(2), "count": jnp.int32(4)}
    shadow = ema_init(params)
    assert {k: str(v.dtype) for k, v in shadow.items()} == {
        "kernel": "float32",
        "bias": "float32",
        "count": "int32",
    }
    assert shadow["bias"].unsafe_buffer_pointer() != params["bias"].unsafe_buffer_pointer()
    updated = ema_update(shadow, params | {"count": jnp.int32(7)}, 0.5)
    assert int(updated["count"]) == 7
    assert updated["count"].dtype == jnp.int32


def test_a_bfloat16_parameter_moves_its_shadow_at_decay_0_999():
    shadow = ema_init({"w": jnp.zeros((), jnp.bfloat16)})
    shadow = ema_update(shadow, {"w": jnp.ones((), jnp.bfloat16)}, 0.999)
    assert float(shadow["w"]) == pytest.approx(1e-3, rel=1e-4)


def test_warmup_follows_its_formula_and_is_off_when_off():
    decays = [float(ema_decay_at(0.999, t, warmup=True)) for t in (0, 9, 10**6)]
    assert decays == pytest.approx([0.1, 10 / 19, 0.999])
    assert float(ema_decay_at(0.999, 0, warmup=False)) == pytest.approx(0.999)


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 1), st.floats(-10, 10), st.floats(-10, 10))
def test_shadow_stays_between_the_old_and_the_new(decay, old, new):
    shadow = float(ema_update({"w": jnp.float32(old)}, {"w": jnp.float32(new)}, decay)["w"])
    assert min(old, new) - 1e-5 <= shadow <= max(old, new) + 1e-5
