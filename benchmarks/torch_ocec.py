"""OCEC in PyTorch, from its description, for comparison only: same keys, same arithmetic."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from jaxrecipes.recipes.ocec.network import OcecConfig


def conv_bn(inputs: int, outputs: int, size: int, stride: int, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias and BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class BaselineBlock(nn.Module):
    """Depthwise separable block."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.depthwise = nn.Sequential(*conv_bn(inputs, inputs, 3, stride, inputs), nn.ReLU())
        self.pointwise = nn.Sequential(*conv_bn(inputs, outputs, 1, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.pointwise(self.depthwise(x))
        return functional.relu(y + x if self.residual else y)


class SqueezeExcite(nn.Module):
    """Channel gate."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        hidden = max(1, channels // reduction)
        layers = nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        self.fc = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3), keepdim=True))


class InvertedBlock(nn.Module):
    """Inverted residual with squeeze-excite."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, reduction: int):
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [*conv_bn(inputs, hidden, 1, 1), nn.SiLU()]
        layers += [*conv_bn(hidden, hidden, 3, stride, hidden), nn.SiLU()]
        layers += [SqueezeExcite(hidden, reduction)] if reduction > 0 else []
        self.block = nn.Sequential(*layers, *conv_bn(hidden, outputs, 1, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return functional.silu(y + x if self.residual else y)


class ChannelNorm(nn.Module):
    """LayerNorm over channels of NCHW maps."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """LayerNorm and 2x2 convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.op = nn.Sequential(ChannelNorm(inputs), nn.Conv2d(inputs, outputs, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class ConvNeXtUnit(nn.Module):
    """ConvNeXt unit."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = ChannelNorm(channels)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.pwconv2(functional.gelu(self.pwconv1(y))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class PooledHead(nn.Sequential):
    """The heads avg and avgmax_mlp."""

    def __init__(self, channels: int, with_max: bool, dropout: float):
        if with_max:
            hidden = max(16, channels)
            layers = [nn.BatchNorm1d(2 * channels), nn.Dropout(dropout)]
            layers += [nn.Linear(2 * channels, hidden), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout > 0 else []
            super().__init__(*layers, nn.Linear(hidden, 1))
        else:
            bn = nn.BatchNorm1d(channels)
            super().__init__(bn, nn.Dropout(dropout), nn.Linear(channels, 1))
        self.with_max = with_max

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        return super().forward(torch.cat([pooled, x.amax((2, 3))], 1) if self.with_max else pooled)


class TransformerHead(nn.Module):
    """The head transformer."""

    def __init__(self, channels: int, grid: tuple[int, int], layers: int, dropout: float):
        super().__init__()
        heads = max(n for n in range(1, min(8, channels) + 1) if channels % n == 0)
        layer = nn.TransformerEncoderLayer(
            channels,
            heads,
            max(128, 2 * channels),
            dropout,
            "gelu",
            batch_first=True,
            norm_first=True,
        )
        self.mixer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.final_norm = nn.LayerNorm(channels)
        self.fc = nn.Linear(channels, 1)
        self.grid, self.dropout = grid, dropout

    def forward(self, x: Tensor) -> Tensor:
        tokens = functional.adaptive_avg_pool2d(x, self.grid).flatten(2).transpose(1, 2)
        x = self.final_norm(self.mixer(tokens).mean(1))
        return self.fc(functional.dropout(x, self.dropout, self.training))


class TorchOcec(nn.Module):
    """The network of `OcecConfig`, all but the mlp_mixer head; `[B, 3, H, W]` to logits `[B]`."""

    def __init__(self, config: OcecConfig):
        super().__init__()
        base = config.base_channels
        channels = [base, *config.channels]
        plan = list(zip(channels, channels[1:], config.strides, strict=False))
        if config.arch_variant == "baseline":
            self.stem = nn.Sequential(*conv_bn(3, base, 3, 2), nn.ReLU())
            blocks = [BaselineBlock(*entry) for entry in plan]
        elif config.arch_variant == "inverted_se":
            first, second = conv_bn(3, base, 3, 1), conv_bn(base, base, 3, 2)
            self.stem = nn.Sequential(*first, nn.SiLU(), *second, nn.SiLU())
            extra = config.expansion, config.se_reduction
            blocks = [InvertedBlock(*entry, *extra) for entry in plan]
        else:
            self.stem = nn.Sequential(nn.Conv2d(3, base, 4, 4), ChannelNorm(base))
            blocks = [
                nn.Sequential(*([Downsample(i, o)] if stride == 2 else []), ConvNeXtUnit(o))
                for i, o, stride in plan
            ]
        self.features = nn.Sequential(*blocks)
        if config.head == "transformer":
            grid, layers = config.token_mixer_grid, config.token_mixer_layers
            self.head = TransformerHead(channels[-1], grid, layers, config.dropout)
        else:
            self.head = PooledHead(channels[-1], config.head == "avgmax_mlp", config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(self.stem(x)))[:, 0]
