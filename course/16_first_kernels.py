# %% [markdown]
# # First kernels
#
# > **You will build** kernels, the functions that run on a GPU, in CUDA's C++: vector
# > addition, sums over blocks and grids, a transposition, a softmax that reads each
# > number once and writes it once, and a layer norm.
# >
# > **You need** arrays on two machines ([15](15_one_array_two_machines.ipynb)), softmax
# > ([08](08_attention.ipynb)) and layer norm ([09](09_transformer.ipynb)). C++ is
# > explained as far as it is used.
# >
# > **It takes** about three hours with the exercises; the code runs for less than a
# > minute on 2 CPU cores in 500 MB of memory. No GPU is needed: without one the same
# > kernels run on an emulator, for which Linux and a C++ compiler are enough.
#
# **How fast can a softmax be, and what is in the way?**
#
# Softmax takes a handful of operations a number. A GPU that does 67 trillion of them a
# second would be done with a million numbers before the first has arrived from
# memory. So the answer to the first half is simple: as fast as the memory can bring the
# numbers and take them back. The second half is this notebook. Softmax as people write
# it moves each number four times as often as it need; a careless kernel fetches eight
# numbers to use one, or lets 31 threads wait for the 32nd. All of this can be counted
# with pencil and paper, before any GPU has seen the code.

# %% [markdown]
# ## A kernel is the body of a loop
#
# In NumPy, `z = x + y` hides a loop over all indices. On a GPU there is no loop: we
# write its body, and the machine runs it for every index, thousands at a time. Such a
# body is called a *kernel*, and one run of it, for one index, a *thread*. A kernel is
# written in CUDA, which is C++ with a few more words:

# %%
ADD = r"""
__global__ void add(const float* x, const float* y, float* z, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) z[i] = x[i] + y[i];
}
"""

# %% [markdown]
# For those who do not read C++: `float* x` is the address of the first number of an
# array, `x[i]` is number `i` of it, and nobody knows where the array ends, which is why
# its length `n` comes along. `const` promises not to write. `void` means that nothing
# is returned; results go into arrays. And `__global__` says that this function is a
# kernel.
#
# The threads come in *blocks* of equal size, and the blocks make up a *grid*. Three
# numbers tell a thread who it is: its own number within the block, `threadIdx.x`, the
# number of its block, `blockIdx.x`, and the size of a block, `blockDim.x`. The first
# line turns them into one index,
#
# $$i = \mathrm{block} \cdot \mathrm{size} + \mathrm{thread} .$$
#
# By hand: for $n = 10$ numbers in blocks of 4 we need 3 blocks. Thread 2 of block 1
# computes $z_6$, as $1 \cdot 4 + 2 = 6$. Three blocks have 12 threads, so the last two,
# 10 and 11, find `i < n` false and do nothing.

# %%
import numpy as np

from minibig import backend
from minibig.kernels import Module, emulator, parse

try:
    device = backend.check_device("cuda")
except backend.DeviceError:
    device = "cpu"
xp = backend.module_of(device)
ready = device == "cuda" or not emulator.missing()
where = {"cuda": "the GPU", "cpu": "the emulator"}[device]
print(f"kernels run on {where}" if ready else f"not here: {emulator.missing()}")

# %% [markdown]
# `Module(parse(name, text))` compiles a text when it is first launched, and the arrays
# decide for whom: for a GPU where they are CuPy's, for this CPU where they are NumPy's.
# Three small helpers keep the cells below short, and let the notebook go on where there
# is neither a GPU nor a compiler.

# %%
import functools


@functools.cache
def compiled(text, *template):
    return Module(parse("notebook.cu", text), *template)


def launch(text, name, grid, block, *arguments, template=(), shared=0):
    """Launches a kernel where its arrays lie; False where nothing here can run it."""
    if not ready:
        print(f"{name}: not launched here, see above")
        return False
    kernel = compiled(text, *template)[name]
    kernel(grid, block, *arguments, shared=shared)
    return True


def put(array):
    """A copy of the array, float32, on the machine that runs kernels."""
    return backend.to_device(np.array(array, "float32"), device)


def get(array):
    return backend.to_device(array, "cpu")


# %%
x, y, z = put(range(10)), put([100] * 10), put([0] * 10)
if launch(ADD, "add", (3,), (4,), x, y, z, 10):
    print(get(z))
    assert (get(z) == np.arange(100, 110)).all()

# %% [markdown]
# `(3,)` is the grid and `(4,)` the block; both may have up to three numbers, which
# saves divisions where the data is a matrix. A block has at most 1,024 threads.
#
# With CuPy alone, without this library, the same launch is
#
# ```python
# kernel = cupy.RawKernel('extern "C" ' + ADD.strip(), "add")
# kernel((3,), (4,), (x, y, z, np.int32(10)))
# ```
#
# and it comes with a trap. `RawKernel` cannot see what types the kernel expects. Pass
# an array of float64, and the kernel reads each number's eight bytes as two floats;
# pass a plain Python `0.5` for a `float`, and CuPy sends the eight bytes of a double.
# Neither raises an error: you get wrong numbers. minibig reads the parameters off the
# text and holds the arguments against them, which is all that its `Kernel` adds
# ([`minibig/kernels/kernel.py`](../minibig/kernels/kernel.py)).

# %%
wrong = np.arange(10.0)  # float64
try:
    compiled(ADD)["add"]((3,), (4,), wrong, wrong, wrong, 10)
except TypeError as error:
    print(error)

# %% [markdown]
# ## The tail
#
# The `if (i < n)` looks like a detail. Take it away, and in the launch above threads 10
# and 11 write behind the end of `z`. What happens then?
#
# On a GPU, most often: nothing. CuPy hands out memory in multiples of 512 bytes, so the
# two numbers fall into unused bytes behind the array, and the result is right. Until
# one day the length is a multiple of 128, the bytes behind belong to another array, and
# a weight in another layer changes with each step. NVIDIA's `compute-sanitizer` finds
# such writes. So does our emulator: it runs the very same text on the CPU, with every
# array between pages of memory that nobody may touch.


# %%
def fault(text, name, grid, block, *arguments, shared=0):
    """What the emulator says of a launch that is wrong."""
    try:
        compiled(text)[name](grid, block, *arguments, shared=shared)
    except emulator.EmulatorError as error:
        print(error)


n = 1000
ones, out = np.ones(n, "float32"), np.zeros(n, "float32")
fault(ADD.replace("if (i < n)", ""), "add", (4,), (256,), ones, ones, out, n)

# %% [markdown]
# Which block, which thread, which array, how far: for 1,000 numbers in 4 blocks of 256
# there are 24 threads too many, and the first of them that ran is named. Threads run in
# an order that is drawn anew for each launch, as on a GPU nobody promises one either.
#
# There is a second way to leave an array, and no `if` helps. An `int` ends at
# 2,147,483,647. In a matrix of 50,000 rows of 50,257 logits, `row * width` is beyond
# it in the last 7,269 rows, becomes negative, and the address lies *before* the
# array. Therefore the library writes `(long long)blockIdx.x * width`, with 64 bits, and
# so shall we where rows are many.

# %%
first = np.arange(50_000) * 50_257  # the index at which each row begins
print((first > 2**31 - 1).sum(), "rows begin beyond an int")

# %% [markdown]
# ## One loop for any length
#
# One thread a number needs as many threads as numbers, and each of them finds out who
# it is, fetches two numbers, and is gone. Better let each thread take several. But
# which? Not neighbours: the reason comes further down. Each takes every
# (number of threads in the grid)-th, a *grid-stride loop*:

# %%
ADD_LOOP = r"""
__global__ void add(const float* x, const float* y, float* z, int n) {
  const int threads = gridDim.x * blockDim.x;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads)
    z[i] = x[i] + y[i];
}
"""
x, y, z = put(range(n)), put([0.5] * n), put([0] * n)
for blocks in (1, 4, 50):
    if launch(ADD_LOOP, "add", (blocks,), (64,), x, y, z, n):
        assert (get(z) == np.arange(n) + 0.5).all()

# %% [markdown]
# The `for` holds the guard as well, and the result is right for *any* grid, of 1 block
# or of 50. So the grid can be chosen for the machine, and no longer for the data. By
# hand: with 2 blocks of 4 threads and $n = 20$, thread 1 of block 0 takes the numbers
# 1, 9 and 17.

# %%
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from minibig import viz

COLOURS = ("#56B4E9", "#E69F00", "#009E73")


def draw_threads(axes, n, blocks, turns):
    for k in range(4 * blocks * turns):
        row, place = divmod(k, 4 * blocks)
        block, thread = divmod(place, 4)
        colour = COLOURS[block] if k < n else "white"
        box = Rectangle((place, -row), 0.94, 0.9, facecolor=colour, edgecolor="#777777")
        axes.add_patch(box)
        text = f"z[{k}]\nthread {thread}" if k < n else f"idle\nthread {thread}"
        axes.text(place + 0.47, 0.45 - row, text, ha="center", va="center", size=8)
    axes.set(xlim=(-1, 12.1), ylim=(0.9 - turns, 1))
    axes.set_axis_off()


# %%
figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(8.4, 3.1), height_ratios=(1, 3), layout="constrained"
)
draw_threads(top, 10, 3, 1)
draw_threads(bottom, 20, 2, 3)
for turn in range(3):
    bottom.text(-0.1, 0.45 - turn, f"turn {turn}", ha="right", va="center", size=9)
top.set_title("one number a thread: n = 10, 3 blocks of 4 (by colour)", size=10)
bottom.set_title("a grid-stride loop: n = 20, 2 blocks of 4", size=10)
viz.show(
    figure,
    alt="Two drawings of boxes, one for each number, coloured by block. Above, ten "
    "numbers in three blocks of four threads; the last two threads are idle. Below, "
    "twenty numbers and two blocks: in each of three turns the blue block takes four "
    "numbers and the orange one the next four; in the last turn the orange one is idle.",
)

# %% [markdown]
# ## What a kernel costs: bytes
#
# An addition reads 8 bytes and writes 4. For each of these 12 bytes there is a twelfth
# of an operation. An H200's data sheet promises 4.8 TB a second and 67 trillion
# operations on floats in the same second, 14 for each byte. So, whatever we do, this
# kernel leaves 99.4 % of the arithmetic unused, and its speed is measured in bytes a
# second. All the kernels of this notebook are like that: *memory-bound*.
#
# What a kernel must move can be counted exactly. How fast it does depends on the
# machine. So `report` counts, and then either measures, on a GPU, or divides by the
# bandwidths of data sheets. The latter is a bound: no kernel on that chip can take less
# time. It is not a measurement; by how much a kernel misses it, only a GPU can say.


# %%
def seconds(call, repeats=20):
    """The median time of a call on the GPU, which finds nothing in its cache."""
    call()
    other, spans = xp.empty(2**28, "uint8"), []
    for _ in range(repeats):
        other.fill(0)  # 268 MB: more than the cache holds, and the CPU gets ahead
        began, ended = xp.cuda.Event(), xp.cuda.Event()
        began.record()
        call()
        ended.record()
        ended.synchronize()
        spans.append(xp.cuda.get_elapsed_time(began, ended) / 1000)
    return float(np.median(spans))


# %%
SHEETS = {"T4": 320e9, "RTX 4090": 1008e9, "H200": 4800e9}  # bytes/s, data sheets


def report(name, moved, call):
    """Prints the bytes that `call` must move, and how long that takes."""
    if device == "cuda":
        took = seconds(call)
        text = f"{took * 1e6:.0f} µs measured, {moved / took / 1e9:,.0f} GB/s"
    else:
        bounds = (f"{chip} {1e6 * moved / rate:.0f}" for chip, rate in SHEETS.items())
        text = f"by data sheet at least {', '.join(bounds)} µs"
    print(f"{name:22} {moved / 1e6:6.1f} MB   {text}")


# %% tags=["nbval-ignore-output"]
import time

n = 2**24
x, y, z = (xp.ones(n, "float32") for _ in range(3))
launched = (n // 1024,), (256,), x, y, z, n
report("add 2²⁴ floats", 12 * n, functools.partial(launch, ADD_LOOP, "add", *launched))
if device == "cpu":
    spans = []
    for _ in range(5):
        began = time.perf_counter()
        np.add(x, y, out=z)
        spans.append(time.perf_counter() - began)
    took = min(spans)
    rate = 12 * n / took / 1e9
    print(
        f"this CPU, NumPy, one thread: {took * 1e6:,.0f} µs measured, {rate:.0f} GB/s"
    )

# %% [markdown]
# ## Thirty-two threads in step
#
# A GPU does not run single threads. It runs *warps*: 32 neighbouring threads of a
# block, its *lanes*, which receive one instruction together. Two things follow.
#
# The first is a cost. Where lanes of one warp take different sides of an `if`, the warp
# runs both sides, and each lane sleeps through one of them. (Since 2017 the two sides
# may take turns; it is still one instruction at a time.) What counts is not how many
# threads take which side but how many *warps* take both:


# %%
# NBVAL_CHECK_OUTPUT
def sides_run(condition):
    """How many sides of an `if` all warps run together; `condition`: a bool a thread."""
    return sum(len(np.unique(warp)) for warp in condition.reshape(-1, 32))


i = np.arange(256)  # a block of 8 warps
print("i % 2 == 0       ", sides_run(i % 2 == 0))
print("i / 32 % 2 == 0  ", sides_run(i // 32 % 2 == 0))
print("i < 100          ", sides_run(i < 100))

# %% [markdown]
# Half of the threads go left in the first two cases, yet one costs twice as much as the
# other. A guard of the tail, as in the third, divides one warp at most: it is free.
#
# The second thing is a gift. Lanes of a warp can hand numbers to each other without any
# memory in between. `__shfl_xor_sync(mask, x, step)` gives each lane the `x` of the
# lane whose number differs in the bit `step`: for `step` 1 the pairs 0 and 1, 2 and 3
# exchange, for 16 lane 0 and lane 16. Five such *shuffles* add up 32 numbers:

# %%
WARP_SUM = r"""
__device__ float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2)
    x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}
"""
SUMS = WARP_SUM + r"""
__global__ void sums(const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = warp_sum(x[i]);
}
"""  # fmt: skip
x, y = put(range(64)), put([0] * 64)
if launch(SUMS, "sums", (1,), (64,), x, y):
    print(get(y)[[0, 1, 31]], get(y)[[32, 33, 63]])
    assert (get(y).reshape(2, 32) == [[496], [1520]]).all()

# %% [markdown]
# `__device__` marks a function that kernels may call. By hand, with eight lanes that
# hold 3 1 4 1 5 9 2 6 and steps of 4, 2 and 1: after the first exchange lane 0 has
# $3 + 5 = 8$, lane 1 has $1 + 9 = 10$, and so on: 8 10 6 7 8 10 6 7. After the second,
# 14 17 14 17 14 17 14 17. After the third all eight hold 31. That *all* lanes end with
# the sum is worth a lot: nobody has to send it back. And they end with the same bits,
# because each addition is done on both sides, and $a + b = b + a$ holds for floats too
# (unlike $(a + b) + c = a + (b + c)$, of which more soon).
#
# `0xffffffff`, 32 ones, says that all 32 lanes take part, and is a promise. The usual
# way to break it is a tail that leaves early:

# %%
LEAVES = SUMS.replace("y[i] =", "if (i >= 50) return;\n  y[i] =")
fault(LEAVES, "sums", (1,), (64,), np.ones(64, "float32"), np.zeros(64, "float32"))

# %% [markdown]
# Lanes 18 to 31 of the second warp have left, and the others wait for their numbers. A
# GPU may hang here, or may add up whatever it finds. So: in a kernel with shuffles, no
# thread returns early. It goes along, with a zero.

# %% [markdown]
# ## A table that a block shares
#
# Between warps there is no shuffle. But each *multiprocessor* of a GPU, an H200 has 132
# of them, holds fast memory on the chip, 64 kB on a T4 and 228 kB here. A block never
# leaves its multiprocessor, and may take a piece of that: *shared memory*, seen by all
# threads of the block and by no other. Here a block turns an array around:

# %%
REVERSE = r"""
__global__ void reverse(float* x) {
  __shared__ float table[256];
  table[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = table[255 - threadIdx.x];
}
"""
x = put(range(256))
if launch(REVERSE, "reverse", (1,), (256,), x):
    assert (get(x) == np.arange(256)[::-1]).all()

# %% [markdown]
# The thread that writes `table[0]` is not the one that reads it, and they are in
# different warps. `__syncthreads()` is a *barrier*: no thread goes on before all of the
# block have come. Take it out:

# %%
NO_BARRIER = REVERSE.replace("__syncthreads();", "")
for order in range(4 if not emulator.missing() else 0):
    data = np.random.default_rng(order).normal(size=256).astype("float32")
    x = data.copy()
    with emulator.shuffled(order):
        compiled(NO_BARRIER)["reverse"]((1,), (256,), x)
    wrong = np.unique(np.flatnonzero(x != data[::-1]) // 32)
    print(f"order {order}: the warps", *wrong, "have wrong numbers")

# %% [markdown]
# `emulator.shuffled(seed)` draws another order in which the warps run. Warps 0 and 7
# read each other's numbers, and whichever comes first comes too early; so it is for 1
# and 6, 2 and 5, 3 and 4. Half of the warps are wrong, and each order has its own half.
# That is what makes a missing barrier, a *race*, so nasty on a real GPU: there the
# order depends on everything, and the result may be right in all your tests. A result
# that changes with the order is the proof. The library's tests take out every single
# barrier of its float32 attention kernels, one at a time, and see to it that it shows.
#
# The opposite mistake is a barrier in a place to which not all come:

# %%
IN_AN_IF = REVERSE.replace("__sync", "if (threadIdx.x < 64) __sync")
fault(IN_AN_IF, "reverse", (1,), (256,), np.zeros(256, "float32"))

# %% [markdown]
# The emulator makes an error of it. A GPU promises nothing: CUDA's guide calls what
# follows undefined. Threads that have *left* the kernel are not waited for, from
# compute capability 7.0 on. Here the upper 192 go past the barrier and leave, so most
# likely nothing hangs: the lower 64 go on when the others are gone, and those have read
# the table without waiting for anybody. It is the race from before, and as silent. Were
# there another barrier further down, the two halves might meet each other at different
# ones, or wait for ever.

# %% [markdown]
# ## Adding up a block
#
# Now 256 threads hold a number each, and all want the sum. In shared memory one adds in
# a *tree*: 128 threads add the upper half onto the lower, then 64, then 32, to the
# last. Eight rounds for 256, and after each a barrier.
#
# With shuffles two barriers are enough: each warp adds up its own 32 by itself, leaves
# one number in shared memory, and then each warp adds up those eight.

# %%
TREE = r"""
__global__ void tree(const float* x, float* y) {
  __shared__ float part[256];
  part[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    __syncthreads();
  }
  y[threadIdx.x] = part[0];
}
"""
OTHER_WARPS = r"""
__device__ float of_other_warps(float x, float nothing) {
  __shared__ float parts[32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();  // nobody still reads what the last call left
  if (lane == 0) parts[warp] = x;
  __syncthreads();  // all parts are there
  return lane < blockDim.x / 32 ? parts[lane] : nothing;
}
__device__ float block_sum(float x) { return warp_sum(of_other_warps(warp_sum(x), 0)); }
"""

# %%
BLOCK_SUM = WARP_SUM + OTHER_WARPS
SHUFFLES = BLOCK_SUM + r"""
__global__ void sum(const float* x, float* y) {
  y[threadIdx.x] = block_sum(x[threadIdx.x]);
}
"""  # fmt: skip
x, y = put(range(256)), put([0] * 256)
for text, name in ((TREE, "tree"), (SHUFFLES, "sum")):
    if launch(text, name, (1,), (256,), x, y):
        assert (get(y) == 255 * 256 / 2).all()
print("barriers: tree", 1 + 8, "shuffles", 2)

# %%
NUMBERS = [3, 1, 4, 1, 5, 9, 2, 6]


def draw_steps(axes, rows, lines, title):
    for y, row in enumerate(rows):
        for i, number in enumerate(row):
            colour = "#CFE8F7" if y == 0 else "#FCE5B0"
            box = {"boxstyle": "round", "facecolor": colour, "edgecolor": "#777777"}
            axes.text(i, -y, number, ha="center", va="center", size=10, bbox=box)
    for y, start, end in lines:
        axes.plot([start, end], [-y - 0.2, -y - 0.8], color="#555555", linewidth=0.9)
    axes.set(xlim=(-0.6, 7.6), ylim=(-3.4, 0.4), xticks=range(8))
    axes.set(yticks=range(-3, 1), yticklabels=["step 1", "step 2", "step 4", ""])
    axes.set_title(title, size=10)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


# %%
tree, butterfly = [NUMBERS], [NUMBERS]
tree_lines, butterfly_lines = [], []
for y, step in enumerate((4, 2, 1)):
    tree.append([tree[-1][i] + tree[-1][i + step] for i in range(step)])
    tree_lines += [(y, i + part, i) for i in range(step) for part in (0, step)]
    butterfly.append([butterfly[-1][i] + butterfly[-1][i ^ step] for i in range(8)])
    butterfly_lines += [(y, i ^ part, i) for i in range(8) for part in (0, step)]

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3), layout="constrained")
draw_steps(left, tree, tree_lines, "a tree in shared memory")
draw_steps(right, butterfly, butterfly_lines, "shuffles in a warp")
left.set_xlabel("place in shared memory")
right.set_xlabel("lane")
viz.show(
    figure,
    alt="Two diagrams of how eight numbers, 3 1 4 1 5 9 2 6, are added in three steps. "
    "Left, a tree: four sums 8 10 6 7, then two, 14 and 17, then 31 at place 0 alone. "
    "Right, a butterfly of crossing lines: all eight lanes hold a sum after each step, "
    "and after the last one all hold 31.",
)

# %% [markdown]
# Look at the first of the two barriers in `of_other_warps`. It guards nothing within
# the call, and it is the one that everybody forgets. It matters when the function is
# called *twice*: a fast warp would write its part of the second sum over the first one,
# while a slow warp is still on its way to read that. We shall call it twice in a
# softmax, first for the maximum. Where it lives:
# [`minibig/kernels/rows.cuh`](../minibig/kernels/rows.cuh), with the same two barriers.

# %%
TWICE = BLOCK_SUM + r"""
__global__ void twice(const float* x, float* y) {
  const float mean = block_sum(x[threadIdx.x]) / blockDim.x;
  y[threadIdx.x] = block_sum(x[threadIdx.x] - mean);
}
"""  # fmt: skip
FORGOTTEN = TWICE.replace("__syncthreads();  // nobody", "// nobody")
x = np.arange(256, dtype="float32")
for text in (TWICE, FORGOTTEN) if not emulator.missing() else ():
    found = set()
    for order in range(4):
        y = np.zeros(256, "float32")
        with emulator.shuffled(order):
            compiled(text)["twice"]((1,), (256,), x, y)
        found |= set(y.tolist())
    print(f"{len(found)} different results, {sorted(found)[:3]}")

# %% [markdown]
# ## Adding up everything
#
# Blocks do not wait for each other: a barrier for the whole grid does not exist within
# an ordinary kernel. There are two ways to add up across blocks. Either every block
# adds its sum to one place in memory, by `atomicAdd`, an addition that nobody can
# interrupt. Or it writes its sum into an array of parts, and a second launch adds those
# up: between two launches everything waits for everything.

# %%
TOTALS = BLOCK_SUM + r"""
__device__ float my_sum(const float* x, int n) {
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    sum += x[i];
  return block_sum(sum);
}
__global__ void atomic(const float* x, float* total, int n) {
  const float sum = my_sum(x, n);
  if (threadIdx.x == 0) atomicAdd(total, sum);
}
__global__ void parts(const float* x, float* part, int n) {
  const float sum = my_sum(x, n);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}
"""  # fmt: skip

# %%
n = 20_000
x = put(np.random.default_rng(0).normal(1, 1, n))
totals = {"atomic": [], "two stages": []}
for order in range(6 if ready else 0):
    one, two, part = put([0]), put([0]), put([0] * 32)
    with emulator.shuffled(order):
        launch(TOTALS, "atomic", (32,), (64,), x, one, n)
        launch(TOTALS, "parts", (32,), (64,), x, part, n)
        launch(TOTALS, "parts", (1,), (64,), part, two, 32)
    totals["atomic"].append(float(get(one)[0]))
    totals["two stages"].append(float(get(two)[0]))
for name, found in totals.items() if ready else ():
    print(f"{name:10} {len(set(found))} different:", *(f"{t:.4f}" for t in found[:4]))
if ready:
    assert len(set(totals["two stages"])) == 1
    assert np.allclose(totals["atomic"], get(x).sum(dtype="float64"))

# %% [markdown]
# Both are right to seven digits. But blocks finish in another order each time, and a
# sum of floats depends on its order: the atomic one comes out with other bits from run
# to run, and training that uses it cannot be repeated exactly. The two stages always
# give the same bits. All sums in minibig's kernels are of the second kind.
#
# The order has another side. How *good* is a sum? Whoever adds one number after the
# other into one float32 stops getting anywhere at 16,777,216, which is $2^{24}$: the
# next float32 is 2 away, and adding 1 changes nothing.

# %%
# NBVAL_CHECK_OUTPUT
print(np.float32(2**24) + np.float32(1) == np.float32(2**24))
ones = np.ones(2**24 + 2**22, "float32")
print(f"one after the other {np.cumsum(ones)[-1]:.0f}, in a tree {ones.sum():.0f}")
del ones

# %% [markdown]
# A fifth of the ones is lost, without a word. In a tree, equals are added to equals.
# The parallel sum is not only faster, it is closer to the truth.

# %% [markdown]
# ## Which bytes come along
#
# Now to the question why a thread of a grid-stride loop takes every so-many-th number
# and not a stretch of neighbours. Memory does not deliver single numbers. It delivers
# *sectors* of 32 bytes, eight floats, that begin at multiples of 32. When a warp
# executes `x[i]`, the hardware collects the 32 addresses and fetches each sector that
# holds one of them, once. That is called *coalescing*. So what a load costs is how many
# different sectors its addresses touch:


# %%
# NBVAL_CHECK_OUTPUT
def sectors(addresses):
    """How many sectors of 32 bytes hold these addresses."""
    return len(np.unique(np.asarray(addresses) // 32))


lane = np.arange(32)
patterns = {
    "x[i]": 4 * lane,
    "x[i], any order": 4 * np.random.default_rng(0).permutation(32),
    "x[i + 1]": 4 * (lane + 1),
    "x[2 * i]": 8 * lane,
    "x[8 * i]": 32 * lane,
    "x[1024 * i]": 4096 * lane,
}
for name, addresses in patterns.items():
    count = sectors(addresses)
    print(f"{name:16} {count:2} sectors, {128 / (32 * count):5.1%} of the bytes used")

# %% [markdown]
# A load of 32 neighbouring floats asks for 128 bytes and moves 128. The order among the
# lanes does not matter. A shift by one number costs a fifth sector. And from a stride
# of eight on each lane pays for a sector of its own: an eighth of what is moved is
# used, and the kernel is up to eight times slower. In sectors it cannot get worse:
# 1,024 apart is as bad as 8.

# %%
drawn = list(patterns.items())[:5]
shown = np.zeros((len(drawn), 256))  # a row a pattern, a column a number of 4 bytes
for row, (_, addresses) in enumerate(drawn):
    for sector in addresses // 32:
        shown[row, 8 * sector : 8 * sector + 8] = 1
    shown[row, addresses // 4] = 2

# %%
figure, axes = plt.subplots(figsize=(8.4, 2.7), layout="constrained")
colours = plt.matplotlib.colors.ListedColormap(["white", "#F4B183", "#0072B2"])
axes.imshow(shown, cmap=colours, aspect="auto", extent=(0, 1024, 5, 0))
axes.set_xticks(range(0, 1025, 128))
axes.set_yticks(np.arange(5) + 0.5, [name for name, _ in drawn])
axes.hlines(range(6), 0, 1024, color="white", linewidth=6)
axes.vlines(range(0, 1025, 32), 0, 5, color="#999999", linewidth=0.4)
axes.set_xlabel("address, bytes (a thin line every 32: a sector)")
for colour, label in (("#0072B2", "used"), ("#F4B183", "moved, not used")):
    axes.plot([], [], "s", color=colour, label=label)
axes.legend(loc="upper right")
viz.show(
    figure,
    alt="Five rows of bytes that one load of a warp moves. For x[i] four sectors all "
    "blue, which means used; the same in any order. For x[i + 1] a fifth sector, mostly "
    "orange: moved, not used. For x[2 i] eight sectors, every other number used. For "
    "x[8 i] all 32 sectors to byte 1024, one number in eight used.",
)

# %% [markdown]
# This decides how work is given to threads. Take the sums of a matrix's rows. A thread
# a row is the obvious loop; a warp a row needs a shuffle at the end:

# %%
ROW_SUMS = WARP_SUM + r"""
__global__ void thread_a_row(const float* x, float* y, int rows, int width) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  float sum = 0;
  for (int i = 0; i < width; i++) sum += x[row * width + i];
  y[row] = sum;
}
__global__ void warp_a_row(const float* x, float* y, int rows, int width) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  if (row >= rows) return;  // the whole warp leaves: allowed
  float sum = 0;
  for (int i = lane; i < width; i += 32) sum += x[row * width + i];
  sum = warp_sum(sum);
  if (lane == 0) y[row] = sum;
}
"""  # fmt: skip

# %%
matrix = np.random.default_rng(0).normal(size=(70, 100))
x = put(matrix)
for name, blocks in (("thread_a_row", 1), ("warp_a_row", 18)):
    y = put([0] * 70)
    if launch(ROW_SUMS, name, (blocks,), (128,), x, y, 70, 100):
        assert np.allclose(get(y), matrix.sum(1), atol=1e-5)

# %% [markdown]
# In the first kernel the lanes of a warp stand in 32 different rows: `x[width * lane]`,
# 32 sectors a load. In the second they stand side by side: 4 sectors. The first one's
# sectors are not lost at once, the next seven turns of the loop use the rest of them,
# if they are still in the cache by then. With 2,048 threads on a multiprocessor these
# are 2,048 sectors or 64 kB: sometimes they are. Counting on it is how kernels become
# slow on the next chip.
#
# On a GPU, the cell measures a gather with growing stride; elsewhere it only counts.

# %% tags=["nbval-ignore-output"]
GATHER = r"""
__global__ void gather(const float* x, float* y, int n, int step) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[(long long)i * step];
}
"""
n = 2**22
for step in (1, 2, 4, 8, 32):
    moved = 32 * sectors(4 * step * lane) + 128  # of a warp: what it reads and writes
    text = f"step {step:2}: {256 / moved:4.0%} of the bytes used"
    if device == "cuda":
        x, y = xp.ones(n * step, "float32"), xp.zeros(n, "float32")
        launched = (n // 256,), (256,), x, y, n, step
        took = seconds(functools.partial(launch, GATHER, "gather", *launched))
        text += f", {8 * n / took / 1e9:,.0f} GB/s of use measured"
    print(text)

# %% [markdown]
# ## Thirty-two banks
#
# Shared memory has no sectors, and a rule of its own. It is divided into 32 *banks*,
# each 4 bytes wide: word $w$ lies in bank $w \bmod 32$. Each bank serves one word at a
# time. Where two lanes want *different* words of one bank, one waits; where they want
# the same word, both get it. So the time of an access is the largest number of
# different words that any bank is asked for.
#
# A transposition shows both rules at work. Rows of $x$ become columns of $y$; whatever
# one does, either the reads or the writes jump by a whole row, 32 sectors in the place
# of 4. Unless a tile of 32 by 32 numbers goes through shared memory: read along rows,
# turned there, written along rows.

# %%
TRANSPOSE = r"""
template <int PITCH>
__global__ void transpose(const float* x, float* y, int rows, int columns) {
  __shared__ float tile[32][PITCH];
  int row = blockIdx.y * 32 + threadIdx.y, column = blockIdx.x * 32 + threadIdx.x;
  if (row < rows && column < columns)
    tile[threadIdx.y][threadIdx.x] = x[row * columns + column];
  __syncthreads();
  row = blockIdx.x * 32 + threadIdx.y, column = blockIdx.y * 32 + threadIdx.x;
  if (row < columns && column < rows)
    y[row * rows + column] = tile[threadIdx.x][threadIdx.y];
}
"""
matrix = np.random.default_rng(0).normal(size=(50, 70)).astype("float32")
for pitch in (32, 33):
    x, y = put(matrix), put(np.zeros((70, 50)))
    arguments = (3, 2), (32, 32), x, y, 50, 70
    if launch(TRANSPOSE, "transpose", *arguments, template=(pitch,)):
        assert (get(y) == matrix.T).all()

# %% [markdown]
# (`template <int PITCH>` makes a kernel for each number that is given: an array in
# shared memory needs a size that the compiler knows.) Both kernels are right. In the
# last line the 32 lanes of a warp, `threadIdx.x` = 0 … 31, read a *column* of the tile.
# With rows of 32 words all of them lie in one bank, and the access takes 32 turns. With
# rows of 33, one word wasted each, row $r$'s word of column $c$ lies in bank
# $(33 r + c) \bmod 32 = (r + c) \bmod 32$: another one for each row, and one turn is
# enough.

# %%
figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.9), layout="constrained")
for axes, pitch in zip(panels, (32, 33), strict=True):
    words = np.arange(32) * pitch + 5  # column 5 of the tile
    shown = np.zeros(33 * 32)
    shown[: 32 * pitch] = 1
    shown[np.arange(32, 33 * 32, 33)[: 32 * (pitch - 32)]] = 0  # the word to spare
    shown[words] = 2
    colours = plt.matplotlib.colors.ListedColormap(["white", "#DCEAF4", "#D55E00"])
    axes.imshow(shown.reshape(33, 32), cmap=colours, extent=(0, 32, 33, 0))
    turns = np.bincount(words % 32).max()
    axes.set(xlabel="bank", ylabel="shared memory, 128 bytes a line")
    axes.set_title(f"rows of {pitch}: turns for column 5: {turns}", size=10)
    axes.set(xticks=range(0, 33, 8), yticks=range(0, 33, 8))
viz.show(
    figure,
    alt="Shared memory drawn with a column for each of the 32 banks. With rows of 32 "
    "words the words of column 5 of a tile stand one below the other, all in bank 5: "
    "32 turns. With rows of 33 words they run diagonally through all banks: 1 turn.",
)

# %% [markdown]
# ## Enough in flight
#
# A number from memory takes hundreds of cycles of the clock to arrive. The
# multiprocessor does not wait: it goes on with another warp, and needs many to choose
# from. How many? Assume that the answer takes 0.5 µs: a round number, not a
# measurement, and what follows is in proportion to it. At 4.8 TB/s, $4.8 \cdot 10^{12}
# \cdot 0.5 \cdot 10^{-6} = 2.4$ million bytes must be on their way at any moment, 18 kB
# for each of 132 multiprocessors. With the 2,048 threads that one can hold, that is 9
# bytes a thread: *more than one load of a float each*. So a thread should ask for its
# next number before it has the first (the compiler does so when it unrolls a loop), or
# for 16 bytes at once, a `float4`.
#
# And there must be many threads. *Occupancy* is how many warps a multiprocessor holds,
# of the 64 it could. A block comes in only if all of it fits, and its threads take
# registers, and its table takes shared memory, until one of them is used up. The
# numbers for Hopper: 64 warps, 32 blocks, 65,536 registers, 228 kB. The registers lie
# in four parts of 16,384, and a warp has all of its own in one part. With 40 a thread
# it takes 1,280, so each part has room for 12 warps (12.8, but there are no tenths of a
# warp), and the multiprocessor for 48, three quarters: 6 blocks of 256 threads. How
# many registers a kernel takes, NVIDIA's compiler says without a GPU:

# %% tags=["nbval-ignore-output"]
from minibig.kernels import nvrtc

for name, text in (("add", ADD_LOOP), ("tree", TREE), ("warp_a_row", ROW_SUMS)):
    if nvrtc.missing():
        print(nvrtc.missing())
        break
    for chip in ("sm_75", "sm_90"):
        found = nvrtc.compile(parse("notebook.cu", text), (), chip)[1][name]
        print(f"{name:12} {chip} {found.registers} registers, "
              f"{found.shared} bytes of shared memory, {found.spilled} spilled")  # fmt: skip

# %% [markdown]
# Small kernels such as these fill any chip. The kernels of
# [17](17_attention_kernels.ipynb) and [18](18_tensor_cores.ipynb) will not, and there
# more occupancy is not always better: registers that hold a tile save more than another
# warp could hide.

# %% [markdown]
# ## Softmax in three kernels
#
# Now we have all we need for
#
# $$y_i = \frac{e^{x_i - m}}{\sum_j e^{x_j - m}}, \qquad m = \max_j x_j ,$$
#
# for each row of a matrix. First in the way the formula suggests, a kernel for each
# letter: $m$, then the sum, then $y$. A block takes a row, its threads every
# 128th number: neighbours side by side.

# %%
BLOCK_MAX = r"""
#define LOWEST __int_as_float(0xff800000)  // minus infinity, by its bits
__device__ float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}
__device__ float block_max(float x) {
  return warp_max(of_other_warps(warp_max(x), LOWEST));
}
"""

# %%
THREE = BLOCK_SUM + BLOCK_MAX + r"""
__global__ void row_max(const float* x, float* top, int width) {
  x += (long long)blockIdx.x * width;
  float mine = LOWEST;
  for (int i = threadIdx.x; i < width; i += blockDim.x) mine = fmaxf(mine, x[i]);
  mine = block_max(mine);
  if (threadIdx.x == 0) top[blockIdx.x] = mine;
}
__global__ void row_total(const float* x, const float* top, float* total, int width) {
  x += (long long)blockIdx.x * width;
  const float high = top[blockIdx.x];
  float mine = 0;
  for (int i = threadIdx.x; i < width; i += blockDim.x) mine += expf(x[i] - high);
  mine = block_sum(mine);
  if (threadIdx.x == 0) total[blockIdx.x] = mine;
}
__global__ void quotient(const float* x, const float* top, const float* total, float* y,
                         int width) {
  x += (long long)blockIdx.x * width, y += (long long)blockIdx.x * width;
  const float high = top[blockIdx.x], sum = total[blockIdx.x];
  for (int i = threadIdx.x; i < width; i += blockDim.x) y[i] = expf(x[i] - high) / sum;
}
"""  # fmt: skip


# %%
def softmax_three(x, y):
    rows, width = x.shape
    top, total = (xp.empty(rows, "float32") for _ in range(2))
    size = (rows,), (128,)
    return (
        launch(THREE, "row_max", *size, x, top, width)
        and launch(THREE, "row_total", *size, x, top, total, width)
        and launch(THREE, "quotient", *size, x, top, total, y, width)
    )


def reference(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


logits = np.random.default_rng(0).normal(0, 3, (7, 1000))
logits[3] += 1000  # e^1000 is beyond any float
x, y = put(logits), put(np.zeros((7, 1000)))
if softmax_three(x, y):
    assert np.allclose(get(y), reference(get(x).astype("float64")), atol=1e-7)

# %% [markdown]
# Count. The first kernel reads every $x$, so does the second, the third reads it again
# and writes $y$: 4 times 4 bytes, 16 bytes a number. What passes between the kernels,
# two numbers a row, does not count. And the array code that notebook 08 began with?
# `x.max` reads; `x - top` reads and writes; `np.exp` reads and writes; `sum` reads; the
# quotient reads and writes. 8 times, 32 bytes a number, in five launches.
#
# But the result needs $x$ once and makes $y$ once. 8 bytes are enough, *if* the row
# stays on the chip in the meantime.

# %% [markdown]
# ## Softmax in one
#
# A row of 4,096 floats takes 16 kB: it fits into shared memory. A block may have 48 kB
# of it without asking. The 32 `parts` of the sum and of the maximum take 128 bytes of
# these 49,152, so 12,256 floats are left for a row. How many the kernel needs is known
# only when it is launched, so the size of such *dynamic* shared memory is an argument
# of the launch. CUDA declares it with `extern __shared__ float row[];`. We write
# `DYNAMIC_SHARED(float, row)`, from the library's
# [`ptx.cuh`](../minibig/kernels/ptx.cuh), which says the same to both machines.

# %%
PTX = '#include "ptx.cuh"\n'
FUSED = PTX + BLOCK_SUM + BLOCK_MAX + r"""
__global__ void softmax(const float* x, float* y, int width) {
  DYNAMIC_SHARED(float, row);
  x += (long long)blockIdx.x * width, y += (long long)blockIdx.x * width;
  float top = LOWEST, total = 0;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    row[i] = x[i];  // the only reading
    top = fmaxf(top, row[i]);
  }
  top = block_max(top);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    row[i] = expf(row[i] - top);
    total += row[i];
  }
  total = block_sum(total);
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    y[i] = row[i] / total;  // the only writing
}
"""  # fmt: skip


def softmax_fused(x, y, threads=128):
    rows, width = x.shape
    return launch(FUSED, "softmax", (rows,), (threads,), x, y, width, shared=4 * width)


# %% [markdown]
# The `row` in shared memory is written and read without a barrier of its own. Is that a
# race? No: a thread reads only what it wrote itself. The barriers that are needed, for
# the maximum and for the sum, are inside of `block_max` and `block_sum`. Against NumPy
# and against the library's own kernel, for widths that fill no warp, one, and none
# evenly:

# %%
from minibig.kernels import softmax as library

for width in (1, 31, 32, 100, 1000, 4097):
    data = np.random.default_rng(width).normal(0, 3, (5, width))
    x, y = put(data), put(np.full((5, width), np.nan))
    if softmax_fused(x, y):
        assert np.allclose(get(y), reference(get(x).astype("float64")), atol=1e-7)
        assert np.allclose(get(y), get(library.softmax(x)[0]), atol=1e-7)

# %% [markdown]
# Maximum and sum go through the same 32 `parts`, one after the other: here the barrier
# that everybody forgets does its work. With it, and without:

# %%
RACE = FUSED.replace("__syncthreads();  // nobody", "// nobody")
right = reference(logits)
for text in (FUSED, RACE) if not emulator.missing() else ():
    found = []
    for order in range(4):
        x, y = logits.astype("float32"), np.zeros((7, 1000), "float32")
        with emulator.shuffled(order):
            compiled(text)["softmax"]((7,), (128,), x, y, 1000, shared=4000)
        found.append(int((abs(y - right) > 1e-5).any(1).sum()))
    print("rows that are wrong, in four orders:", found)

# %% [markdown]
# Is it true that it moves a quarter of the array code's bytes? Let the programs count.
# In the text of a kernel every `x[i]` and `y[i]`, wherever it stands, becomes one that
# also adds 4 to a counter. For the array code, a kind of array whose operations add up
# the bytes of what they are given and of what they return:


# %%
import re


def counting(text):
    """The text, its kernels with an argument more: the bytes of x and y they touch."""
    text = text.replace("int width)", "int width, unsigned* moved)")
    return re.sub(r"\b[xy]\[i\]", r"(atomicAdd(moved, 4u), \g<0>)", text)


class Counted(np.ndarray):
    moved = 0

    def __array_ufunc__(self, function, method, *given, **settings):
        given = [np.asarray(array) for array in given]
        found = getattr(function, method)(*given, **settings)
        Counted.moved += sum(array.nbytes for array in (*given, found))
        return found.view(Counted)


# %%
reference(logits.astype("float32").view(Counted))
counts = {"array code": Counted.moved}
x, y = put(logits), put(np.zeros((7, 1000)))
top, total = put(np.zeros(7)), put(np.zeros(7))
size, rest = ((7,), (128,)), (1000, xp.zeros(1, "uint32"))
for text, name, arrays, shared in (
    (THREE, "row_max", (x, top), 0),
    (THREE, "row_total", (x, top, total), 0),
    (THREE, "quotient", (x, top, total, y), 0),
    (FUSED, "softmax", (x, y), 4000),
):
    rest[1][:] = 0
    if launch(counting(text), name, *size, *arrays, *rest, shared=shared):
        counts[name] = int(get(rest[1])[0])
for name, count in counts.items():
    print(f"{name:10} {count:6} bytes, {count / 7000:.2f} a number")

# %% [markdown]
# 32, 16 and 8, to the byte; the array code's 0.02 more are its maxima and sums, a
# number a row, which it writes and reads as well. The picture is for a larger matrix:

# %%
figure, axes = plt.subplots(figsize=(8, 2.7), layout="constrained")
ways = {
    "array code, 5 launches": (20, 12),
    "three kernels": (12, 4),
    "fused": (4, 4),
}
for y, (reads, writes) in enumerate(ways.values()):
    axes.barh(y, reads, color="#0072B2", label="read" if y == 0 else None)
    axes.barh(
        y, writes, left=reads, color="#E69F00", label="written" if not y else None
    )
    total = (reads + writes) * 8192 * 4096
    note = f"{total / 1e6:,.0f} MB, at least {1e6 * total / SHEETS['H200']:.0f} µs"
    axes.text(reads + writes + 0.4, y, note, va="center", size=9)
axes.set(xlim=(0, 44), xlabel="bytes moved for each number of the matrix")
axes.set_yticks(range(3), ways)
axes.invert_yaxis()
axes.set_title("8,192 rows of 4,096; least times at 4.8 TB/s (data sheet)", size=10)
axes.legend(loc="lower right")
viz.show(
    figure,
    alt="Bars of the bytes that softmax moves for each number. Array code: 20 read and "
    "12 written, 1,074 MB, at least 224 µs on an H200 by its data sheet. Three kernels: "
    "12 and 4, 537 MB, 112 µs. Fused: 4 and 4, 268 MB, 56 µs.",
)

# %% [markdown]
# What the library does is slightly different, and worth a look: it reads $x$ twice, the
# second time *as a rule from a cache*, and keeps no row at all, so that it has no limit
# of 12,256. For that it finds the maximum and the sum in one reading. When a larger
# number comes, the sum so far shrinks by $e^{\mathrm{old} - \mathrm{new}}$: the *online
# softmax* (arXiv:1805.02867), from which [17](17_attention_kernels.ipynb) makes flash
# attention. Where it lives:
# [`minibig/kernels/softmax_forward.cu`](../minibig/kernels/softmax_forward.cu).

# %% [markdown]
# ## Layer norm, and a subtraction to avoid
#
# Layer norm (09) needs the mean $\mu$ and the variance $\sigma^2$ of each row. A
# formula from school has it in a single reading: $\sigma^2 = E(x^2) - E(x)^2$, the mean
# of the squares minus the square of the mean. In floats it is a trap. Take the row
# 10000, 10001, 10002, whose variance is $\frac{2}{3}$:

# %%
# NBVAL_CHECK_OUTPUT
row = np.float32([10000, 10001, 10002])
school = (row * row).mean() - row.mean() ** 2
print("school", school, "  true", row.astype("float64").var().round(4))
print("1 / √(variance + eps):", *(f"{1 / np.sqrt(v + 1e-5):.2f}" for v in (0, 2 / 3)))

# %% [markdown]
# The squares are near $10^8$, where neighbouring floats are 8 apart; a difference of
# $\frac{2}{3}$ does not exist there. The norm would come out hundreds of times too
# large, and where the rounding falls the other way, the variance is negative and the
# root `nan`.
#
# There are two ways out. One is to read twice: the mean first, then the squares of what
# is left after taking it off. If the row is kept on the chip, the second reading is
# nearly free. The other is *Welford's*: a running mean, and a running sum $S$ of
# squares around it, corrected with each number. The $n$-th number $x$ does
#
# $$\delta = x - \mu, \qquad \mu \leftarrow \mu + \frac{\delta}{n}, \qquad
# S \leftarrow S + \delta \, (x - \mu) .$$
#
# By hand for 10000, 10001, 10002: the mean goes 10000, 10000.5, 10001, and $S$ goes 0,
# $1 \cdot 0.5 = 0.5$, then $0.5 + 1.5 \cdot 1 = 2$. A third of 2 is $\frac{2}{3}$.
#
# For threads there is one more thing to know. Each has the count, mean and $S$ of its
# own numbers; to merge two such triples $A$ and $B$, with
# $\delta = \mu_B - \mu_A$ and $n = n_A + n_B$,
#
# $$\mu = \mu_A + \delta \, \frac{n_B}{n}, \qquad
# S = S_A + S_B + \delta^2 \, \frac{n_A n_B}{n} .$$
#
# Check: $\{1, 3\}$ has the mean 2 and $S = 2$; $\{5, 9\}$ has 7 and 8. Merged:
# $2 + 5 \cdot \frac{1}{2} = 4.5$, and $S = 2 + 8 + 25 \cdot \frac{4}{4} = 35$.

# %%
# NBVAL_CHECK_OUTPUT
four = np.array([1.0, 3, 5, 9])
print(four.mean(), ((four - four.mean()) ** 2).sum())

# %% [markdown]
# How much do the three differ? Rows of 1,024 numbers with a standard deviation of 1,
# all computed in float32, the mean moved further and further away from 0:


# %%
def welford(x):
    """Variance of each row of x (N, C), in the dtype of x."""
    mean, squares = np.zeros_like(x[:, 0]), np.zeros_like(x[:, 0])
    for n, column in enumerate(x.T, 1):
        step = column - mean
        mean += step / np.float32(n)
        squares += step * (column - mean)
    return squares / np.float32(x.shape[1])


noise = np.random.default_rng(0).normal(size=(32, 1024))
means = 10.0 ** np.arange(0, 5.01, 0.25)
errors = {"school: E(x²) - E(x)²": [], "Welford": [], "two readings": []}
for mean in means:
    x = (noise + mean).astype("float32")
    true = x.astype("float64").var(1)
    school = (x * x).mean(1) - x.mean(1) ** 2
    twice = ((x - x.mean(1, keepdims=True)) ** 2).mean(1)
    for name, found in zip(errors, (school, welford(x), twice), strict=True):
        errors[name].append((abs(found - true) / true).max())

# %%
figure, axes = plt.subplots(figsize=(7.2, 3.5), layout="constrained")
looks = (("#D55E00", "o"), ("#0072B2", "s"), ("#555555", "^"))
for (name, values), (colour, marker) in zip(errors.items(), looks, strict=True):
    axes.loglog(means, values, marker=marker, color=colour, label=name, markersize=4)
axes.axhline(1, color="#999999", linewidth=0.8, linestyle="--")
axes.set(xlabel="mean of the row, in standard deviations")
axes.set(ylabel="relative error of the variance")
axes.grid(alpha=0.3)
axes.legend()
viz.show(
    figure,
    alt="Relative error of the variance in float32 against the mean of the row, both "
    "axes logarithmic. The school formula's error grows with the square of the mean, "
    "from below a millionth at 1 to more than 1 beyond 3,000. Welford's grows slowly, to "
    "less than a hundredth at 100,000; that of two readings stays at a ten-millionth "
    "until 5,000, and below a ten-thousandth to the end.",
)

# %% [markdown]
# The school formula loses two digits for every factor of 10, and beyond 3,000 its error
# is larger than the variance. Two readings keep nearly all seven digits: the mean that
# they take off is slightly wrong, but that error comes in squared. Welford, who rounds
# his mean a thousand times, lies between. So where a row stays on the chip, and a
# second reading costs nothing, read it twice; that is what the library does. Welford is
# for numbers that pass by only once. We take him here for his merging, a pattern that
# will come back: [17](17_attention_kernels.ipynb) merges pieces of a softmax in the
# same way. And divided among 128 threads, he rounds no mean more than 8 times, and 8
# times more in merging.

# %%
MOMENTS = r"""
struct Moments { float count, mean, squares; };

__device__ Moments merge(Moments a, Moments b) {
  const float count = a.count + b.count, step = b.mean - a.mean;
  if (count == 0) return a;  // two threads without a number
  const float share = b.count / count;
  return {count, a.mean + step * share,
          a.squares + b.squares + step * step * a.count * share};
}
__device__ Moments from_lane(Moments a, int bit) {
  return {__shfl_xor_sync(0xffffffff, a.count, bit),
          __shfl_xor_sync(0xffffffff, a.mean, bit),
          __shfl_xor_sync(0xffffffff, a.squares, bit)};
}
__device__ Moments block_merge(Moments mine) {
  __shared__ Moments parts[32];
  for (int bit = 16; bit > 0; bit /= 2) mine = merge(mine, from_lane(mine, bit));
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
  __syncthreads();
  for (int i = 0; i < blockDim.x / 32; i++) mine = i ? merge(mine, parts[i]) : parts[0];
  return mine;
}
"""

# %% [markdown]
# One detail repays a second look. For a sum, the butterfly gives all lanes the same
# bits. Here it does not: of two lanes one merges $(A, B)$ and the other $(B, A)$, and
# these round differently. So only lane 0's result counts, and every thread goes through
# all the warps' parts in the same order: then all threads of the block have one mean.

# %%
LAYER_NORM = PTX + MOMENTS + r"""
__global__ void layer_norm(const float* x, const float* weight, const float* bias,
                           float* y, float* mean, float* scale, int width, float eps) {
  DYNAMIC_SHARED(float, row);
  x += (long long)blockIdx.x * width, y += (long long)blockIdx.x * width;
  Moments m = {0, 0, 0};
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    row[i] = x[i];
    const float step = row[i] - m.mean;
    m.count += 1;
    m.mean += step / m.count;
    m.squares += step * (row[i] - m.mean);
  }
  m = block_merge(m);
  const float factor = 1 / sqrtf(m.squares / width + eps);
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    y[i] = (row[i] - m.mean) * factor * weight[i] + bias[i];
  if (threadIdx.x == 0) mean[blockIdx.x] = m.mean, scale[blockIdx.x] = factor;
}
"""  # fmt: skip


# %%
def layer_norm(x, weight, bias, y, eps=1e-5):
    """Writes y; (mean, scale) of each row, or None where nothing can run it."""
    rows, width = x.shape
    mean, scale = (xp.empty(rows, "float32") for _ in range(2))
    arguments = x, weight, bias, y, mean, scale, width, eps
    size = (rows,), (128,)
    done = launch(LAYER_NORM, "layer_norm", *size, *arguments, shared=4 * width)
    return (mean, scale) if done else None


# %% [markdown]
# Held against NumPy in float64 and against the library's kernel, for a row far from
# zero too. The library reads three times, the second and third time as a rule from a
# cache: [`minibig/kernels/norm_forward.cu`](../minibig/kernels/norm_forward.cu).

# %%
from minibig.kernels import norm

rng = np.random.default_rng(1)
for width in (1, 50, 1000):
    data = rng.normal(size=(5, width))
    data[2] += 1000
    x, weight, bias = put(data), put(rng.normal(size=width)), put(np.ones(width))
    y = put(np.zeros_like(data))
    if layer_norm(x, weight, bias, y):
        wide = get(x).astype("float64")
        centred = wide - wide.mean(1, keepdims=True)
        row = centred / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
        assert np.allclose(get(y), row * get(weight) + 1, atol=1e-3)
        assert np.allclose(get(y), get(norm.layer_norm(x, weight, bias)[0]), atol=1e-3)

# %% [markdown]
# ## Backward: a sum across the rows
#
# The gradient by $x$ stays within a row: two sums over it, as in 09, and everything
# above applies again. The gradients of weight and bias do not,
#
# $$dw_c = \sum_r dy_{rc}\, \hat x_{rc}, \qquad db_c = \sum_r dy_{rc} ,$$
#
# since every row contributes. Give each *column* a thread: neighbouring lanes stand in
# neighbouring columns, so the loads coalesce. But for 1,024 columns these are 1,024
# threads, 4 blocks of 256, and 128 of the 132 multiprocessors have nothing to do.
# Let several blocks share a column, and they must add up what they have: by
# `atomicAdd`, with other bits each time, or in two stages. Here is how the library does
# it, for these gradients and for that of every bias in a linear layer:

# %%
# NBVAL_CHECK_OUTPUT
from minibig.kernels import read

text = read("column_sums.cu").text
begin = text.index("// The sum of what the block's threads")
print(text[begin : text.index("#line", begin)])

# %% [markdown]
# A block takes 32 columns, and its 8 warps every 8th row of its share of the rows; the
# 32 lanes read 128 bytes side by side. Then, in shared memory, `over_warps` adds up what
# the eight warps have. There are as many shares of rows as `gridDim.y` says, at most
# 128, and a second kernel adds up these parts by the same function, always in the same
# order. What that costs a layer norm of 8,192 rows and 1,024 columns:

# %%
# NBVAL_CHECK_OUTPUT
rows, columns, shares = 8192, 1024, 128
print("blocks, a thread a column:", columns // 256)
print("blocks of the first stage:", columns // 32 * shares)
print("rows that a thread adds up:", rows // (8 * shares))
read_bytes, parts = 2 * 4 * rows * columns, 2 * 4 * shares * columns
print(f"x and dy: {read_bytes / 1e6:.1f} MB, the parts, written and read: "
      f"{2 * parts / 1e6:.1f} MB, {2 * parts / read_bytes:.1%} more")  # fmt: skip

# %% [markdown]
# A thousand times as many blocks for three hundredths more traffic. The library's
# kernels, against the formulas in NumPy, and the same bits in every order:

# %%
x, dy = (put(rng.normal(size=(300, 70))) for _ in range(2))
weight, bias = put(rng.normal(size=70)), put(np.zeros(70))
bits = set()
for order in range(3 if ready else 0):
    with emulator.shuffled(order):
        _, backward = norm.layer_norm(x, weight, bias)
        dx, dweight, dbias = map(get, backward(dy))
    bits.add(dweight.tobytes() + dbias.tobytes())
if ready:
    wide, wide_dy = (get(a).astype("float64") for a in (x, dy))
    scale = 1 / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    row, g = (wide - wide.mean(1, keepdims=True)) * scale, wide_dy * get(weight)
    by_row = g.mean(1, keepdims=True) + row * (g * row).mean(1, keepdims=True)
    assert np.allclose(dx, (g - by_row) * scale, atol=1e-5)
    assert np.allclose(dweight, (wide_dy * row).sum(0), atol=1e-4)
    assert np.allclose(dbias, wide_dy.sum(0), atol=1e-4)
    assert len(bits) == 1

# %% [markdown]
# ## Bytes a second
#
# All in one table, each with the bytes that it has to move. On a GPU the figures are
# measured here and now, the library's beside ours; elsewhere they are the bound that
# the data sheets give, nothing more. No report of these kernels on some other GPU is
# kept, as one of attention is ([17](17_attention_kernels.ipynb)): whoever wants bytes a
# second must run this cell on a GPU. To know what a share of the bandwidth is worth,
# look at its first line then: a copy is the best that a kernel can do, and reaches less
# than the data sheet's number, too.

# %%
rows, width = 8192, 4096
x = y = weight = bias = None  # without a GPU nobody needs them
if device == "cuda":
    x = put(np.random.default_rng(0).normal(size=(rows, width)))
    y, weight, bias = xp.empty_like(x), put(np.ones(width)), put(np.zeros(width))


def turned():
    arguments = (width // 32, rows // 32), (32, 32), x, y, rows, width
    launch(TRANSPOSE, "transpose", *arguments, template=(33,))


def array_code():
    e = xp.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


# %%
table = {
    "copy, CuPy's": (2, lambda: xp.copyto(y, x)),
    "transposition": (2, turned),
    "softmax, array code": (8, array_code),
    "softmax, three kernels": (4, lambda: softmax_three(x, y)),
    "softmax, fused": (2, lambda: softmax_fused(x, y, 512)),
    "softmax, library": (2, lambda: library.softmax(x)),
    "layer norm, fused": (2, lambda: layer_norm(x, weight, bias, y)),
    "layer norm, library": (2, lambda: norm.layer_norm(x, weight, bias)),
}

# %% tags=["nbval-ignore-output"]
for name, (times, call) in table.items():
    report(name, times * 4 * rows * width, call)

# %%
from minibig.exercises import result

if ready:
    share = counts["softmax"] / counts["array code"]
    result("bytes moved by softmax, fused over array code", share, at_most=0.25)
    x, y = put(logits), put(np.zeros((7, 1000)))
    softmax_fused(x, y)
    error = abs(get(y) - reference(get(x).astype("float64"))).max()
    result("fused softmax, largest error against float64", error, at_most=1e-6)

# %% [markdown]
# ## Summary
#
# - A kernel is a loop's body; a grid-stride loop makes any grid right for any length.
# - 32 threads are a warp: it runs both sides of an `if`; five shuffles add its lanes.
# - If a result depends on the order of a block's threads, a barrier is missing.
# - Sectors of 32 bytes, 32 banks: what an access costs, its addresses say.
# - A fused softmax moves 8 bytes a number, array code 32; bytes are what takes time.
# - Two stages sum to the same bits each time; a variance is never $E(x^2) - E(x)^2$.

# %% [markdown]
# ## Exercises
#
# For a kernel you return its text, and the line below it launches it, on the emulator
# in several orders. `check` shows the compiler's complaint or the emulator's; `hint`
# helps on. Where there is neither a C++ compiler nor a GPU, it says so; exercises 3 and
# 4 work everywhere.
#
# **1. A step of gradient descent.** Write the kernel
# `axpy(float a, const float* x, float* y, int n)`, which does $y \leftarrow a x + y$
# for `n` numbers. It is launched with 2 blocks of 64 threads, whatever `n` is.

# %%
from minibig.exercises import check, hint
from minibig.exercises.cuda import run


def axpy_source():
    ### BEGIN SOLUTION
    return r"""
    __global__ void axpy(float a, const float* x, float* y, int n) {
      const int threads = gridDim.x * blockDim.x;
      for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads)
        y[i] += a * x[i];
    }
    """
    ### END SOLUTION


def axpy(a, x, y):
    return run(axpy_source, "axpy", (2,), (64,), a, x, y, len(x))[1]


check("16.axpy", axpy)

# %% [markdown]
# **2. Running sums.** Write `scan(const float* x, float* y)` for rows of 32 numbers:
# block $r$, a single warp, takes row $r$, and `y` gets the sum of the numbers *up to
# and including* each place. `__shfl_up_sync(0xffffffff, v, step)` gives each lane the
# `v` of the lane that is `step` lower; the lowest `step` lanes get their own back. Five
# of them will do, no shared memory is needed.


# %%
def scan_source():
    ### BEGIN SOLUTION
    return r"""
    __global__ void scan(const float* x, float* y) {
      const int lane = threadIdx.x, i = blockIdx.x * 32 + lane;
      float v = x[i];
      for (int step = 1; step < 32; step *= 2) {
        const float lower = __shfl_up_sync(0xffffffff, v, step);
        if (lane >= step) v += lower;
      }
      y[i] = v;
    }
    """
    ### END SOLUTION


def scan(x):
    return run(scan_source, "scan", (len(x),), (32,), x, np.zeros_like(x))[1]


check("16.scan", scan)

# %% [markdown]
# **3. Bank conflicts.** `words` (W, 32) are the numbers of the words of shared memory
# that the 32 lanes want in each of W accesses. Return how many turns each takes, (W,):
# the largest number of *different* words that lie in one of the 32 banks.


# %%
def bank_conflicts(words):
    ### BEGIN SOLUTION
    turns = []
    for row in words:
        different = np.unique(row)
        turns.append(np.bincount(different % 32).max())
    return np.array(turns)
    ### END SOLUTION


check("16.bank_conflicts", bank_conflicts)

# %% [markdown]
# **4. Occupancy.** How many *warps* does a Hopper multiprocessor hold at once? A block
# has `threads` threads, each of which takes `registers` registers, and takes `shared`
# bytes of shared memory. There is room for 64 warps, 32 blocks, four times 16,384
# registers and 233,472 bytes of shared memory. Threads come as whole warps; registers a
# thread are rounded up to a multiple of 8; a warp has all its registers in one of the
# four parts; each block takes 1,024 bytes of shared memory more than it asks for, and
# the whole of that is rounded up to a multiple of 128; and only whole blocks come in.
# NVIDIA's own calculator, `cuda_occupancy.h` of the CUDA toolkit, says the same.


# %%
def occupancy(threads, registers, shared):
    ### BEGIN SOLUTION
    warps = -(-threads // 32)
    of_a_warp = 32 * 8 * -(-registers // 8)
    held = 4 * (16384 // of_a_warp)  # warps whose registers fit
    taken = 128 * -(-(shared + 1024) // 128)
    return warps * min(64 // warps, 32, held // warps, 233472 // taken)
    ### END SOLUTION


check("16.occupancy", occupancy)

# %% [markdown]
# **5. RMS norm, fused.** The norm of Llama (arXiv:1910.07467):
# $y = x \, w / \sqrt{E(x^2) + \varepsilon}$, each row by itself. Write
# `rms_norm(const float* x, const float* weight, float* y, int width, float eps)`: a
# block of 128 threads a row, one reading of `x`. What is above stands ready: begin your
# text with `PTX + BLOCK_SUM`, and use `DYNAMIC_SHARED(float, row)`, of `width` floats,
# and `block_sum`.


# %%
def rms_norm_source():
    ### BEGIN SOLUTION
    return PTX + BLOCK_SUM + r"""
    __global__ void rms_norm(const float* x, const float* weight, float* y, int width,
                             float eps) {
      DYNAMIC_SHARED(float, row);
      x += (long long)blockIdx.x * width, y += (long long)blockIdx.x * width;
      float sum = 0;
      for (int i = threadIdx.x; i < width; i += blockDim.x)
        row[i] = x[i], sum += row[i] * row[i];
      sum = 1 / sqrtf(block_sum(sum) / width + eps);
      for (int i = threadIdx.x; i < width; i += blockDim.x) y[i] = row[i] * sum * weight[i];
    }
    """  # fmt: skip
    ### END SOLUTION


def rms_norm(x, weight, eps):
    inputs = x, weight, np.zeros_like(x), x.shape[1], eps
    grid, block, shared = (len(x),), (128,), 4 * x.shape[1]
    return run(rms_norm_source, "rms_norm", grid, block, *inputs, shared=shared)[2]


check("16.rms_norm", rms_norm)

# %% [markdown]
# **6. Open: bytes in flight.** Let each thread of the fused softmax read 16 bytes at a
# time, as `float4`, where the width allows it (the address must be a multiple of 16;
# the emulator says so where it is not). What do registers and occupancy do, by `nvrtc`?
# With a GPU: is it faster, and for which widths? And from which width on is a row in
# shared memory slower than the library's second reading, because too few blocks fit?

# %% [markdown]
# ## Sources
#
# - arXiv:1805.02867: the online softmax, and the count of memory accesses for softmax.
# - arXiv:1607.06450: layer norm. arXiv:1910.07467: RMS norm.
# - B. P. Welford, *Note on a method for calculating corrected sums of squares and
#   products*, Technometrics 4 (1962). T. F. Chan, G. H. Golub, R. J. LeVeque,
#   *Algorithms for computing the sample variance*, The American Statistician 37 (1983):
#   the merging, and the comparison of all three.
# - NVIDIA, *CUDA C++ Programming Guide*: the execution model, coalescing, banks, and the
#   table of compute capabilities from which the limits for Hopper come.
# - Bandwidths and peaks: NVIDIA's data sheets of the T4, the GeForce RTX 4090 and the
#   H200 SXM.
