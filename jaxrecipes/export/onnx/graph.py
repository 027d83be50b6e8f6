"""A small builder of ONNX graphs: nodes, stored arrays, and the checked model.

Why not use a converter: jax2onnx, the maintained one, requires orbax-checkpoint below 0.11.37,
while our checkpoints need 0.12.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.errors import install_command

MIN_OPSET = 17  # the first with LayerNormalization
_NOTES = ("rank", "count", "before", "ndim", "same_shape")


def import_onnx() -> Any:
    """The `onnx` package, which comes with an extra.

    Raises:
      ImportError: it is not installed; the message says how to install it.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            f"ONNX export needs the packages onnx and onnxruntime: {install_command('export')}"
        ) from error
    return onnx


@dataclasses.dataclass
class Node:
    """One operator of the graph.

    Attributes:
      op, inputs, outputs: as in ONNX.
      attributes: as in ONNX, plus notes that are not written to the file: `rank` of a product with
        stored weights, `count` of the numbers that a sum adds, the shape `before` a Reshape, and
        for an elementwise operator the number of axes `ndim` and whether the result has the
        `same_shape` as its largest operand.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class OnnxGraph:
    """Nodes in the order of computation, and stored arrays by name. Equal nodes and arrays are
    shared.

    Args:
      opset: version of the operators.

    Raises:
      ImportError: onnx is not installed.
      ValueError: the opset is too old, or newer than the installed onnx.
    """

    def __init__(self, *, opset: int = MIN_OPSET) -> None:
        self._onnx = import_onnx()
        newest = self._onnx.defs.onnx_opset_version()
        if not MIN_OPSET <= opset <= newest:
            raise ValueError(f"opset must be {MIN_OPSET} to {newest}, got {opset}")
        self.opset = opset
        self.nodes: list[Node] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._shared: dict[Any, Any] = {}
        self._count: dict[str, int] = {}
        self._producers: dict[str, Node] = {}

    def constant(self, value: Any, name: str = "") -> str:
        """A stored array: integers as int64, truth values as bool, all else as float32.

        Floats of higher precision are kept until the file is written, so that folded weights are
        rounded only once.
        """
        array = np.asarray(value)
        if array.dtype.kind in "iu":
            array = array.astype(np.int64)
        elif array.dtype.kind != "b" and array.dtype != np.float64:
            array = array.astype(np.float32)
        digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
        key = (array.dtype.str, array.shape, digest)
        if key not in self._shared:
            unique = self._unique(name or "constant")
            self._shared[key], self.arrays[unique] = unique, array
        return self._shared[key]

    def renew(self, name: str, array: np.ndarray) -> None:
        """Replaces the array stored under a name that only one node uses."""
        self._shared = {key: known for key, known in self._shared.items() if known != name}
        self.arrays[name] = array

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or a list of them if `outputs` > 1."""
        key = (op, inputs, outputs, repr(sorted(attributes.items())))
        if key not in self._shared:
            name = self._unique(op)
            names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
            node = Node(op, list(inputs), names, attributes)
            self.nodes.append(node)
            self._producers |= dict.fromkeys(names, node)
            self._shared[key] = names[0] if outputs == 1 else names
        return self._shared[key]

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Transposes a tensor; transposing a transposed tensor starts from the original."""
        producer = self._producers.get(x)
        if producer is not None and producer.op == "Transpose":
            before = producer.attributes["perm"]
            x, order = producer.inputs[0], [before[axis] for axis in order]
        if list(order) == sorted(order):
            return x
        return self.node("Transpose", x, perm=list(order))

    def reshape(self, x: str, before: Sequence[int], after: Sequence[int]) -> str:
        """Reshapes a tensor; -1 stands for the size that depends on the batch."""
        producer = self._producers.get(x)
        if producer is not None and producer.op == "Reshape":
            x, before = producer.inputs[0], producer.attributes["before"]
        if list(before) == list(after):
            return x
        shape = self.constant(np.asarray(after, np.int64))
        return self.node("Reshape", x, shape, before=list(before))

    def model(
        self,
        *,
        inputs: Mapping[str, tuple[np.dtype, Sequence[int | str]]],
        outputs: Mapping[str, tuple[str, np.dtype, Sequence[int | str]]],
        metadata: Mapping[str, str],
    ) -> Any:
        """The checked `ModelProto`.

        Args:
          inputs: name to dtype and shape; a string is a dynamic size.
          outputs: public name to tensor, dtype and shape.
          metadata: strings to store in the file.
        """
        helper = self._onnx.helper

        def described(name: str, dtype: np.dtype, shape: Sequence[int | str]) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            return helper.make_tensor_value_info(name, kind, shape)

        computed = {name for node in self.nodes for name in node.outputs}
        public: dict[str, str] = {}  # results that are renamed to an output
        copied = []
        for name, (tensor, _, _) in outputs.items():
            if tensor not in computed or tensor in public:
                copied.append(helper.make_node("Identity", [tensor], [name], name=name))
            else:
                public[tensor] = name

        def named(names: Sequence[str]) -> list[str]:
            return [public.get(name, name) for name in names]

        nodes = [
            helper.make_node(
                n.op,
                named(n.inputs),
                named(n.outputs),
                name=n.outputs[0],
                **{name: value for name, value in n.attributes.items() if name not in _NOTES},
            )
            for n in self.nodes
        ] + copied
        used = {name for node in nodes for name in node.input}
        stored = {name: array for name, array in self.arrays.items() if name in used}
        graph = helper.make_graph(
            nodes,
            "jaxrecipes",
            [described(name, *facts) for name, facts in inputs.items()],
            [described(name, *facts[1:]) for name, facts in outputs.items()],
            [self._onnx.numpy_helper.from_array(_stored(a), n) for n, a in stored.items()],
        )
        opset = helper.make_opsetid("", self.opset)
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


def _stored(array: np.ndarray) -> np.ndarray:
    # A copy, because a transposed view would be stored in memory order.
    return np.array(array, np.float32 if array.dtype.kind == "f" else array.dtype, order="C")
