"""Simplifies a graph: scales and shifts before or after a product with stored weights are merged
into the weights.

So a BatchNorm in evaluation becomes part of its convolution, a layer scale part of its matrix, and
two consecutive matrices become one. Merging is done in float64, so the merged weights are rounded
only once, when they are stored.
"""

import collections
from collections.abc import Collection

import numpy as np

from jaxrecipes.export.onnx.graph import Node, OnnxGraph

_NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}
_PRODUCTS = ("Conv", "MatMul")


def fold(graph: OnnxGraph, *, outputs: Collection[str]) -> None:
    """Merges nodes of the graph in place; the tensors `outputs` keep their names."""
    _Folding(graph, outputs).run()


class _Folding:
    """The graph with an index of the producer and the users of each tensor.

    A MatMul with stored weights may have its bias as a third input here, until `_spelt_out`.
    """

    def __init__(self, graph: OnnxGraph, outputs: Collection[str]):
        self._graph, self._outputs = graph, frozenset(outputs)
        self._producers: dict[str, Node] = {}
        self._uses: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        self._drop_identities()
        self._drop_unused()
        products = [node for node in self._graph.nodes if self._is_product(node)]
        for product in products:
            while self._absorb_next(product) or self._absorb_before(product):
                pass
        for product in products:
            while self._absorb_product_before(product):
                pass
        for node in list(self._graph.nodes):
            self._as_mean(node)
            self._as_softmax(node)
        self._drop_unused()
        self._graph.nodes[:] = [
            part for node in self._graph.nodes for part in self._spelt_out(node)
        ]

    def _drop_identities(self) -> None:
        """Removes products with 1, sums with 0, and reshapes that are undone."""
        same: dict[str, str] = {}
        reshapes: dict[str, Node] = {}
        for node in self._graph.nodes:
            node.inputs[:] = [same.get(name, name) for name in node.inputs]
            source = self._kept_by(node)
            if node.op == "Reshape":
                if (before := reshapes.get(node.inputs[0])) is not None:
                    node.inputs[0] = before.inputs[0]
                    node.attributes["before"] = before.attributes["before"]
                reshapes[node.outputs[0]] = node
                if node.attributes["before"] == self._graph.arrays[node.inputs[1]].tolist():
                    source = node.inputs[0]
            if source is not None and not self._outputs.intersection(node.outputs):
                same[node.outputs[0]] = source

    def _kept_by(self, node: Node) -> str | None:
        """The operand that a sum or product returns unchanged."""
        neutral = _NEUTRAL.get(node.op)
        if neutral is None or not node.attributes["same_shape"]:
            return None
        first, second = node.inputs
        pairs = [(first, second)] + ([(second, first)] if node.op in ("Add", "Mul") else [])
        for source, other in pairs:
            array = self._graph.arrays.get(other)
            if array is not None and source not in self._graph.arrays and np.all(array == neutral):
                return source
        return None

    def _drop_unused(self) -> None:
        wanted = set(self._outputs)
        kept = []
        for node in reversed(self._graph.nodes):
            if wanted.intersection(node.outputs):
                kept.append(node)
                wanted.update(node.inputs)
        self._graph.nodes[:] = kept[::-1]
        self._producers = {name: node for node in self._graph.nodes for name in node.outputs}
        self._uses = collections.Counter(n for node in self._graph.nodes for n in node.inputs)
        self._uses.update(self._outputs)

    def _is_product(self, node: Node) -> bool:
        """Whether a node is a product with stored weights, and a stored bias if it has one."""
        stored = all(name in self._graph.arrays for name in node.inputs[1:])
        return node.op in _PRODUCTS and "rank" in node.attributes and stored

    def _absorb_next(self, product: Node) -> bool:
        """Merges `product(x) * factor + shift`, the factor and the shift one at a time."""
        (result,) = product.outputs
        if self._uses[result] != 1 or result in self._outputs:
            return False
        node = next(node for node in self._graph.nodes if result in node.inputs)
        found = self._affine(node, result, product)
        if found is None:
            return False
        factor, shift = found
        kernel, bias = self._weights(product)
        if np.any(factor != 1.0):
            ones = (1,) * (kernel.ndim - 1)
            kernel = kernel * (factor.reshape(-1, *ones) if product.op == "Conv" else factor)
        self._store(product, kernel, bias * factor + shift)
        self._replace(node, product)
        return True

    def _absorb_before(self, product: Node) -> bool:
        """Merges `product(x * factor + shift)`, the factor and the shift one at a time."""
        node = self._producers.get(product.inputs[0])
        if node is None or self._uses[product.inputs[0]] != 1:
            return False
        source = next((n for n in node.inputs if n not in self._graph.arrays), None)
        found = None if source is None else self._affine(node, source, product)
        if source is None or found is None:
            return False
        factor, shift = found
        kernel, bias = self._weights(product)
        if product.op == "MatMul":
            bias = bias + np.broadcast_to(shift, kernel.shape[:1]) @ kernel
            kernel = kernel * factor.reshape(-1, 1)
        else:
            group = product.attributes.get("group", 1)
            if np.any(shift) and any(product.attributes.get("pads", ())):
                return False  # because the border is padded with zeros after the shift
            channels = kernel.shape[1] * group
            spread = [
                np.broadcast_to(part, (channels,)).reshape(group, 1, -1) for part in (factor, shift)
            ]
            grouped = kernel.reshape(group, -1, kernel.shape[1], *kernel.shape[2:])
            pixels = tuple(range(3, grouped.ndim))
            bias = bias + (grouped.sum(pixels) * spread[1]).sum(2).ravel()
            kernel = (grouped * np.expand_dims(spread[0], pixels)).reshape(kernel.shape)
        self._store(product, kernel, bias)
        product.inputs[0] = source
        self._graph.nodes.remove(node)
        return True

    def _absorb_product_before(self, product: Node) -> bool:
        """Merges two consecutive matrices if that is less work; others may use the first, too."""
        source = product.inputs[0]
        before = self._producers.get(source)
        if before is None or not (before.op == product.op == "MatMul" and self._is_product(before)):
            return False
        first, second = (self._graph.arrays[node.inputs[1]] for node in (before, product))
        saved = second.size + (first.size if self._uses[source] == 1 else 0)
        if first.shape[0] * second.shape[1] > saved:
            return False
        (first, bias), (second, own) = self._weights(before), self._weights(product)
        self._store(product, np.matmul(first, second, dtype=np.float64), bias @ second + own)
        product.inputs[0] = before.inputs[0]
        self._uses[source] -= 1
        self._uses[before.inputs[0]] += 1
        return True

    def _as_mean(self, node: Node) -> None:
        """Turns a sum of N numbers that is divided by N into a mean."""
        summed = next((self._producers.get(name) for name in node.inputs), None)
        if summed is None or summed.op != "ReduceSum" or self._uses[summed.outputs[0]] != 1:
            return
        found, count = self._affine(node, summed.outputs[0]), summed.attributes["count"]
        if found is None or count is None or np.any(found[1]):
            return
        if not np.isclose(found[0].item() * count, 1.0, rtol=1e-6):
            return
        summed.op = "ReduceMean"
        if self._graph.opset < 18:  # where the axes became an input
            axes = self._graph.arrays[summed.inputs.pop()]
            summed.attributes["axes"] = axes.tolist()
        self._replace(node, summed)

    def _as_softmax(self, node: Node) -> None:
        """Turns `exp(x - max(x)) / sum(exp(x - max(x)))` over the last axis, as `jax.nn.softmax` is
        traced, into Softmax.
        """

        def made(name: str, op: str) -> Node | None:
            node = self._producers.get(name)
            return node if node is not None and node.op == op else None

        def before_reshape(name: str) -> str:
            node = made(name, "Reshape")
            return name if node is None else node.inputs[0]

        if node.op != "Div" or (powers := made(node.inputs[0], "Exp")) is None:
            return
        summed = made(before_reshape(node.inputs[1]), "ReduceSum")
        centred = made(powers.inputs[0], "Sub")
        if summed is None or centred is None or summed.inputs[0] != powers.outputs[0]:
            return
        highest = before_reshape(centred.inputs[1])
        if (bounded := made(highest, "Max")) is not None:  # by -inf
            highest = next(n for n in bounded.inputs if n not in self._graph.arrays)
        largest = made(highest, "ReduceMax")
        last = node.attributes["ndim"] - 1
        over = [
            self._graph.arrays[n.inputs[1]].tolist() if len(n.inputs) > 1 else n.attributes["axes"]
            for n in (summed, largest)
            if n is not None
        ]
        if over == [[last], [last]] and largest and largest.inputs[0] == centred.inputs[0]:
            node.op, node.inputs, node.attributes = "Softmax", [centred.inputs[0]], {"axis": -1}

    def _affine(
        self, node: Node, source: str, product: Node | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """`(factor, shift)` of a node that scales or shifts `source` by a stored number, or by one
        per channel of a product's input or result; None for any other node.
        """
        if node.op not in _NEUTRAL or len(set(node.inputs)) != 2:
            return None
        rank = 0 if product is None else product.attributes["rank"]
        axis = rank - 1 if product is None or product.op == "MatMul" else 1
        other = next(name for name in node.inputs if name != source)
        array = self._graph.arrays.get(other)
        first = node.inputs[0] == source
        if array is None or array.ndim > rank or (node.op == "Div" and not first):
            return None
        sizes = [1] * (rank - array.ndim) + list(array.shape)
        if any(size != 1 for at, size in enumerate(sizes) if at != axis):
            return None
        values = array.astype(np.float64).reshape(-1)
        one, zero = np.ones_like(values), np.zeros_like(values)
        if node.op == "Add":
            return one, values
        if node.op == "Sub":
            return (one, -values) if first else (-one, values)
        return (values if node.op == "Mul" else 1.0 / values), zero

    def _weights(self, product: Node) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias; the bias is in float64."""
        kernel = self._graph.arrays[product.inputs[1]]
        features = kernel.shape[0] if product.op == "Conv" else kernel.shape[1]
        if len(product.inputs) > 2:
            return kernel, self._graph.arrays[product.inputs[2]].astype(np.float64)
        return kernel, np.zeros(features)

    def _store(self, product: Node, kernel: np.ndarray, bias: np.ndarray) -> None:
        name, *biases = product.inputs[1:]
        names = [self._changed(name, kernel)]
        if biases:
            names.append(self._changed(biases[0], bias))
        elif np.any(bias):
            names.append(self._graph.constant(bias, f"{name.removesuffix('.kernel')}.bias"))
            self._uses[names[-1]] += 1
        product.inputs[1:] = names

    def _changed(self, name: str, array: np.ndarray) -> str:
        """Stores changed weights; returns the name under which the product finds them from now
        on.
        """
        if self._uses[name] == 1:
            self._graph.renew(name, array)
            return name
        self._uses[name] -= 1
        changed = self._graph.constant(array, name)
        self._uses[changed] += 1
        return changed

    def _replace(self, node: Node, product: Node) -> None:
        """`product` takes the place of `node`, its only user."""
        product.outputs[:] = node.outputs
        self._producers[node.outputs[0]] = product
        self._graph.nodes.remove(node)

    def _spelt_out(self, node: Node) -> list[Node]:
        if node.op != "MatMul" or len(node.inputs) < 3:
            return [node]
        if node.attributes["rank"] == 2:
            return [Node("Gemm", node.inputs, node.outputs, {})]
        product = f"{node.outputs[0]}.product"
        bias = node.inputs[2]
        return [
            Node("MatMul", node.inputs[:2], [product], {}),
            Node("Add", [product, bias], node.outputs, {}),
        ]
