"""Two larger networks to measure on, in plain torch: a torchvision-style ResNet-18 and a small transformer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResNet18", "Transformer"]


class _BasicBlock(nn.Module):
    """conv - BN - ReLU - conv - BN, plus the shortcut, then the same ReLU again, as in torchvision."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)


class ResNet18(nn.Module):
    """ResNet-18 for 224 x 224 images, laid out as in torchvision: in-place ReLU, one module called twice a block.

    Takes (batch, 3, height, width), returns (batch, num_classes) logits. 17 sites of width 64 to 512; the first
    has 112 x 112 positions. Source: He et al. 2016; weights Kaiming normal by fan-out.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        layers, channels = [], 64
        for index, width in enumerate((64, 128, 256, 512)):
            first = _BasicBlock(channels, width, 1 if index == 0 else 2)
            layers.append(nn.Sequential(first, _BasicBlock(width, width, 1)))
            channels = width
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class _TransformerBlock(nn.Module):
    """Pre-norm self-attention and a two-layer perceptron with ReLU, each added to its input."""

    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.relu, self.fc2 = nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        heads = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.fc2(self.relu(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    """A causal transformer with ReLU in its perceptrons: one site of width `hidden` per layer.

    Takes token numbers (batch, tokens), returns logits (batch, tokens, vocabulary).

    Args:
        num_layers: blocks.
        width: of the residual stream; a multiple of `num_heads`.
        num_heads: of each attention.
        hidden: units of each ReLU.
        vocabulary: different tokens.
        max_tokens: longest sequence.
    """

    def __init__(
        self,
        *,
        num_layers: int = 4,
        width: int = 512,
        num_heads: int = 8,
        hidden: int = 2048,
        vocabulary: int = 1024,
        max_tokens: int = 512,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(nn.init.normal_(self.token.weight.new_empty(max_tokens, width), std=0.02))
        self.layers = nn.Sequential(*(_TransformerBlock(width, num_heads, hidden) for _ in range(num_layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.place[: tokens.shape[1]]
        return self.head(self.norm(self.layers(x)))
