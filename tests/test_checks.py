"""Checks of arguments: what passes, what each refuses, and that all public functions
answer odd arguments with an error of ours.
"""

import math
import traceback
from pathlib import Path

import numpy as np
import pytest

import minibig as mb
from minibig import checks, data, models, nn, optim, training
from minibig import functional as F
from minibig.data import dates, tales
from minibig.training import metrics

PACKAGE = str(Path(mb.__file__).parent)


def refused(check, *arguments, **settings):
    with pytest.raises((TypeError, ValueError)) as caught:
        check(*arguments, **settings)
    return type(caught.value), str(caught.value)


# ---- one by one ---------------------------------------------------------------------


def test_whole_takes_every_kind_of_whole_number():
    for value in (3, np.int32(3), np.array(3), mb.tensor(3)):
        assert checks.whole("n", value, 1) == 3
        assert type(checks.whole("n", value)) is int


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (1.5, ValueError), (math.nan, ValueError), (True, TypeError),
     ("3", TypeError), (None, TypeError), (np.ones(2), TypeError)],
)  # fmt: skip
def test_whole_refuses_the_rest(value, error):
    kind, text = refused(checks.whole, "n", value, 1)
    assert kind is error and text.startswith("n must be a whole number of at least 1, ")


@pytest.mark.parametrize(
    ("value", "settings", "text"),
    [
        (-1, {"low": 0}, "p must be a finite number from 0, not -1"),
        (2, {"low": 0, "high": 1}, "p must be a number from 0 to 1, not 2"),
        (0, {"low": 0, "high": 1, "without": 0}, "(0 excluded), not 0"),
        (math.nan, {"finite": False}, "p must be a number, not nan"),
        (math.inf, {}, "p must be a finite number, not inf"),
    ],
)
def test_number_names_its_bounds(value, settings, text):
    kind, said = refused(checks.number, "p", value, **settings)
    assert kind is ValueError and said.endswith(text)


def test_number_takes_numpys_and_gives_pythons():
    assert type(checks.number("p", np.float32(0.5))) is float
    assert checks.number("p", math.inf, finite=False) == math.inf
    for value in ("1", None, True, 1j, np.ones(1), mb.ones(1)):
        assert refused(checks.number, "p", value)[0] is TypeError


def test_dtype_is_one_of_numbers():
    for value in ("float32", np.float32, np.dtype("f4")):
        assert checks.dtype(value) == np.float32
    assert checks.dtype(bool).kind == "b"
    for value in (None, "bogus", "complex64", "U3", object, nn.Linear, 3, mb.ones(1)):
        kind, said = refused(checks.dtype, value)
        assert kind is TypeError and '"float32"' in said


def test_what_was_given_is_shown_in_a_short_line():
    assert checks.shown("a") == "'a'"
    assert len(checks.shown(list(range(1000)))) == 60
    assert checks.shown(mb.ones(2, 3)) == "Tensor of (2, 3)"


# ---- odd arguments of all public functions ------------------------------------------

ODD = (None, "no", 2.5, -1, 0, math.nan, math.inf, True, [], {}, [None], ["no"])
X, W, V = mb.ones(2, 3), mb.ones(4, 3), mb.ones(3)
SEQUENCE = mb.ones(2, 3, 4)
LAYER, GPT_SIZES = nn.Linear(3, 2), (5, 4, 1, 2, 4)
CODER = data.CharTokenizer.train("ab")
ROWS = data.ArrayBatches(np.ones((4, 3), "f"), np.zeros(4, int), batch_size=2)


def fit(**settings):
    model = nn.Linear(3, 2)
    settings = {"optimizer": optim.SGD(model.parameters(), lr=0.1), **settings}
    return training.fit(settings.pop("model", model), **settings)


def generate(*arguments, **settings):
    model = models.GPT(models.GPTConfig(*GPT_SIZES))
    return model.generate(*arguments, **settings)


def on_x(name):
    return lambda *arguments: getattr(mb.ones(2, 3), name)(*arguments)


REDUCTIONS = ("sum", "mean", "var", "std", "prod", "amax", "max", "argmin", "any")
NORMALS = ("normal_", "uniform_")
ATTENTION = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None}
FIT = {
    "loader": ROWS, "loss": training.classification_loss, "steps": 1, "schedule": None,
    "clip_norm": 1.0, "accumulate": 1, "evaluate_every": 1, "monitor": "loss",
    "callbacks": (), "save_every": 1, "processes": 1, "precision": "fp32",
}  # fmt: skip

# name: (function, arguments that are right, settings that are right)
CALLS = {
    "tensor": (mb.tensor, ([1.0],), {"dtype": "float32", "device": "cpu"}),
    "zeros": (mb.zeros, (2, 3), {"dtype": "float32", "device": "cpu"}),
    "ones": (mb.ones, (2, 3), {"dtype": "float32"}),
    "full": (mb.full, ((2,), 1.0), {"dtype": "float32"}),
    "arange": (mb.arange, (0, 5, 1), {"dtype": "int64"}),
    "linspace": (mb.linspace, (0, 1, 3), {}),
    "eye": (mb.eye, (3,), {}),
    "randn": (mb.randn, (2, 3), {"dtype": "float32"}),
    "rand": (mb.rand, (2, 3), {}),
    "randint": (mb.randint, (0, 5, (2,)), {}),
    "zeros_like": (mb.zeros_like, (X,), {}),
    "seed": (mb.seed, (3,), {}),
    "cat": (mb.cat, ([X, X], 0), {}),
    "stack": (mb.stack, ([X, X], 0), {}),
    "einsum": (mb.einsum, ("ij,kj->ik", X, W), {}),
    "where": (mb.where, (X > 0, X, X), {}),
    **{name: (on_x(name), (1, False), {}) for name in REDUCTIONS},
    "cumsum": (on_x("cumsum"), (1,), {}),
    "clamp": (on_x("clamp"), (0.0, 1.0), {}),
    "reshape": (on_x("reshape"), (3, 2), {}),
    "transpose": (on_x("transpose"), (0, 1), {}),
    "unsqueeze": (on_x("unsqueeze"), (0,), {}),
    "flatten": (on_x("flatten"), (0, 1), {}),
    "split": (on_x("split"), (1, 0), {}),
    "chunk": (on_x("chunk"), (2, 0), {}),
    "unbind": (on_x("unbind"), (0,), {}),
    "tril": (on_x("tril"), (0,), {}),
    "gather": (on_x("gather"), (1, [[0], [1]]), {}),
    "to": (on_x("to"), ("cpu",), {}),
    "size": (on_x("size"), (0,), {}),
    "linear": (F.linear, (X, W, mb.ones(4)), {}),
    "softmax": (F.softmax, (X, 1), {}),
    "gelu": (F.gelu, (X, "none"), {}),
    "layer_norm": (F.layer_norm, (X, (3,), V, V, 1e-5), {}),
    "rms_norm": (F.rms_norm, (X, 3, V, 1e-6), {}),
    "dropout": (F.dropout, (X, 0.5), {}),
    "embedding": (F.embedding, ([0, 1], W), {}),
    "one_hot": (F.one_hot, ([0, 1], 3), {}),
    "cross_entropy": (
        F.cross_entropy, (X, [0, 1]),
        {"ignore_index": -100, "label_smoothing": 0.1, "reduction": "mean"},
    ),
    "mse_loss": (F.mse_loss, (X, X), {"reduction": "mean"}),
    "attention": (F.scaled_dot_product_attention, (X, X, X), ATTENTION),
    "normalize": (F.normalize, (X, 2.0, 1, 1e-12), {}),
    "Linear": (nn.Linear, (2, 3, True), {}),
    "Embedding": (nn.Embedding, (2, 3), {}),
    "LayerNorm": (nn.LayerNorm, (3, 1e-5), {}),
    "RMSNorm": (nn.RMSNorm, (3, 1e-6), {}),
    "Dropout": (nn.Dropout, (0.5,), {}),
    "GELU": (nn.GELU, ("none",), {}),
    "Softmax": (nn.Softmax, (1,), {}),
    "ModuleList": (nn.ModuleList, ([LAYER],), {}),
    "MultiheadAttention": (nn.MultiheadAttention, (4, 2, 0.1, True), {}),
    "TransformerEncoderLayer": (
        nn.TransformerEncoderLayer, (4, 2, 8, 0.1, "relu", 1e-5), {},
    ),
    "Linear()": (LAYER, (X,), {}),
    "Flatten()": (nn.Flatten(), (X,), {}),
    "MultiheadAttention()": (nn.MultiheadAttention(4, 2), (SEQUENCE,) * 3, {}),
    **{name: (getattr(nn.init, name), (X * 1, 0.0, 1.0), {}) for name in NORMALS},
    "xavier_normal_": (nn.init.xavier_normal_, (X * 1, 1.0), {}),
    "kaiming_uniform_": (nn.init.kaiming_uniform_, (X * 1, 0, "fan_in", "relu"), {}),
    "load_state_dict": (LAYER.load_state_dict, (LAYER.state_dict(),), {}),
    "Module.to": (nn.Linear(2, 2).to, ("cpu",), {}),
    "GPTConfig": (models.GPTConfig, (*GPT_SIZES, 0.0, True), {}),
    "GPT": (models.GPT, (models.GPTConfig(*GPT_SIZES),), {}),
    "generate": (
        generate, ([0], 1),
        {"temperature": 1.0, "top_k": 2, "top_p": 0.5, "stop_ids": (), "seed": 1},
    ),
    "RandomCrops": (
        data.RandomCrops, ([5] * 9,),
        {"context_length": 4, "batch_size": 2, "seed": 0},
    ),
    "Documents": (
        data.Documents, ([[1, 2], [3]],),
        {"context_length": 4, "batch_size": 2, "begin_id": 0, "shuffle": True},
    ),
    "batch": (ROWS.batch, (1,), {}),
    "tales": (tales.generate, (1, 0, "train"), {}),
    "precision": (metrics.precision, ([0, 1], [0, 1]), {"num_classes": 2}),
    "perplexity": (metrics.perplexity, ([1.0],), {}),
    "fit": (fit, (), FIT),
    "Evaluation": (training.Evaluation, (ROWS, training.classification_loss, {}), {}),
    **{
        f"encode, framed: {framed}": (
            CODER.encode, ("ab",), {"add_special_tokens": framed, "max_length": 2},
        )
        for framed in (True, False)
    },
    "encode_pair": (CODER.encode_pair, ("ab", "b"), {"max_length": 2}),
    "BPETokenizer.train": (
        data.BPETokenizer.train, ("aa aa", 257), {"min_frequency": 2},
    ),
    "WordPieceTokenizer.train": (
        data.WordPieceTokenizer.train, ("aa aa", 8),
        {"min_frequency": 2, "limit_alphabet": 10},
    ),
    "WordTokenizer.train": (data.WordTokenizer.train, ("a b",), {"max_size": 3}),
    "MaxPool2d": (nn.MaxPool2d, (2, 2, 0, 1, False), {}),
    "AvgPool2d": (nn.AvgPool2d, (2, 2, 0, False, True), {}),
    "Conv2d": (nn.Conv2d, (1, 1, 3, 1, "same"), {}),
    "LeNet()": (models.LeNet(models.LeNetConfig(4)), (mb.ones(1, 1, 4, 4),), {}),
    "dates.encode": (dates.encode, (["5 May 2024"],), {}),
    "clean_text": (data.clean_text, ("a b",), {"form": "NFC"}),
    "remove_boilerplate": (data.remove_boilerplate, (["a", "b"], 0.5), {}),
    "near_duplicates": (data.near_duplicates, (["a b", "a b"], 0.5, 2), {}),
    "deduplicate": (data.deduplicate, (["a b", "a b"], 0.5, 2), {}),
    "Standardizer": (data.Standardizer, ([[1.0, 2.0]],), {}),
    "LogUniform": (training.LogUniform, (0.1, 1.0), {}),
    "Uniform": (training.Uniform, (0.1, 1.0), {}),
    "grid": (training.grid, ({"x": (1, 2)},), {}),
    "sample": (training.sample, ({"x": (1, 2)}, 3, 0), {}),
    "search": (
        training.search, (lambda x: {"loss": x}, [{"x": 1}]),
        {"monitor": "loss", "largest": False},
    ),
    "GradScaler": (training.GradScaler, (65536.0, 2000), {}),
    "checkpoint": (mb.checkpoint, (F.relu, X), {}),
    "freeze": (training.freeze, (nn.Linear(3, 2), "*bias"), {}),
    "parameter_groups": (training.parameter_groups, (LAYER, {"*": {"lr": 0.1}}), {}),
}  # fmt: skip


def with_one_odd_argument(arguments, settings):
    for odd in ODD:
        for i in range(len(arguments)):
            yield (*arguments[:i], odd, *arguments[i + 1 :]), settings
        for name in settings:
            yield arguments, {**settings, name: odd}


@pytest.mark.parametrize("name", CALLS)
def test_odd_argument_gets_an_error_of_ours_or_an_answer(name, capsys):
    function, right, settings = CALLS[name]
    function(*right, **settings)
    for arguments, others in with_one_odd_argument(right, settings):
        try:
            with np.errstate(all="ignore"):
                function(*arguments, **others)
        except (TypeError, ValueError, IndexError) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            ours = place.filename.startswith(PACKAGE) and "raise" in place.line
            assert ours and len(str(error)) > 20, f"{arguments} {others}: {error!r}"
