"""What a Tensor is to Python: made from data, shown, indexed, counted, compared."""

import copy
import math

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig.tensor import Tensor

# ---- made ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, dtype, shape",
    [
        (2, "int64", ()),
        (2.5, "float32", ()),
        (True, "bool", ()),
        ([1, 2, 3], "int64", (3,)),
        ([[1.0, 2], [3, 4]], "float32", (2, 2)),
        ([True, False], "bool", (2,)),
        ([], "float32", (0,)),
        ((1.0, 2.0), "float32", (2,)),
        (range(4), "int64", (4,)),
        (np.float64(1.5), "float64", ()),
        (np.ones(2, "float16"), "float16", (2,)),
        ([np.ones(2), np.zeros(2)], "float64", (2, 2)),
        (np.arange(3, dtype=">i4"), "int32", (3,)),
    ],
)
def test_tensor_of_data(data, dtype, shape):
    x = mb.tensor(data)
    assert (x.dtype, x.shape) == (np.dtype(dtype), shape)
    assert np.array_equal(x.numpy(), np.asarray(data))


def test_tensor_copies_its_data():
    array = np.ones(2)
    x = mb.tensor(array)
    y = mb.tensor(x)
    array[0] = 5
    assert x.tolist() == [1, 1] and not np.shares_memory(x.array, y.array)
    assert mb.tensor([1, 2], dtype="float16").dtype == np.float16


def test_filled_counted_and_drawn_tensors():
    assert mb.zeros(2, 3).tolist() == [[0] * 3] * 2
    assert mb.ones((2,)).tolist() == [1, 1]
    assert mb.full((2,), 7).dtype == np.int64
    assert mb.full((2,), 0.5).dtype == np.float32
    assert mb.full((2,), True).dtype == bool
    assert mb.arange(3).tolist() == [0, 1, 2]
    assert mb.arange(3, 0, -1).tolist() == [3, 2, 1]
    assert mb.arange(0.0, 1.0, 0.25).dtype == np.float32
    assert mb.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
    assert mb.eye(2).tolist() == [[1, 0], [0, 1]]
    x = mb.zeros(2, 3, dtype="float16")
    assert mb.ones_like(x).dtype == mb.zeros_like(x).dtype == np.float16
    drawn = mb.randint(2, 5, (1000,))
    assert drawn.dtype == np.int64 and set(drawn.tolist()) == {2, 3, 4}
    x, y = mb.randn(10_000), mb.rand(10_000)
    assert x.dtype == y.dtype == np.float32
    assert abs(x.mean().item()) < 0.05 and abs(x.std().item() - 1) < 0.05
    assert 0 <= y.min().item() < 0.01 and 0.99 < y.max().item() < 1


def test_tensor_takes_only_arrays():
    with pytest.raises(TypeError, match=r"minibig\.tensor\(data\)"):
        Tensor([1.0])


# ---- shown --------------------------------------------------------------------------

TEXTS = [
    (lambda: mb.tensor(2.5), "tensor(2.5)"),
    (lambda: mb.tensor([1, 2]), "tensor([1, 2])"),
    (lambda: mb.tensor([1 / 3, 2.0]), "tensor([0.3333, 2.    ])"),
    (lambda: mb.tensor([[1.0], [2.0]]), "tensor([[1.],\n        [2.]])"),
    (lambda: mb.tensor([True]), "tensor([ True])"),
    (lambda: mb.ones(1, dtype="float64"), "tensor([1.], dtype=float64)"),
    (lambda: mb.ones(1, requires_grad=True), "tensor([1.], requires_grad=True)"),
    (lambda: mb.ones(1, requires_grad=True) * 2, "tensor([2.], grad_fn=<multiply>)"),
    (lambda: mb.zeros(0, 3), "tensor([], shape=(0, 3))"),
    (
        lambda: mb.zeros(300),
        "tensor([0., 0., 0., ..., 0., 0., 0.], shape=(300,))",
    ),
]


@pytest.mark.parametrize("make, text", TEXTS, ids=[text for _, text in TEXTS])
def test_text_of_a_tensor(make, text):
    assert repr(make()) == str(make()) == f"{make()}" == text


def test_format_of_one_number():
    assert f"{mb.tensor(1 / 3):.2f}" == "0.33"
    assert f"{mb.tensor(7):03d}" == "007"


# ---- as a number, a list, an array --------------------------------------------------


def test_one_number_becomes_a_python_number():
    x = mb.tensor([[2.5]])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert math.isclose(math.exp(mb.tensor(1.0)), math.e)
    assert [10, 20, 30][mb.tensor(1)] == 20 and list(range(mb.tensor(2))) == [0, 1]
    assert not mb.tensor(0) and not mb.tensor([False])


@pytest.mark.parametrize("convert", [bool, float, int, lambda x: x.item()])
def test_several_numbers_are_no_number(convert):
    with pytest.raises(ValueError, match=r"\(2,\)"):
        convert(mb.ones(2))


@pytest.mark.parametrize("x", [mb.tensor(1.0), mb.tensor([1]), mb.tensor(True)])
def test_only_a_whole_number_is_an_index(x):
    with pytest.raises(TypeError, match="whole numbers"):
        _ = [1, 2][x]


def test_tensor_counts_and_iterates_over_its_first_axis(device):
    x = mb.tensor([[1.0, 2.0], [3.0, 4.0]], device=device, requires_grad=True)
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]]
    first, second = x
    (first * second).sum().backward()
    assert x.grad.tolist() == [[3, 4], [1, 2]]
    for use in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            use(x.sum())


def test_sizes_are_said_as_in_pytorch():
    x = mb.zeros(2, 3, 4)
    assert x.shape == x.size() == (2, 3, 4) and x.size(-1) == 4
    assert x.dim() == x.ndim == 3 and x.numel() == 24
    assert x.T.shape == (4, 3, 2) and x.view(6, -1).shape == (6, 4)
    assert x.is_floating_point() and not (x > 0).is_floating_point()


def test_numpy_reads_a_tensor_but_leaves_the_operators_to_it():
    x = mb.tensor([1.0, 2.0], requires_grad=True)
    assert np.asarray(x).tolist() == [1, 2] and np.array(x, dtype=int).dtype == int
    assert np.array(x).flags.writeable and not np.asarray(x).flags.writeable
    y = np.array([3.0, 4.0]) * x
    assert isinstance(y, Tensor) and y.dtype == np.float32 and y.requires_grad
    assert (np.float64(2) * x).dtype == np.float32  # never float64 unawares
    with pytest.raises(TypeError):
        np.exp(x)


def test_tensors_are_hashed_by_identity_and_compared_by_number():
    x, y = mb.tensor([1, 2]), mb.tensor([1, 3])
    assert len({x, y, x}) == 2 and (x == y).tolist() == [True, False]
    assert (x != y).tolist() == [False, True] and (x < 2).tolist() == [True, False]
    assert (x == None).__class__ is bool  # noqa: E711 - not a comparison of numbers
    assert (x >= [1, 3]).tolist() == [True, False]


def test_copies_of_a_tensor():
    x = mb.tensor([1.0, 2.0], requires_grad=True)
    shallow, deep = copy.copy(x), copy.deepcopy(x)
    assert shallow.array is x.array and not np.shares_memory(deep.array, x.array)
    assert shallow.requires_grad and deep.requires_grad and deep.tolist() == [1, 2]


# ---- dtypes -------------------------------------------------------------------------


def test_dtypes_of_mixed_operands():
    half, single = mb.ones(1, dtype="float16"), mb.ones(1)
    double, whole = mb.ones(1, dtype="float64"), mb.ones(1, dtype="int64")
    mask = single > 0
    expected = [
        (half, single, "float32"), (single, double, "float64"),
        (half, whole, "float16"),
        (single, whole, "float32"), (whole, mask, "int64"), (single, mask, "float32"),
        (half, 2.5, "float16"), (whole, 2.5, "float32"), (whole, 2, "int64"),
        (mask, 2, "int64"), (single, np.float64(2), "float32"),
        (single, np.ones(1), "float32"), (single, [1.0], "float32"),
    ]  # fmt: skip
    for a, b, dtype in expected:
        assert (a + b).dtype == (b + a).dtype == dtype, (a, b)


def test_lists_and_numbers_take_part_beside_a_tensor(device):
    x = mb.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
    assert (x @ [1, 1]).tolist() == [3, 7] and ([1, 1] @ x).tolist() == [4, 6]
    assert (x @ np.eye(2)).dtype == np.float32
    chosen = mb.where(x > 2, 1.0, 0.0)
    assert chosen.tolist() == [[0, 0], [1, 1]] and chosen.device == x.device
    assert F.relu([-1.0, 2.0]).tolist() == [0, 2]
    assert F.relu([-1.0]).dtype == np.float32


def test_division_and_means_of_whole_numbers():
    x = mb.tensor([1, 2])
    assert (x / 2).dtype == np.float32 and (x // 2).tolist() == [0, 1]
    assert (x % 2).tolist() == [1, 0] and (x**2).dtype == np.int64
    assert (x**-1).tolist() == [1, 0.5] and (2**x).tolist() == [2, 4]
    assert x.exp().dtype == np.float32 and (x > 1).sum().item() == 1


def test_to_changes_dtype_and_sends_the_gradient_back(device):
    x = mb.tensor([1.5, 2.5], device=device, requires_grad=True)
    for y in (x.double(), x.half(), x.to("float64").float()):
        x.grad = None
        (y * y).sum().backward()
        assert x.grad.dtype == np.float32 and x.grad.tolist() == [3, 5]
    assert x.to("float32") is x is x.to(x.device)
    assert x.long().tolist() == [1, 2] and x.bool().dtype == bool
    assert not x.long().requires_grad


def test_bits_and_logic_of_whole_numbers_and_booleans():
    a, b = mb.tensor([True, True, False]), mb.tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, False]
    assert (a ^ b).tolist() == [False, True, False] and (~a).tolist() == [0, 0, 1]
    assert a.any().item() and not a.all().item() and b.all(0).shape == ()
    assert (mb.tensor([6]) & 3).tolist() == [2]


def test_not_a_number_and_infinity_are_found():
    x = mb.tensor([1.0, math.nan, math.inf])
    assert x.isnan().tolist() == [False, True, False]
    assert x.isfinite().tolist() == [True, False, False]


# ---- changed in place ---------------------------------------------------------------


def test_augmented_assignment_makes_a_new_tensor():
    x = y = mb.tensor([1.0, 2.0], requires_grad=True)
    x += 1
    assert y.tolist() == [1, 2] and x is not y and x.requires_grad


def test_assignment_by_index(device):
    x = mb.zeros(2, 3, device=device)
    x[0, 1] = 5
    x[1] = mb.tensor([1.0, 2.0, 3.0], device=device)
    x[x == 3] = -1
    x[:, 0] = [7, 8]
    assert x.tolist() == [[7, 5, 0], [8, 2, -1]]


def test_copying_in_place_casts_and_broadcasts():
    x = mb.zeros(2, 2, dtype="int64")
    assert x.copy_(mb.tensor([1.5, 2.5])).tolist() == [[1, 2], [1, 2]]
    assert x.fill_(3).add_([1, 0]).mul_(2).tolist() == [[8, 6], [8, 6]]


def test_read_only_memory_is_copied_before_it_is_changed():
    x = Tensor(np.broadcast_to(np.float32(1), (2, 2)))
    x.add_(1)
    assert x.tolist() == [[2, 2], [2, 2]]


def test_max_and_min_say_where_they_stand():
    x = mb.tensor([[1.0, 3.0, 3.0], [5.0, 4.0, 0.0]])
    values, indices = x.max(1)
    assert values.tolist() == [3, 5] and indices.tolist() == [1, 0]
    assert x.min(0, keepdim=True).indices.tolist() == [[0, 0, 1]]
    assert x.argmax().item() == 3 and x.argmin(-1).tolist() == [0, 2]


def test_one_hot_is_whole_numbers(device):
    y = F.one_hot(mb.tensor([2, 0], device=device), 3)
    assert y.tolist() == [[0, 0, 1], [1, 0, 0]] and y.dtype == np.int64
    assert y.device == ("cpu" if device == "cpu" else "cuda")


def test_numbers_keep_their_digits_in_the_dtype_asked_for():
    assert mb.tensor([2.001], dtype="float64").tolist() == [2.001]
    assert mb.tensor(2.001).dtype == "float32"
