"""The library on device "cuda": the same numbers as on the CPU, and nothing that CuPy
would refuse. In every test run that device is the stand-in for CuPy; on a machine with
a GPU it is the GPU too."""

import numpy as np
import pytest
from op_table import RECORDS

import minibig as mb
from minibig import functional as F

# ---- every op -----------------------------------------------------------------------


def _run(record, sample, device):
    """Outputs and gradients as NumPy arrays, from a fixed upstream gradient."""
    mb.seed(1)
    arguments, leaves = sample.inputs(device=device)
    outputs = record.function(*arguments, **sample.settings)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    rng = np.random.default_rng(0)
    total = 0
    for y in outputs:
        assert y.device == device
        if y.requires_grad:
            weight = mb.tensor(np.asarray(rng.standard_normal(y.shape)), device=device)
            total = total + (y * weight).sum()
    if leaves:
        total.backward()
        assert {leaf.grad.device for leaf in leaves} == {device}
    return [x.numpy() for x in (*outputs, *(leaf.grad for leaf in leaves))]


def _same(ours, expected, looser):
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12 * looser, atol=1e-12 * looser)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_op_equals_the_cpu(cuda, record):
    for sample in record.samples(np.random.default_rng(7)):
        with np.errstate(all="ignore"):
            expected = _run(record, sample, "cpu")
        _same(_run(record, sample, "cuda"), expected, cuda)


# ---- tensors ------------------------------------------------------------------------


def test_creation_on_the_device_equals_the_cpu(cuda):
    makers = {
        "tensor": lambda **on: mb.tensor([[1.0, 2.0]], **on),
        "zeros": lambda **on: mb.zeros(2, 3, **on),
        "ones": lambda **on: mb.ones((2, 3), **on),
        "full": lambda **on: mb.full((2, 3), 1.5, **on),
        "arange": lambda **on: mb.arange(2, 9, 3, **on),
        "linspace": lambda **on: mb.linspace(0, 1, 5, **on),
        "eye": lambda **on: mb.eye(3, **on),
        "randn": lambda **on: mb.randn(2, 3, **on),
        "rand": lambda **on: mb.rand(2, 3, **on),
        "randint": lambda **on: mb.randint(0, 9, (2, 3), **on),
    }
    for name, make in makers.items():
        mb.seed(3)
        expected = make(device="cpu")
        mb.seed(3)
        ours = make(device="cuda")
        assert ours.device == "cuda" and ours.dtype == expected.dtype, name
        assert np.array_equal(ours.numpy(), expected.numpy()), name
        assert mb.zeros_like(ours).device == mb.ones_like(ours).device == "cuda", name


def test_default_device_is_where_new_tensors_lie(cuda):
    mb.set_default_device("cuda")
    try:
        assert mb.zeros(2).device == mb.tensor([1, 2]).device == "cuda"
        assert mb.tensor(np.ones(2)).device == "cpu"  # arrays stay where they are
        assert (mb.ones(2) * [1.0, 2.0]).device == "cuda"
    finally:
        mb.set_default_device("cpu")


CHANGES = {
    "one number": lambda x, v: x.__setitem__((0, 1), 5.0),
    "a row from a list": lambda x, v: x.__setitem__(0, [1.0, 2.0, 3.0]),
    "rows by a list": lambda x, v: x.__setitem__([0, 2], v[0]),
    "a mask": lambda x, v: x.__setitem__(x > 2, 0.0),
    "a slice from a tensor": lambda x, v: x.__setitem__(slice(1, 3), v),
    "copy_": lambda x, v: x.copy_(v[0]),
    "fill_": lambda x, v: x.fill_(7),
    "zero_": lambda x, v: x.zero_(),
    "add_": lambda x, v: x.add_(v[1]),
    "mul_": lambda x, v: x.mul_(2.0),
    "an expanded tensor": lambda x, v: x[:, :1].expand(3, 3).add_(1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_change_in_place_equals_the_cpu(cuda, change):
    results = []
    for device in ("cpu", "cuda"):
        x = mb.arange(9, dtype="float32", device=device).reshape(3, 3)
        value = mb.tensor([[9.0, 8.0, 7.0], [6.0, 5.0, 4.0]], device=device)
        change(x, value)
        results.append(x.numpy())
    assert np.array_equal(*results)


def test_expanding_to_the_same_shape_shares_the_version(cuda):
    """Where CuPy answers the array itself, not a view."""
    for device in ("cpu", "cuda"):
        w = mb.ones(3, device=device, requires_grad=True)
        x = mb.ones(3, device=device)
        y = (w * x.expand(3)).sum()
        x.add_(1)
        with pytest.raises(RuntimeError, match=r"`multiply`.*changed in place"):
            y.backward()


INDICES = {
    "number": 1, "slice": np.s_[::-1, 1:], "newaxis": np.s_[None, ..., 0],
    "list": [2, 0, 2], "lists": ([0, 1], [2, 2]), "negative": [-1, -3],
    "array": np.array([[0, 1], [2, 2]]), "column": np.s_[:, [2, 0, 0]],
    "mixed": np.s_[..., [0], None, 1], "mask": np.eye(3, dtype=bool),
    "row mask": np.array([True, False, True]), "empty list": [],
}  # fmt: skip


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_index_of_lists_and_numpy_arrays_serves_both_devices(cuda, index):
    results = []
    for device in ("cpu", "cuda"):
        x = mb.arange(9, dtype="float64", device=device).reshape(3, 3)
        x.requires_grad_()
        y = x[index]
        (y * y).sum().backward()
        results.append((y.numpy(), x.grad.numpy()))
    _same(results[1], results[0], cuda)


def test_gradient_comes_back_to_the_cpu_leaf(cuda):
    x = mb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    w = mb.tensor([4.0, 5.0, 6.0], device="cuda", requires_grad=True)
    (x.to("cuda") * w).cpu().exp().sum().cuda().backward()
    e = np.exp(np.float32([4, 10, 18]))
    assert x.grad.device == "cpu" and w.grad.device == "cuda"
    np.testing.assert_allclose(x.grad.numpy(), e * [4, 5, 6], rtol=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), e * [1, 2, 3], rtol=1e-6)


def test_tensors_on_two_devices_are_refused(cuda):
    here, there = mb.ones(2, 2), mb.ones(2, 2, device="cuda")
    leaf = mb.ones(2, 2, requires_grad=True)
    hooked = mb.ones(2, 2, requires_grad=True) * 1
    hooked.register_hook(lambda gradient: gradient.cuda())
    calls = (
        lambda: here + there,
        lambda: here @ there,
        lambda: mb.cat([here, there]),
        lambda: mb.where(here > 0, there, 0),
        lambda: F.linear(here, there),
        lambda: F.scaled_dot_product_attention(here, there, here),
        lambda: here.copy_(there),
        lambda: leaf.backward(there),
        lambda: leaf.backward(there.array),
        lambda: hooked.sum().backward(),
    )
    for call in calls:
        with pytest.raises(mb.DeviceError, match=r"cpu and cuda.*\.to\("):
            call()


def test_a_tensor_shows_and_answers_on_the_device(cuda):
    x = mb.tensor([[1.0, 2.5]], device="cuda", requires_grad=True)
    assert repr(x) == "tensor([[1. , 2.5]], device='cuda', requires_grad=True)"
    assert x.tolist() == [[1, 2.5]] and x[0, 1].item() == 2.5 and len(x) == 1
    assert float(x.sum()) == 3.5 and bool((x > 0).all()) and f"{x.max():.1f}" == "2.5"
    assert [row.tolist() for row in x.detach()] == [[1, 2.5]]
    assert np.array_equal(np.asarray(x), [[1, 2.5]]) and x.cuda() is x
    assert range(5)[mb.tensor(2, device="cuda")] == 2


def test_ids_out_of_range_are_refused_on_the_device_too(cuda):
    weight = mb.zeros(5, 2, device="cuda")
    for ids in ([0, 5], mb.tensor([0, 5]), mb.tensor([0, 5], device="cuda")):
        with pytest.raises(IndexError, match=r"id 5 .*0 … 4"):
            F.embedding(ids, weight)
    with pytest.raises(IndexError, match=r"id 7 .*0 … 1"):
        F.cross_entropy(mb.zeros(1, 2, device="cuda"), [7])
    with pytest.raises(IndexError, match="index"):
        weight.gather(0, mb.tensor([[9, 0]], device="cuda"))


def test_debug_names_the_op_on_the_device(cuda):
    x = mb.tensor([1.0, -1.0], device="cuda", requires_grad=True)
    with mb.debug(), pytest.raises(FloatingPointError, match=r"`log`.*NaN"):
        x.log()


def test_dropout_draws_the_same_mask_on_both_devices(cuda):
    masks = []
    for device in ("cpu", "cuda"):
        mb.seed(5)
        masks.append(F.dropout(mb.ones(4, 50, device=device), 0.3).numpy())
    assert np.array_equal(*masks) and 0 < (masks[0] == 0).mean() < 1
