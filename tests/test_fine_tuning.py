"""Freezing and parameter groups by name pattern."""

import numpy as np
import pytest

import minibig as mb
from minibig import nn, optim
from minibig.training import freeze, parameter_groups


class Net(nn.Module):
    def __init__(self):
        self.blocks = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.norm = nn.LayerNorm(3)
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x).tanh()
        return self.classifier(self.norm(x))


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def step(model, optimizer):
    """The names of the parameters that one step changed."""
    before = {name: a.copy() for name, a in model.state_dict().items()}
    optimizer.zero_grad()
    (model(mb.tensor([[1.0, -2.0, 0.5]])) ** 2).sum().backward()
    optimizer.step()
    after = model.state_dict()
    return {name for name, a in before.items() if not np.array_equal(a, after[name])}


def names_of(model, group):
    ids = {id(p) for p in group["params"]}
    return [name for name, p in model.named_parameters() if id(p) in ids]


def test_freeze_returns_the_frozen_names_in_the_models_order():
    model = Net()
    names = freeze(model, "norm.*", "blocks.0.*", "*.0.bias")
    assert names == ["blocks.0.weight", "blocks.0.bias", "norm.weight", "norm.bias"]
    assert trained(model) == set(model.state_dict()) - set(names)
    model.requires_grad_()
    assert trained(model) == set(model.state_dict())


def test_a_step_leaves_frozen_parameters_as_they_are():
    mb.seed(0)
    model = Net()
    frozen = freeze(model, "blocks.*")
    moved = step(model, optim.SGD(parameter_groups(model, {}), lr=0.1))
    assert moved == set(model.state_dict()) - set(frozen)
    assert all(p.grad is None for p in model.blocks.parameters())


def test_a_pattern_that_matches_nothing_is_an_error_and_changes_nothing():
    model = Net()
    with pytest.raises(ValueError, match=r"'block\.\*' matches no .*blocks\.0"):
        freeze(model, "norm.*", "block.*")
    assert trained(model) == set(model.state_dict())
    with pytest.raises(ValueError, match="name what to freeze"):
        freeze(model)
    with pytest.raises(ValueError, match="'x' matches no parameter's name"):
        parameter_groups(model, {"x": {"lr": 1.0}})


def test_each_group_learns_at_its_own_rate():
    mb.seed(0)
    model = Net()
    groups = parameter_groups(
        model, {"*bias": {"lr": 0.0}, "blocks.*": {"lr": 0.01, "weight_decay": 0.5}}
    )
    assert [names_of(model, group) for group in groups] == [
        ["blocks.0.bias", "blocks.1.bias", "norm.bias", "classifier.bias"],
        ["blocks.0.weight", "blocks.1.weight"],
        ["norm.weight", "classifier.weight"],
    ]
    optimizer = optim.AdamW(groups, lr=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.01, 0.1]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.5, 0.01]
    moved = step(model, optimizer)
    assert moved == {n for n in model.state_dict() if not n.endswith("bias")}


def test_groups_hold_each_trained_parameter_once():
    model = Net()
    freeze(model, "blocks.0.*", "classifier.*")
    groups = parameter_groups(model, {"blocks.0.*": {"lr": 1.0}, "*": {"lr": 0.1}})
    assert [names_of(model, g) for g in groups] == [
        ["blocks.1.weight", "blocks.1.bias", "norm.weight", "norm.bias"]
    ]
    freeze(model, "*")
    with pytest.raises(ValueError, match="every parameter is frozen"):
        parameter_groups(model, {})


def test_a_pattern_that_comes_too_late_is_an_error():
    with pytest.raises(ValueError, match=r"before 'norm\.\*' match all its names"):
        parameter_groups(Net(), {"*": {"lr": 0.1}, "norm.*": {"lr": 0.2}})


def test_a_shared_weight_is_named_once():
    model = Net()
    model.blocks[1].weight = model.blocks[0].weight
    with pytest.raises(ValueError, match="matches no"):
        freeze(model, "blocks.1.weight")
    assert freeze(model, "blocks.0.weight") == ["blocks.0.weight"]
