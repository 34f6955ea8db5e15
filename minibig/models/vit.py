"""ViT: a picture is a text of patches.

Dosovitskiy et al., arXiv 2010.11929. Departure: the class is read off the class token
by one linear layer also in pretraining, as the published fine-tuned weights do. Taught
by notebook 13.
"""

from dataclasses import dataclass

import numpy as np

from .. import checks, nn
from ..creation import tensor, zeros
from ..shaping import cat
from ..tensor import Tensor
from .published import Published


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a ViT: square pictures of `image_size` pixels a side, cut in patches."""

    image_size: int
    patch_size: int
    n_classes: int
    n_layer: int
    n_head: int
    n_embd: int
    dim_feedforward: int
    n_channels: int = 3
    dropout: float = 0.0
    activation: str = "gelu"
    layer_norm_eps: float = 1e-6

    def __post_init__(self):
        sizes = ("image_size", "patch_size", "n_classes", "n_layer", "n_head", "n_embd",
                 "dim_feedforward", "n_channels")  # fmt: skip
        for name in sizes:
            checks.whole(f"ViTConfig: {name}", getattr(self, name), 1)
        for part, whole in (("patch_size", "image_size"), ("n_head", "n_embd")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"ViTConfig: {part} {getattr(self, part)} does not divide {whole} "
                    f"{getattr(self, whole)}"
                )
        checks.probability("ViTConfig: dropout", self.dropout, without=1)
        checks.choice("ViTConfig: activation", self.activation, nn.ACTIVATIONS)
        checks.number("ViTConfig: layer_norm_eps", self.layer_norm_eps, 0)


class ViT(Published):
    """Logits of a picture's class: (B, channels, height, width) -> (B, n_classes).

    Pictures of other sizes, a multiple of the patch each way, get the positions it has
    learnt, interpolated (section 3.2).
    """

    def __init__(self, config):
        c = self.config = checks.kind("ViT: config", config, ViTConfig)
        self.patch_embedding = nn.Linear(c.n_channels * c.patch_size**2, c.n_embd)
        self.class_token = nn.Parameter(zeros(1, 1, c.n_embd))
        count = (c.image_size // c.patch_size) ** 2
        self.position_embedding = nn.Parameter(zeros(1, 1 + count, c.n_embd))
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                c.n_embd, c.n_head, c.dim_feedforward, c.dropout, c.activation,
                c.layer_norm_eps, norm_first=True,
            )
            for _ in range(c.n_layer)
        )  # fmt: skip
        self.norm = nn.LayerNorm(c.n_embd, c.layer_norm_eps)
        self.classifier = nn.Linear(c.n_embd, c.n_classes)
        self._initialise()

    def _initialise(self):
        """Deviation 0.02 for weights and positions; biases and class token 0."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 or name == "position_embedding":
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, images):
        return self.classifier(self.hidden_states(images)[:, 0])

    def hidden_states(self, images):
        """Vectors of the class token and of each patch, row by row: (B, 1 + N, C)."""
        x = self._embedded(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def attention_maps(self, images):
        """Where each layer looks: a list of (B, H, 1 + N, 1 + N), rows sum to 1.

        Row 0 is the class token's; columns 1 … N are the patches, row by row.
        """
        x, maps = self._embedded(images), []
        for block in self.blocks:
            maps.append(block.self_attn.attention_weights(block.norm1(x)))
            x = block(x)
        return maps

    def _embedded(self, images):
        c = self.config
        if not isinstance(images, Tensor):
            images = tensor(images, device=self.device)
        if images.ndim != 4 or images.shape[1] != c.n_channels:
            raise ValueError(
                f"ViT takes pictures of (batch, {c.n_channels}, height, width), not "
                f"{images.shape}"
            )
        grid = [n // c.patch_size for n in images.shape[2:]]
        if 0 in grid or any(n % c.patch_size for n in images.shape[2:]):
            raise ValueError(
                f"ViT: patches of {c.patch_size} pixels do not fill pictures of "
                f"{images.shape[2:]}"
            )
        patches = patches_of(images, c.patch_size)  # (B, N, channels · P²)
        x = self.patch_embedding(patches)  # (B, N, C)
        first = self.class_token.expand(len(x), 1, c.n_embd)
        return self.dropout(cat([first, x], 1) + self.positions(*grid))

    def positions(self, height, width):
        """The learnt positions (1, 1 + N, C), interpolated to this many patches.

        The class token's is the first, the others are the patches', row by row.
        """
        checks.whole("ViT.positions: height", height, 1)
        checks.whole("ViT.positions: width", width, 1)
        side = self.config.image_size // self.config.patch_size
        table = self.position_embedding
        if (height, width) == (side, side):
            return table
        grid = table[0, 1:].reshape(side, side, -1)
        rows, columns = (
            tensor(bicubic(side, n), dtype=table.dtype, device=table.device)
            for n in (height, width)
        )
        grid = (rows @ grid.reshape(side, -1)).reshape(height, side, -1)
        grid = columns @ grid  # (height, width, C)
        return cat([table[:, :1], grid.reshape(1, height * width, -1)], 1)


def patches_of(images, size):
    """Pictures cut into squares: (B, channels, H, W) -> (B, N, channels · size²).

    The squares come row by row, the numbers of one by channel, then row, then column.
    """
    b, channels, h, w = images.shape
    x = images.reshape(b, channels, h // size, size, w // size, size)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (B, rows, columns, channels, size, size)
    return x.reshape(b, (h // size) * (w // size), channels * size * size)


def bicubic(before, after):
    """The weights (after, before) by which `after` numbers are read off `before`.

    Keys' cubic convolution with a = -0.75, ends repeated, places in the middle of their
    cells: what PyTorch calls "bicubic" and published ViTs are interpolated with.
    """
    places = (np.arange(after) + 0.5) * before / after - 0.5
    start = np.floor(places).astype(int)
    weights = np.zeros((after, before))
    for i in range(-1, 3):
        distance = np.abs(places - (start + i))
        near = (1.25 * distance - 2.25) * distance**2 + 1
        far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
        cell = np.clip(start + i, 0, before - 1)
        weights[np.arange(after), cell] += np.where(distance <= 1, near, far)
    return weights
