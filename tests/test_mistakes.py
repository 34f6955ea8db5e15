"""What learners get wrong with tensors and gradients: each raises one clear error,
before any work. Those with layers and models stand in test_model_mistakes.py.
"""

import pytest
from mistake import hold, mistake

import minibig as mb
from minibig import optim


def leaf(*sizes):
    return mb.ones(*sizes, requires_grad=True)


def twice(x):
    y = (x * x).sum()
    y.backward()
    y.backward()


def changed(x):
    w = leaf(2)
    y = (w * x).sum()
    x.add_(1)
    y.backward()


MAKING = [
    mistake("ragged lists", lambda: mb.tensor([[1, 2], [3]]),
            ValueError, "ragged", "equal lengths"),
    mistake("strings", lambda: mb.tensor(["a", "b"]),
            TypeError, "holds numbers", "<U1"),
    mistake("None", lambda: mb.tensor(None), TypeError, "holds numbers", "object"),
    mistake("a gradient of whole numbers",
            lambda: mb.tensor([1, 2], requires_grad=True),
            TypeError, "floating-point", "int64"),
    mistake("a device by another name", lambda: mb.ones(2, device="gpu"),
            ValueError, '"cuda"', "'gpu'"),
    mistake("moving to a device by another name", lambda: mb.ones(2).to("gpu"),
            TypeError, '"cuda"', "'gpu'"),
    mistake("a list for the constructor", lambda: mb.Tensor([1.0]),
            TypeError, "list", "minibig.tensor(data)"),
    mistake("sizes that are no whole numbers", lambda: mb.zeros(2.5, 3),
            TypeError, "whole numbers", "(2.5, 3)"),
    mistake("a size below zero", lambda: mb.zeros(2, -1),
            ValueError, "at least 0", "(2, -1)"),
    mistake("an empty range to draw from", lambda: mb.randint(5, 1, (2,)),
            ValueError, "low 5", "high 1"),
    mistake("a range without a step", lambda: mb.arange(0, 5, 0),
            ValueError, "arange", "step of 0"),
    mistake("a dtype by another name", lambda: mb.ones(2, dtype="bogus"),
            TypeError, '"float32"', "'bogus'"),
    mistake("complex numbers", lambda: mb.ones(2, dtype="complex64"),
            TypeError, '"float32"', "'complex64'"),
    mistake("a device by number", lambda: mb.ones(2, device=0),
            ValueError, '"cuda"', "not 0"),
    mistake("zeros like a list", lambda: mb.zeros_like([1.0]),
            TypeError, "Tensor", "list"),
    mistake("filled with text", lambda: mb.full((2,), "a"),
            TypeError, "holds numbers", "<U1"),
    mistake("a dtype of None", lambda: mb.ones(2).to(None), TypeError, "dtype", "None"),
    mistake("a seed below zero", lambda: mb.seed(-1), ValueError, "at least 0", "-1"),
]  # fmt: skip

SHAPES = [
    mistake("inner sizes", lambda: mb.ones(2, 3) @ mb.ones(2, 3),
            ValueError, "(2, 3) @ (2, 3)", "inner sizes 3 and 2"),
    mistake("multiplying by a number with @", lambda: mb.ones(2, 2) @ mb.tensor(2.0),
            ValueError, "()", "use *"),
    mistake("batch axes of a product", lambda: mb.ones(2, 3, 4) @ mb.ones(5, 4, 3),
            ValueError, "(2,)", "(5,)"),
    mistake("shapes that do not broadcast", lambda: mb.ones(4, 3) + mb.ones(4),
            ValueError, "(4, 3) and (4,)", "axis -1 has 3 and 4"),
    mistake("a list of another length", lambda: mb.ones(3) * [1.0, 2.0],
            ValueError, "(3,)", "(2,)"),
    mistake("an axis that is not there", lambda: mb.ones(2, 3).sum(2),
            IndexError, "dim 2", "-2 … 1"),
    mistake("an axis by name", lambda: mb.ones(2, 3).sum("rows"),
            TypeError, "sum", "'rows'"),
    mistake("two axes without a tuple", lambda: mb.ones(2, 3).sum(0, 1),
            TypeError, "keepdim", "dim=(0, 1)"),
    mistake("an axis True", lambda: mb.ones(2, 3).mean(True),
            TypeError, "mean: dim", "True"),
    mistake("a bound that is text", lambda: mb.ones(2).clamp("low"),
            TypeError, "clamp: min", "'low'"),
    mistake("cat of a number", lambda: mb.cat(3), TypeError, "list", "int"),
    mistake("an axis twice", lambda: mb.ones(2, 3).sum((0, -2)),
            ValueError, "(0, -2)", "twice"),
    mistake("reshape to another size", lambda: mb.ones(2, 3).reshape(4, 2),
            ValueError, "6 elements", "(4, 2)"),
    mistake("two unknown sizes", lambda: mb.ones(2, 3).reshape(-1, -1),
            ValueError, "(2, 3)", "(-1, -1)"),
    mistake("too few axes to permute", lambda: mb.ones(2, 3).permute(0),
            ValueError, "2 dimensions", "(0,)"),
    mistake("expanding an axis that is not 1", lambda: mb.ones(2, 3).expand(4, 3),
            ValueError, "(2, 3)", "(4, 3)"),
    mistake("cat of different sizes", lambda: mb.cat([mb.ones(2, 3), mb.ones(2, 4)]),
            ValueError, "[(2, 3), (2, 4)]", "dim 0"),
    mistake("cat of nothing", lambda: mb.cat([]), ValueError, "cat", "at least one"),
    mistake("stack of different sizes", lambda: mb.stack([mb.ones(2), mb.ones(3)]),
            ValueError, "stack", "[(2,), (3,)]"),
    mistake("split sizes", lambda: mb.ones(5).split([2, 2]),
            ValueError, "[2, 2]", "add up to 5"),
    mistake("einsum: one axis, two sizes",
            lambda: mb.einsum("ij,jk->ik", mb.ones(2, 3), mb.ones(4, 5)),
            ValueError, "'j'", "3 and 4"),
    mistake("no pieces", lambda: mb.ones(5).chunk(0), ValueError, "at least 1", "0"),
    mistake("einsum: digits for axes", lambda: mb.einsum("i2->i", mb.ones(2, 3)),
            ValueError, "i2->i", "letters"),
    mistake("einsum without an equation", lambda: mb.einsum(mb.ones(2)),
            TypeError, "equation", "Tensors"),
    mistake("einsum: operands missing", lambda: mb.einsum("ij,jk->ik", mb.ones(2, 3)),
            ValueError, "2 operands", "1 given"),
    mistake("index out of range", lambda: mb.ones(2, 3)[2],
            IndexError, "(2, 3)", "index 2 is out of bounds"),
    mistake("too many indices", lambda: mb.ones(2, 3)[0, 0, 0],
            IndexError, "(2, 3)", "too many indices"),
    mistake("a mask of another shape", lambda: mb.ones(2, 3)[mb.ones(3) > 0],
            IndexError, "(2, 3)", "boolean"),
    mistake("a float as an index", lambda: mb.ones(3)[1.0],
            IndexError, "(3,)", "integers"),
    mistake("gather out of range", lambda: mb.ones(2, 3).gather(1, [[3], [0]]),
            IndexError, "gather", "0 … 2"),
    mistake("gather by floats", lambda: mb.ones(2, 3).gather(1, [[0.0], [1.0]]),
            ValueError, "whole numbers", "float64"),
    mistake("the largest of nothing", lambda: mb.ones(0, 3).amax(0),
            ValueError, "no elements", "(0, 3)"),
    mistake("item of many", lambda: mb.ones(2).item(), ValueError, "one", "(2,)"),
    mistake("a tensor as a condition", lambda: bool(mb.ones(2) > 0),
            ValueError, "(2,)", ".any() or .all()"),
    mistake("a condition of numbers", lambda: mb.where(mb.ones(2), 1.0, 0.0),
            TypeError, "where", "booleans"),
    mistake("and between fractions", lambda: mb.ones(2) & mb.ones(2),
            TypeError, "and", "float32"),
    mistake("not of a fraction", lambda: ~mb.ones(2), TypeError, "~", "float32"),
    mistake("adding another shape in place", lambda: mb.ones(2, 2).add_(mb.ones(3)),
            ValueError, "add_", "(2, 2) and (3,)"),
    mistake("adding a larger shape in place", lambda: mb.ones(3).mul_(mb.ones(2, 3)),
            ValueError, "mul_", "(2, 3) does not fit into (3,)"),
    mistake("fractions into whole numbers", lambda: mb.tensor([1, 2]).add_(0.5),
            TypeError, "int64", ".float()"),
    mistake("assigning outside", lambda: mb.ones(2).__setitem__(5, 1),
            IndexError, "(2,)", "index 5"),
    mistake("assigning another shape",
            lambda: mb.ones(2).__setitem__(slice(None), mb.ones(3)),
            ValueError, "(2,)", "(3,)"),
    mistake("mean of whole numbers", lambda: mb.tensor([1, 2]).mean(),
            TypeError, "int64", ".float()"),
    mistake("combined with a string", lambda: mb.ones(2) + "1",
            TypeError, "tensor", "str"),
    mistake("combined with None", lambda: mb.ones(2) * None,
            TypeError, "tensor", "NoneType"),
]  # fmt: skip

GRADIENTS = [
    mistake("backward on many numbers", lambda: (leaf(2) * 2).backward(),
            RuntimeError, "(2,)", ".sum() or .mean()"),
    mistake("backward without requires_grad", lambda: mb.ones(1).backward(),
            RuntimeError, "requires_grad=True", "no_grad()"),
    mistake("backward twice", lambda: twice(leaf(2)),
            RuntimeError, "second time", "retain_graph=True"),
    mistake("a gradient of another shape",
            lambda: (leaf(2) * 2).backward(mb.ones(3)),
            ValueError, "(3,)", "(2,)"),
    mistake("a saved value changed", lambda: changed(mb.ones(2)),
            RuntimeError, "`multiply`", "changed in place"),
    mistake("a leaf changed in place", lambda: leaf(2).add_(1),
            RuntimeError, "add_", "no_grad()"),
    mistake("clearing a leaf", lambda: leaf(2).zero_(),
            RuntimeError, "zero_", "no_grad()"),
    mistake("filling a leaf", lambda: leaf(2).fill_(1.0),
            RuntimeError, "fill_", "no_grad()"),
    mistake("assigning into a leaf", lambda: leaf(2).__setitem__(0, 1.0),
            RuntimeError, "assignment", "requires a gradient"),
    mistake("a hook that is no function", lambda: leaf(2).register_hook(3),
            TypeError, "function", "int"),
    mistake("a hook where no gradient comes", lambda: mb.ones(2).register_hook(print),
            RuntimeError, "hook", "needs no gradient"),
    mistake("freezing what was computed", lambda: (leaf(2) * 2).requires_grad_(False),
            RuntimeError, "leaf", "detach()"),
    mistake("writing into .numpy()", lambda: mb.ones(2).numpy().fill(0),
            ValueError, "read-only", "assignment"),
]  # fmt: skip

CATALOGUE = MAKING + SHAPES + GRADIENTS


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.what)
def test_mistake_is_named(row):
    hold(row)


def test_catalogue_is_large_and_names_each_mistake_once():
    assert len({row.what for row in CATALOGUE}) == len(CATALOGUE) >= 60


def test_mixed_devices_are_named(strict):
    with pytest.raises(mb.DeviceError, match=r'cpu and cuda.*\.to\("cuda"\)'):
        mb.ones(2) + mb.ones(2, device="cuda")


def test_missing_gradient_leaves_the_parameter_and_says_nothing():
    """As in PyTorch: a frozen or unused part of a model is no mistake."""
    used, unused = leaf(2), leaf(2)
    used.sum().backward()
    optim.SGD([used, unused], lr=0.5).step()
    assert used.tolist() == [0.5, 0.5] and unused.tolist() == [1, 1]
