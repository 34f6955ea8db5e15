"""The op table is complete, and what it holds would show a wrong gradient."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from op_table import RECORDS, kinds, leaf, several

from minibig import (
    functional,
    images,
    losses,
    operators,
    ops,
    recurrence,
    reductions,
    shaping,
)
from minibig.gradcheck import gradcheck
from minibig.tensor import apply

WITHOUT_GRADIENT = {
    "operators": {"promote", "operands", "check_broadcast", "invert", "isnan",
                  "isfinite", "attach"},
    "reductions": {"checked_dim", "argmax", "argmin", "any", "all"},
    "shaping": set(),
    "functional": {"one_hot"},
    "images": {"pair", "conv_padding", "pool_sizes"},
    "losses": set(),
    "recurrence": {"checked_lengths"},
}  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_samples_are_enough_and_of_every_kind_the_domain_admits(record):
    found = record.draw()
    assert len(found) >= 12
    missing = record.admits - set().union(*(kinds(sample) for sample in found))
    assert not missing


def public_functions(module):
    return {
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


MODULES = operators, reductions, shaping, functional, images, losses, recurrence


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_has_a_record(module):
    name = module.__name__.rpartition(".")[2]
    recorded = [r.name.partition(".")[2] for r in RECORDS if r.name.startswith(name)]
    assert len(set(recorded)) == len(recorded)
    assert public_functions(module) == set(recorded) | WITHOUT_GRADIENT[name]


def functions_of(module):
    tree = ast.parse(module.read_text("utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def own_returns(function):
    """Values of a function's return statements, not those of functions in it."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return):
            yield node.value
        elif not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            todo.extend(ast.iter_child_nodes(node))


def is_op(function, functions):
    """Whether it returns (something, backward), itself or through a helper."""
    for value in own_returns(function):
        if isinstance(value, ast.Tuple) and len(value.elts) == 2:
            last = value.elts[1]
            if isinstance(last, ast.Lambda) or getattr(last, "id", "") == "backward":
                return True
        elif isinstance(value, ast.Call):
            helper = functions.get(getattr(value.func, "id", None))
            if helper is not None and is_op(helper, functions):
                return True
    return False


def all_ops():
    found = set()
    modules = Path(ops.__file__).parent.glob("*.py")
    for module in (m for m in modules if m.stem != "bfloat16"):  # that runs other ops
        functions = functions_of(module)
        found |= {
            name
            for name, function in functions.items()
            if not name.startswith("_") and is_op(function, functions)
        }
    return found


def ops_in_the_graph(y):
    """Names of the ops that made y, read off its graph."""
    found, todo = set(), [y.grad_fn] if y.grad_fn else []
    while todo:
        node = todo.pop()
        found.add(node.op)
        todo.extend(p[0] for p in node.parents if isinstance(p, tuple))
    return found


def test_every_op_is_run_by_some_record():
    expected, run_by_records = all_ops(), set()
    assert {"softmax", "amax", "power", "matmul", "negative", "split"} <= expected
    assert not expected & {"widen", "logistic", "add_rows", "keep_mask"}
    for record in RECORDS:
        for sample in record.draw():
            arguments, _ = sample.inputs()
            for y in several(record.function(*arguments, **sample.settings)):
                run_by_records |= ops_in_the_graph(y)
    assert not expected - run_by_records


# ---- the sweep would notice ---------------------------------------------------------


def multiplied_back(a, b):
    return a / b, lambda dy: (dy * b, -dy * a / (b * b))


def stretched(x):
    return x[:, None], lambda dy: (dy[:, 0] * 1.001,)


def forgotten_repeats(x):
    def backward(dy):
        dx = np.zeros(x.shape)
        dx[[0, 0]] += dy
        return (dx,)

    return x[[0, 0]], backward


@pytest.mark.parametrize(
    "op, count", [(multiplied_back, 2), (stretched, 1), (forgotten_repeats, 1)]
)
def test_a_wrong_backward_is_caught(op, count):
    rng = np.random.default_rng(0)
    inputs = [leaf(rng.uniform(0.5, 2, (3,))) for _ in range(count)]
    with pytest.raises(AssertionError, match="backward says"):
        gradcheck(lambda *xs: apply(op, *xs), inputs)


def test_a_gradient_of_another_dtype_is_caught():
    def op(x):
        return x * 2, lambda dy: (dy.astype("float64"),)

    x = leaf(np.ones(3, "float32"))
    with pytest.raises(AssertionError, match="float64"):
        apply(op, x).sum().backward()
