"""The graph: what backward adds up, frees, guards and never touches."""

import gc
import threading
import tracemalloc

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig.autograd import Node, unbroadcast
from minibig.tensor import apply


def leaf(values, device="cpu", dtype="float64"):
    return mb.tensor(values, dtype=dtype, device=device, requires_grad=True)


# ---- size, speed, memory ------------------------------------------------------------


def test_chain_of_50000_ops_runs_forward_backward_and_is_deleted():
    x = leaf([1.0])
    y = x
    for _ in range(50_000):
        y = y + 1
    y.backward()
    assert y.item() == 50_001 and x.grad.item() == 1


def test_chain_of_50000_ops_is_deleted_without_a_backward():
    y = leaf([1.0])
    for _ in range(50_000):
        y = y * 1
    del y  # a deep chain of Nodes must not exhaust the C stack


def test_fifty_diamonds_are_walked_once_each():
    x = leaf(1.0)
    y = x
    for _ in range(50):
        y = y + y
    y.backward()  # 2^50 paths: only adding gradients up before going on ends today
    assert x.grad.item() == 2.0**50


def _train(steps, weights, x):
    for _ in range(steps):
        hidden = F.relu(F.linear(x, weights[0]))
        loss = F.cross_entropy(F.linear(hidden, weights[1]), [0, 1, 2, 1])
        loss.backward()
        with mb.no_grad():
            for w in weights:
                w.add_(w.grad * -0.1)
                w.grad = None


def test_1000_training_steps_make_no_cycles_and_keep_no_memory():
    weights = [mb.randn(8, 8, requires_grad=True) for _ in range(2)]
    x = mb.randn(4, 8)
    tracemalloc.start()
    gc.disable()
    try:
        _train(1, weights, x)  # what is imported late
        gc.collect()
        _train(200, weights, x)  # Python's free lists fill up
        before, _ = tracemalloc.get_traced_memory()
        _train(1000, weights, x)
        after, _ = tracemalloc.get_traced_memory()
        cycles = gc.collect()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 1_000_000  # bytes: under 1 kB a step
    assert cycles == 0


# ---- what is added up ---------------------------------------------------------------


def test_shared_tensor_gets_both_gradients(device):
    x = leaf([2.0, 3.0], device)
    (x * x + 5 * x).sum().backward()
    assert x.grad.tolist() == [9, 11]


def test_two_backwards_accumulate(device):
    x = leaf([2.0, 3.0], device)
    (x * x).sum().backward()
    (x * 10).sum().backward()
    assert x.grad.tolist() == [14, 16] and x.grad.device == x.device


def test_backward_takes_a_gradient_of_the_output(device):
    x = leaf([1.0, 2.0], device)
    (x * 3).backward(mb.tensor([10.0, 100.0], device=device))
    assert x.grad.tolist() == [30, 300]
    x.backward([1, 1])  # a leaf, and a list
    assert x.grad.tolist() == [31, 301]


def test_unused_outputs_count_as_zero(device):
    x = leaf([1.0, 2.0, 3.0, 4.0], device)
    first, _ = x.split(2)
    (first * first).sum().backward()
    assert x.grad.tolist() == [2, 4, 0, 0]
    _, row, _ = leaf(np.ones((3, 2)), device).unbind()
    x.grad = None
    (row * x[2:]).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1]


def test_broadcast_gradients_are_summed_to_the_shape_of_the_input(device):
    for shape in ((), (1,), (3,), (2, 1), (1, 1, 1), (4, 1, 3)):
        x = leaf(np.ones(shape), device)
        whole = x * mb.ones(4, 2, 3, dtype="float64", device=device)
        whole.sum().backward()
        assert x.grad.shape == shape and x.grad.array.sum() == 24
        assert (x.grad.numpy() == 24 / max(1, np.prod(shape))).all()


def test_unbroadcast_sums_added_and_stretched_axes():
    dx = np.arange(24.0).reshape(4, 2, 3)
    assert unbroadcast(dx, (2, 1)).tolist() == dx.sum((0, 2), keepdims=True)[0].tolist()
    assert unbroadcast(np.ones((0, 3)), (3,)).tolist() == [0, 0, 0]


def test_gradients_of_0d_tensors_are_0d_arrays():
    x, w = leaf(2.0), leaf(3.0, dtype="float32")
    ((x * x).exp() + (x + x) + w / 2).backward()
    assert type(x.grad.array) is np.ndarray and x.grad.shape == w.grad.shape == ()
    assert (x.grad.dtype, w.grad.dtype) == (np.float64, np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtype_is_kept_forward_and_backward(device, dtype):
    x = leaf([[1.0, 2.0], [3.0, 4.0]], device, dtype)
    y = ((x @ x / 2 + 1) * 0.5).exp().mean() + np.float64(1) * x.std() ** 2
    y.backward()
    assert y.dtype == x.grad.dtype == dtype


def test_mixed_float_dtypes_give_each_input_its_own(device):
    a, b = leaf([1.0], device, "float32"), leaf([2.0], device, "float64")
    (a * b).sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)


def test_no_gradient_without_a_path():
    x, frozen, unused = leaf([1.0]), mb.ones(1), leaf([1.0])
    (x * frozen + unused.detach()).backward()
    assert x.grad.item() == 1 and frozen.grad is None and unused.grad is None


# ---- arrays that nobody else may hold -----------------------------------------------


def _alone(gradients, *others):
    arrays = [g.array for g in gradients]
    for i, a in enumerate(arrays):
        for b in [*arrays[:i], *others]:
            assert not np.shares_memory(a, b)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: mb.cat([a, b]),
        lambda a, b: mb.stack([a, b]),
        lambda a, b: a.reshape(4) + b.T.flatten(),
        lambda a, b: a.sum() + b.sum(),
        lambda a, b: a[:1] + b[1:],
        lambda a, b: a.detach() * 0 + b + a,
        lambda a, b: (a + a) + (b + b),
        lambda a, b: mb.where(a > 0, a, b),
    ],
)
def test_gradients_share_no_memory_with_each_other_or_the_upstream(function):
    a, b = leaf(np.ones((2, 2))), leaf(np.ones((2, 2)))
    y = function(a, b)
    upstream = mb.ones(y.shape, dtype="float64")
    y.backward(upstream)
    _alone([a.grad, b.grad], upstream.array, a.array, b.array)
    before = b.grad.numpy().copy()
    with mb.no_grad():
        a.grad.add_(100)
    assert np.array_equal(b.grad.numpy(), before)
    assert (upstream.numpy() == 1).all()


def test_gradient_given_to_a_leaf_is_copied():
    x, upstream = leaf([1.0, 2.0]), np.ones(2)
    x.backward(upstream)
    x.backward(upstream)
    assert x.grad.tolist() == [2, 2] and upstream.tolist() == [1, 1]


def test_backward_called_twice_gives_the_same_gradient(device):
    x = leaf([[1.0, -2.0], [0.5, 3.0]], device)
    y = (F.softmax(x, -1).log() * F.gelu(x)).sum() + (x.cumsum(0) ** 3).mean()
    y.backward(retain_graph=True)
    first, x.grad = x.grad.tolist(), None
    y.backward()
    assert x.grad.tolist() == first


# ---- the life of the graph ----------------------------------------------------------


def test_second_backward_says_how_to_keep_the_graph():
    x = leaf([2.0])
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match=r"`multiply` a second time.*retain_graph"):
        y.backward()
    assert x.grad.item() == 8


def test_backward_frees_what_the_graph_held():
    x = leaf(np.ones(1000))
    y = x.exp()
    y.sum().backward()
    assert y.node.backward is None and y.node.parents == ()


def test_leaves_and_results_know_what_they_are():
    x = leaf([1.0])
    y = x * 2
    assert x.is_leaf and not y.is_leaf and x.grad_fn is None
    assert repr(y.grad_fn) == "<multiply>" and isinstance(y.grad_fn, Node)
    assert y.requires_grad and not (y > 0).requires_grad
    assert y.grad is None  # only leaves get one


def test_detach_stops_the_gradient_and_shares_memory():
    x = leaf([3.0])
    d = x.detach()
    (x * d).backward()
    assert x.grad.item() == 3 and not d.requires_grad
    assert np.shares_memory(d.array, x.array)


def test_no_grad_records_nothing_as_context_and_decorator():
    x = leaf([1.0])

    @mb.no_grad()
    def double(x):
        return x * 2

    with mb.no_grad():
        y = x * 2
        with mb.no_grad():
            pass
        assert (x * 2).node is None  # the inner one does not switch it on again
    assert y.node is None and double(x).node is None and (x * 2).node is not None


def test_no_grad_ends_with_an_error_and_holds_for_one_thread():
    x, found = leaf([1.0]), []
    with pytest.raises(ZeroDivisionError), mb.no_grad():
        _ = 1 / 0
    assert (x * 2).requires_grad
    with mb.no_grad():
        other = threading.Thread(target=lambda: found.append((x * 2).requires_grad))
        other.start()
        other.join()
    assert found == [True]


def test_an_op_that_returns_a_wrong_gradient_is_caught():
    def broken(x):
        return x * 2, lambda dy: (dy[:1],)

    with pytest.raises(AssertionError, match=r"`broken` .*\(1,\).*\(3,\)"):
        apply(broken, leaf([1.0, 2.0, 3.0])).sum().backward()
