"""Module: what it finds, keeps, loads and shows; and the plain layers."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import nn, optim


class Net(nn.Module):
    """Attributes of every kind, on purpose not in alphabetical order."""

    def __init__(self):
        self.second = nn.Linear(3, 4)
        self.scale = nn.Parameter(mb.ones(4))
        self.first = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5))
        self.mean = nn.Buffer(mb.zeros(4))
        self.count = nn.Buffer(mb.tensor(0))
        self.name, self.nothing = "net", None

    def forward(self, x):
        return self.first(self.second(x) * self.scale - self.mean)


PARAMETERS = ["scale", "second.weight", "second.bias", "first.0.weight", "first.0.bias"]


def arrays_of(module):
    return {name: array.copy() for name, array in module.state_dict().items()}


def assert_same(state, other):
    assert list(state) == list(other)
    for name, array in state.items():
        np.testing.assert_array_equal(array, other[name], strict=True)


# ---- what it finds ------------------------------------------------------------------


def test_attributes_are_found_in_the_order_written():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == PARAMETERS
    assert [n for n, _ in net.named_buffers()] == ["mean", "count"]
    assert [n for n, _ in net.named_children()] == ["second", "first"]
    names = ["", "second", "first", "first.0", "first.1", "first.2"]
    assert [n for n, _ in net.named_modules()] == names
    assert list(net.state_dict()) == [*PARAMETERS, "mean", "count"]
    assert net.num_parameters() == 4 + 16 + 20


def test_parameter_that_is_replaced_is_the_one_found():
    net = Net()
    net.scale = nn.Parameter(mb.full((4,), 2.0))
    assert [n for n, _ in net.named_parameters()] == PARAMETERS
    assert next(net.parameters()) is net.scale
    net.second.bias = None
    assert "second.bias" not in net.state_dict()
    del net.scale
    assert net.num_parameters() == 12 + 20


def test_shared_parameter_is_listed_once_and_gets_both_gradients():
    class Tied(nn.Module):
        def __init__(self):
            self.embedding = nn.Embedding(5, 3)
            self.output = nn.Linear(3, 5, bias=False)
            self.output.weight = self.embedding.weight

        def forward(self, ids):
            return self.output(self.embedding(ids))

    tied = Tied().to("float64")
    assert [n for n, _ in tied.named_parameters()] == ["embedding.weight"]
    assert list(tied.state_dict()) == ["embedding.weight"]
    F.cross_entropy(tied(mb.tensor([1, 2])), [3, 4]).backward()
    w = tied.embedding.weight.numpy().copy()
    both = tied.embedding.weight.grad.numpy().copy()
    lookup = mb.tensor(w, requires_grad=True)
    output = mb.tensor(w, requires_grad=True)
    rows = F.embedding([1, 2], lookup)
    F.cross_entropy(F.linear(rows, output), [3, 4]).backward()
    expected = lookup.grad.numpy() + output.grad.numpy()
    np.testing.assert_allclose(both, expected, atol=1e-14)
    optim.SGD(tied.parameters(), lr=0.1).step()
    assert tied.output.weight is tied.embedding.weight
    tied.load_state_dict({"embedding.weight": np.ones((5, 3))})
    assert (tied.output.weight.numpy() == 1).all()
    assert tied.to("float32").output.weight is tied.embedding.weight


def test_shared_module_is_found_once():
    layer = nn.Linear(2, 2)
    both = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(both.modules())) == 3
    assert list(both.state_dict()) == ["0.weight", "0.bias"]
    assert both.num_parameters() == 6 and len(both) == 3


def test_plain_tensors_are_passed_over():
    class Watched(nn.Linear):
        def forward(self, x):
            self.seen = super().forward(x)
            return self.seen

    layer = Watched(2, 3)
    before = arrays_of(layer)
    layer(mb.ones(5, 2))
    assert_same(before, layer.state_dict())
    assert isinstance(layer.seen, mb.Tensor)


@pytest.mark.parametrize(
    ("kind", "hide"),
    [
        ("list", lambda layer: [layer]),
        ("tuple", lambda layer: (1, layer.weight)),
        ("dict", lambda layer: {"first": layer}),
        ("list", lambda layer: [[], {"inside": (layer,)}]),
    ],
)
def test_modules_in_a_plain_list_or_dict_are_refused(kind, hide):
    class Wrong(nn.Module):
        def __init__(self):
            self.layers = hide(nn.Linear(2, 2))

    message = rf"Wrong\.layers is a plain {kind}.*ModuleList"
    with pytest.raises(TypeError, match=message):
        list(Wrong().parameters())


def test_five_hundred_levels_deep():
    net = nn.Linear(1, 1)
    for _ in range(500):
        net = nn.Sequential(net)
    state = arrays_of(net)
    assert list(state) == ["0." * 500 + "weight", "0." * 500 + "bias"]
    net.load_state_dict({name: array + 1 for name, array in state.items()})
    assert net.eval().num_parameters() == 2
    assert not any(module.training for module in net.modules())


def test_module_without_forward_says_so():
    with pytest.raises(TypeError, match=r"ModuleList defines no forward\(\)"):
        nn.ModuleList()(1)


def test_parameter_wants_floats():
    with pytest.raises(TypeError, match="int64"):
        nn.Parameter(mb.tensor([1, 2]))
    assert nn.Parameter(mb.ones(2)).requires_grad
    assert not nn.Parameter(mb.ones(2), requires_grad=False).requires_grad


# ---- files --------------------------------------------------------------------------


def test_state_goes_from_one_module_to_another():
    one, other = Net(), Net()
    one.mean.copy_(mb.tensor([1.0, 2.0, 3.0, 4.0]))
    one.count.fill_(7)
    other.load_state_dict(one.state_dict())
    assert_same(arrays_of(one), other.state_dict())
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(a is not b for a, b in pairs)
    one.mean.zero_()
    assert other.mean.tolist() == [1, 2, 3, 4] and other.count.item() == 7
    mb.seed(1)
    tensors = {n: mb.tensor(a) for n, a in Net().state_dict().items()}
    other.load_state_dict(tensors)
    assert_same({n: t.numpy() for n, t in tensors.items()}, other.state_dict())


def test_loading_keeps_the_dtype_and_the_parameters():
    net = Net().to("float64")
    kept = list(net.parameters())
    net.load_state_dict(Net().state_dict())
    assert all(a is b for a, b in zip(kept, net.parameters(), strict=True))
    assert {p.dtype for p in kept} == {np.dtype("float64")}
    assert net.count.dtype == np.int64


def test_one_error_names_all_that_does_not_fit_and_nothing_changes():
    net = Net()
    before = arrays_of(net)
    state = {name: array + 1 for name, array in before.items()}
    del state["scale"], state["mean"]
    state["third.weight"] = np.zeros(2)
    state["first.0.weight"] = np.zeros((4, 5))
    with pytest.raises(ValueError) as error:
        net.load_state_dict(state)
    for fact in (
        "missing: scale, mean", "unexpected: third.weight",
        "first.0.weight is (4, 5), not (4, 4)",
    ):  # fmt: skip
        assert fact in str(error.value)
    assert_same(before, net.state_dict())


def test_what_is_no_numbers_is_refused_and_nothing_changes():
    net = Net()
    before = arrays_of(net)
    state = {name: array + 1 for name, array in before.items()}
    state["mean"] = np.array(["a"] * 4)
    with pytest.raises(TypeError, match="'mean' holds <U1, not numbers"):
        net.load_state_dict(state)
    assert_same(before, net.state_dict())


def test_not_strict_loads_what_there_is():
    net = Net()
    before = arrays_of(net)
    state = {"scale": np.full(4, 3.0), "unknown": np.zeros(1)}
    net.load_state_dict(state, strict=False)
    assert_same(before | {"scale": np.full(4, 3, "float32")}, net.state_dict())
    with pytest.raises(ValueError, match=r"scale is \(5,\), not \(4,\)"):
        net.load_state_dict({"scale": np.zeros(5)}, strict=False)


# ---- the whole tree -----------------------------------------------------------------


def test_train_and_eval_reach_everything():
    net = Net()
    assert net.eval() is net and not net.first[2].training
    x = mb.ones(2, 3)
    np.testing.assert_array_equal(net(x).detach().numpy(), net(x).detach().numpy())
    assert net.train().first[2].training


def test_evaluating_leaves_each_part_as_it_was():
    net = Net()
    net.first.eval()
    with pytest.raises(KeyError), nn.evaluating(net):
        assert not any(module.training for module in net.modules())
        raise KeyError
    assert net.training and net.second.training
    assert not net.first.training and not net.first[2].training


def test_apply_visits_the_children_first():
    seen = []
    net = Net()
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Linear", "Linear", "ReLU", "Dropout", "Sequential", "Net"]


def test_to_dtype_changes_floats_in_place():
    net = Net()
    parameters = list(net.parameters())
    net(mb.ones(2, 3)).sum().backward()
    assert net.to("float64") is net
    assert {p.dtype for p in parameters} == {np.dtype("float64")}
    assert net.mean.dtype == np.float64 and net.count.dtype == np.int64
    assert all(p.grad is None and p.requires_grad for p in parameters)
    assert net(mb.ones(2, 3, dtype="float64")).dtype == np.float64
    with pytest.raises(TypeError, match="floating point, not int64"):
        net.to("int64")
    assert net.scale.dtype == np.float64


def test_to_device_and_back(device):
    net = Net()
    before = arrays_of(net)
    parameters = list(net.parameters())
    net.to(device)
    assert net.device == device and {p.device for p in parameters} == {device}
    assert net.mean.device == device
    net.to("cpu")
    assert_same(before, net.state_dict())


def test_frozen_parameters_stay_as_they_are():
    net = Net()
    net.first.requires_grad_(False)
    before = arrays_of(net)
    trained = [p for p in net.parameters() if p.requires_grad]
    assert len(trained) == 3
    net(mb.ones(2, 3)).sum().backward()
    optim.SGD(trained, lr=0.1).step()
    after = net.state_dict()
    assert net.first[0].weight.grad is None
    np.testing.assert_array_equal(before["first.0.weight"], after["first.0.weight"])
    assert not np.array_equal(before["second.bias"], after["second.bias"])
    assert net.num_parameters() == 40
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_repr_shows_the_tree_settings_and_counts():
    assert (
        repr(Net())
        == """Net(  # 40 parameters
  (second): Linear(3, 4)  # 16 parameters
  (first): Sequential(  # 20 parameters
    (0): Linear(4, 4)  # 20 parameters
    (1): ReLU()
    (2): Dropout(p=0.5)
  )
)"""
    )
    shown = repr(nn.TransformerEncoderLayer(4, 2, 1024, norm_first=True))
    assert shown.startswith(
        "TransformerEncoderLayer(  # 9,316 parameters\n  norm_first"
    )
    assert (
        "(self_attn): MultiheadAttention(  # 80 parameters\n    4, num_heads=2" in shown
    )


# ---- containers ---------------------------------------------------------------------


def test_module_list_is_a_list_of_modules():
    layers = nn.ModuleList(nn.Linear(n, 1) for n in (1, 2, 3))
    layers.append(nn.ReLU())
    assert len(layers) == 4 and [type(m).__name__ for m in layers][-1] == "ReLU"
    assert layers[1].in_features == 2 and isinstance(layers[-1], nn.ReLU)
    assert [m.in_features for m in layers[:2]] == [1, 2]
    assert isinstance(layers[1:], nn.ModuleList)
    layers[-1] = nn.Tanh()
    assert isinstance(layers[3], nn.Tanh) and len(layers) == 4
    with pytest.raises(IndexError):
        layers[4] = nn.ReLU()
    with pytest.raises(TypeError, match="holds Modules, not function"):
        layers.append(F.relu)


def test_sequential_calls_one_after_the_other():
    modules = [nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)]
    x = mb.ones(4, 2)
    expected = modules[2](modules[1](modules[0](x))).tolist()
    assert nn.Sequential(*modules)(x).tolist() == expected
    assert nn.Sequential(modules)(x).tolist() == expected
    part = nn.Sequential(*modules)[:2]
    assert part(x).shape == (4, 3) and part[0] is modules[0]
    assert nn.Sequential()(x) is x
