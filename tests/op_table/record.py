"""What the op table holds: one Record for each public differentiable function."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from minibig import backend
from minibig.tensor import Tensor

LAYOUTS = frozenset({
    "0-d", "1-d", "2-d", "3-d", "4-d", "size-1 axis", "empty", "transposed", "strided",
    "negative stride", "read-only broadcast view",
})  # fmt: skip
PAIRS = frozenset({"first broadcast", "second broadcast", "same tensor twice"})
AXES = frozenset({"dim negative", "dim None", "dim tuple", "keepdim"})
INDICES = frozenset(
    {"duplicate index", "negative index", "boolean index", "empty index"}
)


@dataclass(frozen=True)
class Sample:
    """One call: float arrays get gradients; other arrays, numbers and None do not."""

    arrays: tuple
    settings: dict = field(default_factory=dict)

    def __str__(self):
        shown = [
            f"{x.dtype}{x.shape}" if isinstance(x, np.ndarray) else repr(x)
            for x in self.arrays
        ]
        return ", ".join([*shown, *(f"{k}={v!r}" for k, v in self.settings.items())])

    def floats(self):
        """The arrays that get gradients, each once."""
        found = {id(x): x for x in self.arrays if is_float(x)}
        return list(found.values())

    def rounded(self, dtype):
        """The same with numbers that `dtype` can hold, still in float64."""
        held = {id(x): x.astype(dtype).astype(x.dtype) for x in self.floats()}
        arrays = tuple(held.get(id(x), x) for x in self.arrays)
        return Sample(arrays, self.settings)

    def inputs(self, dtype=None, device="cpu"):
        """(arguments, the Tensors among them that want a gradient, each once)."""
        wanted = {id(x): leaf(x, dtype, device) for x in self.floats()}
        arguments = [
            wanted[id(x)]
            if id(x) in wanted
            else Tensor(backend.to_device(x, device))
            if isinstance(x, np.ndarray)
            else x
            for x in self.arrays
        ]
        return arguments, list(wanted.values())


@dataclass(frozen=True)
class Refusal:
    """A call that must raise `error` with all `facts` in its message."""

    error: type
    call: Callable
    facts: tuple


@dataclass(frozen=True)
class Record:
    """What is known of one public function.

    `reference` and `torch` compute the same from arrays or PyTorch tensors, given NumPy
    (or HIPS autograd's NumPy) or PyTorch as first argument. Where no such expression
    exists, `torch` says why (for some samples alone: it returns NotImplemented);
    `autograd` is None if the reference serves, another expression, or the reason why
    there is none.
    """

    name: str  # module.function, as in minibig
    function: Callable  # Tensors, settings -> Tensor or a tuple of them
    reference: Callable
    samples: Callable  # random generator -> list of Samples
    torch: Callable | str
    errors: tuple = ()
    domain: str = "all numbers"
    admits: frozenset = LAYOUTS  # kinds of samples that must be there
    autograd: Callable | str | None = None
    keeps_dtype: bool = True
    widens: bool = False  # float16 in, float32 out
    eps: float = 1e-5  # step of the difference quotient

    def draw(self, seed=0):
        """Samples with numbers drawn from the seed."""
        return self.samples(np.random.default_rng([seed, len(self.name)]))


def refuses(error, call, *facts):
    return Refusal(error, call, facts)


def is_float(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def leaf(array, dtype=None, device="cpu"):
    """A Tensor on the array itself, layout and all, that wants a gradient."""
    array = array if dtype is None else array.astype(dtype)
    return Tensor(backend.to_device(array, device), requires_grad=True)


def several(outputs):
    """Outputs as a tuple, however many there are."""
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


# ---- what a sample exercises, read off the sample itself ----------------------------


def kinds(sample):
    """Which of the kinds named above the sample belongs to."""
    found = set().union(*(_layout(x) for x in sample.arrays if is_float(x)))
    floats = [x for x in sample.arrays if is_float(x)]
    if len(sample.floats()) < len(floats):
        found.add("same tensor twice")
    if len(floats) == 2:
        found |= _broadcast(*(x.shape for x in floats))
    if "dim" in sample.settings:
        found |= _axis(**sample.settings)
    index = sample.settings.get("index", ())
    for part in (*several(index), *sample.arrays):
        if isinstance(part, np.ndarray) and part.dtype.kind in "iub":
            found |= _index(part)
    return found


def _layout(x):
    found = {f"{x.ndim}-d"}
    if 1 in x.shape:
        found.add("size-1 axis")
    if not x.size:
        return found | {"empty"}
    strides = [s for n, s in zip(x.shape, x.strides, strict=True) if n > 1]
    if any(s < 0 for s in strides):
        found.add("negative stride")
    elif 0 in strides:
        found |= set() if x.flags.writeable else {"read-only broadcast view"}
    elif strides != sorted(strides, reverse=True):
        found.add("transposed")
    elif not x.flags.c_contiguous:
        found.add("strided")
    return found


def _broadcast(first, second):
    try:
        whole = np.broadcast_shapes(first, second)
    except ValueError:  # not a pair that broadcasts: sequences, matrices
        return set()
    found = {"first broadcast"} if first != whole else set()
    return found | ({"second broadcast"} if second != whole else set())


def _axis(dim, keepdim=False, **others):
    found = {"keepdim"} if keepdim else set()
    if dim is None:
        found.add("dim None")
    elif isinstance(dim, tuple):
        found.add("dim tuple")
    elif dim < 0:
        found.add("dim negative")
    return found


def _index(part):
    if part.dtype == bool:
        return {"boolean index"}
    if not part.size:
        return {"empty index"}
    found = {"negative index"} if part.min() < 0 else set()
    repeated = np.unique(part).size < part.size
    return found | ({"duplicate index"} if repeated else set())
