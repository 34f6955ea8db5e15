"""What learners get wrong with layers, losses, models and optimizers: each mistake
raises one clear error, before any work.
"""

import dataclasses

import numpy as np
import pytest
from mistake import hold, mistake

import minibig as mb
from minibig import functional as F
from minibig import models, nn, optim
from minibig.presets import PRESETS
from minibig.tasks.dates import translate


def gpt(**changes):
    sizes = {"vocab_size": 5, "context_length": 4, "n_layer": 1, "n_head": 2}
    return models.GPT(models.GPTConfig(**{**sizes, "n_embd": 4, **changes}))


def attention(*shapes, **settings):
    return F.scaled_dot_product_attention(*(mb.ones(s) for s in shapes), **settings)


def leaf(*sizes):
    return mb.ones(*sizes, requires_grad=True)


def stepped_with_another_shape():
    w = leaf(2)
    w.grad = mb.ones(3)
    optim.SGD([w]).step()


LAYERS = [
    mistake("an id beyond the vocabulary",
            lambda: F.embedding([1, 5], mb.ones(5, 2)),
            IndexError, "id 5", "0 … 4"),
    mistake("an id below zero", lambda: F.embedding([-1], mb.ones(5, 2)),
            IndexError, "id -1", "vocabulary"),
    mistake("float ids", lambda: F.embedding(mb.tensor([1.0]), mb.ones(5, 2)),
            TypeError, "whole numbers", "float32"),
    mistake("a label beyond the classes",
            lambda: F.cross_entropy(mb.ones(2, 3), [0, 3]),
            IndexError, "id 3", "3 classes"),
    mistake("float labels", lambda: F.cross_entropy(mb.ones(2, 3), mb.ones(2)),
            TypeError, "whole numbers", "float32"),
    mistake("labels of another shape",
            lambda: F.cross_entropy(mb.ones(2, 3), [[0], [1]]),
            ValueError, "(2, 3)", "(2, 1)"),
    mistake("every label ignored",
            lambda: F.cross_entropy(mb.ones(2, 3), [-100, -100]),
            ValueError, "ignored", "no mean"),
    mistake("a reduction by another name",
            lambda: F.cross_entropy(mb.ones(1, 3), [0], reduction="avg"),
            ValueError, '"mean"', "'avg'"),
    mistake("a list into a loss", lambda: F.mse_loss([1.0], mb.ones(1)),
            TypeError, "Tensor", "list"),
    mistake("targets of another shape", lambda: F.mse_loss(mb.ones(2, 1), mb.ones(2)),
            ValueError, "(2, 1)", "(2,)"),
    mistake("features that do not fit", lambda: nn.Linear(3, 2)(mb.ones(4, 5)),
            ValueError, "(4, 5)", "(2, 3)"),
    mistake("whole numbers into a layer",
            lambda: nn.Linear(3, 2)(mb.tensor([[1, 2, 3]])),
            TypeError, "int64", "float32"),
    mistake("an array into a layer", lambda: F.linear(np.ones((1, 3)), mb.ones(2, 3)),
            TypeError, "Tensor", "ndarray"),
    mistake("two float widths", lambda: F.linear(mb.ones(1, 2, dtype="float64"),
                                                 mb.ones(3, 2)),
            TypeError, "float64", "float32"),
    mistake("a norm of another width", lambda: nn.LayerNorm(4)(mb.ones(2, 3)),
            ValueError, "(2, 3)", "(4,)"),
    mistake("a width with a fraction", lambda: F.layer_norm(mb.ones(2, 3), 3.0),
            TypeError, "whole numbers", "(3.0,)"),
    mistake("a norm over no axis", lambda: nn.LayerNorm([]),
            ValueError, "normalized_shape", "64"),
    mistake("a norm of width 0", lambda: nn.RMSNorm(0),
            ValueError, "normalized_shape", "not 0"),
    mistake("None into a layer", lambda: nn.Linear(3, 2)(None),
            TypeError, "linear: input", "NoneType"),
    mistake("a list into attention", lambda: nn.MultiheadAttention(4, 2)([1.0]),
            TypeError, "attention: input", "list"),
    mistake("three sizes for a layer", lambda: nn.Linear(2, 3, 4),
            TypeError, "bias", "not 4"),
    mistake("a mask in the place of is_causal",
            lambda: F.scaled_dot_product_attention(*[mb.ones(2, 4)] * 3, None, 0.0, 2),
            TypeError, "is_causal", "not 2"),
    mistake("a probability above 1", lambda: F.dropout(mb.ones(2), 1.5),
            ValueError, "probability", "1.5"),
    mistake("gelu by another name", lambda: F.gelu(mb.ones(2), "fast"),
            ValueError, '"tanh"', "'fast'"),
    mistake("softmax along no axis", lambda: F.softmax(mb.ones(2, 3), 2),
            IndexError, "softmax", "dim 2"),
    mistake("queries and keys of two widths",
            lambda: attention((1, 2, 4), (1, 2, 3), (1, 2, 3)),
            ValueError, "q (1, 2, 4)", "k (1, 2, 3)"),
    mistake("keys and values of two lengths",
            lambda: attention((1, 2, 4), (1, 3, 4), (1, 2, 4)),
            ValueError, "k (1, 3, 4)", "v (1, 2, 4)"),
    mistake("a mask of whole numbers",
            lambda: attention(*[(1, 2, 4)] * 3, attn_mask=[[1, 0], [1, 1]]),
            TypeError, "booleans", "int64"),
    mistake("an attention mask of another shape",
            lambda: attention(*[(1, 2, 4)] * 3, attn_mask=mb.ones(3, 3) > 0),
            ValueError, "mask", "(3, 3)"),
]  # fmt: skip

MODELS = [
    mistake("pooling with padding below zero", lambda: nn.AvgPool2d(2, padding=-1),
            ValueError, "padding", "not -1"),
    mistake("pooling with too much padding", lambda: nn.MaxPool2d(2, padding=2),
            ValueError, "MaxPool2d: padding (2, 2)", "half the kernel (2, 2)"),
    mistake("pooling with a word for a switch", lambda: nn.AvgPool2d(2, ceil_mode="no"),
            TypeError, "AvgPool2d: ceil_mode", "'no'"),
    mistake("same size in steps of two",
            lambda: nn.Conv2d(1, 1, 3, padding="same", stride=2),
            ValueError, "stride 1", "(2, 2)"),
    mistake("a padding by another name", lambda: nn.Conv2d(1, 1, 3, padding="full"),
            ValueError, '"same"', "'full'"),
    mistake("padding that is no token",
            lambda: models.LSTMClassifierConfig(10, 2, 4, 4, pad_id=50),
            ValueError, "pad_id 50", "vocabulary of 10"),
    mistake("an end that is no token", lambda: gpt().generate([0], 3, stop_ids=999),
            ValueError, "vocabulary of 5", "not 999"),
    mistake("a list of pictures", lambda: models.LeNet(models.LeNetConfig())([[1.0]]),
            TypeError, "LeNet: input must be a Tensor", "list"),
    mistake("a preset that smooths by two",
            lambda: dataclasses.replace(PRESETS["mlp"], label_smoothing=2.0),
            ValueError, "MLPPreset: label_smoothing", "not 2.0"),
    mistake("a preset for dates that smooths by two",
            lambda: dataclasses.replace(PRESETS["transformer"], label_smoothing=2.0),
            ValueError, "DatesPreset: label_smoothing", "not 2.0"),
    mistake("a BERT that sees [CLS] alone",
            lambda: dataclasses.replace(PRESETS["bert"], context_length=1),
            ValueError, "BERTPreset: context_length", "at least 2"),
    mistake("one date in the place of several",
            lambda: translate(None, "5 May 2024"),
            TypeError, "several", "a list or tuple, not str"),
    mistake("heads that do not divide the width", lambda: gpt(n_head=3),
            ValueError, "n_head 3", "n_embd 4"),
    mistake("attention dropout above 1", lambda: nn.MultiheadAttention(4, 2, dropout=2),
            ValueError, "dropout is a probability", "not 2"),
    mistake("a dict for a config", lambda: models.GPT({"n_layer": 2}),
            TypeError, "GPTConfig", "dict"),
    mistake("a list for a state", lambda: nn.Linear(2, 2).load_state_dict([1]),
            TypeError, "a state", "list"),
    mistake("heads in attention", lambda: nn.MultiheadAttention(4, 3),
            ValueError, "num_heads 3", "embed_dim 4"),
    mistake("more tokens than the context", lambda: gpt()([[0] * 5]),
            ValueError, "5 tokens", "context of 4"),
    mistake("ids without a batch axis", lambda: gpt()([0, 1]),
            ValueError, "(batch, length)", "(2,)"),
    mistake("an unknown token", lambda: gpt()([[0, 9]]),
            IndexError, "id 9", "vocabulary"),
    mistake("a model of size 0", lambda: gpt(n_layer=0), ValueError, "n_layer", "0"),
    mistake("nothing to continue", lambda: gpt().generate([], 3),
            ValueError, "at least one token", "(0,)"),
    mistake("a temperature below zero",
            lambda: gpt().generate([0], 3, temperature=-1),
            ValueError, "temperature", "-1"),
    mistake("weights of another model",
            lambda: nn.Linear(3, 2).load_state_dict(nn.Linear(2, 2).state_dict()),
            ValueError, "weight", "(2, 2)"),
    mistake("weights missing", lambda: nn.Linear(3, 2).load_state_dict({}),
            ValueError, "weight", "bias"),
    mistake("no Modules in a list", lambda: nn.Sequential(nn.ReLU(), "relu"),
            TypeError, "Modules", "str"),
    mistake("an optimizer of nothing", lambda: optim.SGD([]),
            ValueError, "no parameters", "empty"),
    mistake("an optimizer of a result", lambda: optim.Adam([leaf(2) * 2]),
            ValueError, "leaves", "multiply"),
    mistake("an optimizer of constants", lambda: optim.AdamW([mb.ones(2)]),
            ValueError, "requires no gradient", "(2,)"),
    mistake("a rate below zero", lambda: optim.SGD([leaf(2)], lr=-0.1),
            ValueError, "lr", "-0.1"),
    mistake("a gradient of another shape in a step", stepped_with_another_shape,
            ValueError, "(3,)", "(2,)"),
]  # fmt: skip


@pytest.mark.parametrize("row", LAYERS + MODELS, ids=lambda row: row.what)
def test_mistake_is_named(row):
    hold(row)


def test_catalogue_is_large_and_names_each_mistake_once():
    rows = LAYERS + MODELS
    assert len({row.what for row in rows}) == len(rows) >= 30
