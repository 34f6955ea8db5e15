"""What watches the graph: hooks, version counters, the search for the first NaN."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig.tensor import apply


def leaf(values, device="cpu"):
    return mb.tensor(values, dtype="float64", device=device, requires_grad=True)


# ---- hooks --------------------------------------------------------------------------


def test_hook_on_a_leaf_sees_and_replaces_its_gradient(device):
    x, seen = leaf([1.0, 2.0], device), []
    x.register_hook(lambda g: seen.append(g.tolist()))
    remove = x.register_hook(lambda g: g * 10)
    (x * x).sum().backward()
    assert seen == [[2, 4]] and x.grad.tolist() == [20, 40]
    remove()
    (x * x).sum().backward()
    assert x.grad.tolist() == [22, 44] and len(seen) == 2


def test_hook_inside_the_graph_changes_what_flows_on(device):
    x = leaf([1.0, 2.0], device)
    y = x * 3
    y.register_hook(lambda g: g * 0.5)
    (y + y).sum().backward()  # the hook sees the whole gradient, 2
    assert x.grad.tolist() == [3, 3]


def test_hook_on_one_of_several_outputs():
    x = leaf([1.0, 2.0, 3.0])
    first, second = x.split([1, 2])
    second.register_hook(lambda g: g * 10)
    (first.sum() + second.sum()).backward()
    assert x.grad.tolist() == [1, 10, 10]


def test_hook_must_return_the_shape():
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"hook must return .* \(2,\)"):
        (x * 2).sum().backward()


def test_retain_grad_keeps_a_gradient_inside_the_graph(device):
    x = leaf([1.0, 2.0], device)
    y = x * 3
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [6, 12] and x.grad.tolist() == [18, 36]


# ---- changes in place ---------------------------------------------------------------


def test_changing_what_backward_needs_names_the_op(device):
    w, x = leaf([1.0, 2.0], device), mb.ones(2, dtype="float64", device=device)
    y = (w * x).sum()
    x.add_(1)
    with pytest.raises(RuntimeError, match=r"`multiply`.*changed in place"):
        y.backward()


def test_changing_what_backward_does_not_need_is_fine(device):
    w, x = leaf([1.0, 2.0], device), mb.ones(2, dtype="float64", device=device)
    y = (w + x).sum()
    x.mul_(5)
    y.backward()
    assert w.grad.tolist() == [1, 1]


def test_changing_an_output_that_backward_needs_is_noticed():
    x = leaf([1.0, 2.0])
    y = x.exp()
    with mb.no_grad():
        y.zero_()
    with pytest.raises(RuntimeError, match=r"`exp`.*changed in place"):
        y.sum().backward()


@pytest.mark.parametrize(
    "view",
    [lambda x: x[1:], lambda x: x.T, lambda x: x.reshape(-1), lambda x: x.split(1)[1],
     lambda x: x.detach(), lambda x: x.unsqueeze(0), lambda x: x[0][1:],
     lambda x: x.unbind()[0], lambda x: x.expand(3, 2, 2), lambda x: x.contiguous()],
)  # fmt: skip
def test_views_share_versions(view, device):
    for change_view in (True, False):
        x = mb.ones(2, 2, dtype="float64", device=device)
        v = view(x)
        used, changed = (x, v) if change_view else (v, x)
        y = (leaf(np.ones(used.shape), device) * used).sum()
        if change_view and v.shape == (3, 2, 2):
            continue  # an expanded tensor is copied before it is changed
        changed.add_(1)
        with pytest.raises(RuntimeError, match="changed in place"):
            y.backward()


def test_a_copied_view_does_not_hide_a_change_of_the_memory_it_left(device):
    w, x = leaf(np.ones((3, 2)), device), mb.ones(2, dtype="float64", device=device)
    expanded = x.expand(3, 2)
    y = (w * x).sum()
    x.add_(1)
    expanded.add_(1)  # written to a copy
    assert x.tolist() == [2, 2] and expanded.tolist() == [[3, 3]] * 3
    with pytest.raises(RuntimeError, match=r"`multiply`.*changed in place"):
        y.backward()


def test_leaf_changed_between_forward_and_backward_is_noticed():
    w = leaf([1.0, 2.0])
    y = (w * w).sum()
    with mb.no_grad():
        w[0] = 7.0
    with pytest.raises(RuntimeError, match="version 1, expected 0"):
        y.backward()


def test_numpy_of_a_tensor_is_read_only(device):
    x = leaf([1.0, 2.0], device)
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x)[0] = 5


# ---- debug --------------------------------------------------------------------------


def test_debug_names_the_op_and_the_line_of_the_first_nan():
    x = leaf([-1.0, 1.0])
    with mb.debug(), np.errstate(invalid="ignore"):
        with pytest.raises(FloatingPointError, match=r"(?s)`log`.*\(2,\).*test_guards"):
            (x * 1).log()
        assert x.exp().sum().item() > 0  # nothing wrong, nothing raised
    with np.errstate(invalid="ignore"):
        assert np.isnan(x.log().numpy()[0])  # outside of debug nothing is watched


def test_debug_names_the_backward_that_made_the_first_nan():
    x = leaf([0.0])
    with mb.debug(), np.errstate(all="ignore"):
        y = x.sqrt() * 0  # backward: 0 / 0
        with pytest.raises(
            FloatingPointError, match=r"(?s)backward of `sqrt`.*test_guards"
        ):
            y.sum().backward()


def test_debug_leaves_nan_that_was_there_before():
    with mb.debug():
        assert np.isnan((mb.tensor([float("nan")]) * 2).numpy()).all()


def test_debug_finds_the_first_infinity_where_asked():
    x = leaf([1000.0, float("inf")])
    with np.errstate(over="ignore"):
        with mb.debug():
            assert np.isinf((x / 1e-2).exp().numpy()).all()
        with mb.debug(infinite=True):
            assert np.isinf((x * 2).numpy()[1])  # it was there before
            with pytest.raises(FloatingPointError, match=r"`exp`.*NaN or infinity"):
                x[:1].exp()


def test_debug_ends_with_the_block():
    for wanted in (False, True):
        with pytest.raises(ZeroDivisionError), mb.debug(infinite=wanted):
            _ = 1 / 0
    with np.errstate(invalid="ignore"):
        assert np.isnan(leaf([-1.0]).log().numpy()).all()


def test_recursive_backward_functions_are_searched_once():
    def op(x):
        def backward(dy, times=2):
            return (dy * x,) if not times else backward(dy, times - 1)

        return x * x / 2, backward

    w = leaf([1.0])
    y = apply(op, w)
    with mb.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="`op`"):
        y.backward()


def test_recursive_no_grad_function_leaves_recording_as_it_was():
    @mb.no_grad()
    def countdown(n):
        assert not mb.ones(1, requires_grad=True).exp().requires_grad
        return n and countdown(n - 1)

    countdown(3)
    assert mb.ones(1, requires_grad=True).exp().requires_grad


def test_writing_a_value_that_has_a_gradient_is_refused():
    weight, out = mb.tensor([2.0], requires_grad=True), mb.zeros(2)
    for write in (
        lambda: out.__setitem__(0, (weight * 3)[0]),
        lambda: out.copy_(weight),
        lambda: out.add_(weight),
    ):
        with pytest.raises(RuntimeError, match=r"lose the gradient.*no_grad"):
            write()
    with mb.no_grad():
        out[0] = (weight * 3)[0]
    assert out.tolist() == [6, 0]


def test_ids_indices_and_conditions_are_those_of_the_forward_pass():
    weight = mb.ones(4, 2, requires_grad=True)
    for use in (
        lambda ids: F.embedding(ids, weight),
        lambda ids: weight[ids],
        lambda ids: weight.gather(0, mb.stack([ids, ids], 1)),
    ):
        weight.grad, ids = None, mb.tensor([0, 1])
        out = use(ids)
        ids.fill_(3)
        out.sum().backward()
        assert weight.grad.sum(1).tolist() == [2, 2, 0, 0]
    weight.grad, condition = None, mb.ones(4, 2) > 0
    out = mb.where(condition, weight, 0.0)
    condition.fill_(False)
    out.sum().backward()
    assert weight.grad.sum().item() == 8
