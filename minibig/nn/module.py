"""Module: a tree of parameters and what is computed with them (notebook 04)."""

from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np

from .. import backend, checks
from ..autograd import no_grad
from ..files import match_names
from ..tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a Module finds and an optimizer trains."""

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(
            data.array if isinstance(data, Tensor) else data, requires_grad
        )


class Buffer(Tensor):
    """A Tensor that a Module keeps in its files but does not train."""

    __slots__ = ()

    def __init__(self, data):
        super().__init__(data.array if isinstance(data, Tensor) else data)


class Module:
    """Base of all layers and models.

    Parameters, Buffers and other Modules are found among the attributes, in the order
    in which they were written; other Tensors are passed over. A subclass needs nothing
    but its `forward`. Raises TypeError for Modules hidden in a plain list or dict.
    """

    training = True

    def forward(self, *inputs):
        raise TypeError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *inputs, **settings):
        return self.forward(*inputs, **settings)

    # ---- what it holds ----

    def named_children(self):
        """(name, Module) of the modules directly inside."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif _hides_modules(value):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a plain {type(value).__name__} "
                    "of Modules or Parameters, which would not be trained: use "
                    "ModuleList, or an attribute each"
                )

    def children(self):
        """The modules directly inside."""
        return (child for _, child in self.named_children())

    def named_modules(self):
        """(dotted name, Module) of this module ("") and all inside, each once."""
        seen, todo = set(), [("", self)]
        while todo:
            prefix, module = todo.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield prefix, module
                inside = [(_join(prefix, n), m) for n, m in module.named_children()]
                todo.extend(reversed(inside))

    def modules(self):
        """This module and all inside."""
        return (module for _, module in self.named_modules())

    def _named(self, kind):
        """(dotted name, Tensor) of one kind, a shared one once."""
        seen = set()
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, kind) and id(value) not in seen:
                    seen.add(id(value))
                    yield _join(prefix, name), value

    def named_parameters(self):
        """(dotted name, Parameter), a shared one once, under its first name."""
        return self._named(Parameter)

    def parameters(self):
        """All Parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self):
        """(dotted name, Buffer) of what is kept but not trained, each once."""
        return self._named(Buffer)

    def num_parameters(self):
        """How many numbers the Parameters hold, frozen ones included."""
        return sum(p.numel() for p in self.parameters())

    # ---- files ----

    def state_dict(self):
        """Dotted names and arrays of all parameters and buffers; a shared one once.

        The arrays are the module's own: copy them to keep a moment.
        """
        named = [*self.named_parameters(), *self.named_buffers()]
        return {name: tensor.array for name, tensor in named}

    def load_state_dict(self, state, strict=True):
        """Copies arrays (or Tensors) by name into this module, dtype and device kept.

        Raises one ValueError that lists missing, unexpected and wrong-shape names, and
        TypeError for what is no numbers; then nothing has changed. With `strict=False`
        names may be missing or unexpected.
        """
        checks.kind("a state", state, Mapping)
        named = dict([*self.named_parameters(), *self.named_buffers()])
        if not strict:
            state = {name: state[name] for name in state if name in named}
            named = {name: named[name] for name in state}
        arrays = {name: _numbers(name, value) for name, value in state.items()}
        match_names(
            {name: tensor.shape for name, tensor in named.items()},
            {name: array.shape for name, array in arrays.items()},
        )
        with no_grad():
            for name, tensor in named.items():
                tensor.copy_(arrays[name])

    # ---- the whole tree ----

    def train(self, training=True):
        """Training behaviour (dropout on) for this module and all inside."""
        for module in self.modules():
            module.training = training
        return self

    def eval(self):
        """Evaluation behaviour (dropout off) for this module and all inside."""
        return self.train(False)

    def apply(self, function):
        """Calls `function` on every module inside, then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, target):
        """Moves everything to a device ("cpu", "cuda"), or all floats to a float dtype.

        In place, as optimizers hold the same Parameters; gradients are forgotten.
        """
        device = isinstance(target, str) and target in ("cpu", "cuda")
        if device:
            backend.check_device(target)
        elif checks.dtype(target).kind != "f":
            raise TypeError(
                f"a module computes in floating point, not {target}: "
                'give "cpu", "cuda" or a floating dtype'
            )
        for _, tensor in [*self.named_parameters(), *self.named_buffers()]:
            if device:
                tensor.array = backend.to_device(tensor.array, target)
            elif tensor.is_floating_point():
                tensor.array = tensor.array.astype(target, copy=False)
            tensor.grad = None
            tensor.changed()
        return self

    def zero_grad(self):
        """Forgets the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, requires_grad=True):
        """Trains all parameters, or freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    @property
    def device(self):
        """Where the first parameter lies; "cpu" without one."""
        return next((p.device for p in self.parameters()), "cpu")

    # ---- how it shows itself ----

    def extra_repr(self):
        """The settings to show in the repr; for subclasses to say."""
        return ""

    def __repr__(self):
        count = self.num_parameters()
        note = f"  # {count:,} parameters" if count else ""
        name, settings = type(self).__name__, self.extra_repr()
        children = list(self.named_children())
        if not children:
            return f"{name}({settings}){note}"
        inside = [settings] if settings else []
        inside += [f"({name}): {child!r}" for name, child in children]
        lines = "\n".join(inside).replace("\n", "\n  ")
        return f"{name}({note}\n  {lines}\n)"


@contextmanager
def evaluating(model):
    """Within it `model` is in evaluation; afterwards every part is as it was."""
    checks.kind("the model", model, Module)
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _join(prefix, name):
    return f"{prefix}.{name}" if prefix else name


def _hides_modules(value):
    """Whether lists or dicts, in one another maybe, hold a Module or Parameter."""
    if not isinstance(value, (list, tuple, set, dict)):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return any(isinstance(x, (Module, Parameter)) or _hides_modules(x) for x in inside)


def _numbers(name, value):
    """A value of a state as an array."""
    array = value.array if isinstance(value, Tensor) else value
    array = array if backend.is_array(array) else np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"the state's {name!r} holds {array.dtype}, not numbers")
    return array
