"""Handwritten digits, 8x8 pixels: which of ten is it?"""

from dataclasses import dataclass

from .. import checks, data, nn
from ..functional import cross_entropy
from ..models import MLP, LeNet, LeNetConfig, MLPConfig, ViT, ViTConfig
from ..training import Evaluation, accuracy, classification_loss
from .base import Preset, Task

SIDE, CLASSES = 8, 10


@dataclass(frozen=True, kw_only=True)
class DigitsPreset(Preset):
    """A classifier of the digits; its family adds `make_model`."""

    degrees: float = 0.0  # the training pictures are turned up to so far
    shift: float = 0.0  # pixels they are moved up to, each way
    scale: float = 0.0  # share they are made larger or smaller up to
    label_smoothing: float = 0.0
    beta2: float = 0.999

    def __post_init__(self):
        name = f"{type(self).__name__}: label_smoothing"
        checks.number(name, self.label_smoothing, 0, 1)

    def make_model(self):
        """The model with its first weights."""
        raise NotImplementedError(f"{type(self).__name__} must say how to make a model")

    def prepare(self):
        """The Task of this preset: 1,258 digits to learn, 270 to watch, 269 to judge.

        Watching keeps the weights of the smallest loss without smoothing.
        """
        digits = data.digit_images()
        training = data.ArrayBatches(
            *digits.train, batch_size=self.batch_size, seed=self.seed
        )
        if self.degrees or self.shift or self.scale:
            change = data.RandomAffine(self.degrees, self.shift, self.scale)
            training = data.Augmented(training, change)
        watching, judge = (
            Evaluation(
                data.ArrayBatches(*part, batch_size=256, shuffle=False),
                classification_loss,
                {"accuracy": accuracy},
            )
            for part in (digits.validation, digits.test)
        )

        def loss(model, images, labels):
            smoothing = self.label_smoothing
            return cross_entropy(model(images), labels, label_smoothing=smoothing)

        return Task(self.make_model(), training, watching, loss, judge)

    def describe(self, results):
        """Accuracy and loss, in words."""
        return (
            f"{results['accuracy']:.2%} of the digits are recognised, loss "
            f"{results['loss']:.4f} nats"
        )


@dataclass(frozen=True, kw_only=True)
class MLPPreset(DigitsPreset):
    """An MLP that sees 64 numbers and no picture; see `models.MLPConfig`."""

    hidden: tuple[int, ...] = (128,)
    dropout: float = 0.0
    batch_norm: bool = False

    def make_model(self):
        """The MLP with its first weights."""
        sizes = (SIDE * SIDE, *self.hidden, CLASSES)
        return MLP(MLPConfig(sizes, dropout=self.dropout, batch_norm=self.batch_norm))


@dataclass(frozen=True, kw_only=True)
class CNNPreset(DigitsPreset):
    """A LeNet; see `models.LeNetConfig`."""

    kernel_size: int = 3
    widths: tuple[int, int] = (16, 32)
    hidden: tuple[int, int] = (120, 84)
    dropout: float = 0.0

    def make_model(self):
        """The LeNet with its first weights."""
        return LeNet(
            LeNetConfig(
                SIDE, 1, CLASSES, self.kernel_size, self.widths, self.hidden,
                self.dropout,
            )
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ViTPreset(DigitsPreset):
    """A ViT; see `models.ViTConfig`."""

    patch_size: int = 2
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 64
    dim_feedforward: int = 128
    dropout: float = 0.0

    def make_model(self):
        """The ViT with its first weights: deviation 1/√inputs, 0.5 for positions.

        `ViT` itself draws with 0.02, which is made for widths near 768: one of 48
        hands on so little at first that it learns several times more slowly.
        """
        model = ViT(
            ViTConfig(
                SIDE, self.patch_size, CLASSES, self.n_layer, self.n_head, self.n_embd,
                self.dim_feedforward, n_channels=1, dropout=self.dropout,
            )
        )  # fmt: skip
        for parameter in model.parameters():
            if parameter.ndim == 2:
                nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        nn.init.normal_(model.position_embedding, std=0.5)
        return model
