"""The face3d networks, their loss and their step in PyTorch, for comparison only.

Written from the description: the same keys, arithmetic and order of work as the original, which
attends over one key as over many.
"""

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from jaxrecipes.recipes.face3d.network import Face3DConfig

MSE_WEIGHT, COSINE_WEIGHT = 0.3, 0.7
FEATURE_SHARE, POSE_SHARE = 0.7, 0.3


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for inputs, outputs in itertools.pairwise(widths[1:]):
        layers += [nn.ReLU(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


class AngleEncoding(nn.Module):
    """A scaled projection of the angles."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.angle_projection = nn.Linear(3, width)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        return x + self.scale * self.angle_projection(angles)


class PoseEncoding(nn.Module):
    """A scaled projection of the angles' sines and cosines."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.pose_pe = mlp(6, width // 2, width)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        radians = angles * (math.pi / 180)
        return x + self.scale * self.pose_pe(torch.cat([radians.sin(), radians.cos()], -1))


class AngleNorm(nn.Module):
    """LayerNorm whose result is scaled and shifted as the angles say."""

    def __init__(self, width: int):
        super().__init__()
        self.angle_to_scale = mlp(3, width, width)
        self.angle_to_shift = mlp(3, width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        scale = 1 + self.angle_to_scale(angles).sigmoid()
        return self.layer_norm(x) * scale + self.angle_to_shift(angles)


class PoseAttention(nn.Module):
    """Attention of the feature over the pose, a single key."""

    def __init__(self, width: int):
        super().__init__()
        self.pose_to_key = nn.Linear(3, width)
        self.pose_to_value = nn.Linear(3, width)
        self.feature_to_query = nn.Linear(width, width)

    def forward(self, x: Tensor, pose: Tensor) -> Tensor:
        query, key = self.feature_to_query(x)[:, None], self.pose_to_key(pose)[:, None]
        scores = query @ key.transpose(1, 2) / math.sqrt(x.shape[-1])
        return x + (scores.softmax(-1) @ self.pose_to_value(pose)[:, None])[:, 0]


class SpatialFusion(nn.Module):
    """A gate between the feature and what the keypoints' positions say."""

    def __init__(self, keypoints: int, width: int):
        super().__init__()
        self.keypoint_encoder = mlp(2 * keypoints, 128, width)
        self.attention_generator = mlp(2 * width, width, 1)

    def forward(self, x: Tensor, keypoints: Tensor) -> Tensor:
        spatial = self.keypoint_encoder(keypoints[..., :2].flatten(1))
        weight = self.attention_generator(torch.cat([x, spatial], -1)).sigmoid()
        return (1 - weight) * x + weight * spatial


def decoder(layers: int, width: int, heads: int, hidden: int, dropout: float, *, pre_norm: bool):
    """PyTorch's decoder without a norm after it."""
    layer = nn.TransformerDecoderLayer(
        width, heads, hidden, dropout, "gelu", batch_first=True, norm_first=pre_norm
    )
    return nn.TransformerDecoder(layer, layers)


class TorchFaceDecoder(nn.Module):
    """Model A, and A0 with `keypoint_branch`; `[B, d_model]`, angles `[B, 3]` to `[B, d_model]`."""

    def __init__(
        self,
        *,
        d_model: int = 512,
        nhead: int = 8,
        num_layers: int = 4,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        num_keypoints: int = 5,
        use_pose_attention: bool = False,
        use_spatial_attention: bool = False,
        use_angle_pe: bool = True,
        use_angle_conditioning: bool = True,
        keypoint_branch: bool = False,
    ):
        super().__init__()
        if keypoint_branch:
            self.fusion_weights = nn.Parameter(torch.tensor([0.6, 0.2, 0.2]))
            if use_spatial_attention:
                self.spatial_fusion = SpatialFusion(num_keypoints, d_model)
        if use_pose_attention:
            self.pose_attention = PoseAttention(d_model)
        if keypoint_branch:
            first, last = nn.Linear(3 * num_keypoints, 256), nn.Linear(256, d_model)
            middle = nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(dropout)
            self.keypoint_encoder = nn.Sequential(first, *middle, last)
        self.pose_encoder = mlp(3, 128, d_model)
        self.input_projection = nn.Linear(d_model, d_model)
        if use_angle_pe:
            self.angle_pe = AngleEncoding(d_model)
        if use_angle_conditioning:
            self.angle_conditioned_norm = AngleNorm(d_model)
        self.angle_memory_projection = nn.Linear(3, d_model)
        sizes = num_layers, d_model, nhead, dim_feedforward, dropout
        self.transformer_decoder = decoder(*sizes, pre_norm=False)
        self.output_projection = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)
        self.keypoint_branch = keypoint_branch
        self.use_spatial_attention = keypoint_branch and use_spatial_attention
        self.use_pose_attention = use_pose_attention
        self.use_angle_pe, self.use_angle_conditioning = use_angle_pe, use_angle_conditioning

    def forward(self, src: Tensor, pose: Tensor, keypoints: Tensor | None = None) -> Tensor:
        encoded, x = self.pose_encoder(pose), self.input_projection(src)
        if self.use_spatial_attention:
            x = self.spatial_fusion(x, keypoints)
        if self.use_pose_attention:
            x = self.pose_attention(x, pose)
        if self.keypoint_branch:
            weights = self.fusion_weights.softmax(0)
            shape = self.keypoint_encoder(keypoints.flatten(1))
            x = weights[0] * x + weights[1] * shape + weights[2] * encoded
        else:
            x = FEATURE_SHARE * x + POSE_SHARE * encoded
        if self.use_angle_pe:
            x = self.angle_pe(x, pose)
        if self.use_angle_conditioning:
            x = self.angle_conditioned_norm(x, pose)
        memory = self.angle_memory_projection(pose)[:, None]
        x = self.transformer_decoder(self.dropout(x)[:, None], memory)[:, 0]
        return src + self.output_projection(x)


class TorchFaceEncoderDecoder(nn.Module):
    """Model B; `[B, d_model]` and angles `[B, 3]` to `[B, d_model]`."""

    def __init__(
        self,
        *,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 4,
        num_decoder_layers: int = 4,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        use_pose_pe: bool = True,
    ):
        super().__init__()
        self.input_projection = nn.Linear(d_model, d_model)
        sizes = d_model, nhead, dim_feedforward, dropout
        layer = nn.TransformerEncoderLayer(*sizes, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_encoder_layers, enable_nested_tensor=False)
        self.decoder_input_projection = nn.Linear(d_model, d_model)
        if use_pose_pe:
            self.pose_pe = PoseEncoding(d_model)
            self.angle_pe = AngleEncoding(d_model)
        self.angle_conditioned_norm = AngleNorm(d_model)
        self.decoder = decoder(num_decoder_layers, *sizes, pre_norm=True)
        project, norm = nn.Linear(d_model, d_model), nn.LayerNorm(d_model)
        self.output_projection = nn.Sequential(project, norm, nn.Dropout(dropout))
        self.dropout = nn.Dropout(dropout)
        self.use_pose_pe = use_pose_pe

    def forward(self, src: Tensor, pose: Tensor) -> Tensor:
        memory = self.encoder(self.input_projection(src)[:, None])
        x = self.decoder_input_projection(memory[:, 0])
        if self.use_pose_pe:
            x = self.angle_pe(self.pose_pe(x, pose), pose)
        x = self.dropout(self.angle_conditioned_norm(x, pose))
        return src + self.output_projection(self.decoder(x[:, None], memory)[:, 0])


class AngleWarping(nn.Module):
    """Scales and shifts the feature, and mixes it with a learned basis, as the angles say."""

    def __init__(self, width: int, hidden: int, bases: int, *, basis: bool, refinement: bool):
        super().__init__()
        if basis:
            self.feature_basis = nn.Parameter(0.02 * torch.randn(bases, width))
        first, second, last = nn.Linear(3, 128), nn.Linear(128, 256), nn.Linear(256, 2 * width)
        rest = nn.ReLU(), nn.Dropout(0.1)
        self.angle_to_transform = nn.Sequential(
            first, nn.LayerNorm(128), *rest, second, *rest, last
        )
        if basis:
            inner, out = nn.Linear(width + 3, 256), nn.Linear(256, bases)
            self.attention_selector = nn.Sequential(inner, *rest, out)
        if refinement:
            first, second, last = (
                nn.Linear(*sizes) for sizes in ((width, hidden), (hidden, hidden), (hidden, width))
            )
            norm = nn.LayerNorm(hidden)
            self.refinement = nn.Sequential(first, norm, *rest, second, *rest, last)
        self.use_basis, self.use_refinement = basis, refinement

    def forward(self, src: Tensor, pose: Tensor) -> Tensor:
        scale, shift = self.angle_to_transform(pose).chunk(2, -1)
        y = src * 2 * scale.sigmoid() + shift
        if self.use_basis:
            weights = self.attention_selector(torch.cat([y, pose], -1)).softmax(-1)
            mixture = weights @ self.feature_basis
            gate = (y * mixture).sum(-1, keepdim=True).sigmoid()
            y = gate * y + (1 - gate) * mixture
        return y + 0.1 * self.refinement(y) if self.use_refinement else y


class AttentionRefiner(nn.Module):
    """Post-norm self-attention over one token."""

    def __init__(self, width: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 8, 0.1, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(x[:, None], x[:, None], x[:, None], need_weights=False)[0][:, 0]
        return self.norm(x + self.dropout(y))


class TorchFaceWarping(nn.Module):
    """Model C; `[B, d_model]` and angles `[B, 3]` to `[B, d_model]`."""

    def __init__(
        self,
        *,
        d_model: int = 512,
        hidden_dim: int = 256,
        num_basis: int = 32,
        use_basis: bool = True,
        use_refinement: bool = True,
        use_attention_refine: bool = True,
        num_attention_layers: int = 1,
    ):
        super().__init__()
        self.angle_warping = AngleWarping(
            d_model, hidden_dim, num_basis, basis=use_basis, refinement=use_refinement
        )
        count = num_attention_layers if use_attention_refine else 0
        self.attention_refiners = nn.ModuleList(AttentionRefiner(d_model) for _ in range(count))
        project, norm = nn.Linear(d_model, d_model), nn.LayerNorm(d_model)
        self.output_projection = nn.Sequential(project, norm, nn.Dropout(0.1))

    def forward(self, src: Tensor, pose: Tensor) -> Tensor:
        y = self.angle_warping(src, pose)
        for refiner in self.attention_refiners:
            y = refiner(y)
        return src + self.output_projection(y)


def make_network(config: Face3DConfig) -> nn.Module:
    """The network of a config of ours, with random weights."""
    network: type[nn.Module] = TorchFaceDecoder
    options = {}
    if config.model_type == "encoder_decoder":
        network = TorchFaceEncoderDecoder
    elif config.model_type == "angle_warping":
        network = TorchFaceWarping
    else:
        options["keypoint_branch"] = config.keypoints
    shared = set(inspect.signature(network).parameters) & set(vars(config))
    return network(**{name: getattr(config, name) for name in shared}, **options)


def combined_loss(output: Tensor, target: Tensor) -> Tensor:
    """Weighted mean squared error and cosine loss."""
    cosine = (functional.normalize(output, dim=-1) * functional.normalize(target, dim=-1)).sum(-1)
    mse = functional.mse_loss(output, target)
    return MSE_WEIGHT * mse + COSINE_WEIGHT * (1 - cosine.mean())


def make_step(
    model: nn.Module,
    *,
    learning_rate: float = 5e-5,
    weight_decay: float = 1e-5,
    autocast: Callable = contextlib.nullcontext,
) -> Callable:
    """`step(forward, batch)` trains `model` once through `forward` and returns the loss.

    `forward` is the model or what compiles it; a batch has src, tgt, pose and, for A0,
    keypoints_3d. Skips a batch whose loss is not finite; clip 1.0 and AdamW.
    """
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)

    def step(forward: Callable, batch: dict[str, Tensor]) -> Tensor:
        keypoints = [batch["keypoints_3d"]] if "keypoints_3d" in batch else []
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = combined_loss(forward(batch["src"], batch["pose"], *keypoints), batch["tgt"])
        if not torch.isfinite(loss):
            return loss.detach()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return step
