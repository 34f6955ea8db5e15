"""The rivals in PyTorch of the models that cpu_models.py measures.

Written as its users write them, from the layers of torch.nn, sized as ours.
"""

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
