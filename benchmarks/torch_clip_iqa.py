"""CLIP with the residual heads of clip_iqa, its ways of freezing and its step in PyTorch, for
comparison only.

Written from the description: the same keys, arithmetic and order of work as the original.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jaxrecipes.models.clip.config import ClipConfig, ClipTowerConfig
from jaxrecipes.recipes.clip_iqa.network_config import HeadsConfig

EMBEDDINGS = ("clip.vision_model.embeddings.", "clip.text_model.embeddings.")


class Attention(nn.Module):
    """Self-attention with four projections."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """The feed-forward part."""

    def __init__(self, config: ClipTowerConfig):
        super().__init__()
        self.quick = config.activation == "quick_gelu"
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else functional.gelu(x))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: ClipTowerConfig):
        super().__init__()
        self.self_attn = Attention(config.width, config.num_heads)
        self.layer_norm1 = nn.LayerNorm(config.width, config.norm_eps)
        self.mlp = Mlp(config)
        self.layer_norm2 = nn.LayerNorm(config.width, config.norm_eps)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    """A stack of blocks."""

    def __init__(self, config: ClipTowerConfig):
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.depth))

    def forward(self, x: Tensor, *, causal: bool) -> Tensor:
        for layer in self.layers:
            x = layer(x, causal)
        return x


class VisionEmbeddings(nn.Module):
    """Patches, the class vector and positions."""

    def __init__(self, config: Any):
        super().__init__()
        width, patch = config.width, config.patch_size
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding(config.grid**2 + 1, width)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        return torch.cat([first, x], 1) + self.position_embedding.weight


class Vision(nn.Module):
    """The image tower, up to its projection."""

    def __init__(self, config: Any):
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width, config.norm_eps)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.width, config.norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.encoder(self.pre_layrnorm(self.embeddings(pixels)), causal=False)
        return self.post_layernorm(x[:, 0])


class TextEmbeddings(nn.Module):
    """Tokens and positions."""

    def __init__(self, config: Any):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.context_length, config.width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]


class Text(nn.Module):
    """The text tower, up to its projection."""

    def __init__(self, config: Any):
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.width, config.norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.final_layer_norm(self.encoder(self.embeddings(ids), causal=True))
        return x[torch.arange(len(x)), ids.argmax(-1)]


class Clip(nn.Module):
    """Both towers; unit vectors of images and of texts."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.vision_model, self.text_model = Vision(config.vision), Text(config.text)
        joint = config.projection_dim
        self.visual_projection = nn.Linear(config.vision.width, joint, bias=False)
        self.text_projection = nn.Linear(config.text.width, joint, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        image = self.visual_projection(self.vision_model(pixels))
        text = self.text_projection(self.text_model(ids))
        return functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)


class TorchClipIqa(nn.Module):
    """The network with residual heads; pixels `[B, 3, S, S]` and ids `[B, T]` to `(q, c)`."""

    def __init__(self, config: ClipConfig, heads: HeadsConfig):
        super().__init__()
        joint, fused = config.projection_dim, 2 * config.projection_dim + 1
        hidden_q, hidden_c, drop = heads.hidden_dim_q, heads.hidden_dim_c, heads.dropout
        self.scales = heads.residual_scale_q, heads.residual_scale_c
        self.clip = Clip(config)
        self.q_base_head = nn.Linear(joint, 1)
        self.q_delta_head = nn.Sequential(
            nn.Linear(joint, hidden_q), nn.GELU(), nn.Dropout(drop), nn.Linear(hidden_q, 1)
        )
        self.c_base_scale = nn.Parameter(torch.tensor(1.0))
        self.c_base_bias = nn.Parameter(torch.tensor(0.0))
        first, second = nn.Linear(fused, hidden_c), nn.Linear(hidden_c, 64)
        self.c_delta_head = nn.Sequential(
            nn.LayerNorm(fused),
            *(first, nn.GELU(), nn.Dropout(drop), second, nn.GELU(), nn.Linear(64, 1)),
        )
        self.rationale_head = nn.Sequential(nn.LayerNorm(fused), nn.Linear(fused, joint))

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        image, text = (functional.normalize(x, dim=-1) for x in self.clip(pixels, ids))
        cosine = (image * text).sum(-1, keepdim=True)
        fused = torch.cat([image, text, cosine], -1)
        quality = torch.sigmoid(self.q_base_head(image))
        quality = quality + self.scales[0] * torch.tanh(self.q_delta_head(image))
        base = (self.c_base_scale * (cosine + 1) / 2 + self.c_base_bias).clamp(0, 1)
        consistency = base + self.scales[1] * torch.tanh(self.c_delta_head(fused))
        return quality.clamp(0, 1)[:, 0], consistency.clamp(0, 1)[:, 0]


def freeze(model: TorchClipIqa, mode: str, layers: int) -> None:
    """Switches gradients off: mode "clip" for CLIP, "partial" for embeddings and first layers."""
    frozen = [f".encoder.layers.{i}." for i in range(layers)]
    for name, parameter in model.named_parameters():
        if mode == "clip":
            parameter.requires_grad_(not name.startswith("clip."))
        elif mode == "partial":
            first = name.startswith(EMBEDDINGS) or any(layer in name for layer in frozen)
            parameter.requires_grad_(not first)


def make_step(
    model: TorchClipIqa,
    *,
    learning_rate: float,
    weight_decay: float,
    clip_norm: float,
    loss_weights: tuple[float, float],
    autocast: Callable[[], Any],
) -> Callable[[Callable, Mapping[str, Tensor]], Tensor]:
    """`step(forward, batch) -> loss`: forward, loss, backward, clip, AdamW, schedule.

    `forward` is the network or its compiled form.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def step(forward: Callable, batch: Mapping[str, Tensor]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            quality, consistency = forward(batch["pixels"], batch["tokens"])
            loss = loss_weights[0] * functional.mse_loss(quality.float(), batch["quality"])
            loss = loss + loss_weights[1] * functional.mse_loss(
                consistency.float(), batch["consistency"]
            )
        loss.backward()
        nn.utils.clip_grad_norm_(trained, clip_norm)
        optimizer.step()
        schedule.step()
        return loss

    return step
