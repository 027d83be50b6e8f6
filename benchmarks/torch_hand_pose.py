"""The hand_pose network of stage 1, its hand, loss and step in PyTorch, for comparison only.

Written from the description: the same keys and arithmetic as the original, DINOv2 as Hugging Face
has it, attention by `scaled_dot_product_attention`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.models.hand.joints import MANO_PARENTS, NORM_JOINTS
from jaxrecipes.models.hand.procedural import procedural_hand
from jaxrecipes.recipes.hand_pose.network_config import HandPoseConfig

attend = functional.scaled_dot_product_attention


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class VitSelfAttention(nn.Module):
    """The three projections of the backbone's attention, and the attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            _heads(layer(x), self.heads) for layer in (self.query, self.key, self.value)
        )
        return attend(query, key, value).transpose(1, 2).flatten(2)


class VitMlp(nn.Module):
    """The backbone's feed-forward part, not that of the largest size."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int):
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.lambda1


class VitBlock(nn.Module):
    """Pre-norm block with layer scales."""

    def __init__(self, config: Dinov2Config):
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, config.norm_eps)
        self.attention = nn.ModuleDict(
            {
                "attention": VitSelfAttention(width, config.num_heads),
                "output": nn.ModuleDict({"dense": nn.Linear(width, width)}),
            }
        )
        self.layer_scale1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, config.norm_eps)
        self.mlp = VitMlp(width, config.mlp_width)
        self.layer_scale2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention["attention"](self.norm1(x))
        x = x + self.layer_scale1(self.attention["output"]["dense"](y))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class VitEmbeddings(nn.Module):
    """Patches, the class token and interpolated positions."""

    def __init__(self, config: Dinov2Config):
        super().__init__()
        width, patch = config.width, config.patch_size
        self.grid = config.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width), requires_grad=False)
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        projection = nn.Conv2d(3, width, patch, stride=patch)
        self.patch_embeddings = nn.ModuleDict({"projection": projection})

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](images)
        side, positions = patches.shape[-1], self.position_embeddings
        if side != self.grid:
            table = positions[:, 1:].unflatten(1, (self.grid, -1)).permute(0, 3, 1, 2)
            table = functional.interpolate(
                table, size=(side, side), mode="bicubic", align_corners=False
            )
            positions = torch.cat([positions[:, :1], table.flatten(2).transpose(1, 2)], 1)
        first = self.cls_token.expand(len(patches), -1, -1)
        return torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + positions


class Vit(nn.Module):
    """DINOv2: images `[B, 3, S, S]` to tokens `[B, 1 + P^2, D]`."""

    def __init__(self, config: Dinov2Config):
        super().__init__()
        self.embeddings = VitEmbeddings(config)
        blocks = nn.ModuleList(VitBlock(config) for _ in range(config.depth))
        self.encoder = nn.ModuleDict({"layer": blocks})
        self.layernorm = nn.LayerNorm(config.width, config.norm_eps)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embeddings(images)
        for block in self.encoder["layer"]:
            x = block(x)
        return self.layernorm(x)


class PreNorm(nn.Module):
    """A part of a decoder layer after a LayerNorm."""

    def __init__(self, width: int, fn: nn.Module):
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), fn

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return self.fn(self.norm(x), *context)


class DecoderAttention(nn.Module):
    """Attention of a decoder among its tokens or, with `context` channels, to a context."""

    def __init__(self, width: int, context: int | None, heads: int, dim_head: int, dropout: float):
        super().__init__()
        self.heads, self.dropout, inner = heads, dropout, heads * dim_head
        if context is None:
            self.to_qkv = nn.Linear(width, 3 * inner, bias=False)
        else:
            self.to_q = nn.Linear(width, inner, bias=False)
            self.to_kv = nn.Linear(context, 2 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(dropout))

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        if context:
            parts = self.to_q(x), *self.to_kv(context[0]).chunk(2, -1)
        else:
            parts = self.to_qkv(x).chunk(3, -1)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(*(_heads(part, self.heads) for part in parts), dropout_p=dropout)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class DecoderMlp(nn.Module):
    """A decoder's feed-forward part."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        first, second = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.net = nn.Sequential(first, nn.GELU(), nn.Dropout(dropout), second, nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Decoder(nn.Module):
    """Tokens that attend to themselves and to a context."""

    def __init__(
        self,
        *,
        tokens: int,
        inputs: int,
        width: int,
        context: int,
        depth: int,
        heads: int,
        dim_head: int,
        hidden: int,
        dropout: float,
    ):
        super().__init__()
        self.to_token_embedding = nn.Linear(inputs, width)
        self.pos_embedding = nn.Parameter(torch.randn(1, tokens, width))

        def layer() -> nn.ModuleList:
            parts = (
                DecoderAttention(width, None, heads, dim_head, dropout),
                DecoderAttention(width, context, heads, dim_head, dropout),
                DecoderMlp(width, hidden, dropout),
            )
            return nn.ModuleList(PreNorm(width, part) for part in parts)

        layers = nn.ModuleList(layer() for _ in range(depth))
        self.transformer = nn.ModuleDict({"layers": layers})

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        x = self.to_token_embedding(tokens) + self.pos_embedding
        for self_attention, cross_attention, mlp in self.transformer["layers"]:
            x = x + self_attention(x)
            x = x + cross_attention(x, context)
            x = x + mlp(x)
        return x


class Perspective(nn.Module):
    """Features that attend to the rays through their patch."""

    def __init__(self, config: HandPoseConfig):
        super().__init__()
        width, count = config.backbone.width, config.persp_info_embed.num_sample
        self.net = Decoder(
            tokens=1 + config.grid**2,
            inputs=width,
            width=width,
            context=4,
            depth=1,
            heads=8,
            dim_head=64,
            hidden=4 * width,
            dropout=0.0,
        )
        self.zero_linear = nn.Linear(width, width, bias=False)
        edge = (torch.arange(count) + 0.5) / count
        self.register_buffer("grid_edge", edge)
        self.register_buffer("grid_uv", torch.stack(torch.meshgrid(edge, edge, indexing="ij"), -1))

    def forward(self, features: Tensor, bbox: Tensor, focal: Tensor, princpt: Tensor) -> Tensor:
        corner, far, focal, princpt = (
            x[:, None, None] for x in (bbox[:, :2], bbox[:, 2:], focal, princpt)
        )
        plane = (corner + (far - corner) * self.grid_uv - princpt) / focal
        rays = functional.normalize(functional.pad(plane, (0, 1), value=1.0), dim=-1)[..., :2]
        context = torch.cat([rays, self.grid_uv.expand_as(rays)], -1).flatten(1, 2)
        return features + self.zero_linear(self.net(features, context))


class HandDecoder(nn.Module):
    """One token that attends to the features, and the heads on it."""

    def __init__(self, config: HandPoseConfig, dropout: float):
        super().__init__()
        handec, width = config.handec, config.width
        self.register_buffer("init_hand_pose", torch.randn(1, config.pose_size))
        self.register_buffer("init_betas", torch.randn(1, 10))
        self.register_buffer("init_cam", torch.randn(1, 3))
        self.transformer = Decoder(
            tokens=1,
            inputs=config.output_size,
            width=width,
            context=config.backbone.width,
            depth=handec.num_layer,
            heads=handec.num_head,
            dim_head=handec.dim_head,
            hidden=handec.dim_mlp,
            dropout=dropout,
        )
        self.decpose, self.decshape = nn.Linear(width, config.pose_size), nn.Linear(width, 10)
        self.deccam = nn.Module()
        for axis, (low, high), bins in zip(
            "xyz", config.ranges, handec.heatmap_resolution, strict=True
        ):
            self.deccam.add_module(f"dec{axis}", nn.Linear(width, bins, bias=False))
            self.deccam.register_buffer(f"{axis}_centers", torch.linspace(low, high, bins))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        query = torch.cat([self.init_hand_pose, self.init_betas, self.init_cam], -1)
        token = self.transformer(query.expand(len(features), 1, -1), features)[:, 0]
        cam = self.deccam
        logits = [layer(token) for layer in (cam.decx, cam.decy, cam.decz)]
        centers = [cam.x_centers, cam.y_centers, cam.z_centers]
        root = [(x.softmax(-1) * c).sum(-1) for x, c in zip(logits, centers, strict=True)]
        maps = {f"log_heatmap_{a}": x.log_softmax(-1) for a, x in zip("xyz", logits, strict=True)}
        outputs = {"pose": self.decpose(token), "betas": self.decshape(token)}
        return outputs | {"trans": torch.stack(root, -1)} | maps


class TorchHandPose(nn.Module):
    """Patches `[B, 3, S, S]` in [0, 1], boxes and cameras to outputs `[B, ...]`."""

    def __init__(self, config: HandPoseConfig, *, dropout: float):
        super().__init__()
        self.register_buffer("img_mean", torch.tensor(config.img_mean))
        self.register_buffer("img_std", torch.tensor(config.img_std))
        self.backbone = nn.ModuleDict({"backbone": Vit(config.backbone)})
        self.persp_info_embedder = Perspective(config)
        self.handec = HandDecoder(config, dropout)

    def forward(
        self, patch: Tensor, bbox: Tensor, focal: Tensor, princpt: Tensor
    ) -> dict[str, Tensor]:
        patch = (patch - self.img_mean[:, None, None]) / self.img_std[:, None, None]
        features = self.backbone["backbone"](patch)
        return self.handec(self.persp_info_embedder(features, bbox, focal, princpt))


class Hand(nn.Module):
    """Joints of the procedural hand, by blend shapes, a kinematic chain and skinning."""

    def __init__(self):
        super().__init__()
        hand = procedural_hand()
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "hands_mean"):
            self.register_buffer(name, torch.tensor(np.asarray(getattr(hand, name))))
        self.register_buffer("joint_regressor", torch.tensor(np.asarray(hand.joint_regressor)))

    def forward(self, pose: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, 48]` and `[B, 10]` to joints `[B, 21, 3]` and vertices, mm from the wrist."""
        turns = _rodrigues((pose + functional.pad(self.hands_mean, (3, 0))).unflatten(-1, (16, 3)))
        shaped = self.v_template + torch.einsum("bk,vck->bvc", betas, self.shapedirs)
        rest = self.J_regressor @ shaped
        bends = (turns[:, 1:] - torch.eye(3, device=pose.device)).flatten(1)
        posed = shaped + torch.einsum("bk,vck->bvc", bends, self.posedirs)
        places, world = [rest[:, 0]], [turns[:, 0]]
        for joint, parent in enumerate(MANO_PARENTS):
            if parent >= 0:
                bone = (rest[:, joint] - rest[:, parent])[..., None]
                places.append(places[parent] + (world[parent] @ bone)[..., 0])
                world.append(world[parent] @ turns[:, joint])
        rotation, place = torch.stack(world, 1), torch.stack(places, 1)
        shift = place - (rotation @ rest[..., None])[..., 0]
        moved = torch.cat([rotation, shift[..., None]], -1)
        skin = torch.einsum("vj,bjac->bvac", self.weights, moved)
        vertices = (skin[..., :3] @ posed[..., None])[..., 0] + skin[..., 3]
        joints = self.joint_regressor @ vertices
        wrist = joints[:, :1].detach()
        return 1000.0 * (joints - wrist), 1000.0 * (vertices - wrist)


def _rodrigues(vector: Tensor) -> Tensor:
    angle = (vector + 1e-8).norm(dim=-1, keepdim=True)
    x, y, z = (vector / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    eye = torch.eye(3, device=vector.device)
    return eye + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)


def hand_loss(
    outputs: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    model: TorchHandPose,
    hand: Hand,
    weights: Mapping[str, float],
    *,
    sigma: float,
    eps: float,
) -> Tensor:
    """The weighted sum of the five terms; `weights` by their names."""
    joint_cam, joint_valid = batch["joint_cam"], batch["joint_valid"]
    chain = joint_cam[:, list(NORM_JOINTS)]
    scale = chain.diff(dim=1).norm(dim=-1).sum(-1).clamp(min=eps) + eps
    known = (joint_valid[:, list(NORM_JOINTS)] > 0.5).all(-1).float()
    root = joint_cam[:, 0] / scale[:, None]
    heatmaps = 0.0
    cam = model.handec.deccam
    for i, centers in enumerate((cam.x_centers, cam.y_centers, cam.z_centers)):
        target = torch.exp(-0.5 * ((root[:, i, None] - centers) / sigma) ** 2)
        target = target / (target.sum(-1, keepdim=True) + 1e-9)
        heatmaps = heatmaps - (target * outputs[f"log_heatmap_{'xyz'[i]}"]).sum(-1)
    rel, _ = hand(outputs["pose"], outputs["betas"].detach())
    cam_pred = rel + (outputs["trans"] * scale[:, None])[:, None]

    def project(points: Tensor) -> Tensor:
        plane = points[..., :2] / points[..., 2:].clamp(min=1e-8)
        return plane * batch["focal"][:, None] + batch["princpt"][:, None]

    mano_valid, valid = batch["mano_valid"][:, None], joint_valid[..., None]
    image_valid = valid * known[:, None, None]
    terms = {
        "theta": ((outputs["pose"] - batch["mano_pose"]).abs() * mano_valid).mean(),
        "shape": ((outputs["betas"] - batch["mano_shape"]).abs() * mano_valid).mean(),
        "trans": (heatmaps * joint_valid[:, 0] * known).mean(),
        "joint_rel": ((rel - batch["joint_rel"]).abs() * valid).mean(),
        "joint_img": ((project(cam_pred) - project(joint_cam)).abs() * image_valid).mean(),
    }
    return sum(weights[name] * term for name, term in terms.items())


def make_step(
    model: TorchHandPose,
    *,
    learning_rate: float,
    backbone_learning_rate: float | None,
    weight_decay: float,
    clip_norm: float,
    loss: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor],
    autocast: Callable[[], Any],
) -> Callable[[Callable, Mapping[str, Tensor]], Tensor]:
    """`step(forward, batch) -> loss`: forward, loss, backward, clip, AdamW, schedule.

    Without a learning rate of its own the backbone is frozen, and no graph of it is made.
    `forward` is the network or its compiled form.
    """
    backbone = model.backbone
    if backbone_learning_rate is None:
        backbone.requires_grad_(False)
        backbone.eval()
    inside = {id(parameter) for parameter in backbone.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if id(p) not in inside], "lr": learning_rate}]
    if backbone_learning_rate is not None:
        own = [p for p in trained if id(p) in inside]
        groups.append({"params": own, "lr": backbone_learning_rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def step(forward: Callable, batch: Mapping[str, Tensor]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            outputs = forward(batch["patch"], batch["patch_bbox"], batch["focal"], batch["princpt"])
        outputs = {name: value.float() for name, value in outputs.items()}
        total = loss(outputs, batch)
        total.backward()
        nn.utils.clip_grad_norm_(trained, clip_norm)
        optimizer.step()
        schedule.step()
        return total

    return step
