"""Mixed precision: 16 bits for the work, 32 for what must not be lost.

    float32 weights ──► float16 copies ──► forward, loss · scale, backward ──┐
        ▲                                                                     ▼
        └── optimizer ◄── float32 gradients / scale ◄── float16 gradients · scale

Micikevicius et al., arXiv 1710.03740. The weights are float32 throughout a run; a model
sees 16-bit copies of them while it computes. Of float16's small gradients many would be
0: the loss is multiplied by a scale first, as large as the gradients bear. bfloat16
has float32's range, and needs none, but fewer digits.
"""

import importlib
import math
from contextlib import contextmanager, nullcontext

import numpy as np

from .. import checks
from ..autograd import mode
from ..backend import use_kernel
from ..kernels import parameters as kernel
from ..ops.elementwise import cast
from ..tensor import Tensor, apply

DTYPES = {"fp32": None, "fp16": "float16", "bf16": "bfloat16"}


class GradScaler:
    """The number the loss is multiplied by; it finds the largest that goes well.

    It starts at `init_scale` and doubles after `growth_interval` good steps in a row. A
    step whose gradients overflow is to be skipped, and halves it. Named as PyTorch's.
    """

    growth_factor, backoff_factor = 2.0, 0.5

    def __init__(self, init_scale=65536.0, growth_interval=2000):
        number = checks.number("GradScaler: init_scale", init_scale, 0, without=0)
        self.scale = float(number)
        whole = checks.whole("GradScaler: growth_interval", growth_interval, 1)
        self.growth_interval, self.good_steps = whole, 0

    def update(self, good):
        """Takes note of a step: `good` says whether its gradients were finite."""
        if not good:
            self.scale, self.good_steps = self.scale * self.backoff_factor, 0
            return
        self.good_steps += 1
        if self.good_steps == self.growth_interval:
            self.scale, self.good_steps = self.scale * self.growth_factor, 0

    def state_dict(self):
        """Scale and good steps since it last changed; fits into JSON."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state):
        """Goes on where `state_dict()` was taken."""
        self.scale = float(state["scale"])
        self.good_steps = int(state["good_steps"])


class Precision:
    """How a run computes: "fp32", or in 16 bits with float32 weights, in "fp16" with a
    GradScaler, on a GPU in "bf16", whose range is that of float32, without."""

    def __init__(self, name, model):
        self.name = checks.choice("fit: precision", name, DTYPES)
        self.model, self.dtype = model, DTYPES[name]
        self.scaler = GradScaler() if name == "fp16" else None
        if name == "bf16":
            self.dtype = _bfloat16(model)
        dtypes = {p.dtype.name for p in model.parameters() if p.is_floating_point()}
        if self.dtype is not None and dtypes - {"float32"}:
            raise TypeError(
                f'fit: precision="{name}" trains weights of float32; this model has '
                f'{", ".join(sorted(dtypes))}: move it with .to("float32")'
            )

    @property
    def scale(self):
        """What the loss is multiplied by."""
        return 1.0 if self.scaler is None else self.scaler.scale

    def working(self):
        """A context in which the model computes in this precision."""
        return nullcontext() if self.dtype is None else lowered(self.model, self.dtype)

    def inputs(self, batch):
        """A batch's Tensors in this precision; the last, the targets, as they are,
        unless it is alone, the input too."""
        if self.dtype is None:
            return batch
        inputs, targets = (batch[:-1], batch[-1:]) if len(batch) > 1 else (batch, ())
        inputs = (
            apply(cast, x, dtype=self.dtype) if x.is_floating_point() else x
            for x in inputs
        )
        return *inputs, *targets

    def backward(self, loss, share):
        """Adds `share` of the loss's gradient, times the scale, in float32."""
        if self.dtype is None:
            (loss if share == 1 else loss * share).backward()
            return
        (loss.float() * (share * self.scale)).backward()
        grown = [p for p in self.model.parameters() if p.grad is not None]
        grown = [p for p in grown if p.grad.dtype == self.dtype]
        arrays = [p.grad.array for p in grown]
        for p, array in zip(grown, _cast(arrays, "float32"), strict=True):
            p.grad = Tensor(array)

    def update(self, norm):
        """Whether the optimizer may step: not where the norm of the gradients is not
        finite because the scale was too large; then the scale is halved.

        FloatingPointError where the gradients overflow without a scale too.
        """
        if self.scaler is None:
            return True
        good = math.isfinite(norm)
        if not good and self.scale < 1:
            raise FloatingPointError(
                "the gradients are not finite in float16 even for a loss scaled down "
                f"to {self.scale:g} of itself: the loss diverged, a lower learning "
                "rate may help"
            )
        self.scaler.update(good)
        return good


def _bfloat16(model):
    """The dtype; raises where there is none."""
    if model.device == "cpu":
        raise ValueError(
            'fit: precision="bf16" needs a GPU, NumPy has no bfloat16: move the model '
            'there with .to("cuda"), or take "fp16", which runs on both'
        )
    try:
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError as error:
        raise ValueError(
            'fit: precision="bf16" needs the package ml_dtypes, which CuPy takes '
            "bfloat16 from: pip install ml_dtypes"
        ) from error


def _cast(arrays, dtype):
    """The arrays in another dtype; on a GPU by one kernel where it can."""
    served = kernel.cast(arrays, dtype) if arrays and use_kernel(arrays[0]) else None
    return [x.astype(dtype) for x in arrays] if served is None else served


@contextmanager
def lowered(model, dtype="float16"):
    """Within it the floating parameters of `model` are copies of 16 bits.

    Gradients that backward leaves there are of 16 bits too, or are added to float32
    ones that were there before. Changes made to the copies are lost.
    """
    if dtype == "bfloat16":
        dtype = _bfloat16(model)
    masters = [(p, p.array) for p in model.parameters() if p.is_floating_point()]
    before, mode.bfloat16 = mode.bfloat16, dtype == "bfloat16"
    try:
        with np.errstate(over="ignore"):  # a weight above 65,504: infinite, and seen
            copies = _cast([array for _, array in masters], dtype)
        for (p, _), copy in zip(masters, copies, strict=True):
            p.array = copy
        yield
    finally:
        mode.bfloat16 = before
        for p, array in masters:
            p.array = array
