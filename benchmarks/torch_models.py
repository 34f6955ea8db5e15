"""The rivals in PyTorch of the models that cpu_models.py measures.

Written as its users write them, from the layers of torch.nn, sized as ours.
"""

import torch
import torch.nn.functional as F
from torch import nn


def lenet(c):
    """As `minibig.models.LeNet`."""
    side = c.image_size // 2 // 2
    return nn.Sequential(
        nn.Conv2d(c.n_channels, c.widths[0], c.kernel_size, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(*c.widths, c.kernel_size, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(c.widths[1] * side * side, c.hidden[0]),
        nn.ReLU(),
        nn.Linear(*c.hidden),
        nn.ReLU(),
        nn.Linear(c.hidden[1], c.n_classes),
    )


class Block(nn.Module):
    def __init__(self, inner, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Identity()
        if stride != 1 or inner != out:
            conv = nn.Conv2d(inner, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """As `minibig.models.ResNet`."""

    def __init__(self, c):
        super().__init__()
        width, blocks = c.widths[0], []
        self.conv = nn.Conv2d(c.n_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        for stage, channels in enumerate(c.widths):
            for i in range(c.n_block):
                blocks.append(Block(width, channels, 2 if stage and not i else 1))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width, c.n_classes)

    def forward(self, images):
        x = self.blocks(F.relu(self.norm(self.conv(images))))
        return self.classifier(x.mean((2, 3)))


class LSTMClassifier(nn.Module):
    """As `minibig.models.LSTMClassifier` with the mean of the states."""

    def __init__(self, c):
        super().__init__()
        self.embedding = nn.Embedding(c.vocab_size, c.n_embd)
        self.lstm = nn.LSTM(
            c.n_embd, c.hidden_size, c.n_layer, batch_first=True,
            bidirectional=c.bidirectional,
        )  # fmt: skip
        self.classifier = nn.Linear(c.hidden_size * (1 + c.bidirectional), c.n_classes)

    def forward(self, ids):
        return self.classifier(self.lstm(self.embedding(ids))[0].mean(1))


def encoder(c, **settings):
    """The layers of BERT and ViT."""
    return nn.ModuleList(
        nn.TransformerEncoderLayer(
            c.n_embd, c.n_head, c.dim_feedforward, c.dropout, c.activation,
            c.layer_norm_eps, batch_first=True, **settings,
        )
        for _ in range(c.n_layer)
    )  # fmt: skip


class BERTClassifier(nn.Module):
    """As `minibig.models.BERTForSequenceClassification`."""

    def __init__(self, c):
        super().__init__()
        self.tokens = nn.Embedding(c.vocab_size, c.n_embd)
        self.places = nn.Embedding(c.context_length, c.n_embd)
        self.types = nn.Embedding(c.n_types, c.n_embd)
        self.norm = nn.LayerNorm(c.n_embd, c.layer_norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = encoder(c)
        self.pooler = nn.Linear(c.n_embd, c.n_embd)
        self.classifier = nn.Linear(c.n_embd, c.n_classes)

    def forward(self, ids):
        places = torch.arange(ids.shape[1])
        x = self.tokens(ids) + self.places(places) + self.types(torch.zeros_like(ids))
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.dropout(self.pooler(x[:, 0]).tanh()))


class ViT(nn.Module):
    """As `minibig.models.ViT`."""

    def __init__(self, c):
        super().__init__()
        size, count = c.patch_size, (c.image_size // c.patch_size) ** 2
        self.patches = nn.Conv2d(c.n_channels, c.n_embd, size, size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.n_embd))
        self.places = nn.Parameter(0.02 * torch.randn(1, 1 + count, c.n_embd))
        self.blocks = encoder(c, norm_first=True)
        self.norm = nn.LayerNorm(c.n_embd, c.layer_norm_eps)
        self.classifier = nn.Linear(c.n_embd, c.n_classes)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.places
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.norm(x)[:, 0])
