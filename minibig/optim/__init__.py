"""Optimizers, gradient clipping and schedules, named as in torch.optim."""

from .adadelta import Adadelta
from .adam import Adam, AdamW
from .clip import clip_grad_norm_, clip_grad_value_
from .one_cycle import OneCycleLR
from .optimizer import Optimizer
from .schedules import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    StepLR,
    WarmupCosine,
)
from .sgd import SGD
