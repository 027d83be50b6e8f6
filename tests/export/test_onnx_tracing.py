"""Any function that JAX traces, as ONNX: what a network of somebody else may hold."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.export.onnx import check_onnx, onnx_model

pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 5, 6), np.float32)
ROWS = RNG.integers(0, 5, (8, 3), np.int32)
TABLE = RNG.standard_normal((5, 4), np.float32)


def difference(function, *, variables=None, **inputs):
    def outputs(variables, given):
        return {"y": function(variables, **given)}

    shapes = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in inputs.items()}
    model = onnx_model(outputs, variables or {}, shapes).SerializeToString()
    return check_onnx(model, lambda given: outputs(variables or {}, given), inputs)


FUNCTIONS = {
    "arithmetic": lambda x: (x + 2.0) * x - x / 3.0 - jnp.square(x) + x**3,
    "powers": lambda x: jnp.sqrt(jnp.abs(x)) + jnp.abs(x) ** 1.5 + jax.lax.rsqrt(1.0 + x * x),
    "exponentials": lambda x: jnp.expm1(x) + jnp.log1p(jnp.abs(x)) + jnp.exp(-x) + jnp.tanh(x),
    "waves": lambda x: jnp.sin(x) * jnp.cos(x) + jax.scipy.special.erf(x),
    "bounds": lambda x: jnp.clip(x, -0.5, 0.5) + jnp.maximum(x, 0.1) + jnp.minimum(x, 0.2),
    "choices": lambda x: jnp.where((x > 0) & ~(x >= 1) | (x < -1), x, -x) + (x != 0) * (x <= 0.3),
    "rounding": lambda x: jnp.floor(x) + jnp.ceil(x) + jnp.sign(x) + jnp.mod(jnp.abs(x), 0.7),
    "reductions": lambda x: x.sum(1) + x.mean(1) + x.max(1) - x.min(1) + jnp.prod(x, 1),
    "moments": lambda x: (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-3),
    "softmax": lambda x: jax.nn.softmax(x) + jax.nn.softmax(x, axis=1) + jax.nn.log_softmax(x),
    "activations": lambda x: jax.nn.relu(x) + jax.nn.silu(x) + jax.nn.gelu(x) + jax.nn.elu(x),
    "shapes": lambda x: x.reshape(x.shape[0], 3, 10).transpose(0, 2, 1).reshape(x.shape[0], -1),
    "slices": lambda x: x[:, 1:4, ::2] + x[:, :3, 3:] + x[:, ::-1][:, :3, :3],
    "parts": lambda x: sum(jnp.split(x, 3, axis=2)) + jnp.stack([x[..., 0], x[..., 1]], -1),
    "joins": lambda x: jnp.concatenate([x, jnp.zeros_like(x), x[:, :1]], axis=1),
    "padding": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3)), constant_values=0.5),
    "products": lambda x: jnp.einsum("bij,bkj->bik", x, x) @ x,
    "attention": lambda x: jax.nn.softmax(x @ x.swapaxes(1, 2) / 2.0) @ x,
    "sums along": lambda x: jnp.cumsum(x, 1) + jnp.cumsum(x, 2),
    "order": lambda x: jax.lax.top_k(x, 2)[0],
    "places": lambda x: jnp.argmax(x, -1) - jnp.argmin(x, -1),
    "repeats": lambda x: jnp.broadcast_to(x[:, :1], x.shape) + jnp.repeat(x[:, :1], 5, axis=1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_compute_what_jax_computes(name):
    assert difference(lambda _, x: FUNCTIONS[name](x), x=X) < 1e-6


def test_rows_are_looked_up_by_number():
    def rows(variables, i):
        return variables["table"][i]

    assert difference(rows, variables={"table": TABLE}, i=ROWS) == 0.0


def test_each_example_takes_its_own_row():
    def own(_, x, i):
        return jnp.take_along_axis(x, i[:, :1, None], axis=1)

    assert difference(own, x=X, i=ROWS) == 0.0


class Plain(nn.Module):
    """A network that knows nothing of this library."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), strides=2, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.Conv(8, (3, 3), feature_group_count=4, kernel_dilation=2)(x)
        x = nn.avg_pool(nn.gelu(x), (2, 2), strides=(1, 1), padding="SAME")
        x = nn.LayerNorm()(x.reshape(x.shape[0], -1, x.shape[-1]))
        x = nn.MultiHeadDotProductAttention(num_heads=2)(x, x)
        return nn.Dense(3)(x.mean(1))


def test_a_network_of_plain_flax_is_exported_with_its_norms_folded():
    import onnx

    images = RNG.standard_normal((8, 16, 12, 3), np.float32)
    variables = jax.jit(Plain().init)(jax.random.key(0), images)
    stats = jax.tree.map(lambda x: x + 0.3, variables["batch_stats"])
    variables = {"params": variables["params"], "batch_stats": stats}
    shapes = {"images": jax.ShapeDtypeStruct((16, 12, 3), np.float32)}

    def network(variables, inputs):
        return {"logits": Plain().apply(variables, inputs["images"])}

    model = onnx_model(network, variables, shapes)
    wanted = jax.jit(lambda inputs: network(variables, inputs))
    assert check_onnx(model.SerializeToString(), wanted, {"images": images}) < 2e-6
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    following = [node.op_type for node in model.graph.node if first.output[0] in node.input]
    assert following == ["Relu"]
    kernel = next(a for a in model.graph.initializer if a.name == first.input[1])
    assert onnx.numpy_helper.to_array(kernel).shape == (8, 3, 3, 3)


@pytest.mark.parametrize("pixels", [(12,), (5, 6, 4)])
def test_a_norm_after_a_convolution_of_any_number_of_axes_is_folded(pixels):
    class Signals(nn.Module):
        @nn.compact
        def __call__(self, x):
            norm = nn.BatchNorm(use_running_average=True)
            x = nn.Conv(6, (3,) * len(pixels), padding="VALID", feature_group_count=2)(norm(x))
            return nn.BatchNorm(use_running_average=True)(x)

    x = RNG.standard_normal((8, *pixels, 4), np.float32)
    drawn = jax.jit(Signals().init)(jax.random.key(0), x)
    variables = jax.tree.map(lambda v: v + 0.3, drawn)
    model = onnx_model(
        lambda v, given: {"y": Signals().apply(v, given["x"])},
        variables,
        {"x": jax.ShapeDtypeStruct(x.shape[1:], x.dtype)},
    )
    assert [node.op_type for node in model.graph.node][-2:] == ["Conv", "Transpose"]
    wanted = jax.jit(lambda given: {"y": Signals().apply(variables, given["x"])})
    assert check_onnx(model.SerializeToString(), wanted, {"x": x}) < 2e-6


def test_a_loop_is_refused_in_one_line():
    def loop(_, x):
        return jax.lax.scan(lambda carry, row: (carry + row, None), x[:, 0], x.swapaxes(0, 1))[0]

    with pytest.raises(ValueError, match="a loop or branch that has no rule for ONNX: 'scan'"):
        difference(loop, x=X)


def test_an_unknown_operation_is_named():
    with pytest.raises(ValueError, match="no rule for ONNX: 'sort'; write it in other"):
        difference(lambda _, x: jnp.sort(x, axis=1), x=X)
