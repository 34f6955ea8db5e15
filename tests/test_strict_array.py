"""The stand-in for CuPy refuses what CuPy refuses and offers what CuPy offers."""

import inspect
import operator

import numpy as np
import pytest
import strict_module
from strict_array import watched


@pytest.fixture
def xp():
    return strict_module.module


@pytest.fixture
def x(xp):
    return xp.asarray(np.arange(6.0, dtype=np.float32).reshape(2, 3))


REFUSED = {
    "np.asarray": lambda xp, x: np.asarray(x),
    "np.array of a list": lambda xp, x: np.array([x, x]),
    "a NumPy ufunc": lambda xp, x: np.exp(x),
    "a NumPy function": lambda xp, x: np.concatenate([x, x]),
    "plus a NumPy array": lambda xp, x: x + np.ones(3),
    "a NumPy array plus": lambda xp, x: np.ones(3) + x,
    "a 0-d NumPy array": lambda xp, x: x * np.array(2.0),
    "compared with a NumPy array": lambda xp, x: x == np.ones(3),
    "in place with a NumPy array": lambda xp, x: operator.iadd(x, np.ones(3)),
    "assigning a NumPy array": lambda xp, x: operator.setitem(x, 0, np.ones(3)),
    "plus a list": lambda xp, x: operator.add(x, [1.0, 2.0, 3.0]),
    "matmul with a NumPy array": lambda xp, x: x @ np.ones((3, 1)),
    "a function of a NumPy array": lambda xp, x: xp.sum(np.ones(3)),
    "a ufunc of a NumPy array": lambda xp, x: xp.exp(np.ones(3)),
    "concatenating with NumPy": lambda xp, x: xp.concatenate([x, np.ones((2, 3))]),
    "a NumPy condition": lambda xp, x: xp.where(np.ones(3, bool), x, 0),
    "a list for an array": lambda xp, x: xp.maximum([1.0], 0),
    "where= in a ufunc": lambda xp, x: xp.add(x, 1, where=x > 0),
    "where= in a reduction": lambda xp, x: xp.sum(x, where=x > 0),
    "initial= in a method": lambda xp, x: x.max(initial=0),
    "out= of einsum": lambda xp, x: xp.einsum("ij->i", x, out=x),
    "an array as an index": lambda xp, x: range(xp.asarray(3)),
    "hashing": lambda xp, x: hash(x),
    "float32 into whole numbers": lambda xp, x: operator.iadd(xp.arange(3), 0.5),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_stand_in_refuses(xp, x, call):
    with pytest.raises(TypeError):
        call(xp, x)


def test_stand_in_names_cupy_for_unknown_functions(xp):
    with pytest.raises(AttributeError, match="CuPy offers no 'errstate'"):
        _ = xp.errstate


def test_stand_in_answers_as_cupy(xp, x):
    assert type(x.sum()) is type(x[0, 0]) is type(x.max(0)) is xp.ndarray
    assert (np.float32(2) * x).dtype == np.float32 == (x * 2.0).dtype
    assert x[0, 0].base is x and x.reshape(6)[2:].base is x
    assert xp.broadcast_to(x, (2, 3)) is x and x.sum(0).base is None
    assert x[[0, 5]].get().tolist() == [[0, 1, 2], [3, 4, 5]]  # wraps around
    assert not hasattr(x.flags, "writeable")
    assert xp.asnumpy(x).flags.owndata and type(xp.asnumpy(x)) is np.ndarray
    out = xp.empty((2, 1), np.float32)
    assert x.mean(1, keepdims=True, out=out) is out and out.get().tolist() == [[1], [4]]


def test_stand_in_refuses_what_is_undefined_on_a_gpu(xp, x):
    with pytest.raises(RuntimeError, match="twice"):
        x[xp.asarray([0, 0])] = 1.0
    with pytest.raises(RuntimeError, match="broadcast view"):
        xp.broadcast_to(x, (2, 2, 3))[...] = 0
    with pytest.raises(ValueError, match="stable"):
        xp.argsort(x, kind="quicksort")


WAITING = {
    "get": lambda xp, x: x.get(),
    "asnumpy": lambda xp, x: xp.asnumpy(x),
    "item": lambda xp, x: x[0, 0].item(),
    "float": lambda xp, x: float(x[0, 0]),
    "a condition": lambda xp, x: bool(x[0, 0] > 0),
    "if": lambda xp, x: 1 if x.any() else 0,
    "tolist": lambda xp, x: x.tolist(),
    "printing": lambda xp, x: f"{x} {x!r}",
    "a mask as an index": lambda xp, x: x[x > 1],
    "assigning by a mask": lambda xp, x: operator.setitem(x, x > 1, 0),
    "nonzero": lambda xp, x: x.nonzero(),
    "flatnonzero": lambda xp, x: xp.flatnonzero(x),
    "where alone": lambda xp, x: xp.where(x > 1),
    "bincount": lambda xp, x: xp.bincount(xp.asarray([0, 2])),
}


@pytest.mark.parametrize("call", WAITING.values(), ids=WAITING)
def test_stand_in_notes_what_makes_the_cpu_wait(xp, x, call):
    with watched() as seen:
        xp.sqrt(x * 2 + xp.asarray([1.0, 2.0, 3.0]))[[0, 1]].sum().astype("float64")
    assert seen.waits == []
    with watched() as seen:
        call(xp, x)
    assert seen.waits != []


def test_stand_in_notes_slow_products(xp):
    a, b = xp.ones((4, 2, 3)), xp.ones((3, 5))
    with watched() as seen:
        xp.ones((2, 3)) @ b
        a @ xp.ones((4, 3, 5))
    assert seen.slow == []
    with watched() as seen:
        a @ b
        a @ xp.ones(3)
    assert len(seen.slow) == 2


def test_stand_in_adds_up_runs_as_cupy(xp):
    """Differences of running sums: what is small beside them is lost."""
    x = xp.asarray(np.float32([2.0**24, 1, 1, 1]))
    assert xp.add.reduceat(x, xp.asarray([0, 1])).get().tolist() == [2.0**24, 0]
    wide = xp.add.reduceat(x, xp.asarray([0, 1, 1]), dtype="float64")
    assert wide.get().tolist() == [2.0**24, 1, 3]


def test_stand_in_has_of_bfloat16_what_cupy_has(xp):
    kind = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes").bfloat16
    x = xp.asarray(np.ones((2, 2), kind))
    assert (x @ x).dtype == (x + x).dtype == x.dtype == kind
    for call in (lambda: x[None] @ x[None], lambda: xp.where(x > 0, x, 0)):
        with pytest.raises(TypeError, match=r"CuPy.*bfloat16"):
            call()


def test_stand_in_has_the_parameters_of_cupy():
    cupy = pytest.importorskip("cupy", reason="needs CuPy, no GPU")
    for name, specification in strict_module.FUNCTIONS.items():
        ours = [p.strip("!?*") for p in specification.replace("/", " ").split()]
        assert ours == list(inspect.signature(getattr(cupy, name)).parameters), name
    for name in strict_module.UFUNCS:
        assert isinstance(getattr(cupy, name), cupy.ufunc), name
