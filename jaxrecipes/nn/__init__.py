"""Layers that Flax lacks or that must match PyTorch: NHWC, float32 parameters, rates as arrays."""

from jaxrecipes.backend import by_backend
from jaxrecipes.nn.activations import gelu, quick_gelu, silu
from jaxrecipes.nn.attention import EncoderLayer, SelfAttention
from jaxrecipes.nn.attention_forms import dot_product_attention
from jaxrecipes.nn.batch_norm import BatchNorm, batch_norm_act
from jaxrecipes.nn.bicubic import bicubic_matrix
from jaxrecipes.nn.conv import Conv, conv, conv_output_size, patchify
from jaxrecipes.nn.depthwise import DepthwiseConv, depthwise_conv
from jaxrecipes.nn.dropout import Dropout, DropPath, Rate, drop_path, dropout
from jaxrecipes.nn.embedding import embed
from jaxrecipes.nn.layer_norm import LayerNorm, layer_norm
from jaxrecipes.nn.linear import Linear, linear
from jaxrecipes.nn.pooling import global_max, global_mean
from jaxrecipes.nn.remat import remat_blocks, run_block
from jaxrecipes.nn.single_key_attention import InertLinear, SingleKeyAttention
from jaxrecipes.nn.softmax import softmax

__all__ = [
    "BatchNorm",
    "Conv",
    "DepthwiseConv",
    "DropPath",
    "Dropout",
    "EncoderLayer",
    "InertLinear",
    "LayerNorm",
    "Linear",
    "Rate",
    "SelfAttention",
    "SingleKeyAttention",
    "batch_norm_act",
    "bicubic_matrix",
    "by_backend",
    "conv",
    "conv_output_size",
    "depthwise_conv",
    "dot_product_attention",
    "drop_path",
    "dropout",
    "embed",
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
