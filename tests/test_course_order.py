"""What a notebook and its checks use, it or an earlier notebook has introduced.

The code of course/NN_*.py and of exercises/course/nbNN.py is read, not run: every name
of the library that they import or reach through a module.
"""

import ast
from pathlib import Path

import pytest

import minibig

ROOT = Path(minibig.__file__).resolve().parent.parent
NOTEBOOKS = sorted(ROOT.glob("course/[0-9][0-9]_*.py"))
CHECKS = sorted(ROOT.glob("minibig/exercises/course/nb*.py"))

# From this notebook on a name may be used: it is built there, or explained. The longest
# entry that fits decides; what has none of its own comes with its module, in 15 at the
# latest. Tools come with 00: making arrays, data, training loops, pictures, and presets
# (which train a whole model by its name, as 00 does with a GPT).
INTRODUCED = {
    "00": """
        seed random no_grad DeviceError creation tensor Tensor zeros ones eye arange
        randn where cat viz data training presets recipes exercises files""",
    "01": "einsum functional.softmax functional.log_softmax backend.array_module",
    "02": "gradcheck",
    "03": """
        optim.SGD optim.Adadelta optim.Adam optim.AdamW optim.StepLR optim.LinearLR
        optim.CosineAnnealingLR optim.WarmupCosine""",
    "04": """
        nn.Module nn.ModuleList nn.Parameter nn.Sequential nn.Linear nn.ReLU nn.GELU
        nn.Tanh nn.Sigmoid nn.Dropout nn.init nn.evaluating
        functional.linear functional.relu functional.sigmoid
        functional.tanh functional.gelu functional.dropout functional.mse_loss
        functional.cross_entropy functional.binary_cross_entropy_with_logits models.MLP
        training.accuracy training.precision training.recall training.f1
        training.confusion_matrix""",
    "05": """
        nn.BatchNorm1d nn.Flatten functional.batch_norm data.Augmented data.affine
        data.RandomAffine data.RandomHorizontalFlip data.Standardizer data.clean_text
        data.near_duplicates training.search training.grid training.sample
        training.LogUniform""",
    "06": """
        nn.Conv2d nn.BatchNorm2d nn.MaxPool2d nn.AvgPool2d functional.conv2d
        functional.max_pool2d functional.avg_pool2d models.LeNet models.ResNet""",
    "07": """
        nn.RNN nn.LSTM nn.Embedding functional.rnn functional.lstm functional.embedding
        optim.clip_grad_norm_ models.LSTMClassifier data.real_or_shuffled
        data.which_library""",
    "08": """
        nn.MultiheadAttention functional.scaled_dot_product_attention nn.rotary
        nn.sinusoidal_positions""",
    "09": """
        nn.LayerNorm nn.TransformerEncoderLayer nn.TransformerDecoderLayer
        functional.layer_norm models.Transformer beam_search data.dates tasks.dates""",
    "10": """
        data.tokenizers data.load_tokenizer data.CharTokenizer data.WordTokenizer
        data.BPETokenizer data.WordPieceTokenizer""",
    "11": """
        nn.RMSNorm nn.SwiGLU functional.rms_norm generation models.GPT models.Llama
        data.ngram data.tales.entropy data.tales.excess data.tales.floor
        data.tales.expected_tokens data.tales.log_probability training.next_token_loss
        """,
    "12": """
        models.BERT models.BERTForMaskedLM data.mask_tokens training.freeze
        training.parameter_groups functional.normalize tasks.masked_language
        pretrained.PYTHON_BERT""",
    "13": "models.ViT models.vit",
    "14": "pretrained files.load_arrays",
    "15": """
        minibig nn functional optim models backend kernels ops autograd bench tasks
        exercises.cuda""",
    "19": "training.GradScaler training.DataParallel checkpoint",
}

# Used before its notebook, and why.
EXCEPTIONS = {
    ("01", "functional.layer_norm"): "what einsum and broadcasting are held against",
    ("01", "functional.mse_loss"): "what it refuses, two shapes that would broadcast",
}
FIRST = {name: number for number, text in INTRODUCED.items() for name in text.split()}


# ---- reading -------------------------------------------------------------------------


def names_of(code, package=""):
    """The dotted names of minibig that `code` imports, or reaches through a module."""
    known, found = {}, set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, meaning in _imported(node, package):
                known[name] = meaning
                found.add(meaning)
    for node in ast.walk(ast.parse(code)):
        first, *rest = _dotted(node)
        if rest and first in known:
            found.add(".".join([known[first], *rest]))
    return {name.removeprefix("minibig.") for name in found if name[:7] == "minibig"}


def _imported(node, package):
    """(name in the code, dotted meaning) of each name that an import makes."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (
                alias.asname or alias.name.split(".")[0],
                (alias.name if alias.asname else alias.name.split(".")[0]),
            )
            yield "", alias.name
        return
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    module = ".".join(filter(None, [*(parents if node.level else []), node.module]))
    for alias in node.names:
        yield alias.asname or alias.name, f"{module}.{alias.name}"


def _dotted(node):
    """["nn", "Linear"] for the expression nn.Linear; [""] for what has no name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *parts[::-1]] if isinstance(node, ast.Name) else [""]


def too_early(number, names):
    """Those of `names` that notebook `number` may not use yet, with their notebooks."""
    found = {}
    for name in names:
        first = notebook_of(name)
        if first > number and not any(
            (number, entry) in EXCEPTIONS for entry in prefixes(name)
        ):
            found[name] = first
    return found


def notebook_of(name):
    """The number of the notebook from which on `name` may be used."""
    if name.startswith("exercises.course.nb"):
        return name.removeprefix("exercises.course.nb")[:2]
    if name == "minibig" or (name in FIRST and is_module(name)):
        return "00"  # a module alone teaches nothing; what is reached through it does
    return next((FIRST[p] for p in prefixes(name) if p in FIRST), FIRST["minibig"])


def prefixes(name):
    """a.b.c, a.b and a; a model's settings come with the model."""
    parts = name.removesuffix("Config").split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def is_module(name):
    path = ROOT / "minibig" / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


# ---- the course ----------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_uses_nothing_that_a_later_one_introduces(path):
    assert too_early(path.stem[:2], names_of(path.read_text("utf-8"))) == {}


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_checks_use_nothing_that_a_later_notebook_introduces(path):
    names = names_of(path.read_text("utf-8"), "minibig.exercises.course")
    assert too_early(path.stem[2:4], names) == {}


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_checks_need_nothing_but_python_numpy_and_the_library(path):
    allowed = {"numpy", "math", "re", "itertools", "functools", "contextlib"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for _, meaning in _imported(node, "minibig.exercises.course"):
                assert meaning.split(".")[0] in allowed | {"minibig"}, meaning


def test_every_exception_is_still_needed():
    for number, entry in EXCEPTIONS:
        (path,) = ROOT.glob(f"course/{number}_*.py")
        names = names_of(path.read_text("utf-8"))
        assert any(entry in prefixes(name) for name in names), (number, entry)
        assert notebook_of(entry) > number


# ---- the reader itself ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from minibig.exercises.course import nb14", "exercises.course.nb14"),
        ("from .nb14 import gelu", "exercises.course.nb14.gelu"),
        ("from ...models import GPT", "models.GPT"),
        ("from ... import models\nmodels.GPT(3)", "models.GPT"),
        ("import minibig as mb\nmb.models.GPT", "models.GPT"),
        ("import minibig.models as m\nf(m.GPT)", "models.GPT"),
        ("import minibig.models\nminibig.models.GPT", "models.GPT"),
        ("def f():\n    from minibig.models.gpt import GPT", "models.gpt.GPT"),
        ("from minibig import functional as F\nF.scaled_dot_product_attention(q)",
         "functional.scaled_dot_product_attention"),
        ("from minibig import nn\nclass A(nn.TransformerEncoderLayer): ...",
         "nn.TransformerEncoderLayer"),
        ("from minibig import optim\noptim.SGD", "optim.SGD"),
    ],
)  # fmt: skip
def test_a_name_of_a_later_notebook_is_found(code, name):
    names = names_of(code, "minibig.exercises.course")
    assert name in too_early("02", names)
    assert too_early("19", names) == {}


def test_modules_and_tools_are_there_from_the_start():
    code = "import minibig as mb\nfrom minibig import data, kernels, nn\n"
    code += "mb.tensor([1]); data.digits(); np.exp(x).models.GPT"
    assert too_early("00", names_of(code)) == {}
