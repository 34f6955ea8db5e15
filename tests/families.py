"""A small model of every family, and a batch for it."""

import numpy as np

from minibig import functional as F
from minibig import models

IDS = np.random.default_rng(0).integers(0, 11, (2, 6))
IMAGES = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype("float32")
LABELS = np.array([0, 1])
FAMILIES = {
    "gpt": (lambda: models.GPT(models.GPTConfig(11, 8, 2, 2, 8)), (IDS, IDS)),
    "llama": (
        lambda: models.Llama(models.LlamaConfig(11, 8, 2, 2, 8, 16, n_kv_head=1)),
        (IDS, IDS)),
    "bert": (
        lambda: models.BERTForMaskedLM(models.BERTConfig(11, 8, 2, 2, 8, 16)),
        (IDS, IDS)),
    "transformer": (
        lambda: models.Transformer(models.TransformerConfig(11, 1, 2, 8, 16)),
        (IDS, IDS, IDS)),
    "lstm": (
        lambda: models.LSTMClassifier(models.LSTMClassifierConfig(11, 2, 8, 8)),
        (IDS, LABELS)),
    "mlp": (lambda: models.MLP(models.MLPConfig((768, 8, 2))),
            (IMAGES.reshape(2, -1), LABELS)),
    "lenet": (lambda: models.LeNet(models.LeNetConfig(16, 3)), (IMAGES, LABELS)),
    "resnet": (lambda: models.ResNet(models.ResNetConfig()), (IMAGES, LABELS)),
    "vit": (lambda: models.ViT(models.ViTConfig(16, 4, 2, 1, 2, 8, 16)),
            (IMAGES, LABELS)),
}  # fmt: skip


def loss_of(model, *batch):
    *inputs, targets = batch
    return F.cross_entropy(model(*inputs), targets)
