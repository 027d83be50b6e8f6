"""hand_pose as an ONNX graph: `patch` `[batch, 3, S, S]` in [0, 1] and its camera, `patch_bbox`
`[batch, 4]`, `focal` and `princpt` `[batch, 2]`, to `pose`, `betas` and `trans`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.export.dinov2 import dinov2_norm, dinov2_states
from jaxrecipes.export.folding import fold_after, weights64
from jaxrecipes.export.graph import MIN_OPSET, GraphBuilder
from jaxrecipes.export.token_decoder import decoder_layers
from jaxrecipes.models.hand_decoder import bin_centres
from jaxrecipes.models.hand_joints import SHAPE_SIZE
from jaxrecipes.models.hand_pose_config import HandPoseConfig
from jaxrecipes.models.perspective_embedding import DIM_HEAD, NUM_HEADS, cell_centres

Tree = Mapping[str, Any]


def hand_pose_graph(
    config: HandPoseConfig,
    params: Tree,
    batch_stats: Tree,
    *,
    opset: int = MIN_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """The `ModelProto` of a stage 1 network in evaluation.

    The camera's inputs are there, too, when the network is told nothing of perspective.

    Args:
      config: the architecture.
      params: parameters of the network.
      batch_stats: running statistics of the infusion and of a "dense" perspective.
      opset: version of the operators.
      metadata: texts to store in the file.

    Raises:
      ImportError: onnx is not installed.
      ValueError: the opset does not do, or a network of stage 2.
    """
    if config.temporal is not None:
        raise ValueError("the graph is of networks that see one frame; this one has a refiner")
    graph = GraphBuilder(opset=opset)
    weights, stats = weights64(params), weights64(batch_stats)
    features = _backbone(graph, config, weights["backbone"], stats.get("backbone", {}))
    if config.persp_info_embed.type != "none":
        features = _perspective(
            graph,
            config,
            features,
            weights["persp_info_embedder"],
            stats.get("persp_info_embedder", {}),
        )
    pose, betas, trans = _heads(
        graph, config, _token(graph, config, features, weights["handec"]), weights["handec"]
    )
    return graph.model(
        inputs={
            "patch": ("batch", 3, config.img_size, config.img_size),
            "patch_bbox": ("batch", 4),
            "focal": ("batch", 2),
            "princpt": ("batch", 2),
        },
        outputs={
            "pose": (pose, ("batch", config.pose_size)),
            "betas": (betas, ("batch", SHAPE_SIZE)),
            "trans": (trans, ("batch", 3)),
        },
        metadata=metadata or {},
    )


def _backbone(graph: GraphBuilder, config: HandPoseConfig, weights: Tree, stats: Tree) -> str:
    """Features `[B, T, C]`, class token first unless it is dropped."""
    backbone, dinov2 = config.backbone, weights["dinov2"]
    states = dinov2_states(
        graph,
        backbone,
        dinov2,
        "patch",
        size=config.img_size,
        mean=config.img_mean,
        std=config.img_std,
    )
    patches = 1 + backbone.num_registers + np.arange(config.grid**2)
    kept = patches if config.drop_cls else np.concatenate([[0], patches])
    if config.infusion_layer is None:
        x = dinov2_norm(graph, backbone, dinov2, states[-1])
        return graph.node("Gather", x, graph.constant(kept), axis=1)
    first, x = _infusion(
        graph, [states[i] for i in config.infusion_layer], patches, weights, stats, config
    )
    return x if config.drop_cls else graph.node("Concat", first, x, axis=1)


def _infusion(
    graph: GraphBuilder,
    states: list[str],
    patches: np.ndarray,
    weights: Tree,
    stats: Tree,
    config: HandPoseConfig,
) -> tuple[str, str]:
    """The fused class token `[B, 1, C]` and patches `[B, P, C]`."""
    weights, stats = weights["infusion"], stats["infusion"]
    width, grid = config.backbone.width, config.grid

    def folded(name: str) -> tuple[np.ndarray, np.ndarray]:
        layer, norm = weights[name], f"{name}_norm"
        return fold_after(layer["kernel"], weights[norm], stats[norm], bias=layer["bias"])

    def linear(x: str, name: str) -> str:
        return graph.relu(graph.linear(x, *folded(name), name=f"infusion.{name}"))

    def projected(rows: np.ndarray, name: str) -> str:
        index = graph.constant(rows)
        parts = [graph.node("Gather", x, index, axis=1) for x in states]
        parts = [linear(x, f"{name}_{i}") for i, x in enumerate(parts)]
        return graph.node("Concat", *parts, axis=-1)

    first = linear(projected(np.zeros(1, np.int64), "cls"), "cls_fusion")
    x = graph.transpose(projected(patches, "map"), (0, 2, 1))
    kernel, bias = folded("map_fusion")
    x = graph.reshape(x, (0, kernel.shape[2], grid, grid))
    x = graph.relu(graph.conv(x, kernel, bias, padding=1, name="infusion.map_fusion"))
    return first, graph.transpose(graph.reshape(x, (0, width, grid**2)), (0, 2, 1))


def _perspective(
    graph: GraphBuilder, config: HandPoseConfig, features: str, weights: Tree, stats: Tree
) -> str:
    told, width = config.persp_info_embed, config.backbone.width
    tokens = config.grid**2 + (0 if config.drop_cls else 1)
    count = told.num_sample**2
    centres = np.asarray(cell_centres(told.num_sample))
    where = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(count, 2)
    rays = _viewing_rays(graph, graph.constant(where))
    if told.type == "ca":
        everywhere = graph.node("Expand", graph.constant(where[None]), graph.node("Shape", rays))
        context = graph.node("Concat", rays, everywhere, axis=-1)
        net = weights["net"]
        x = graph.linear(features, **net["token_embedding"], name="perspective.token_embedding")
        x = graph.add(x, graph.constant(net["pos_embedding"], "perspective.pos_embedding"))
        x = decoder_layers(
            graph,
            x,
            context,
            net,
            depth=1,
            tokens=tokens,
            num_heads=NUM_HEADS,
            dim_head=DIM_HEAD,
            name="perspective",
        )
        kernel = graph.constant(weights["zero_linear"]["kernel"], "perspective.zero_linear")
        return graph.add(features, graph.node("MatMul", x, kernel))
    x = graph.reshape(rays, (0, 2 * count))
    for i in (1, 2, 3):
        layer, norm = weights[f"dense{i}"], f"norm{i}"
        folded = fold_after(layer["kernel"], weights[norm], stats[norm], bias=layer["bias"])
        x = graph.relu(graph.dense(x, *folded, name=f"perspective.dense{i}"))
    x = graph.reshape(x, (0, 1, width))
    if told.pie_fusion == "patch":
        x = graph.multiply(x, graph.constant((np.arange(tokens) >= 1)[:, None]))
    return graph.add(features, x)


def _viewing_rays(graph: GraphBuilder, where: str) -> str:
    """`[B, count, 2]`, see `perspective_embedding.viewing_rays`."""
    corner, far = graph.node("Split", "patch_bbox", graph.constant([2, 2]), axis=-1, outputs=2)
    corner, far, focal, princpt = (
        graph.reshape(x, (0, 1, 2)) for x in (corner, far, "focal", "princpt")
    )
    points = graph.add(corner, graph.multiply(graph.node("Sub", far, corner), where))
    plane = graph.node("Div", graph.node("Sub", points, princpt), focal)
    squares = graph.node("ReduceSum", graph.multiply(plane, plane), graph.constant([-1]))
    return graph.node("Div", plane, graph.node("Sqrt", graph.add(squares, graph.constant(1.0))))


def _token(graph: GraphBuilder, config: HandPoseConfig, features: str, weights: Tree) -> str:
    """What the query gathers, `[B, D]`; until it meets the features it is a constant."""
    decoder, handec = weights["transformer"], config.handec
    parts = ("init_hand_pose", "init_betas", "init_cam")
    query = np.concatenate([weights[part] for part in parts])
    embedding = decoder["token_embedding"]
    x = query @ embedding["kernel"] + embedding["bias"] + decoder["pos_embedding"][0]
    x = decoder_layers(
        graph,
        graph.constant(x[None, None], "decoder.query"),
        features,
        decoder,
        depth=handec.num_layer,
        tokens=1,
        num_heads=handec.num_head,
        dim_head=handec.dim_head,
        name="decoder",
    )
    return graph.reshape(x, (0, config.width))


def _heads(
    graph: GraphBuilder, config: HandPoseConfig, token: str, weights: Tree
) -> tuple[str, str, str]:
    pose = graph.dense(token, **weights["decpose"], name="decpose")
    betas = graph.dense(token, **weights["decshape"], name="decshape")
    places = []
    for axis, centres in zip("xyz", bin_centres(config), strict=True):
        kernel = graph.constant(weights[f"dec{axis}"]["kernel"], f"dec{axis}.weight")
        probs = graph.node("Softmax", graph.node("MatMul", token, kernel), axis=-1)
        places.append(graph.node("MatMul", probs, graph.constant(np.asarray(centres)[:, None])))
    trans = graph.node("Concat", *places, axis=-1)
    if config.handec.denorm_output is None:
        return pose, betas, trans
    joined = graph.node("Concat", pose, betas, trans, axis=-1)
    joined = graph.dense(joined, weights["scale_tril"], weights["output_mean"], name="denorm")
    sizes = graph.constant([config.pose_size, SHAPE_SIZE, 3])
    pose, betas, trans = graph.node("Split", joined, sizes, axis=-1, outputs=3)
    return pose, betas, trans
