"""Layers that Flax lacks or that must match PyTorch: NHWC, float32 parameters, rates as arrays."""

from jaxrecipes.backend import by_backend
from jaxrecipes.nn.activations import gelu, quick_gelu, silu
from jaxrecipes.nn.attention import EncoderLayer, SelfAttention, dot_product_attention, softmax
from jaxrecipes.nn.batch_norm import BatchNorm, batch_norm_act
from jaxrecipes.nn.conv import Conv, conv, conv_output_size, patchify
from jaxrecipes.nn.depthwise import DepthwiseConv, depthwise_conv
from jaxrecipes.nn.dropout import Dropout, DropPath, Rate, drop_path, dropout
from jaxrecipes.nn.layer_norm import LayerNorm, layer_norm
from jaxrecipes.nn.linear import Linear, linear
from jaxrecipes.nn.pooling import global_max, global_mean
from jaxrecipes.nn.remat import remat_blocks, run_block

__all__ = [
    "BatchNorm",
    "Conv",
    "DepthwiseConv",
    "DropPath",
    "Dropout",
    "EncoderLayer",
    "LayerNorm",
    "Linear",
    "Rate",
    "SelfAttention",
    "batch_norm_act",
    "by_backend",
    "conv",
    "conv_output_size",
    "depthwise_conv",
    "dot_product_attention",
    "drop_path",
    "dropout",
    "gelu",
    "global_max",
    "global_mean",
    "layer_norm",
    "linear",
    "patchify",
    "quick_gelu",
    "remat_blocks",
    "run_block",
    "silu",
    "softmax",
]
