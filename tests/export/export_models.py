"""Tiny OCEC networks with random weights and statistics, and nothing compiled to make them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxrecipes.export.onnx import onnx_model
from jaxrecipes.recipes.ocec.config import EyeDataConfig, LossConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.deploy import predict_fn
from jaxrecipes.recipes.ocec.network import Ocec, OcecConfig

IMAGE_SIZE = (16, 24)


def tiny_config(arch: str = "baseline", head: str = "avg", **fields) -> OcecConfig:
    grid = (2, 3) if arch != "convnext" else (2, 1)
    fields = {"num_blocks": 3, "token_mixer_grid": grid, "token_mixer_layers": 1} | fields
    return OcecConfig(base_channels=8, arch_variant=arch, head_variant=head, **fields)


@functools.cache
def random_weights(config: OcecConfig, image_size: tuple[int, int] = IMAGE_SIZE, seed: int = 0):
    """`(params, batch_stats)` in which no factor is 1 and no shift is 0."""
    images = jnp.zeros((2, *image_size, 3))
    shapes = jax.eval_shape(
        lambda key: Ocec(config).init(key, images, train=False), jax.random.key(0)
    )
    rng = np.random.default_rng(seed)

    def draw(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        if path[-1] in ("scale", "gamma", "var"):
            return rng.uniform(0.5, 1.5, shape)
        if path[-1] == "kernel":
            fan_in = np.prod(shape[:2]) if "depthwise" in path else np.prod(shape[:-1])
            return rng.standard_normal(shape) / np.sqrt(fan_in)
        return 0.1 * rng.standard_normal(shape)

    leaves = {
        path: jnp.asarray(draw(path, leaf.shape), leaf.dtype)
        for path, leaf in flatten_dict(shapes).items()
    }
    variables = unflatten_dict(leaves)
    return variables["params"], variables.get("batch_stats", {})


def run_config(
    model: OcecConfig, image_size=IMAGE_SIZE, *, focal=False, mean=(0.0,) * 3, std=(1.0,) * 3
) -> OcecRunConfig:
    data = EyeDataConfig(image_size=image_size, mean=mean, std=std)
    return OcecRunConfig(model=model, data=data, loss=LossConfig(kind="focal" if focal else "bce"))


def as_variables(weights):
    return dict(zip(("params", "batch_stats"), weights, strict=True))


def predict(run: OcecRunConfig, weights):
    """Images to prob_open, arrays both."""
    function, variables = predict_fn(run), as_variables(weights)
    return jax.jit(lambda images: function(variables, {"images": images})["prob_open"])


def ocec_onnx(run: OcecRunConfig, weights, **options):
    images = {"images": jax.ShapeDtypeStruct((3, *run.data.image_size), np.float32)}
    return onnx_model(predict_fn(run), as_variables(weights), images, **options)


def compiled_fast(predict_fn, images: np.ndarray):
    """The function without XLA's costly optimisations, which a single call does not repay."""
    lowered = jax.jit(predict_fn).lower(images)
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0})


def random_images(n: int = 8, image_size: tuple[int, int] = IMAGE_SIZE) -> np.ndarray:
    return np.random.default_rng(1).random((n, 3, *image_size), np.float32)
