"""Modules that hold others in a row."""

from .module import Module


class ModuleList(Module):
    """Modules in a list: indexed, iterated over, appended to; it has no forward."""

    def __init__(self, modules=()):
        if not hasattr(modules, "__iter__"):
            raise TypeError(
                f"{type(self).__name__} takes a list of Modules, not "
                f"{type(modules).__name__}"
            )
        for module in modules:
            self.append(module)

    def append(self, module):
        """Adds a module at the end."""
        setattr(self, str(len(self)), self._checked(module))
        return self

    def __len__(self):
        return sum(1 for _ in self.children())

    def __iter__(self):
        return self.children()

    def __getitem__(self, index):
        modules = list(self.children())
        if isinstance(index, slice):
            return type(self)(modules[index])
        return modules[index]

    def __setitem__(self, index, module):
        setattr(self, str(range(len(self))[index]), self._checked(module))

    def _checked(self, module):
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__} holds Modules, not {type(module).__name__}"
            )
        return module


class Sequential(ModuleList):
    """Modules called one after the other, each on what the one before put out."""

    def __init__(self, *modules):
        modules = modules[0] if len(modules) == 1 and _is_list(modules[0]) else modules
        super().__init__(modules)

    def forward(self, x):
        for module in self:
            x = module(x)
        return x


def _is_list(modules):
    return isinstance(modules, (list, tuple))
