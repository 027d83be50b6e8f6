"""Pose encoders of CLIP's phrases in an ONNX graph: a table of codes, by the phrase of the pose."""

from collections.abc import Callable, Mapping

import numpy as np

from jaxrecipes.export.graph import GraphBuilder
from jaxrecipes.models.pose_text import GAZE_EDGES, TURN_EDGES, UPRIGHT

Tree = Mapping[str, np.ndarray]
CodeLookup = Callable[..., str]
_INT64 = 7  # ONNX's number of the type


def code_lookup(graph: GraphBuilder) -> CodeLookup:
    """`lookup(table, hidden, out, name=...)`: the codes `[batch, C]` of the input `pose`.

    A code is `out(relu(hidden(row)))` of the table's row for the pose's phrase. In evaluation there
    are as many codes as phrases: these are what is stored.
    """
    turn, gaze, tilt = graph.node("Split", "pose", graph.constant([1, 1, 1]), axis=-1, outputs=3)
    last = graph.constant([-1])

    def bin_of(angle: str, edges: tuple[float, ...]) -> str:
        passed = graph.node("GreaterOrEqual", angle, graph.constant(np.array(edges)))
        return graph.node("ReduceSum", graph.node("Cast", passed, to=_INT64), last, keepdims=0)

    upright = graph.node("Less", graph.node("Abs", tilt), graph.constant(UPRIGHT))
    side = graph.node(
        "Where",
        graph.node("Greater", tilt, graph.constant(0.0)),
        graph.constant(1),
        graph.constant(2),
    )
    side = graph.node("Squeeze", graph.node("Where", upright, graph.constant(0), side), last)
    index = graph.add(
        graph.multiply(bin_of(turn, TURN_EDGES), graph.constant(9)),
        graph.add(graph.multiply(bin_of(gaze, GAZE_EDGES), graph.constant(3)), side),
    )

    def lookup(table: np.ndarray, hidden: Tree, out: Tree, *, name: str) -> str:
        codes = np.maximum(table @ hidden["kernel"] + hidden["bias"], 0.0)
        codes = codes @ out["kernel"] + out["bias"]
        return graph.node("Gather", graph.constant(codes, f"{name}.codes"), index, axis=0)

    return lookup
