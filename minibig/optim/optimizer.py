"""What all optimizers share: parameter groups, state by parameter, saving, checks."""

import math
from numbers import Real
from typing import ClassVar

from ..backend import array_module, device_of, is_array, to_device
from ..tensor import Tensor
from .blocks import writable


def number(name, value, low=0.0, high=math.inf):
    """`value` as a Python float; ValueError unless low <= value < high (so no NaN)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not low <= value < high:
        above = "finite" if high == math.inf else f"below {high:g}"
        raise ValueError(f"{name} must be at least {low:g} and {above}, not {value}")
    return float(value)


def fraction(name, value):
    """`value` as a Python float in [0, 1)."""
    return number(name, value, high=1.0)


def switch(name, value):
    """`value`, which must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


class Optimizer:
    """Changes parameters against their gradients, in place, when `step()` is called.

    `params`: tensors, or dicts with "params" and settings of their own (groups). A
    subclass lists its settings with their checks in `rules` and the arrays that it
    keeps for each parameter in `state_names`, and writes `_update`. `param_groups` may
    be changed between steps (schedules do); `state` goes by the parameter's number.
    Raises ValueError or TypeError for parameters or settings that cannot work.
    Notebook 03 teaches optimizers.
    """

    rules: ClassVar = {}
    state_names = ()

    def __init__(self, params, **defaults):
        self.defaults = self._checked(defaults)
        self.param_groups = []
        self.state = {}
        self.device = None  # of the parameters in the last step
        groups = self._listed(params)
        if not groups:
            raise ValueError("the optimizer got no parameters: is the model empty?")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group):
        """Adds the parameters `group["params"]`; settings it lacks are the defaults."""
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f'a group is a dict with a list "params", not {group!r}')
        settings = {k: v for k, v in group.items() if k != "params"}
        settings = self._checked({**self.defaults, **settings})
        parameters = self._listed(group["params"], alone=True)
        if not parameters:
            raise ValueError("a parameter group is empty: leave it out")
        known = {id(p) for p in self._parameters()}
        for p in parameters:
            _check_parameter(p, known)
            known.add(id(p))
        self.param_groups.append({"params": parameters, **settings})

    def step(self):
        """Updates every parameter that has a gradient; the others stay as they are."""
        todo = [
            (group, index, parameter)
            for group, index, parameter in self._numbered()
            if parameter.grad is not None
        ]
        for _, index, parameter in todo:
            _check_gradient(index, parameter)
        self._follow(todo)
        self._update_all([self._entry(*one) for one in todo])
        for _, _, parameter in todo:
            parameter.changed()

    def _entry(self, group, index, parameter):
        """What `_update` takes, of one parameter."""
        array = writable(parameter)
        state = self.state.get(index)
        if state is None:
            state = self.state[index] = self._new_state(group, array)
        return group, array, parameter.grad.array, state

    def _follow(self, todo):
        """Moves the state after parameters that `Module.to` moved to another device."""
        device = todo[0][2].device if todo else self.device
        if device == self.device:
            return
        self.device = device
        for _, index, parameter in todo:
            state = self.state.get(index, {})
            for name, value in state.items():
                if is_array(value):
                    state[name] = to_device(value, parameter.device)

    def zero_grad(self):
        """Takes every gradient away: `.grad` is None until the next backward."""
        for parameter in self._parameters():
            parameter.grad = None

    def state_dict(self):
        """{"state": {number: {name: array or int}}, "param_groups": [settings]}.

        The arrays are the optimizer's own, not copies; "params" lists numbers.
        """
        numbers = iter(range(len(self._parameters())))
        groups = [
            {**group, "params": [next(numbers) for _ in group["params"]]}
            for group in self.param_groups
        ]
        state = {index: dict(entry) for index, entry in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Takes over a copy of what `state_dict()` gave; the steps go on bit for bit.

        Arrays go to the device and dtype of their parameters. Raises ValueError,
        before anything changes, where groups, sizes or names do not fit.
        """
        saved, groups = state_dict["param_groups"], self.param_groups
        sizes = [len(group["params"]) for group in groups]
        found = [len(group["params"]) for group in saved]
        if sizes != found:
            raise ValueError(
                f"the saved groups hold {found} parameters, this optimizer's {sizes}: "
                "it must be made from the same model with the same groups"
            )
        settings = [
            self._checked({k: v for k, v in (mine | its).items() if k != "params"})
            for mine, its in zip(groups, saved, strict=True)
        ]
        parameters = self._parameters()
        state = {
            int(index): self._loaded(int(index), entry, parameters)
            for index, entry in state_dict["state"].items()
        }
        for group, new in zip(groups, settings, strict=True):
            group.update(new)
        self.state = state

    def __repr__(self):
        lines = [
            ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            + f" · {sum(p.numel() for p in group['params']):,} numbers"
            for group in self.param_groups
        ]
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    # ---- for the subclasses ----

    def _update_all(self, entries):
        """Calls `_update` with each entry; one with a kernel does many at once."""
        for entry in entries:
            self._update(*entry)

    def _update(self, group, array, gradient, state):
        """Changes `array`, and what `state` holds, in place."""
        raise NotImplementedError

    def _new_state(self, group, array):
        xp = array_module(array)
        zeros = {name: xp.zeros(array.shape, array.dtype) for name in self.state_names}
        return {"step": 0, **zeros}

    def _fits(self, entry):
        """True if a saved state has the names that this optimizer keeps."""
        return entry.keys() == {"step", *self.state_names}

    def _checked(self, settings):
        """Settings as Python numbers; raises for unknown names and bad values."""
        rules = {**self.rules, "initial_lr": number}  # what schedules leave in a group
        unknown = sorted(settings.keys() - rules.keys())
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no setting {', '.join(unknown)}; "
                f"it has {', '.join(self.rules)}"
            )
        return {name: rules[name](name, value) for name, value in settings.items()}

    # ---- inside ----

    def _listed(self, params, alone=False):
        if isinstance(params, Tensor) and alone:
            return [params]
        if isinstance(params, (Tensor, dict)) or not hasattr(params, "__iter__"):
            raise TypeError(
                f"{type(self).__name__} takes a list of tensors or of groups, not one "
                f"{type(params).__name__}: model.parameters(), say"
            )
        return list(params)

    def _parameters(self):
        return [p for group in self.param_groups for p in group["params"]]

    def _numbered(self):
        index = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                yield group, index, parameter
                index += 1

    def _loaded(self, index, entry, parameters):
        """A copy of one parameter's saved state, checked against the parameter."""
        if not 0 <= index < len(parameters) or not self._fits(entry):
            raise ValueError(
                f"the state of parameter {index} of {len(parameters)} holds "
                f"{sorted(entry)}: it is not of {type(self).__name__} on this model"
            )
        array, loaded = parameters[index].array, {}
        for name, value in entry.items():
            if name == "step":
                loaded[name] = int(value)
                continue
            if not is_array(value) or value.shape != array.shape:
                raise ValueError(
                    f"{name} of parameter {index} has shape "
                    f"{getattr(value, 'shape', None)}, the parameter {array.shape}"
                )
            value = to_device(value, device_of(array))
            loaded[name] = value.astype(array.dtype, order="C", copy=True)
        return loaded


def _check_parameter(parameter, known):
    if not isinstance(parameter, Tensor):
        raise TypeError(
            f"an optimizer changes tensors, not {type(parameter).__name__}: pass "
            "model.parameters()"
        )
    if not parameter.is_leaf:
        raise ValueError(
            f"a tensor of shape {parameter.shape} is the result of an operation, "
            f"{parameter.grad_fn}: only leaves can be optimized; detach() makes one"
        )
    if not parameter.requires_grad:
        raise ValueError(
            f"a tensor of shape {parameter.shape} requires no gradient: leave it out, "
            "as in [p for p in model.parameters() if p.requires_grad]"
        )
    if id(parameter) in known:
        raise ValueError(
            f"a parameter of shape {parameter.shape} occurs twice: it would be updated "
            "twice a step; list it once, in one group"
        )


def _check_gradient(index, parameter):
    wanted, given = parameter.array, parameter.grad.array
    same = wanted.shape == given.shape and wanted.dtype == given.dtype
    if not same or type(wanted) is not type(given):
        raise ValueError(
            f"the gradient of parameter {index} is {given.shape}, {given.dtype}, "
            f"{device_of(given)}; the parameter is {wanted.shape}, {wanted.dtype}, "
            f"{device_of(wanted)}: clear it with zero_grad() and go backward again"
        )
