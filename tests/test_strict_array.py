"""The stand-in for CuPy refuses what CuPy refuses and offers what CuPy offers."""

import inspect
import operator

import numpy as np
import pytest
import strict_module


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


def test_stand_in_has_the_parameters_of_cupy():
    cupy = pytest.importorskip("cupy", reason="needs CuPy, no GPU")
    for name, specification in strict_module.FUNCTIONS.items():
        ours = [p.strip("!?*") for p in specification.replace("/", " ").split()]
        assert ours == list(inspect.signature(getattr(cupy, name)).parameters), name
    for name in strict_module.UFUNCS:
        assert isinstance(getattr(cupy, name), cupy.ufunc), name
