# %% [markdown]
# # One array, two machines
#
# > **You will build** a queue and a clock that tells the truth; a second machine out of
# > NumPy, which does what a GPU does and writes down every launch, every byte and every
# > wait; a memory pool; and the drawing that says how fast a program could be.
# >
# > **You need** tensors ([01](01_tensors.ipynb)) and the GPT of notebook
# > [11](11_gpt.ipynb).
# >
# > **It takes** about three hours with the exercises; the code runs for about a minute
# > on 2 CPU cores in 1 GB of memory. No GPU is needed. Where there is one, it is used.
#
# **What must a program do differently when its arrays lie on a GPU?**
#
# In its formulas, nothing: that is the first half of the answer, and a short one.
# In everything around the formulas, a good deal. A GPU is a second computer in the same
# case. It has a memory of its own, which the CPU cannot read, and it works through a
# list of tasks that the CPU writes without waiting for the answers. Most of what people
# find strange about GPUs, from clocks that show nonsense to programs that run no faster
# than before, follows from these two facts.

# %% tags=["nbval-ignore-output"]
import numpy as np

import minibig as mb
from minibig import backend
from minibig import functional as F

try:
    backend.check_device("cuda")
    device = "cuda"
except mb.DeviceError as reason:
    print(reason)
    device = "cpu"
print("device:", device)

# %% [markdown]
# If this printed `device: cuda`, the cells below that measure a GPU do so. If not, each
# of them says in one sentence what it would have done, and no number is made up in its
# place.

# %% [markdown]
# ## One body for every op
#
# CuPy is NumPy for NVIDIA's GPUs. `cupy.exp` takes a CuPy array as `np.exp` takes a
# NumPy array; shapes, strides, views and broadcasting are the same. So a function need
# only ask who owns the array that it was given. In minibig that question is
# `array_module(x)`, and by custom the answer is called `xp`:

# %%
from minibig.backend import array_module


def softmax(x):
    """Exponentials of each row, scaled to sum to 1; (N, C) -> (N, C)."""
    xp = array_module(x)
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


scores = np.float32(np.log([[1, 2, 3, 4], [5, 1, 1, 3]]))
print(softmax(scores).round(3))

# %% [markdown]
# By hand: both rows of exponentials sum to 10, so the weights are tenths.
#
# *The arrays decide.* There is no global switch and no second copy of the ops.
# `model.to("cuda")` copies every parameter over, and from then on each op that meets
# them works there, because `array_module` says so. Some ops know a faster way for one of
# the machines, blocks of rows for a CPU's cache or a kernel for a GPU; they ask the
# array, too. What must not happen is a mixture: CuPy refuses to add a NumPy array to its
# own, since that would mean a silent copy, and minibig says which side to move. All that
# it knows about devices stands in one file,
# [`minibig/backend.py`](../minibig/backend.py); CuPy is imported there and nowhere else.

# %% [markdown]
# ## The queue
#
# A program that a GPU runs, for all the numbers of an array at once, is called a
# *kernel*, and to have one run is a **launch**. In `softmax` CuPy would launch at least
# five: for `max`, the subtraction, `exp`, `sum` and the division.
#
# To launch a kernel, the CPU writes a note into a queue, called a *stream*, and goes
# on. The GPU takes the notes one after the other. So there are two clocks. Say the CPU
# needs $c$ for a note, all of Python, minibig and CuPy included, and kernel $i$ runs
# for $d_i$. Then note $i$ is written at $w_i$, and its kernel begins at $s_i$ and ends
# at $e_i$:
#
# $$w_i = w_{i-1} + c, \qquad s_i = \max(w_i, e_{i-1}), \qquad e_i = s_i + d_i .$$
#
# If after note $i$ the CPU asks for a number, it must wait, and then $w_i = e_i$.


# %%
def queue(cost, durations, waits=()):
    """(written, begun, ended) of each launch; after those in `waits` the CPU waits."""
    rows, clock, ended = [], 0, 0
    for number, duration in enumerate(durations):
        clock += cost
        begun = max(clock, ended)
        ended = begun + duration
        rows.append((clock, begun, ended))
        clock = ended if number in waits else clock
    return np.array(rows)


# %%
# NBVAL_CHECK_OUTPUT
long = queue(10, [30] * 4)
short = queue(10, [4] * 4)
waiting = queue(10, [30] * 4, waits=range(4))
for name, rows in {"long": long, "short": short, "waiting": waiting}.items():
    print(f"{name:8} written {rows[:, 0]}, ended {rows[:, 2]}")

# %% [markdown]
# Four long kernels (30 µs each, notes of 10 µs): the CPU is done at 40, the GPU at 130.
# Four short ones (4 µs): both are done at 44, and the GPU has been idle for 28 of it.
# Four long ones with a wait after each: 160, since the two take turns. In pictures,
# simulated with the function above:

# %%
import matplotlib.pyplot as plt

from minibig import viz


def draw(axes, rows, cost, title):
    """The two machines' work as boxes, and where a hasty clock would be read."""
    for written, begun, ended in rows:
        axes.broken_barh([(written - cost, cost)], (1.1, 0.8), fc="#E69F00", ec="white")
        axes.broken_barh([(begun, ended - begun)], (0.1, 0.8), fc="#0072B2", ec="white")
    hasty, right = rows[-1, 0], rows[-1, 2]
    axes.vlines(hasty, 0, 2.1, color="#D55E00", linestyle="--")
    axes.vlines(right, 0, 2.1, color="black")
    axes.text(hasty, 2.15, f"{hasty}", color="#D55E00", ha="right")
    axes.text(right, 2.15, f"{right}", ha="left")
    axes.set(xlim=(0, 170), ylim=(0, 2.7), title=title)
    axes.set_yticks([0.5, 1.5], ["GPU", "CPU"])
    axes.spines[["top", "right"]].set_visible(False)


# %%
figure, panels = plt.subplots(3, figsize=(7.4, 4.8), sharex=True, layout="constrained")
draw(panels[0], long, 10, "long kernels: the CPU runs ahead")
draw(panels[1], short, 10, "short kernels: the GPU waits for notes")
draw(panels[2], waiting, 10, "long kernels, and a look at a number after each")
panels[2].set(xlabel="time (µs, simulated)")
viz.show(
    figure,
    alt="Three simulated timelines of 4 launches. Long kernels: the CPU's four notes end "
    "at 40 µs, the GPU's four kernels follow without gaps and end at 130. Short kernels: "
    "each runs 4 µs after its note, with gaps; all ends at 44. With a wait after each "
    "kernel, CPU and GPU alternate, and all ends at 160.",
)

# %% [markdown]
# Where many launches follow each other, all but the ends of this cancel out, and a step
# of $n$ launches takes
#
# $$t = \max(n\, c, \; \textstyle\sum_i d_i) \quad \text{without waits}, \qquad
# t = n\, c + \textstyle\sum_i d_i \quad \text{with a wait after each.}$$
#
# The slower of the two machines decides, and the other one's work is free.

# %%
# NBVAL_CHECK_OUTPUT
rows = queue(10, [30, 2] * 500)
print(rows[-1, 2], "against", max(1000 * 10, 500 * 32))

# %% [markdown]
# ## A clock that tells the truth
#
# The dashed line is the most common mistake in this field. Read the clock, call a
# function, read the clock again: on a GPU that measures how long it takes to *write
# notes*. It would have said 40 µs in the first picture, where 130 is true. And it says
# 40 for kernels of any length. Take products of $n \times n$ matrices, $2 n^3$
# operations, on a T4, whose data sheet promises 8.1 TFLOP/s for 32-bit numbers
# (1 TFLOP/s is $10^{12}$ operations a second), at 10 µs a note:

# %%
# NBVAL_CHECK_OUTPUT
for n in (1024, 4096, 16384):
    flops = 2 * n**3
    written, _, ended = queue(10e-6, [flops / 8.1e12])[-1]
    shown = flops / written / 1e12
    print(f"n = {n:5}: {1e3 * ended:8.2f} ms, the hasty clock's {shown:9,.0f} TFLOP/s")

# %% [markdown]
# By hand for $n = 4096$: $2 \cdot 4096^3 = 1.37 \cdot 10^{11}$, over
# $8.1 \cdot 10^{12}$ is 17 ms; the hasty clock saw 10 µs and reports 1,700 times the
# chip's peak. That is the check to remember: *a figure above the data sheet is an error
# of the clock*. The subtle form is worse: something waits half way, so that part of the
# work is counted, and the figure looks plausible.
#
# A clock for a GPU is a note in the queue, too. An *event* is a note that says "write
# down the time when you get here". Two of them around the work measure the work, and
# with it the gaps in which the queue has run dry. Ten kernels of 4 µs at 10 µs a note
# would be charged 9.4 µs each, for the tenth begins 90 µs after the first. So send
# something long first. While the GPU is at it, the CPU gets ahead, and no gap is left:

# %%
# NBVAL_CHECK_OUTPUT
for before in (0, 100):
    rows = queue(10, [before] + [4] * 10)
    span = (
        rows[-1, 2] - rows[1, 1]
    )  # from the first short one's begin to the last's end
    print(f"after {before:3} µs of other work: {span / 10} µs a kernel")

# %% [markdown]
# Before the CPU asks what the events have noted, it must wait for the second. This
# function measures a call on either machine:

# %%
import time


def milliseconds(call, device, repeats=10):
    """The median time of a call on `device`; the first, which compiles, is left out."""
    call()
    spans = []
    if device == "cpu":
        for _ in range(repeats):
            began = time.perf_counter()
            call()
            spans.append(1e3 * (time.perf_counter() - began))
        return float(np.median(spans))
    cupy = backend.cupy()
    other = cupy.empty(2**28, "uint8")
    for _ in range(repeats):
        other.fill(0)  # 268 MB: the CPU gets ahead, and no cache keeps what was there
        first, last = cupy.cuda.Event(), cupy.cuda.Event()
        first.record()
        call()
        last.record()
        last.synchronize()
        spans.append(cupy.cuda.get_elapsed_time(first, last))
    return float(np.median(spans))


# %% tags=["nbval-ignore-output"]
if device == "cuda":
    cupy = backend.cupy()
    x, small = mb.randn(4096, 4096, device="cuda").array, cupy.zeros(1, "float32")
    right = milliseconds(lambda: x @ x, "cuda")
    began = time.perf_counter()
    x @ x
    print(f"product: {right:.2f} ms, hasty {1e3 * (time.perf_counter() - began):.3f}")
    cupy.cuda.Stream.null.synchronize()
    began = time.perf_counter()
    for _ in range(500):  # fewer than the queue holds
        small + small
    print(f"a note: {1e6 * (time.perf_counter() - began) / 500:.1f} µs")
else:
    print("No GPU here: on one, this cell shows both clocks, and what a note costs.")

# %% [markdown]
# Three more rules for honest times: warm up first (the first call compiles); take random
# numbers, never zeros (which cost a chip less power, so that it runs faster); and let
# something large be written in between, else small arrays are still in the cache (our
# `fill` does that, too). `benchmarks/gpu.py` keeps all of them.

# %% [markdown]
# ## A second machine that we can look into
#
# How many notes does a network need, how many bytes do their kernels move, and when
# does the CPU wait? To count that, we need no GPU. If the arrays decide, then anybody's
# arrays will do. So let us make some. They hide a NumPy array, in which the numbers are
# kept; whoever wants them must fetch them, as from a GPU. Whatever else one asks of
# such an array is passed on to its *machine*, with the name of what is to be done. This
# is what the machine does then:


# %%
def call(machine, name, function, *given, **settings):
    """Has NumPy's `function` compute, and notes what a GPU would have been sent."""
    made = machine.made
    found = machine.wrap(compute(function, given, settings))
    if is_launch(name, settings, machine.made > made):
        machine.launches.append(Launch(name, *work(name, given, found)))
    return found


# %% [markdown]
# A call that fills memory is a launch. A view is none, since nothing moves. With the
# name of each launch we note the bytes that it reads and writes, and for products of
# matrices the floating-point operations. Three more lists: `memory` gets the number of
# bytes when array $k$ is made, and $-k$ when Python lets go of it; `copies` gets the
# bytes that are sent over; and `waits` gets what wants to *know* a number, `float(x)`,
# `if x > 0` or `x.get()`, for that cannot be answered before the machine has done all
# that it was asked so far.
#
# The rest lets our arrays pass for CuPy's and the machine for a T4: it passes on all
# names and operators, keeps account of memory, and counts kernels written in CUDA
# without running them. That is Python's small change and teaches nothing about GPUs. So
# the code of the next seven cells is folded away: run them, go on, and open them some
# other day.

# %% jupyter={"source_hidden": true}
from functools import partial
from types import SimpleNamespace


class Array:
    """Numbers on the other machine: to be computed with, not to be looked at."""

    __array_ufunc__ = None  # NumPy's functions shall not take it

    def __init__(self, hidden, machine, base=None):
        self.hidden, self.machine, self.base = hidden, machine, base
        self.data = SimpleNamespace(ptr=hidden.ctypes.data)  # its address

    def __array__(self, *args, **settings):
        raise TypeError("these numbers lie on the other machine: fetch them by .get()")

    def __getattr__(self, name):  # what NumPy's arrays have: shape, sum(), T, …
        found = getattr(np.ndarray, name)
        if callable(found):
            return partial(self.machine.call, name, found, self)
        value = getattr(self.hidden, name)
        return self.machine.wrap(value) if isinstance(value, np.ndarray) else value

    def __len__(self):
        return len(self.hidden)


# %% jupyter={"source_hidden": true}
import weakref


class Memory:
    """Keeps account of the arrays that are made, and of those that are let go."""

    def __init__(self):
        self.made, self.memory = 0, []
        self.owners = weakref.WeakValueDictionary()  # arrays with memory of their own

    def wrap(self, found):
        if isinstance(found, (tuple, list)):
            return type(found)(map(self.wrap, found))
        if not isinstance(found, (np.ndarray, np.generic)):
            return found
        owner = found = np.asarray(found)
        while owner.base is not None:
            owner = owner.base
        array = self.owners.get(id(owner))
        if array is None:
            array = self.owners[id(owner)] = Array(owner, self)
            self.made += 1
            self.memory.append(owner.nbytes)
            weakref.finalize(array, self.memory.append, -self.made).atexit = False
        return array if found is owner else Array(found, self, array)


# %% jupyter={"source_hidden": true}
import math
from collections import namedtuple

Launch = namedtuple("Launch", "name bytes flops")


def hidden(given):
    """What arrays hide, also within tuples, lists and dicts."""
    if isinstance(given, dict):
        return {key: hidden(value) for key, value in given.items()}
    if isinstance(given, (tuple, list)):
        return type(given)(map(hidden, given))
    return given.hidden if isinstance(given, Array) else given


def touched(given):
    """The bytes of all arrays in it; what a stride of 0 repeats is one number."""
    if isinstance(given, (tuple, list)):
        return sum(map(touched, given))
    if not isinstance(given, Array):
        return 0
    axes = zip(given.shape, given.strides, strict=True)
    return given.itemsize * math.prod(n for n, stride in axes if stride)


# %% jupyter={"source_hidden": true}
IN_PLACE = ("setitem", "copyto", "fill", "iadd", "isub", "imul", "itruediv")


def compute(function, given, settings):
    """What NumPy's function makes of what the arrays hide."""
    with np.errstate(all="ignore"):
        return function(*hidden(given), **hidden(settings))


def is_launch(name, settings, made):
    """Whether memory was filled: of an array just made, or of one there before."""
    changed = name in IN_PLACE or "out" in settings
    return changed or (made and not name.startswith("empty"))


def work(name, given, found):
    """(bytes read and written, floating-point operations) of a call."""
    read = touched(found if name == "getitem" else given)
    flops = 2 * found.size * given[0].shape[-1] if name == "matmul" else 0
    return int(read + touched(found)), flops


# %% jupyter={"source_hidden": true}
class Machine(Memory):
    """NumPy under CuPy's name: computes, and notes what a GPU would be asked to do."""

    ndarray = Array
    call = call  # the function above

    def __init__(self):
        super().__init__()
        self.launches, self.waits, self.copies = [], [], []

    def __getattr__(self, name):  # NumPy's functions: exp, where, zeros, …
        found = getattr(np, name)
        known = isinstance(found, type) or not callable(found)
        return found if known else partial(self.call, name, found)

    def asarray(self, array, dtype=None):
        self.copies.append(np.asarray(array).nbytes)
        return self.wrap(np.array(array, dtype))

    def asnumpy(self, array):
        return array.get()


# %% jupyter={"source_hidden": true}
OPERATORS = """add radd iadd sub rsub isub mul rmul imul truediv rtruediv itruediv pow
    rpow matmul and or lt le gt ge eq ne neg invert getitem setitem"""


def operation(name, function):
    return lambda self, *others: self.machine.call(name, function, self, *others)


def look(name, function):
    def fetch(self):
        self.machine.waits.append(name)
        return function(self.hidden)

    return fetch


for name in OPERATORS.split():
    setattr(Array, f"__{name}__", operation(name, getattr(np.ndarray, f"__{name}__")))
for kind in (float, int, bool):
    setattr(Array, f"__{kind.__name__}__", look(f"{kind.__name__}()", kind))
for name, method in {"get": "copy", "item": "item", "tolist": "tolist"}.items():
    setattr(Array, name, look(name, getattr(np.ndarray, method)))


# %% jupyter={"source_hidden": true}
class StandIn(Machine):
    """A machine that minibig takes for CuPy and a T4."""

    def __init__(self):
        super().__init__()
        chip = SimpleNamespace(compute_capability="75")
        self.cuda = SimpleNamespace(is_available=lambda: True, Device=lambda: chip)

    def call(self, name, function, *given, **settings):
        if name == "getitem" and getattr(given[1], "dtype", None) == "bool":
            self.waits.append("x[mask]")  # how many are True decides the shape
        return super().call(name, function, *given, **settings)

    def RawModule(self, *, code, options, name_expressions):
        return SimpleNamespace(get_function=self.kernel)

    def kernel(self, name):
        function = partial(self.launch, name)
        function.shared_size_bytes = 0  # of the kernel's text: we do not compile it
        return function

    def launch(self, name, grid, block, values, *, shared_mem):
        self.launches.append(Launch(name, touched(values), 0))


# %% [markdown]
# For `array_module` to accept the machine, it must stand where CuPy stands. `with
# standing_in(machine):` puts it there, behind the library's back, as only tests do; its
# code is folded, too.

# %% jupyter={"source_hidden": true}
from contextlib import contextmanager
from unittest import mock

from minibig import kernels


@contextmanager
def standing_in(machine, use_kernels=False):
    """Within it, `machine` is what minibig takes for CuPy."""
    kernels.load.cache_clear()  # compiled kernels belong to one machine
    with mock.patch.dict(backend._state, cupy=machine, kernels=use_kernels):
        yield machine
    kernels.load.cache_clear()


# %%
# NBVAL_CHECK_OUTPUT
with standing_in(StandIn()) as machine:
    weights = softmax(machine.asarray(scores))
    print(type(weights).__name__, machine.waits, machine.copies)
for launch in machine.launches:
    print(f"{launch.name:8} {launch.bytes:4} bytes")
print(len(machine.launches), "launches,", sum(x.bytes for x in machine.launches))
assert (weights.get() == softmax(scores)).all()

# %% [markdown]
# The same function, unchanged, on another machine, with the same numbers. And now we
# can read the bill. The 8 scores are 32 bytes, a column of two numbers is 8. `max`
# reads 32 and writes 8, the subtraction reads $32 + 8$ and writes 32, and so on: 5
# launches and 288 bytes. The answer is 32 bytes, computed from 32. A single kernel that
# keeps a row at hand while it works would be *one* launch and 64 bytes: 4.5 times
# less. Such a kernel is called *fused*; notebook [16](16_first_kernels.ipynb) writes it.
#
# (CuPy may need more than one launch for a call: a sum over a long axis takes two. So
# all our counts are *at least*.)

# %% [markdown]
# ## The bill of a training step
#
# Here is a step of a GPT, and nothing in it knows of devices, but for one word:
# where the batch goes.

# %%
from minibig import models, optim


def gpt(n_layer=2, n_embd=64, vocab_size=96, context_length=64):
    mb.seed(0)
    config = models.GPTConfig(
        vocab_size, context_length, n_layer, n_head=n_embd // 32, n_embd=n_embd
    )
    return models.GPT(config)


def train_step(model, optimizer, batch, after=lambda phase: None):
    """A step on ids (B, T + 1); `after` is told which phase is over. Returns the loss."""
    ids = mb.tensor(batch, device=model.device)
    loss = F.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
    after("forward")
    loss.backward()
    after("backward")
    optim.clip_grad_norm_(model.parameters(), 1.0)
    after("clipping")
    optimizer.step()
    optimizer.zero_grad()
    after("AdamW")
    return loss


# %%
def bill(use_kernels, batch, **sizes):
    """({phase: its launches}, the machine, the loss) of the second of two steps."""
    with standing_in(StandIn(), use_kernels) as machine:
        model = gpt(**sizes).to("cuda")
        optimizer = optim.AdamW(model.parameters())
        train_step(model, optimizer, batch)
        machine.launches, machine.waits, machine.copies = [], [], []
        phases, seen = {}, []

        def after(phase):
            phases[phase] = machine.launches[len(seen) :]
            seen.extend(phases[phase])

        loss = train_step(model, optimizer, batch, after)
        assert machine.waits == []  # the CPU never had to wait
        return phases, machine, loss.item()


batch = np.random.default_rng(0).integers(0, 96, (8, 65))
plain, machine, loss = bill(False, batch)
print(*(f"{phase}: {len(launches)}" for phase, launches in plain.items()), sep=", ")
print(sum(map(len, plain.values())), "launches, bytes copied:", machine.copies)

# %% [markdown]
# A GPT of two small layers asks for 857 launches in one step. It was sent one batch
# ($8 \times 65$ ids of 8 bytes, 4,160) and the numbers of the 64 positions, and the CPU
# never waited.
#
# And it computed the right thing. The same two steps on plain NumPy, where the library
# takes other paths (blocks of rows that fit the cache, BLAS for sums), give the same
# loss up to the rounding of 32-bit numbers:

# %%
model = gpt()
optimizer = optim.AdamW(model.parameters())
losses = [train_step(model, optimizer, batch).item() for _ in range(2)]
print(f"NumPy {losses[-1]:.6f}, the other machine {loss:.6f}")
assert abs(losses[-1] - loss) < 1e-5

# %% [markdown]
# The AdamW of a 2-layer GPT alone takes 13 launches for each of its 28 parameters, one
# for each `*=` and `+=` of its formula. On a GPU minibig has *kernels* for this: one
# for a softmax, one for a layer norm, one for the whole of AdamW over all parameters at
# once, three for all of clipping. The same step with kernels: their results are missing
# here, so the loss is nonsense, but the count of the launches does not depend on the
# numbers. (That is true only because nothing in the step looks at one.)

# %%
fused, _, _ = bill(True, batch)
for phase in plain:
    counts = [len(phases[phase]) for phases in (plain, fused)]
    print(f"{phase:9} {counts[0]:4} launches, with kernels {counts[1]:3}")

# %%
figure, axes = plt.subplots(figsize=(7.4, 2.6), layout="constrained")
colours = dict(zip(plain, ("#0072B2", "#56B4E9", "#E69F00", "#999999"), strict=True))
for row, phases in enumerate((fused, plain)):
    left = 0
    for phase, launches in phases.items():
        axes.barh(row, len(launches), left=left, color=colours[phase], height=0.6)
        left += len(launches)
    axes.text(left + 8, row, str(left), va="center")
axes.set(xlabel="launches in a training step of a GPT with 2 layers", xlim=(0, 950))
axes.set_yticks([0, 1], ["with kernels", "array code"])
bars = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()]
axes.legend(bars, colours, ncols=4, loc="lower right", frameon=False)
viz.show(
    figure,
    alt="Two bars of launches in a training step, divided into forward, backward, "
    "clipping and AdamW. Array code: 857, of which AdamW is the largest part. With "
    "kernels: 140; clipping has shrunk to three launches and AdamW to one, and backward "
    "is nearly two thirds of the rest.",
)

# %% [markdown]
# How does the count grow? Width, batch and length do not enter at all: an array of a
# million numbers is one launch like an array of ten. Only layers do, and each adds the
# same number. So two small models tell us about a large one exactly. Let $a$ be what
# every model needs and $b$ what a layer adds. We take $a$ and $b$ from 1 and 2 layers,
# check them on 3, and have GPT-2 with its 12:

# %%
from minibig.exercises import result, scaled


def launches(use_kernels, n_layer):
    phases, _, _ = bill(use_kernels, batch, n_layer=n_layer)
    return sum(map(len, phases.values()))


of_gpt2 = {}
for use_kernels, way in ((False, "array code"), (True, "with kernels")):
    one, two, three = (launches(use_kernels, n) for n in (1, 2, 3))
    b, a = two - one, 2 * one - two
    assert three == a + 3 * b
    of_gpt2[way] = a + 12 * b
    print(f"{way}: {a} + {b} a layer; 12 layers: {of_gpt2[way]}")

# %%
ratio = of_gpt2["array code"] / of_gpt2["with kernels"]
result("launches of a GPT-2 step, array code by kernels", ratio, at_least=6)

# %% [markdown]
# So GPT-2 takes over 4,000 launches a step by plain array code, and by kernels a seventh
# of them. Is that much? The queue's rule has the answer.

# %% [markdown]
# ## What launches cost a GPT-2
#
# Without waits a step takes the CPU's time or the GPU's, whichever is longer. The CPU
# needs $n c$, with the $n$ that we have counted. The GPU needs at least the operations
# over its peak. For GPT-2 with its 124 million parameters at 1,024 tokens a sequence
# there are 803 million operations a token: 6 for each parameter (2 forward, 4 backward)
# and the rest in attention. Three chips, and all figures are data sheets', not
# measured: peak of 32-bit arithmetic, memory bandwidth, and the bandwidth of the way
# from the CPU, one direction:

# %%
CHIPS = {  # FLOP/s in float32, bytes/s of its memory, bytes/s from the CPU (PCIe)
    "T4": (8.1e12, 320e9, 15.8e9),
    "RTX 4090": (82.6e12, 1008e9, 31.5e9),
    "H200": (67e12, 4.8e12, 63e9),
}
NOTE = 10e-6  # seconds that a launch costs the CPU: an assumption; measure yours
FLOPS_A_TOKEN = 803e6

host = {way: count * NOTE for way, count in of_gpt2.items()}
for way, seconds in host.items():
    print(f"{way}: {of_gpt2[way]} notes of 10 µs are {1e3 * seconds:.1f} ms a step")
peaks = {name: chip[0] for name, chip in CHIPS.items()} | {"H200, bf16": 989e12}
for name, peak in peaks.items():
    least = [f"{s * peak / FLOPS_A_TOKEN:,.0f} {way}" for way, s in host.items()]
    print(f"{name:10} is kept busy by this many tokens a step:", ", ".join(least))

# %%
figure, axes = plt.subplots(figsize=(7.4, 4), layout="constrained")
tokens = 2.0 ** np.arange(7, 17)
styles = zip(peaks, ("#0072B2", "#56B4E9", "#009E73", "#000000"), "os^D", strict=True)
for name, colour, marker in styles:
    times = 1e3 * FLOPS_A_TOKEN * tokens / peaks[name]
    axes.loglog(tokens, times, color=colour, marker=marker, markersize=4, label=name)
for (way, seconds), style in zip(host.items(), (":", "--"), strict=True):
    axes.axhline(1e3 * seconds, color="#D55E00", linestyle=style)
    text, left = f"CPU, {way}: {1e3 * seconds:.0f} ms", 1100 if style == "--" else 720
    axes.text(left, 1100 * seconds, text, color="#D55E00", fontsize=9)
axes.set(xlabel="tokens in a step", ylabel="time of a step, at least (ms)")
axes.set_xticks(tokens[::2], [f"{n:,.0f}" for n in tokens[::2]])
axes.grid(alpha=0.3)
axes.legend(title="GPU at its data sheet's peak", loc="lower right")
viz.show(
    figure,
    alt="Least time of a GPT-2 step against the tokens in it, both logarithmic. Four "
    "rising lines for a T4, an RTX 4090, an H200 and an H200 in bf16, and two level "
    "lines for the CPU: 43.9 ms with array code, 6.3 ms with kernels. The faster the "
    "chip, the later its line rises above the CPU's.",
)

# %% [markdown]
# Read it like this: a step takes the *higher* of the chip's line and the CPU's. Below
# the crossing the GPU is idle for part of the time, and a larger batch is free. A T4
# has enough to do with 443 tokens even by plain array code. An H200 that computes in
# bf16 needs 54,000: the faster the chip, the more a launch matters. That is the whole
# secret of "my GPU is no faster than my laptop": a small model, small batches, many
# small ops.
#
# There are three remedies, and all of them mean fewer notes: larger batches, fused
# kernels, and *graphs*, where the CPU writes down a whole step once and then sends one
# note that says "that again".

# %% [markdown]
# ## Hidden waits
#
# The queue only runs ahead if nobody asks for a number. Who asks? Our machine tells:


# %%
# NBVAL_CHECK_OUTPUT
def asks(question):
    """What makes the CPU wait in `question`, a function of scores and a loss."""
    with standing_in(StandIn()) as machine:
        scores = mb.tensor([[1.0, 2.0, 3.0], [2.0, 0.0, 1.0]], device="cuda")
        loss, table = (scores * scores).mean(), mb.eye(3, device="cuda")
        machine.waits.clear()
        question(scores, loss, table)
        return machine.waits


questions = {
    "loss.item()": lambda x, loss, table: loss.item(),
    "if loss > 1": lambda x, loss, table: 1 if loss > 1 else 0,
    "f'{loss:.2f}'": lambda x, loss, table: f"{loss:.2f}",
    "x[x > 1].mean()": lambda x, loss, table: x[x > 1].mean(),
    "mb.where(x > 1, x, 0)": lambda x, loss, table: mb.where(x > 1, x, 0.0),
    "embedding of the CPU's ids": lambda x, loss, table: F.embedding([1, 2], table),
    "embedding of argmax": lambda x, loss, table: F.embedding(x.argmax(-1), table),
}
for name, question in questions.items():
    print(f"{name:27} {asks(question) or 'no wait'}")

# %% [markdown]
# The first three are easy to see once one knows. The fourth is not: how long is
# `x[x > 1]`? The shape of the answer depends on the numbers, so Python cannot go on
# before they are there. `where` keeps the shape and needs no answer.
#
# The last two are a dilemma of libraries. An id outside the table must be an error, in
# plain words and at once, not a wrong number. But to look at the ids means to wait.
# minibig notes the lowest and the highest id *while they still are on the CPU*, and the
# note travels with the tensor, also to its slices; then nobody needs to look. Only ids
# that the GPU itself has made, as by `argmax`, are looked at.
#
# Inside a training step of minibig nothing waits, as `bill` asserts. One more place is
# instructive: clipping. "If the norm is above 1, divide" is an `if` about a number that
# lies on the GPU. Exercise 3 does it without. And `fit` waits once a step, on purpose,
# after the notes of backward and before the update: it looks whether the loss and the
# gradients' norm are finite before a weight is changed by them. From there on, clipping
# and AdamW are written to an empty queue. One wait a step is a price that we pay for a
# clear error in time. The tests of minibig run the step on a stand-in
# like ours, a stricter one, and hold it to no wait, and `fit` to exactly one.
#
# What does it cost to be careless? With the larger of the two times against their sum,
# at most a factor of 2, when both machines have equally much to do. It is more where a
# wait comes together with a transfer, as when every batch's predictions go home to be
# compared:

# %% [markdown]
# ## Moving things
#
# Between the two memories lies a road, on most machines PCI Express. A copy of $m$ bytes
# takes about $t = l + m / r$: a latency $l$, for which we assume 10 µs as for a note,
# and $m$ over the road's rate. Here is what moving the parts of a GPT-2 training step
# would take at the roads' nominal rates (64 sequences of 1,024 tokens, from the data
# sheets, not measured):

# %%
# NBVAL_CHECK_OUTPUT
LATENCY = 10e-6  # seconds: an assumption, too
cargo = {
    "the ids of a batch": 64 * 1025 * 8,
    "the weights": 124_439_808 * 4,
    "the logits": 64 * 1024 * 50_257 * 4,
}
for name, size in cargo.items():
    times = [
        f"{chip} {1e3 * (LATENCY + size / CHIPS[chip][2]):8.2f} ms" for chip in CHIPS
    ]
    print(f"{name:18} {size / 1e6:9.1f} MB:", "  ".join(times))
print({chip: round(memory / road) for chip, (_, memory, road) in CHIPS.items()})

# %% [markdown]
# Ids: nothing to worry about. Weights: once, at the start. But bring the logits home to
# compute an accuracy there, and an H200 spends 209 ms a step on the road, where all the
# arithmetic of the step in bf16 would take it 53 ms at its peak. An `argmax` on the GPU
# makes 0.5 MB of the 13 GB. The last line is the ratio of the GPU's own memory to the
# road: numbers that are over there already can be read 20 to 76 times in the time in
# which they come over once. So: move once, compute much, bring home little.
#
# When is it worth to move two matrices there and their product back? Let the CPU reach
# $P$ operations a second, and let the GPU's own time count for nothing. $2 n^3 / P$
# against $3 \cdot 4 n^2 / r$ gives
#
# $$n > 6 \, \frac{P}{r} .$$
#
# With $P = 10^{11}$ and the T4's road of $15.8 \cdot 10^9$ that is $n > 38$, plus what
# the latency asks for. For an addition, $n^2$ operations, no $n$ is large enough: the
# CPU adds as fast as its memory delivers, and on most machines that is no slower than
# the road.
#
# **Pinned memory.** The operating system may move the CPU's pages around, so the GPU
# cannot simply read them. Either the driver copies them first into a buffer that stays
# in its place, with the CPU standing by, or the buffer was *pinned* from the start, and
# the GPU fetches it by itself while both go on. CuPy keeps a pool of pinned buffers and
# sends NumPy arrays through them, so that `mb.tensor(batch, device="cuda")` does not
# wait. `python -m minibig doctor` shows both pools.
#
# **Streams.** A GPU can have several queues, and its copying unit works beside its
# arithmetic. Batches that take 2 ms to copy and 10 ms to compute: in one queue three of
# them take $3 \cdot 12 = 36$ ms. With the copies in a queue of their own only the first
# is waited for: $2 + 3 \cdot 10 = 32$ ms. But then each kernel must be told which copy
# to wait for, and forgetting it gives wrong numbers, sometimes. Our batch of ids takes
# 0.03 ms, so minibig has one queue and leaves it at that.

# %% tags=["nbval-ignore-output"]
big = np.random.default_rng(0).random(scaled(1 << 25, smoke=1 << 20), np.float32)
target = np.empty_like(big)
own = min(milliseconds(lambda: np.copyto(target, big), "cpu", 1) for _ in range(5))
print(f"within the CPU's memory: {big.nbytes / own / 1e6:.1f} GB/s")
if device == "cuda":
    wait = cupy.cuda.Stream.null.synchronize  # so that the clock sees all of it
    there = milliseconds(lambda: (backend.to_device(big, "cuda"), wait()), "cpu")
    print(f"to the GPU, by way of a pinned buffer: {big.nbytes / there / 1e6:.1f} GB/s")
else:
    print("No GPU here: on one, this cell measures the way there, too.")

# %% [markdown]
# ## The memory pool
#
# Most launches of array code make a new array. To ask the driver for memory is slow, and
# to give it back is worse: the driver must wait until the GPU has done everything that
# might still use it. So CuPy, like every library, asks once and keeps: a freed array's
# block goes onto a list, and the next array of that size gets it. Sizes are rounded up
# to a multiple of 512 bytes, so that more arrays share a size. The whole idea:

# %%
from collections import defaultdict


class Pool:
    """Blocks of memory that are used again: counts what the driver is asked for."""

    def __init__(self):
        self.free = defaultdict(int)  # size: how many blocks lie ready
        self.asked, self.held = 0, 0  # of the driver: how often, and bytes

    def take(self, nbytes):
        size = -(-nbytes // 512) * 512
        if self.free[size]:
            self.free[size] -= 1
        else:
            self.asked, self.held = self.asked + 1, self.held + size
        return size

    def give_back(self, size):
        self.free[size] += 1


# %%
# NBVAL_CHECK_OUTPUT
pool = Pool()
first, second = pool.take(1000), pool.take(2000)
pool.give_back(first)
third = pool.take(900)
print(first, second, third, "asked", pool.asked, "held", pool.held)

# %% [markdown]
# 1,000 and 2,000 bytes become 1,024 and 2,048; the 900 fit into the first block again.
# Two requests, 3,072 bytes held.
#
# Now the list `memory` of our machine, in which it says when each array of a training
# step was made and let go. We replay it into the pool, over four steps:

# %%
with standing_in(StandIn()) as machine:
    model = gpt().to("cuda")
    optimizer = optim.AdamW(model.parameters())
    marks = [len(machine.memory)]
    for _ in range(4):
        train_step(model, optimizer, batch)
        marks.append(len(machine.memory))
    events = list(machine.memory)

pool, sizes, used, history = Pool(), [0], 0, [(0, 0, 0)]
for event in events:
    if event < 0:
        pool.give_back(sizes[-event])
    else:
        sizes.append(pool.take(event))
    used += sizes[-1] if event >= 0 else -sizes[-event]
    history.append((used, pool.held, pool.asked))
for step in range(1, len(marks)):
    begin, end = marks[step - 1 : step + 1]
    made = sum(event >= 0 for event in events[begin:end])
    asked = history[end][2] - history[begin][2]
    print(f"step {step}: {made} arrays, {asked} requests to the driver")

# %%
figure, axes = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
used, held, _ = np.array(history).T / 1e6
axes.fill_between(range(len(used)), used, color="#56B4E9", label="in use")
axes.plot(held, color="#D55E00", label="held by the pool")
for step, mark in enumerate(marks[:-1], 1):
    axes.axvline(mark, color="black", linewidth=0.8, linestyle=":")
    axes.text(mark + 30, 1.02 * held.max(), f"step {step}")
axes.set(xlabel="arrays made or let go, in their order", ylabel="memory (MB)")
axes.set(ylim=(0, 1.35 * held.max()), xlim=(0, len(used)))
axes.legend(loc="upper right", ncols=2)
viz.show(
    figure,
    alt="Memory in use over four training steps: in each it climbs during the forward "
    "pass, falls during the backward pass and jags lightly in the optimizer's part. The "
    "line of what the pool holds rises in the first step and is level from the second.",
)

# %% [markdown]
# The mountain is what backward needs from forward: it grows until the loss is there and
# is then consumed from the back. (Notebook [19](19_precision_and_memory.ipynb) is about
# making it lower.) And after the first steps the driver is asked for nothing any more.
# That is why a first step is slow, why `nvidia-smi` shows what the pool *holds* and not
# what is in use, and why batches of ever new lengths make it grow: no block fits. Sort
# by length, or round lengths up.
#
# There is a fine point. When Python lets go of an array, the kernels that read it may
# still be waiting in the queue. Yet its block is given to another array at once. Why is
# that not a disaster? Because whoever writes into the new array is a later note in the
# *same* queue. With several streams the argument breaks down, and CuPy keeps a list of
# blocks for each.

# %% tags=["nbval-ignore-output"]
if device == "cuda":
    real = backend.cupy().get_default_memory_pool()
    print(
        f"in use {real.used_bytes() / 1e6:.0f} MB, held {real.total_bytes() / 1e6:.0f}"
    )
else:
    print("No GPU here: on one, this cell shows what CuPy's pool holds.")

# %% [markdown]
# ## How fast could it be? The roofline
#
# A kernel does two things: it moves bytes and it computes. A chip can do at most $P$
# operations and move at most $B$ bytes a second, at the same time. So work of $F$
# operations on $M$ bytes takes at least
#
# $$t = \max\left(\frac{F}{P}, \frac{M}{B}\right), \qquad
# \frac{F}{t} = \min\left(P, \; B \cdot \frac{F}{M}\right) .$$
#
# The number that decides is $F / M$, the *intensity*: operations for each byte. Against
# it, the reachable speed is a slope that ends under a flat ceiling, like a roof. Where
# they meet, at $P / B$, work passes from *memory-bound* to *compute-bound*.
#
# By hand, for 32-bit numbers. Adding two arrays: one operation, two numbers read, one
# written, so $1/12$. Our softmax: 5 operations a number, and 32 bytes if rows are long
# (count them in the bill above), so $5/32$; as one kernel $5/8$. A step of AdamW: some
# 13 operations for 28 bytes (it reads $p, g, m, v$ and writes three). A product of
# $(M, K)$ by $(K, N)$: $2MKN$ operations for $4(MK + KN + MN)$ bytes; for squares that
# is $n/6$.


# %%
# NBVAL_CHECK_OUTPUT
def product(m, k, n, itemsize=4):
    """(operations, bytes) of (M, K) @ (K, N)."""
    return 2 * m * k * n, itemsize * (m * k + k * n + m * n)


WORK = {  # of a GPT-2 with 8,192 tokens in a step: (operations, bytes)
    "add": (1, 12),
    "softmax, array code": (5, 32),
    "AdamW, one kernel": (13, 28),
    "softmax, one kernel": (5, 8),
    "scores of a head": product(1024, 64, 1024),
    "linear layer": product(8192, 768, 3072),
}
for name, (flops, moved) in WORK.items():
    print(f"{name:20} {flops / moved:7.2f} operations a byte")

# %% [markdown]
# Now the roofs. This machine's we measure. An addition of large arrays gives $B$: on a
# CPU three of 67 MB, on a GPU three of 268 MB, as its cache may hold more than 67 (the
# 4090's has 72). A product of large matrices gives $P$.

# %% tags=["nbval-ignore-output"]
n = {"cpu": 1024, "cuda": 4096}[device]
a, b = (mb.randn(n, n, device=device).array for _ in range(2))
xp = array_module(a)
shape = {"cpu": 16, "cuda": 64}[device], scaled(1 << 20, smoke=1 << 16)
x, y, z = (xp.ones(shape, "float32") for _ in range(3))


def add():
    backend.by_rows(xp.add, x, y, z, block=backend.LARGE)


P = 2e3 * n**3 / min(milliseconds(lambda: backend.matmul(a, b), device) for _ in "123")
B = 1e3 * 3 * x.nbytes / min(milliseconds(add, device) for _ in "123")
print(f"this machine's {device}: {P / 1e9:,.0f} GFLOP/s, {B / 1e9:,.1f} GB/s,")
print(f"the roof's edge at {P / B:.0f} operations a byte")

# %%
figure, axes = plt.subplots(figsize=(7.6, 4.8), layout="constrained")
roofs = {name: chip[:2] for name, chip in CHIPS.items()}
roofs |= {"H200, bf16": (989e12, 4.8e12), "this machine": (P, B)}
intensity = np.logspace(-1.3, 3, 200)
colours = ("#0072B2", "#56B4E9", "#009E73", "#000000", "#D55E00")
for (name, (peak, rate)), colour in zip(roofs.items(), colours, strict=True):
    speed = np.minimum(peak, rate * intensity)
    style = "-" if name == "this machine" else "--"
    label = f"{name}, measured" if style == "-" else name
    axes.loglog(intensity, speed, style, color=colour, label=label)
for name, (flops, moved) in WORK.items():
    axes.axvline(flops / moved, color="#999999", linewidth=0.8, linestyle=":")
    axes.text(flops / moved, 1.5e5, f" {name}", rotation=90, ha="right", fontsize=9)
axes.set(xlabel="intensity (operations a byte)", ylabel="operations a second, at most")
axes.set(ylim=(1e5, 1e17), xlim=(0.05, 1000))
axes.grid(alpha=0.3)
note = "dashed: from the data sheet, not measured"
axes.legend(title=note, fontsize=9, loc="upper left", ncols=2)
viz.show(
    figure,
    alt="Roofs of this machine, T4, RTX 4090 and H200 in float32 and bf16: operations a "
    "second against operations a byte, both logarithmic, rising and then flat. Dotted "
    "lines mark the work of a GPT: addition, softmax and AdamW lie on the slopes of all "
    "chips, a linear layer under the flat part of all, scores of one head in between.",
)

# %% [markdown]
# Three things to read off. Addition, softmax and AdamW lie on the slope of every
# machine here: no arithmetic unit makes them faster, only fewer bytes do, which is what
# fused kernels are for. The linear layer lies under every flat roof: there arithmetic
# counts, and 16 bits. And each chip's roof has its edge elsewhere: in float32 at 25
# operations a byte for the T4, at 82 for the 4090 and at 14 for the H200, but at 206 on
# the H200's tensor cores in bf16. So the same scores of a head, with 28, are
# compute-bound in float32 on two of them and memory-bound on the third; and in bf16,
# where half the bytes make it 57, they are memory-bound on the H200, too.
#
# How much of a step is on the slope? Take the bills of GPTs of GPT-2's width with 1 and
# 2 layers; the difference is one layer's. Each launch gets its least time. In the bill
# with kernels we add by hand what it does not see: attention's operations, and for each
# parameter AdamW's 28 bytes and clipping's 12 (4 for the norm, 8 to scale), as these
# kernels are sent only a table of addresses.


# %%
def least_times(phases, chip, parameters=0, attention=0):
    """(products, all the rest) in milliseconds, at the roofs of `chip`."""
    peak, rate, _ = CHIPS[chip]
    every = [x for launches in phases.values() for x in launches]
    products = [max(x.flops / peak, x.bytes / rate) for x in every if x.flops]
    rest = sum(x.bytes for x in every if not x.flops) + 40 * parameters
    return 1e3 * np.array([sum(products) + attention / peak, rest / rate])


rows, T, C = scaled(4, smoke=1), scaled(512, smoke=32), scaled(768, smoke=64)
wide = np.random.default_rng(0).integers(0, 96, (rows, T + 1))
bills = [
    [bill(way, wide, n_layer=n, n_embd=C, context_length=T)[0] for n in (1, 2)]
    for way in (False, True)
]
weights = 12 * C * C + 13 * C  # of one layer, with biases and norms
extra = {
    "parameters": weights,
    "attention": 7 * rows * T * T * C,
}  # 2 forward, 5 backward
for chip in CHIPS:
    for way, (one, two), more in zip(of_gpt2, bills, ({}, extra), strict=True):
        gain = least_times(two, chip, **more) - least_times(one, chip)
        share = gain[1] / gain.sum()
        print(f"{chip:8}  {way:12} {gain.sum():6.2f} ms, {share:3.0%} not products")
# %% [markdown]
# On the T4 half of the least time of a layer goes into what is no product of matrices,
# and on the 4090, whose arithmetic is ten times as fast and whose memory only three
# times, nearly three quarters. With kernels that falls to a fifth and a bit more than
# two fifths. (2,048 tokens in a step; with more of them AdamW's part shrinks.) These are
# bounds from data sheets and counts, not times; but they say where to work. That is what
# the next notebooks do: kernels for the rest ([16](16_first_kernels.ipynb),
# [17](17_attention_kernels.ipynb)), then products by tensor cores
# ([18](18_tensor_cores.ipynb)), then 16 bits and less memory
# ([19](19_precision_and_memory.ipynb)).

# %% [markdown]
# ## The same GPT on both
#
# Last, the proof of the first half. We train a GPT of 2 layers on the characters of
# Python's documentation, a tenth of it held out. Two plain guessers beside it: one
# knows how frequent each character is, the other also what came just before.

# %%
from minibig import data

corpus = data.documentation()
tokenizer = data.CharTokenizer.train(corpus.text)
V = tokenizer.vocab_size
ids = np.array(tokenizer.encode(corpus.text))
train, held_out = np.split(ids, [int(0.9 * len(ids))])
pairs = np.ones((V, V))  # one of each, so that nothing is impossible
np.add.at(pairs, (train[:-1], train[1:]), 1)
after_one = (pairs / pairs.sum(1, keepdims=True))[held_out[:-1], held_out[1:]]
frequency = (pairs.sum(0) / pairs.sum())[held_out]
print(f"{V} characters; by frequency {-np.log(frequency).mean():.2f} nats,")
print(f"by the one before {-np.log(after_one).mean():.2f} nats a character")

# %%
crops = data.RandomCrops(train, context_length=64, batch_size=12)
held_batches = data.RandomCrops(held_out, context_length=64, batch_size=100)


def train_on(device, steps):
    """(losses of all steps, tokens a second, loss on held-out text) of a fresh GPT."""
    model = gpt(vocab_size=V).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    losses, began = [], time.perf_counter()
    for step in range(steps):
        inputs, targets = crops.batch(step)
        batch = np.concatenate([inputs, targets[:, -1:]], axis=1)  # (12, 65)
        losses.append(train_step(model, optimizer, batch))
    losses = [loss.item() for loss in losses]  # the first wait, at the very end
    rate = 12 * 64 * steps / (time.perf_counter() - began)
    with mb.no_grad():
        inputs, targets = (mb.tensor(x, device=device) for x in held_batches.batch(0))
        return losses, rate, F.cross_entropy(model(inputs), targets).item()


# %% tags=["nbval-ignore-output"]
steps = scaled(600, smoke=12)
for place in dict.fromkeys(["cpu", device]):
    losses, rate, loss = train_on(place, steps)
    print(f"{place}: {rate:,.0f} tokens/s, held-out loss {loss:.2f}")
    result(f"held-out loss after 600 steps, {place}", loss, at_most=2.1)

# %% [markdown]
# Expect a held-out loss of 1.96 to 1.99 nats (over three seeds), below both guessers,
# and ten to fifty thousand tokens a second on 2 CPU cores, with a GPT of 0.1
# million parameters. Do not expect a GPU to be much faster at *this*: a step has 768
# tokens, and our model says what it takes, 140 notes of 10 µs, whatever the chip.
#
# How far do the two machines agree? Where there is a GPU, the second machine is the
# GPU; else it is our stand-in, whose array code takes the paths of the GPU and computes
# with NumPy. Both start from the same numbers (minibig draws them on the CPU for that
# purpose) and see the same batches.

# %%
from contextlib import nullcontext

few = scaled(60, smoke=6)
ours, _, _ = train_on("cpu", few)
with nullcontext() if device == "cuda" else standing_in(StandIn()):
    theirs, _, _ = train_on("cuda", few)
apart = np.abs(np.array(ours) - theirs)
print(f"largest difference in all {few} steps: {apart.max():.1g}")
result("largest difference of the first 10 losses", apart[:10].max(), at_most=1e-4)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
left.plot(ours, color="#56B4E9", linewidth=5, label="NumPy")
left.plot(theirs, color="#000000", linewidth=1.2, label="the other machine")
left.set(xlabel="step", ylabel="loss (nats a character)")
left.legend()
right.semilogy(np.maximum(apart, 1e-8), "o", color="#0072B2", markersize=3)
rounding = np.spacing(np.float32(ours[0]))
right.axhline(rounding, color="#D55E00", linestyle="--", linewidth=1)
right.text(10, 1.3 * rounding, "one rounding of the loss", color="#D55E00")
right.set(xlabel="step", ylabel="difference of the losses (at 1e-8: none)")
for axes in (left, right):
    axes.grid(alpha=0.3)
viz.show(
    figure,
    alt="Left, the losses of 60 steps on two machines: the thin line of the second runs "
    "inside the thick one of the first. Right, their difference on a logarithmic axis: "
    "one rounding of the loss or none for 15 steps, then it grows within five steps to "
    "a thousandth and more slowly to a hundredth.",
)

# %% [markdown]
# One curve to the eye; and for fifteen steps the losses differ by a rounding, or not at
# all. Then the difference grows ten thousand times within a few steps, and nothing is
# wrong. The machines add in different orders, so sums round differently
# ([01](01_tensors.ipynb)). Adam makes that larger: it divides each gradient by its own
# size, so that in the first step even a gradient of nearly 0 moves its weight by the
# full rate, in a direction that rounding may decide. And at this rate, without a
# warm-up, training is close to unstable, which means just that: small differences
# grow. This is why a test of a GPU compares *single ops* with a tolerance, and never
# the end of a long run bit by bit.
#
# And GPT-2 itself, on a large GPU, beside PyTorch? The newest report, if one has been
# recorded:

# %% tags=["nbval-ignore-output"]
from minibig.exercises import recorded

recorded("gpu_train")

# %% [markdown]
# ## The door to Part 3
#
# The four notebooks to come write kernels in CUDA, C++ with a few additions. What do
# you need?
#
# **A GPU, if you can.** Any NVIDIA GPU from Turing on will do (compute capability 7.5,
# from 2018 on: T4, GTX 16, RTX 20 and all since), with CuPy (`pip install
# "minibig[gpu13]"`, or `gpu12` for older drivers). Google's Colab lends a T4 for some
# hours at no charge at the time of writing; other houses rent larger ones by the hour.
# Which rungs run where: everything in float32 from a T4 on; the tensor-core kernels of
# notebook 18 from Ampere on (compute capability 8.0: A100, RTX 30 and newer). `python
# -m minibig doctor` says what a machine has, and what is wrong with it.
#
# **No GPU.** Then the *emulator* runs the same text of a kernel on the CPU, built by the
# C++ compiler of your system (g++ or clang++, on Linux or WSL). It runs the threads of a
# block one after the other, in shuffled order between barriers. It is thousands of
# times slower than a GPU and in one thing better: it notices a wrong address, a
# forgotten barrier and most races, where a GPU gives wrong numbers and says nothing. It
# answers whether a kernel is *right*, never whether it is fast. As everywhere here, the
# arrays decide: CuPy arrays go to the GPU, NumPy arrays to the emulator.

# %% tags=["nbval-ignore-output"]
from minibig.kernels import Module, emulator, parse

TEXT = r"""
__global__ void twice(float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;  // each thread has a number of its own
  if (i < n) x[i] = 2 * x[i];
}
"""
x = mb.arange(10.0, device=device).array
if device == "cuda" or emulator.missing() is None:
    Module(parse("twice.cu", TEXT))["twice"]((3,), (4,), x, len(x))  # 3 blocks of 4
    print(x)
else:
    print(emulator.missing())

# %% [markdown]
# Without either, the notebooks say so, leave those cells out and go on.

# %% [markdown]
# ## Summary
#
# - The arrays decide: one body for every op, on any machine that has NumPy's names.
# - Without waits a step takes the CPU's notes or the GPU's work, whichever is longer.
# - Clocks go into a full queue. A figure above the data sheet is a wrong clock.
# - `float(x)`, `if x`, `x[mask]` and checks of ids wait; `where` and known bounds do not.
# - Move once, compute much, bring home little; a pool asks the driver only at first.
# - Below the roof's edge only fewer bytes help, above it only more arithmetic.

# %% [markdown]
# ## Exercises
#
# `hint("15.two_streams")` gives a hint, and when you call it again, a stronger one.
#
# **1. Two streams.** In: `copies` and `kernels`, two lists of times, one pair for each
# batch. Copies run one after the other in one stream, kernels in another; kernel $i$
# may begin when kernel $i - 1$ *and* copy $i$ are done. Out: when the last kernel ends.
# Notes cost nothing. For three batches of 2 and 10 it is 32.

# %%
from minibig.exercises import check, hint


def two_streams(copies, kernels):
    ### BEGIN SOLUTION
    copied = done = 0
    for copy, kernel in zip(copies, kernels, strict=True):
        copied += copy
        done = max(done, copied) + kernel
    return done
    ### END SOLUTION


check("15.two_streams", two_streams)

# %% [markdown]
# **2. Under the roof.** In: the sizes of a product $(M, K) @ (K, N)$, the bytes of a
# number (`itemsize`), a chip's `peak` (operations a second) and `bandwidth` (bytes a
# second). Out: the least time in microseconds, each array moved once.


# %%
def product_time(m, k, n, itemsize, peak, bandwidth):
    ### BEGIN SOLUTION
    flops = 2 * m * k * n
    moved = itemsize * (m * k + k * n + m * n)
    return 1e6 * max(flops / peak, moved / bandwidth)
    ### END SOLUTION


check("15.product_time", product_time)

# %% [markdown]
# **3. Clip without a look.** In: a gradient $g$ (any shape) and a number `max_norm`.
# Out: $g$ times $\min(1, \mathrm{max\_norm} / |g|)$ with $|g| = \sqrt{\sum g^2}$, and
# zeros for a gradient of zeros. The array in the test behaves like one on a GPU in which
# nobody may look: `if`, `float(…)`, `.item()` and an index by a mask raise `WaitError`.
# NumPy's functions work on it.


# %%
def clip(g, max_norm):
    ### BEGIN SOLUTION
    norm = np.sqrt((g * g).sum())
    return g * (max_norm / np.maximum(norm, max_norm))
    ### END SOLUTION


check("15.clip", clip)

# %% [markdown]
# **4. A pool that asks less often.** Ours gives a block only to an array of the same
# rounded size. Write *best fit*: sizes are rounded up to multiples of 512 as before; an
# array gets the *smallest* free block that is large enough, whole; only if there is
# none the driver is asked, for the rounded size. In: a list of events, as in
# `machine.memory`: array $k$ is made with so many bytes (the first array is number 1),
# or $-k$, array $k$ is let go. Out: how often the driver was asked, and the bytes held
# in the end.


# %%
def best_fit(events):
    ### BEGIN SOLUTION
    free, blocks, asked, held = [], [0], 0, 0
    for event in events:
        if event < 0:
            free.append(blocks[-event])
            continue
        need = -(-event // 512) * 512
        size = min((s for s in free if s >= need), default=None)
        if size is None:
            size, asked, held = need, asked + 1, held + need
        else:
            free.remove(size)
        blocks.append(size)
    return asked, held
    ### END SOLUTION


check("15.best_fit", best_fit)

# %% [markdown]
# Try it on `events`, the four training steps, and compare with `pool.asked` and
# `pool.held`. It asks less often, as it should, and yet it holds half as much again.
# Why? What would you change? (CuPy's pool cuts a block that is too large in two, and
# joins neighbours again when they are free.)
#
# **5. An open problem.** What is the largest part of the bill with kernels now? Sorted
# by name:

# %%
from collections import Counter

names = Counter(x.name for phase in fused.values() for x in phase)
print(*(f"{count} {name}" for name, count in names.most_common()), sep=", ")

# %% [markdown]
# Of 140 launches 27 are products of matrices, and 58 are kernels of ours. Half of the
# other 55 compute nothing: `ascontiguousarray`, `setitem`, `copy` and `reshape` put
# numbers into another order, `astype` into another type, `getitem` picks rows. And 16
# add: `iadd` mostly a bias to a product, `add` what comes around a block to what comes
# out of it. Each of them reads whole arrays and writes them back. Take one kind, find
# who asks for it ([`minibig/kernels/attention.py`](../minibig/kernels/attention.py) has
# queries, keys and values copied into order, one after the other), and let a neighbour
# do it on the way: a kernel that reads with strides needs no copy, and a norm could add
# before it begins. How few launches can a layer do with? Count with `launches`. There is
# no check; a good answer is a smaller number and the same loss.

# %% [markdown]
# ## Sources
#
# The roofline: S. Williams, A. Waterman and D. Patterson, *Roofline: an insightful
# visual performance model for multicore architectures*, Communications of the ACM 52
# (2009). Streams, events, pinned memory and what waits for what: NVIDIA's *CUDA C++
# Programming Guide*. CuPy's pools and its advice on measuring: its user guide. Peaks
# and bandwidths: NVIDIA's data sheets of the T4, the RTX 4090 and the H200 SXM; the
# roads are the nominal rates of 16 lanes of PCI Express 3, 4 and 5.
# Where operations and bytes of a Transformer go: Ivanov and others
# (arXiv:2007.00072). Clipping by the norm: Pascanu and others (arXiv:1211.5063).
