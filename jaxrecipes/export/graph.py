"""A small builder of ONNX graphs from weights in this library's layout.

Why not a converter: jax2onnx, the one that is kept up, allows only orbax-checkpoint below 0.11.37,
while checkpoints here need 0.12. Networks are few and their layers fewer; written out, the graph
also comes out as one would draw it (BatchNorm folded, NCHW, no shape arithmetic).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

MIN_OPSET = 17  # the first with LayerNormalization


def import_onnx() -> Any:
    """The `onnx` package, which is an extra.

    Raises:
      ImportError: it is not installed; the message says how to install it.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "ONNX export needs the packages onnx and onnxruntime: pip install 'jaxrecipes[export]'"
        ) from error
    return onnx


class GraphBuilder:
    """Adds nodes one by one; every method takes and returns names of tensors.

    Images are `[B, C, H, W]`, tokens `[B, T, C]`, vectors `[B, C]`. Weights come as float numpy
    arrays with outputs on the last axis, and are stored as float32.
    """

    def __init__(self, *, opset: int = MIN_OPSET) -> None:
        """Starts an empty graph.

        Args:
          opset: version of the operators.

        Raises:
          ImportError: onnx is not installed.
          ValueError: the opset is too old, or newer than the installed onnx.
        """
        self._onnx = import_onnx()
        newest = self._onnx.defs.onnx_opset_version()
        if not MIN_OPSET <= opset <= newest:
            raise ValueError(f"opset must be {MIN_OPSET} to {newest}, got {opset}")
        self._opset = opset
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._shared: dict[tuple, str] = {}
        self._count: dict[str, int] = {}

    def constant(self, value: Any, name: str = "") -> str:
        """A stored array: integers as int64, all else as float32; unnamed ones are shared."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        # Without `ascontiguousarray` a transposed view would be stored in the memory's order.
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.str, array.shape, array.tobytes())
        if not name and key in self._shared:
            return self._shared[key]
        unique = self._unique(name or "constant")
        if not name:
            self._shared[key] = unique
        self._constants[unique] = self._onnx.numpy_helper.from_array(array, unique)
        return unique

    def node(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or a list of them if `outputs` > 1."""
        name = self._unique(op_type)
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self._nodes.append(
            self._onnx.helper.make_node(op_type, inputs, names, name=name, **attributes)
        )
        return names[0] if outputs == 1 else names

    def add(self, x: str, y: str) -> str:
        """`x + y`."""
        return self.node("Add", x, y)

    def multiply(self, x: str, y: str) -> str:
        """`x * y`."""
        return self.node("Mul", x, y)

    def relu(self, x: str) -> str:
        """`max(x, 0)`."""
        return self.node("Relu", x)

    def sigmoid(self, x: str) -> str:
        """`1 / (1 + exp(-x))`."""
        return self.node("Sigmoid", x)

    def silu(self, x: str) -> str:
        """`x * sigmoid(x)`."""
        return self.multiply(x, self.sigmoid(x))

    def gelu(self, x: str) -> str:
        """`x * Phi(x)` with the error function, in the form that runtimes fuse."""
        erf = self.node("Erf", self.node("Div", x, self.constant(math.sqrt(2.0))))
        return self.multiply(
            self.multiply(x, self.add(erf, self.constant(1.0))), self.constant(0.5)
        )

    def conv(
        self,
        x: str,
        kernel: np.ndarray,
        bias: np.ndarray,
        *,
        stride: int = 1,
        padding: int = 0,
        name: str,
    ) -> str:
        """Square convolution.

        Args:
          x: `[B, in, H, W]`.
          kernel: `[k, k, in, out]`, or `[in, out]` for 1x1, or `[k, k, C]` for depthwise.
          bias: `[out]`.
          stride: in pixels.
          padding: in pixels, on all four sides.
          name: prefix of the stored weights' names.

        Returns:
          `[B, out, H', W']`.
        """
        depthwise = kernel.ndim == 3
        if depthwise:
            kernel = kernel[:, :, None, :]
        elif kernel.ndim == 2:
            kernel = kernel[None, None]
        size, features = kernel.shape[0], kernel.shape[-1]
        return self.node(
            "Conv",
            x,
            self.constant(kernel.transpose(3, 2, 0, 1), f"{name}.weight"),
            self.constant(bias, f"{name}.bias"),
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[padding] * 4,
            group=features if depthwise else 1,
        )

    def linear(self, x: str, kernel: np.ndarray, bias: np.ndarray, *, name: str) -> str:
        """`x @ kernel + bias` over the last axis of tokens `[B, T, in]`; kernel `[in, out]`."""
        product = self.node("MatMul", x, self.constant(kernel, f"{name}.weight"))
        return self.add(product, self.constant(bias, f"{name}.bias"))

    def dense(self, x: str, kernel: np.ndarray, bias: np.ndarray, *, name: str) -> str:
        """`x @ kernel + bias` of vectors `[B, in]`; kernel `[in, out]`."""
        weights = self.constant(kernel, f"{name}.weight"), self.constant(bias, f"{name}.bias")
        return self.node("Gemm", x, *weights)

    def layer_norm(self, x: str, params: Mapping[str, np.ndarray], *, eps: float, name: str) -> str:
        """Layer normalisation over the last axis, with `scale` and `bias`."""
        scale = self.constant(params["scale"], f"{name}.weight")
        bias = self.constant(params["bias"], f"{name}.bias")
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps)

    def attention(
        self,
        x: str,
        params: Mapping[str, Mapping[str, np.ndarray]],
        *,
        tokens: int,
        channels: int,
        num_heads: int,
        name: str,
        mask: np.ndarray | None = None,
    ) -> str:
        """Self-attention, `[B, T, C] -> [B, T, C]`.

        Args:
          x: tokens.
          params: `in_proj` (queries, keys, values, in that order) and `out_proj`.
          tokens: T.
          channels: C.
          num_heads: must divide C.
          name: prefix of the stored weights' names.
          mask: `[T, T]`, added to the scores of each query (row) and key.
        """
        width = channels // num_heads
        kernel, bias = (params["in_proj"][part].copy() for part in ("kernel", "bias"))
        kernel[:, :channels] /= math.sqrt(width)  # the scale of the scores, on the queries
        bias[:channels] /= math.sqrt(width)
        packed = self.linear(x, kernel, bias, name=f"{name}.in_proj")
        parts = self.node("Split", packed, self.constant([channels] * 3), axis=-1, outputs=3)
        heads = [self.reshape(part, (0, tokens, num_heads, width)) for part in parts]
        query, value = (self.transpose(heads[i], (0, 2, 1, 3)) for i in (0, 2))
        key = self.transpose(heads[1], (0, 2, 3, 1))
        scores = self.node("MatMul", query, key)
        if mask is not None:
            scores = self.add(scores, self.constant(mask))
        probs = self.node("Softmax", scores, axis=-1)
        mixed = self.transpose(self.node("MatMul", probs, value), (0, 2, 1, 3))
        mixed = self.reshape(mixed, (0, tokens, channels))
        out = params["out_proj"]
        return self.linear(mixed, out["kernel"], out["bias"], name=f"{name}.out_proj")

    def global_mean(self, x: str) -> str:
        """Mean over pixels, `[B, C, H, W] -> [B, C, 1, 1]`."""
        return self.node("GlobalAveragePool", x)

    def global_max(self, x: str) -> str:
        """Maximum over pixels, `[B, C, H, W] -> [B, C, 1, 1]`."""
        return self.node("GlobalMaxPool", x)

    def average_pool(self, x: str, size: tuple[int, int]) -> str:
        """Means over cells of `size` (rows, columns) that do not overlap."""
        return self.node("AveragePool", x, kernel_shape=list(size), strides=list(size))

    def flatten(self, x: str) -> str:
        """All axes but the first as one."""
        return self.node("Flatten", x)

    def mean(self, x: str, axis: int) -> str:
        """Mean over one axis, which is dropped."""
        if self._opset < 18:  # where the axes became an input
            return self.node("ReduceMean", x, axes=[axis], keepdims=0)
        return self.node("ReduceMean", x, self.constant([axis]), keepdims=0)

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Axes in another order."""
        return self.node("Transpose", x, perm=list(order))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Another shape; 0 keeps the size of that axis."""
        return self.node("Reshape", x, self.constant(list(shape)))

    def model(
        self,
        *,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, tuple[str, Sequence[int | str]]],
        metadata: Mapping[str, str],
        integers: Collection[str] = (),
    ) -> Any:
        """The checked `ModelProto`.

        Args:
          inputs: name to shape of each input, float32; a text is a dynamic size.
          outputs: public name to `(tensor, shape)` of each float32 output.
          metadata: texts to store in the file.
          integers: inputs that are int32 instead.
        """
        helper, float32 = self._onnx.helper, self._onnx.TensorProto.FLOAT
        int32 = self._onnx.TensorProto.INT32
        nodes = list(self._nodes)
        for name, (tensor, _) in outputs.items():
            producer = next(node for node in nodes if tensor in node.output)
            if any(tensor in node.input for node in nodes):
                nodes.append(helper.make_node("Identity", [tensor], [name], name=name))
            else:
                producer.output[:] = [
                    name if output == tensor else output for output in producer.output
                ]
        graph = helper.make_graph(
            nodes,
            "jaxrecipes",
            [
                helper.make_tensor_value_info(n, int32 if n in integers else float32, shape)
                for n, shape in inputs.items()
            ],
            [helper.make_tensor_value_info(n, float32, shape) for n, (_, shape) in outputs.items()],
            list(self._constants.values()),
        )
        opset = helper.make_opsetid("", self._opset)
        # The oldest file format that has this opset, so that older runtimes read the file.
        model = helper.make_model(
            graph,
            opset_imports=[opset],
            producer_name="jaxrecipes",
            ir_version=helper.find_min_ir_version_for([opset]),
        )
        helper.set_model_props(model, dict(metadata))
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _unique(self, name: str) -> str:
        count = self._count.get(name, 0)
        self._count[name] = count + 1
        return f"{name}_{count}" if count else name
