"""ONNX by tracing: a JAX function in, a checked file out.

Read `tracing` first. `rules` has one rule per JAX primitive (implemented in `elementwise`,
`products` and `indexing`), `layers` handles layers of this library for which ONNX has an operator,
`tensors` keeps transpositions out of the file, `folding` merges nodes into stored weights, and
`file` compares the result with JAX in onnxruntime.
"""

from jaxrecipes.export.onnx.file import check_onnx, save_onnx
from jaxrecipes.export.onnx.graph import MIN_OPSET
from jaxrecipes.export.onnx.tracing import onnx_model

__all__ = ["MIN_OPSET", "check_onnx", "onnx_model", "save_onnx"]
