"""minibig: how big models work, from the gradient to the GPU kernel, in plain code."""

from . import (
    autograd,
    backend,
    conversions,
    functional,
    generation,
    inplace,
    models,
    nn,
    operators,
    random,
    reductions,
    shaping,
)
from .autograd import debug, no_grad
from .backend import DeviceError, default_device, set_default_device
from .creation import (
    arange,
    eye,
    full,
    linspace,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    tensor,
    zeros,
    zeros_like,
)
from .operators import maximum, minimum, where
from .random import seed
from .recompute import checkpoint
from .shaping import cat, einsum, stack
from .tensor import Tensor
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"
