"""Module: a tree of parameters and what is computed with them (notebook 04)."""

import numpy as np

from .. import backend
from ..files import match_names
from ..tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a Module finds and an optimizer trains."""

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(
            data.array if isinstance(data, Tensor) else data, requires_grad
        )


class Module:
    """Base of all layers and models.

    Parameters, buffers (Tensors that are kept but not trained) and other Modules are
    found among the attributes, in the order in which they were written. A subclass
    needs nothing but its `forward`.
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

    def children(self):
        """The modules directly inside."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix=""):
        """(dotted name, Module) of this module ("") and all inside."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self):
        """This module and all inside."""
        return (module for _, module in self.named_modules())

    def _named_tensors(self):
        """(dotted name, holder, attribute, Tensor), shared ones at every place."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    yield (f"{prefix}.{name}" if prefix else name), module, name, value

    def named_parameters(self):
        """(dotted name, Parameter), a shared one once, under its first name."""
        seen = set()
        for name, _, _, value in self._named_tensors():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self):
        """All Parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self):
        """(dotted name, Tensor) of what is kept but not trained."""
        for name, _, _, value in self._named_tensors():
            if not isinstance(value, Parameter):
                yield name, value

    def num_parameters(self):
        """How many numbers are trained."""
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
        then changes nothing; with `strict=False` only wrong shapes are an error.
        """
        named = dict([*self.named_parameters(), *self.named_buffers()])
        state = {
            name: value.array if isinstance(value, Tensor) else value
            for name, value in state.items()
        }
        expected = {name: tensor.shape for name, tensor in named.items()}
        found = {name: np.shape(value) for name, value in state.items()}
        if not strict:
            found = {name: found[name] for name in found if name in expected}
            expected = {name: expected[name] for name in found}
        match_names(expected, found)
        for name in found:
            tensor = named[name]
            value = state[name].astype(tensor.dtype)
            tensor.array[...] = backend.to_device(value, tensor.device)
            tensor.changed()

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
        """Moves everything to a device, or all floating-point numbers to a dtype."""
        device = isinstance(target, str) and target in ("cpu", "cuda")
        for _, tensor in [*self.named_parameters(), *self.named_buffers()]:
            if device:
                tensor.array = backend.to_device(
                    tensor.array, backend.check_device(target)
                )
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
        """The settings to show in brackets; for subclasses to say."""
        return ""

    def __repr__(self):
        count = self.num_parameters()
        note = f"  # {count:,} parameters" if count else ""
        children = list(self.named_children())
        if not children:
            return f"{type(self).__name__}({self.extra_repr()}){note}"
        lines = [f"{type(self).__name__}({note}"]
        for name, child in children:
            lines.append("  " + f"({name}): {child!r}".replace("\n", "\n  "))
        return "\n".join([*lines, ")"])
