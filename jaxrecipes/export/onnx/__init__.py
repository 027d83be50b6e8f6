"""ONNX by tracing: a JAX function in, a checked file out.

Read `tracing` first. `rules` has one rule per primitive of JAX (those on elements, products and
parts of arrays in `elementwise`, `products` and `indexing`), `layers` the library's own layers that
ONNX has an operator for; `tensors` keeps transpositions out of the file, `folding` merges nodes
into stored weights, `file` compares the result with JAX in onnxruntime.
"""

from jaxrecipes.export.onnx.file import check_onnx, save_onnx
from jaxrecipes.export.onnx.graph import MIN_OPSET
from jaxrecipes.export.onnx.tracing import onnx_model

__all__ = ["MIN_OPSET", "check_onnx", "onnx_model", "save_onnx"]
