"""The universal face network, its loss and its step in PyTorch, for comparison only.

Written from the description: the same keys, arithmetic and order of work as the original.
"""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS = 8
PROTOTYPE_PULL, GATED_SHARE, CLEANED_SHARE = 0.1, 0.3, 0.5
LOSS_WEIGHTS = {
    "id_similarity": 3.0,
    "pose": 0.2,
    "ortho": 0.05,
    "contrast": 0.1,
    "reconstruction": 0.5,
    "pose_consistency": 0.1,
    "similarity_protection": 1.0,
}
TEMPERATURE, CONSISTENCY_TEMPERATURE, PROTECTION_MARGIN = 0.1, 0.1, 0.01


def pose_mlp(hidden: int, outputs: int) -> nn.Sequential:
    """What turns a pose into biases or scales."""
    return nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class PoseAttention(nn.Module):
    """Self-attention whose queries, keys and values are moved by the pose."""

    def __init__(self, width: int, heads: int, attention_dropout: float):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.pose_encoder = pose_mlp(64, 3 * width)
        self.proj = nn.Linear(width, width)
        self.heads, self.attention_dropout = heads, attention_dropout

    def forward(self, x: Tensor, pose: Tensor) -> Tensor:
        packed = self.qkv(x) + self.pose_encoder(pose)[:, None]
        query, key, value = packed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.attention_dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class PoseNorm(nn.Module):
    """LayerNorm whose result is scaled and shifted as the pose says."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.pose_embedding = pose_mlp(128, 2 * width)

    def forward(self, x: Tensor, pose: Tensor) -> Tensor:
        scale, shift = self.pose_embedding(pose)[:, None].chunk(2, -1)
        return scale * self.norm(x) + shift


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, attention: float):
        super().__init__()
        self.attn = PoseAttention(width, heads, attention)
        self.norm1 = PoseNorm(width)
        self.norm2 = nn.LayerNorm(width)
        up, down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.mlp = nn.Sequential(up, nn.GELU(), nn.Dropout(dropout), down, nn.Dropout(dropout))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, pose: Tensor) -> Tensor:
        x = x + self.dropout(self.attn(self.norm1(x, pose), pose))
        return x + self.mlp(self.norm2(x))


class PoseEncoder(nn.Module):
    """The transformer stack; mean over its tokens."""

    def __init__(self, depth: int, width: int, *block: float):
        super().__init__()
        self.layers = nn.ModuleList(Block(width, *block) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, pose: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, pose)
        return self.norm(x).mean(1)


class IdEnhancer(nn.Module):
    """Takes some of the gated pose code away from the identity code."""

    def __init__(self, id_dim: int, pose_dim: int):
        super().__init__()
        first, second = nn.Linear(id_dim + pose_dim, id_dim), nn.Linear(id_dim, id_dim)
        self.gate_net = nn.Sequential(first, nn.ReLU(), second, nn.Sigmoid())
        self.pose_proj = nn.Linear(pose_dim, id_dim, bias=False)

    def forward(self, identity: Tensor, pose: Tensor) -> Tensor:
        gate = self.gate_net(torch.cat([identity, pose], -1))
        cleaned = identity - GATED_SHARE * gate * self.pose_proj(pose)
        return identity + CLEANED_SHARE * (cleaned - identity)


class TorchUniversalFace(nn.Module):
    """The network; `[B, feat_dim]` and poses `[B, 3]` or None to a dict of the original's heads."""

    pose_prototypes: Tensor

    def __init__(
        self,
        *,
        feat_dim: int = 512,
        id_dim: int = 256,
        pose_dim: int = 128,
        num_pose_bins: int = 36,
        transformer_depth: int = 6,
        transformer_heads: int = 8,
        transformer_mlp_dim: int = 1024,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
    ):
        super().__init__()
        self.pos_encoding = nn.Parameter(torch.randn(1, TOKENS, feat_dim))
        prototypes = functional.normalize(torch.randn(num_pose_bins, pose_dim), dim=-1)
        self.register_buffer("pose_prototypes", prototypes)
        project, norm = nn.Linear(feat_dim, feat_dim), nn.LayerNorm(feat_dim)
        self.feat_proj = nn.Sequential(project, norm, nn.ReLU(), nn.Dropout(dropout))
        self.ortho_proj = nn.ModuleDict(
            {
                "W_id": nn.Linear(feat_dim, id_dim, bias=False),
                "W_pose": nn.Linear(feat_dim, pose_dim, bias=False),
            }
        )
        self.token_proj = nn.Linear(feat_dim // TOKENS, feat_dim)
        block = (transformer_heads, transformer_mlp_dim, dropout, attention_dropout)
        self.pose_encoder = PoseEncoder(transformer_depth, feat_dim, *block)
        self.id_enhancer = IdEnhancer(id_dim, pose_dim)
        hidden, out = nn.Linear(pose_dim, 256), nn.Linear(256, 3)
        self.pose_head = nn.Sequential(hidden, nn.ReLU(), nn.Dropout(dropout), out)

    def forward(self, src: Tensor, pose: Tensor | None = None, mode: str = "train") -> dict:
        x = self.feat_proj(src)
        tokens = self.token_proj(x.unflatten(-1, (TOKENS, -1))) + self.pos_encoding
        stack_pose = self.pose_head(self.ortho_proj["W_pose"](x)) if pose is None else pose
        base = self.pose_encoder(tokens, stack_pose)
        identity, code = self.ortho_proj["W_id"](base), self.ortho_proj["W_pose"](base)
        pulled = code
        if mode == "train" and pose is not None:
            nearest = (unit(code) @ unit(self.pose_prototypes).T).argmax(-1)
            pulled = code + PROTOTYPE_PULL * (self.pose_prototypes[nearest] - code)
        enhanced, angles = self.id_enhancer(identity, pulled), self.pose_head(pulled)
        if mode == "inference":
            return {
                "id_features": unit(enhanced),
                "pose_features": unit(pulled),
                "pose_angles": angles,
            }
        return {
            "id_features": enhanced,
            "pose_features": pulled,
            "pose_angles": angles,
            "base_features": base,
            "id_features_raw": identity,
            "pose_features_raw": code,
        }


class TorchUniversalFaceLoss(nn.Module):
    """The seven terms and their `total`; holds the projections between features and identity."""

    def __init__(self, *, feat_dim: int = 512, id_dim: int = 256):
        super().__init__()
        self.id_to_feat_proj = nn.Linear(id_dim, feat_dim, bias=False)
        self.feat_to_id_proj = nn.Linear(feat_dim, id_dim, bias=False)

    def forward(
        self, outputs: dict, target: Tensor, pose: Tensor, labels: Tensor, model: TorchUniversalFace
    ) -> dict[str, Tensor]:
        projected = self.id_to_feat_proj(outputs["id_features"])
        similarity = functional.cosine_similarity(unit(projected), unit(target))
        before = functional.cosine_similarity(unit(outputs["base_features"]), unit(target))
        prototypes = model.pose_prototypes
        logits = unit(outputs["pose_features"]) @ unit(prototypes).T / CONSISTENCY_TEMPERATURE
        position = ((pose[:, 0] + 90) / 180).clamp(0, 1) * (len(prototypes) - 1)
        id_rows, pose_rows = (unit(model.ortho_proj[name].weight) for name in ("W_id", "W_pose"))
        terms = {
            "reconstruction": functional.mse_loss(projected, target),
            "id_similarity": (1 - similarity).mean(),
            "similarity_protection": (before - similarity - PROTECTION_MARGIN).relu().mean(),
            "pose": functional.l1_loss(outputs["pose_angles"], pose),
            "contrast": info_nce(unit(outputs["id_features"]), labels),
            "ortho": 0.01 * (id_rows @ pose_rows.T).norm(),
            "pose_consistency": functional.cross_entropy(logits, position.long()),
        }
        terms["total"] = sum(LOSS_WEIGHTS[name] * term for name, term in terms.items())
        return terms


def unit(x: Tensor) -> Tensor:
    """Rows of length 1."""
    return functional.normalize(x, dim=-1)


def info_nce(features: Tensor, labels: Tensor) -> Tensor:
    """InfoNCE over rows of unit length that have a positive, with the original's denominator."""
    similarity = (features @ features.T / TEMPERATURE).exp()
    same = (labels[:, None] == labels[None]).float()
    same.fill_diagonal_(0)
    positive = (similarity * same).sum(1)
    negative = similarity.sum(1) - positive - 1 + 1e-8
    loss = -((positive + 1e-8) / (positive + 1e-8 + negative)).log()
    counts = same.any(1).float()
    return (loss * counts).sum() / counts.sum().clamp(min=1)


def make_step(
    *,
    size: dict | None = None,
    learning_rate: float = 1e-4,
    weight_decay: float = 1e-5,
    autocast: Callable = contextlib.nullcontext,
) -> tuple[TorchUniversalFace, TorchUniversalFaceLoss, Callable]:
    """(model, criterion, step): `step(forward, batch)` trains once and returns the loss.

    `forward` is the model or what compiles it; a batch has src, tgt, pose, person. Clip 1.0 and
    AdamW; the projection of the loss is trained too, as ours is.
    """
    size = size or {}
    model = TorchUniversalFace(**size)
    dims = {name: size[name] for name in ("feat_dim", "id_dim") if name in size}
    criterion = TorchUniversalFaceLoss(**dims)
    parameters = [*model.parameters(), criterion.id_to_feat_proj.weight]
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay)

    def step(forward: Callable, batch: dict[str, Tensor]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            outputs = forward(batch["src"], batch["pose"])
            loss = criterion(outputs, batch["tgt"], batch["pose"], batch["person"], model)["total"]
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.detach()

    return model, criterion, step
