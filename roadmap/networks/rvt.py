"""RVT-S* and RVT-B*, baseline models of Table 8: "Towards Robust Vision Transformer" (arXiv:2105.07926)."""

from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.validation import NonNegativeInt, PositiveInt, Record

STEM_WIDTH = 32
STEM_STRIDE = 4  # of its first convolution and its pooling together


class Shape(Record):
    """The sizes of a one-stage RVT; ``model.options`` can change them."""

    place: ClassVar[str] = "model.options"

    width: PositiveInt  # channels per token
    heads: PositiveInt
    scaled_blocks: NonNegativeInt  # number of first blocks with position-aware attention scaling
    convolutional: bool  # feed-forward layers with a depthwise convolution
    depth: PositiveInt = 12
    patch_size: Annotated[int, Meta(ge=STEM_STRIDE, multiple_of=STEM_STRIDE)] = 16  # pixels per side of a token

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise RequestError(
                f"{self.full_key('width')}={self.width} does not divide among {self.full_key('heads')}={self.heads}; "
                f"choose a multiple of {self.heads}"
            )


SHAPES = {
    "rvt_s_plus": Shape(width=384, heads=6, scaled_blocks=5, convolutional=True),
    "rvt_b_plus": Shape(width=768, heads=12, scaled_blocks=12, convolutional=False),
}


def rvt(name: str, num_classes: int, image_size: int, drop_path: float, **options: Any) -> "RVT":
    """Return an RVT-S* (``rvt_s_plus``) or RVT-B* (``rvt_b_plus``) with random weights.

    ``drop_path`` is the drop rate of the last block, linear from 0 at the first. ``options`` change the published
    sizes: ``rvt("rvt_s_plus", 10, 32, 0.0, depth=4, width=96, heads=3, patch_size=4)``. Raises RequestError for an
    unknown name or option, or an invalid value.
    """
    if name not in SHAPES:
        raise RequestError(f"unknown RVT '{name}' (choose {listed(SHAPES)})")
    shape = SHAPES[name].replace(**options)
    if image_size < shape.patch_size:
        raise RequestError(f"image_size must be at least {shape.patch_size}, one patch (got {image_size})")
    return RVT(shape, num_classes, image_size, drop_path)


class PositionScaling(nn.Module):
    """Position-aware attention scaling: a learned factor on the attention logits per head, query and key.

    ``weight`` is (heads, tokens, tokens), queries before keys; the factor is its sigmoid. It starts at 0, a factor of
    0.5. For another image size the weights are interpolated bilinearly before the sigmoid.
    """

    def __init__(self, heads: int, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        tokens = grid[0] * grid[1]
        self.weight = nn.Parameter(torch.zeros(heads, tokens, tokens))

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """Return the factors for a grid of tokens (rows, columns): (heads, tokens, tokens)."""
        weight: Tensor = self.weight
        if grid != self.grid:
            for _ in range(2):  # the keys, then the queries
                weight = F.interpolate(weight.unflatten(2, self.grid), grid, mode="bilinear", align_corners=False)
                weight = weight.flatten(2).transpose(1, 2)
        return weight.sigmoid()


class Attention(nn.Module):
    """Multi-head self-attention on (N, tokens, width), optionally with position-aware scaling."""

    def __init__(self, shape: Shape, grid: tuple[int, int], scaled: bool):
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.scaling = PositionScaling(shape.heads, grid) if scaled else None
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        # (N, tokens, 3 width) -> three of (N, heads, tokens, channels of a head)
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.scaling is None:
            y = F.scaled_dot_product_attention(query, key, value)
        else:
            # torch's fused attention cannot multiply the logits
            logits = query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)
            y = (logits * self.scaling(grid)).softmax(dim=-1) @ value
        return self.proj(y.transpose(1, 2).flatten(2))


class ConvFeedForward(nn.Module):
    """Convolutional feed-forward layers: 1×1, depthwise 3×3, 1×1, each with BN, on (N, tokens, width)."""

    def __init__(self, width: int):
        super().__init__()
        hidden = 4 * width
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.BatchNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, width, 1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.layers(x.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)


class FeedForward(nn.Module):
    """Feed-forward layers of a Transformer, on (N, tokens, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.layers(x)


class RVTBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), on (N, tokens, width)."""

    def __init__(self, shape: Shape, grid: tuple[int, int], scaled: bool, drop: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=1e-6)
        self.attention = Attention(shape, grid, scaled)
        self.norm2 = nn.LayerNorm(shape.width, eps=1e-6)
        self.feed_forward = ConvFeedForward(shape.width) if shape.convolutional else FeedForward(shape.width)
        self.drop = StochasticDepth(drop, "row") if drop else nn.Identity()

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x), grid))
        return x + self.drop(self.feed_forward(self.norm2(x), grid))


class RVT(nn.Module):
    """Images (N, 3, H, W) to logits (N, num_classes): a convolutional stem, one stage of blocks, mean, LN, linear.

    There is no class token and no position embedding. The star stands for position-aware attention scaling, which is
    implemented, and for patch-wise augmentation in training, which is not. Initial weights are torch's defaults, as in
    the public code.

    The text leaves two choices open, which the published 23.3 M and 91.8 M parameters settle. In S* the first 5 blocks
    have attention scaling, and the feed-forward layers have the depthwise convolution. In B* all 12 blocks have it, and
    the feed-forward layers are plain (with the convolution: 92.3 M; with 5 scaled blocks, as in the last version of the
    public code: 88.5 M). Each head has factors of its own (shared, S* would have 22.3 M).

    The GMACs, 4.645 and 17.491, are 1.2 % below the published 4.7 and 17.7; it is unknown how those were counted.
    """

    def __init__(self, shape: Shape, num_classes: int, image_size: int, drop_path: float):
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        patch = shape.patch_size // STEM_STRIDE
        self.stem = nn.Sequential(
            nn.Conv2d(3, STEM_WIDTH, 7, stride=2, padding=2),
            nn.BatchNorm2d(STEM_WIDTH),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(STEM_WIDTH, shape.width, patch, stride=patch),
        )
        grid = (image_size // shape.patch_size,) * 2
        drops = torch.linspace(0, drop_path, shape.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            RVTBlock(shape, grid, index < shape.scaled_blocks, drop) for index, drop in enumerate(drops)
        )
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.head = nn.Linear(shape.width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, grid)
        return self.head(self.norm(x.mean(dim=1)))
