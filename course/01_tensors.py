# %% [markdown]
# # Tensors
#
# > **You will build** the whole idea of a tensor in four lines of Python, broadcasting
# > as a stride of zero, `einsum` as nested loops, a sum that keeps its digits, and a
# > softmax that survives large scores.
# >
# > **You need** [00](00_start_here.ipynb), Python's lists and loops. NumPy helps, but
# > whatever we use of it is shown on a few numbers first.
# >
# > **It takes** an hour of reading; the code runs in about 15 seconds on 2 CPU cores,
# > in 500 MB of memory. No GPU; with one, the last section uses it.
#
# **How can the same numbers, added up by the same library, come out 9 % wrong?**
#
# Here are twenty million tenths in two columns of ten million. Each column adds up to
# 1,000,000. The first line adds down the columns as they lie; the second copies the
# table so that each column becomes a row, and adds along the rows.

# %%
import numpy as np

tenths = np.full((10_000_000, 2), 0.1, dtype="float32")
down = tenths.sum(axis=0)
along = tenths.T.copy().sum(axis=1)
print(f"down the columns {down[0]:,.1f}   along the rows {along[0]:,.1f}")
assert down[0] == down[1] and along[0] == along[1]

# %% [markdown]
# No bug, no random numbers, the same formula. The first answer is off by 87,937, the
# second by 0.0625 (the next float32 to the truth, as we shall see). To see why, we need
# to know what a table of numbers *is* inside a machine, in which order it is read, and
# what a sum of two floats does. That is this notebook; when the riddle is solved you
# will be able to compute the wrong answer with pencil and paper.

# %% [markdown]
# ## Numbers in a row
#
# A *tensor* is a table of numbers with any number of axes: a single number has none, a
# list has one, a table of rows and columns two, a batch of colour pictures four. Its
# *shape* tells how long each axis is. Mathematicians mean more by the word; in this
# trade a tensor is an *array*, and we use both words.
#
# Memory, however, has one axis only: it is a long row of bytes. So an array consists of
# a row of numbers and of a rule that says where in it an element lies. The rule is one
# step length for each axis, the *strides*: how far to move in memory when the index on
# that axis grows by 1. With index $(i, j)$ and strides $(s_0, s_1)$,
#
# $$\mathrm{offset}(i, j) = i\,s_0 + j\,s_1 .$$

# %%
# NBVAL_CHECK_OUTPUT
x = np.arange(12, dtype="float32").reshape(3, 4)
print(x)
print("shape", x.shape, "  bytes a number", x.itemsize, "  strides", x.strides)

# %% [markdown]
# Check it by hand: a float32 takes 4 bytes, so one step to the right is 4 bytes and one
# step down skips a row of four numbers, 16 bytes. `x[1, 2]` therefore begins at byte
# $1 \cdot 16 + 2 \cdot 4 = 24$, and is the number 6. We can go and look:

# %%
import struct

memory = x.tobytes()
print(
    len(memory), "bytes; at 24:", memory[24:28], "=", *struct.unpack("f", memory[24:28])
)
assert struct.unpack("f", memory[24:28])[0] == x[1, 2]

# %% [markdown]
# Nothing in those 48 bytes says "three rows of four". Shape and strides say so, and
# they are not stored with the numbers. NumPy counts strides in bytes, PyTorch in
# elements; in elements ours are $(4, 1)$.
#
# So here is the whole idea of a tensor, without NumPy. `read` makes nested lists of a
# row of numbers, by the offset formula, one axis at a time:


# %%
# NBVAL_CHECK_OUTPUT
def read(memory, shape, strides, start=0):
    """Nested lists of `shape`; a step along axis k moves by strides[k] in memory."""
    if not shape:
        return memory[start]
    places = [start + i * strides[0] for i in range(shape[0])]
    return [read(memory, shape[1:], strides[1:], place) for place in places]


row = list(range(12))
print(read(row, (3, 4), (4, 1)))
print(read(row, (4, 3), (1, 4)))

# %% [markdown]
# The second line exchanged the two entries of the shape and the two strides, and out
# came the transposed table: rows have become columns, and no number has moved. Other
# strides read the same row in other ways. (In Python `::2` means every second one,
# `::-1` all of them backwards.)

# %%
import matplotlib.pyplot as plt

from minibig import viz

readings = {
    "x": ((3, 4), (4, 1), 0),
    "x.T": ((4, 3), (1, 4), 0),
    "x[:, ::2]": ((3, 2), (4, 2), 0),
    "x[::-1], upside down": ((3, 4), (-4, 1), 8),
    "windows of 3": ((4, 3), (1, 1), 0),
    "the diagonal": ((3,), (5,), 0),
}


# %%
def draw(axes, places, title):
    """A table whose cells say, and show by colour, where in memory they come from."""
    axes.imshow(places, cmap="YlGnBu", vmin=-2, vmax=20)
    for (i, j), place in np.ndenumerate(places):
        axes.text(j, i, place, ha="center", va="center", fontsize=11)
    axes.set_title(title, fontsize=10)
    axes.set_xticks(np.arange(-0.5, places.shape[1]), labels=[])
    axes.set_yticks(np.arange(-0.5, places.shape[0]), labels=[])
    axes.grid(color="white", linewidth=2)
    axes.tick_params(length=0)
    axes.set_frame_on(False)


# %%
figure, grid = plt.subplot_mosaic(
    "mmm;abc;def",
    figsize=(8, 6.2),
    height_ratios=[1, 3, 3],
    layout="constrained",
)
draw(grid["m"], np.array([row]), "memory: one row of 12 numbers")
for axes, (name, (shape, strides, start)) in zip(
    "abcdef", readings.items(), strict=True
):
    places = np.atleast_2d(read(row, shape, strides, start))
    draw(grid[axes], places, f"{name}\nshape {shape}, strides {strides}")
viz.show(
    figure,
    alt="A strip of twelve memory cells, numbered 0 to 11 and shaded from light to "
    "dark, and six tables read from it by different shapes and strides (in elements): "
    "the table itself, its transpose, every other column, upside down with a negative "
    "stride, overlapping windows of three, and every fifth number.",
)

# %% [markdown]
# Every number in the six tables is read from the same twelve cells. Upside down needs a
# negative stride and a start at the last row. The windows overlap: cell 2 appears three
# times, although memory holds it once. NumPy agrees with our four lines:

# %%
from numpy.lib.stride_tricks import as_strided

flat = np.arange(12)
step = flat.itemsize  # NumPy's strides are bytes, ours are elements
for shape, strides, start in readings.values():
    theirs = as_strided(flat[start:], shape, [s * step for s in strides])
    assert theirs.tolist() == read(row, shape, strides, start)
assert x.T.strides == (4, 16) and x[::-1].strides == (-16, 4)

# %% [markdown]
# ## Views: many tables, one memory
#
# An array that reads another one's memory is called a *view*. To make one costs a few
# hundred nanoseconds, whatever the size, since only shape, strides and start are new.
# To copy the numbers into the new order is another matter:

# %% tags=["nbval-ignore-output"]
import time


def seconds(function, repeats=5):
    """The shortest of several times that `function` took."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


large = np.ones((4000, 4000), dtype="float32")
print(f"transpose as a view {seconds(lambda: large.T) * 1e6:11.1f} µs")
print(f"transpose as a copy {seconds(lambda: large.T.copy(), 3) * 1e6:11.1f} µs")

# %% [markdown]
# The price of a view is that it is not alone: who writes into it writes into the
# original.

# %%
table = np.arange(12).reshape(3, 4)
column = table[:, 1]
column += 100
print(table)

# %% [markdown]
# Which operations give a view? Those whose result can be described by one start and one
# stride for each axis. Slices can; a list of row numbers cannot in general, nor can the
# places where a condition holds. Those copy.

# %%
# NBVAL_CHECK_OUTPUT
for name, result in {
    "table[1:]": table[1:],
    "table[[1, 2]]": table[[1, 2]],
    "table[table > 5]": table[table > 5],
    "table.reshape(2, 6)": table.reshape(2, 6),
    "table.T.reshape(12)": table.T.reshape(12),
}.items():
    kind = "a view" if np.shares_memory(table, result) else "a copy"
    print(f"{name:22} {kind}")

# %% [markdown]
# The last two lines are a trap that catches experts: `reshape` gives a view where it
# can and silently copies where it cannot. Read down the columns, the table is 0, 4, 8,
# 1, 5, 9 …: steps of 4, 4, −7. No single stride does that. So to write into
# `table.T.reshape(12)` changes a copy that is thrown away at once, and no error tells
# you. (In PyTorch `view` refuses where `reshape` would copy; minibig's `view` is
# another name for `reshape`.)
#
# The second trap is memory. A view keeps the *whole* of the original alive:

# %%
three = np.zeros(100_000_000, dtype="float32")[:3]
print(f"the view: {three.nbytes} bytes; what it keeps: {three.base.nbytes:,} bytes")
three = three.copy()  # lets the 400 MB go

# %% [markdown]
# A third: a copy made by a list of indices takes part in `+=` with a surprise. Python
# turns `a[i] += 1` into *read* `a[i]`, *add*, *write* `a[i]`, so an index that occurs
# three times is written three times with the same value:

# %%
counts = np.zeros(4, dtype=int)
counts[[2, 2, 2]] += 1
print(counts, "but", np.bincount([2, 2, 2], minlength=4))

# %% [markdown]
# The gradient of a table of word vectors (notebook 08) is exactly such a sum
# over repeated indices. A library that gets it wrong still trains, only worse, and so
# it goes unnoticed for a long time.
#
# **Where it lives.** [`minibig/ops/shape.py`](../minibig/ops/shape.py): `permute`,
# `reshape`, `split` and `flip` are views. A minibig `Tensor` wraps a NumPy array, which
# is its `.array`, so all of this holds for it too:

# %%
import minibig as mb

t = mb.tensor(x)
print(t.T.shape, np.shares_memory(t.array, t.T.array), np.shares_memory(t.array, x))
assert (t.T.numpy() == np.array(read(row, (4, 3), (1, 4)))).all()

# %% [markdown]
# `mb.tensor(x)` copies, so that later changes of `x` do not reach into a model.

# %% [markdown]
# ## The order of memory is the order of speed
#
# A processor does not fetch numbers; it fetches *cache lines* of 64 bytes, 16 float32
# numbers at a time, and keeps recent ones in a small fast memory, the *cache*. Whoever
# reads in order uses all 16. Whoever steps by 16 numbers or more has a whole line
# brought in for each of them, and uses a sixteenth.

# %%
strides = [1, 2, 4, 8, 16, 32, 64, 128]
ocean = np.ones(1 << 24, dtype="float32")  # 64 MB: more than most caches hold
count = len(ocean) // max(strides)
cost = []
for stride in strides:
    view = ocean[::stride][:count]  # always as many numbers, further and further apart
    cost.append(seconds(view.sum, 9) / count * 1e9)

# %%
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
axes.loglog(strides, cost, "o-")
axes.axvline(16, color="0.5", linestyle="--")
axes.text(15, max(cost), "one number\na cache line", ha="right", va="top")
axes.set_xticks(strides, labels=strides)
axes.minorticks_off()
axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], labels=[0.1, 0.2, 0.5, 1, 2, 5, 10])
axes.set(xlabel="stride (numbers)", ylabel="time a number (ns)")
axes.grid(alpha=0.3)
viz.show(
    figure,
    alt="Time to add one number, in nanoseconds, against the stride at which numbers "
    "are read, both on logarithmic axes: the line rises by about eight times between "
    "stride 1 and stride 16, where each number needs a cache line of its own, and once "
    "more by about two up to stride 32.",
)

# %% [markdown]
# The same additions, about eight times slower at a stride of 16. (Here they are twice as
# slow again at 32: what a processor fetches ahead differs from one to another.) That decides how to add
# up the rows and the columns of a table. (`axis` names the axis that is added away:
# `axis=0` leaves one sum for each column, `axis=1` one for each row.) Four ways, on
# 4000 rows of 4000:

# %% tags=["nbval-ignore-output"]
ways = {
    "row by row": lambda: [r.sum() for r in large],
    "column by column": lambda: [c.sum() for c in large.T],
    "large.sum(axis=1)": lambda: large.sum(axis=1),
    "large.sum(axis=0)": lambda: large.sum(axis=0),
}
for name, way in ways.items():
    print(f"{name:20} {seconds(way, 3) * 1e3:7.2f} ms")

# %% [markdown]
# Going down the columns one by one is the slowest by far: each step is 16,000 bytes
# long. Yet NumPy's `sum(axis=0)`, which gives the very same column sums, is usually the
# *fastest* of all. It does not go down any column. It takes the rows in the order of
# memory and adds each, as a whole, to a row of running totals: many columns at once, in
# order. A row sum must squeeze many numbers into one; here everything stays side by
# side, which is what the processor's vector units like.
#
# Keep that in mind, for it is half of the riddle: down the columns there is **one
# running total for each column, and the numbers are added to it one after the other**.
#
# One more for those who tune: a cache files its lines under some bits of their address.
# If a row is a large power of two bytes long, all lines of a column compete for the
# same few places. Two columns more are more work, and on the machine that built this
# page the table was transposed about eight times faster:

# %% tags=["nbval-ignore-output"]
for width in (1024, 1026):
    wide = np.ones((width, width), dtype="float32")
    print(
        f"{width}²: {seconds(lambda x=wide: x.T.copy(), 9) * 1e3:5.2f} ms to transpose"
    )

# %% [markdown]
# ## Broadcasting is a stride of zero
#
# To add a row $b$ to each row of a table $x$, $y_{ij} = x_{ij} + b_j$, one could repeat
# $b$ as often as $x$ has rows. With strides nothing needs to be repeated: a step down
# that moves by **zero** reads the same row again.

# %%
b = [10, 20, 30, 40]
print(read(b, (3, 4), (0, 1)))
print(np.broadcast_to(np.array(b, dtype="float32"), (3, 4)).strides)

# %% [markdown]
# That is all that *broadcasting* is. The rule for two shapes: line them up at the
# right, put ones in front of the shorter, and compare axis by axis. Equal lengths stay;
# a 1 is stretched to the other's length, by stride 0; anything else is an error.
#
# $$(3, 1) + (4) \rightarrow (3, 1) + (1, 4) \rightarrow (3, 4)$$
#
# By hand: a column 0, 10, 20 and a row 1, 2, 3, 4 give each sum of a tens and a ones
# digit.

# %%
column = np.array([[0], [10], [20]])
ones = np.array([1, 2, 3, 4])
a, b = np.broadcast_arrays(column, ones)
print("strides in elements", [s // 8 for s in a.strides], [s // 8 for s in b.strides])
print(column + ones)

# %%
figure, grid = plt.subplots(1, 3, figsize=(8, 2.5), layout="constrained")
pieces = [(a, 0.32, (slice(None), 0)), (b, 0.32, 0), (a + b, 1, ...)]
titles = ["column, strides (1, 0)", "+  row, strides (0, 1)", "=  sum, strides (4, 1)"]
for axes, (numbers, faint, real), title in zip(grid, pieces, titles, strict=True):
    strength = np.full(numbers.shape, faint)
    strength[real] = 1  # what memory holds; the rest is read again
    axes.imshow(strength, cmap="Blues", vmin=0, vmax=2.4)
    for (i, j), number in np.ndenumerate(numbers):
        ink = "black" if strength[i, j] == 1 else "0.45"
        axes.text(j, i, number, ha="center", va="center", color=ink, fontsize=12)
    axes.set_title(title, fontsize=11)
    axes.vlines([0.5, 1.5, 2.5], -0.5, 2.5, color="white")
    axes.hlines([0.5, 1.5], -0.5, 3.5, color="white")
    axes.axis("off")
viz.show(
    figure,
    alt="Three tables of three rows and four columns. Left: the column 0, 10, 20, and "
    "pale copies of it that stride 0 reads again. Middle: the row 1, 2, 3, 4 and pale "
    "copies below it. Right: their sums, from 1, 2, 3, 4 to 21, 22, 23, 24.",
)

# %% [markdown]
# How far zero strides go: a million by a million ones, a table of four terabytes, held
# in 4 bytes. Only the *result* of an operation on it would need real memory.

# %%
ones = np.broadcast_to(np.float32(1), (1_000_000, 1_000_000))
print(
    f"{ones.nbytes:,} bytes, strides {ones.strides}, writable: {ones.flags.writeable}"
)

# %% [markdown]
# It is not writable, and with good reason: to write one element would change them all.
#
# Broadcasting also makes the most expensive typing error of the trade. Three
# predictions, all perfectly right, against targets that came as a column:

# %%
predictions = np.array([1.0, 2.0, 3.0])  # (3,)
targets = np.array([[1.0], [2.0], [3.0]])  # (3, 1)
print("mean squared error", ((predictions - targets) ** 2).mean())

# %% [markdown]
# Not 0, but $12 / 9$: shapes $(3)$ and $(3, 1)$ made a $3 \times 3$ table of every
# prediction against every target. A network trained on this loss learns to say the mean
# of all targets, and nothing ever crashes. PyTorch's `mse_loss` warns; minibig's
# refuses:

# %%
import minibig.functional as F

try:
    F.mse_loss(mb.tensor(predictions), mb.tensor(targets))
except ValueError as error:
    print(error)

# %% [markdown]
# For gradients this has a consequence. An element that was read three times acts on the
# result in three places, so its gradient is the sum of three: what broadcasting
# stretched must be added up again. That is `unbroadcast` in
# [`minibig/autograd.py`](../minibig/autograd.py), and notebook
# [02](02_backpropagation.ipynb) needs it.

# %% [markdown]
# ## einsum is nested loops
#
# Nearly all the work in a neural network is sums of products. The best known is the
# product of two matrices,
#
# $$c_{ik} = \sum_j a_{ij}\,b_{jk},$$
#
# a row of $a$ times a column of $b$, number by number, added up. As loops:

# %%
a = np.array([[1.0, 2.0], [3.0, 4.0]])
b = np.array([[5.0, 6.0], [7.0, 8.0]])
c = np.zeros((2, 2))
for i in range(2):
    for k in range(2):
        for j in range(2):
            c[i, k] += a[i, j] * b[j, k]
print(c)
assert (c == a @ b).all()  # Python's sign for this product is @

# %% [markdown]
# By hand: $c_{00} = 1 \cdot 5 + 2 \cdot 7 = 19$.
#
# The formula above is more general than matrices. Einstein, who had many such sums to
# write, left out the $\sum$: an index that does not appear in the result is summed
# over. `einsum` takes the formula as a text, `"ij,jk->ik"`, and it means precisely
# this: **one loop for each letter; the letters before the arrow say where to read,
# those after it where to add.** So it can be written for all formulas at once:

# %%
import itertools


def einsum(equation, *arrays):
    """The sum of products that `equation` describes, such as "ij,jk->ik", by loops."""
    inputs, output = equation.split("->")
    inputs = inputs.split(",")
    lengths = {}
    for letters, x in zip(inputs, arrays, strict=True):
        lengths.update(zip(letters, x.shape, strict=True))
    result = np.zeros([lengths[c] for c in output])
    for values in itertools.product(*map(range, lengths.values())):  # all the loops
        at = dict(zip(lengths, values, strict=True))
        term = 1.0
        for letters, x in zip(inputs, arrays, strict=True):
            term *= x[tuple(at[c] for c in letters)]
        result[tuple(at[c] for c in output)] += term
    return result


# %% [markdown]
# One notation, and half of linear algebra is a special case of it:

# %%
# NBVAL_CHECK_OUTPUT
v = np.array([10.0, 1.0])
for equation, operands, meaning in [
    ("ij,jk->ik", (a, b), "matrix product"),
    ("ij,j->i", (a, v), "matrix times vector"),
    ("ij->j", (a,), "column sums"),
    ("ij->ji", (a,), "transpose"),
    ("ii->", (a,), "trace"),
    ("i,j->ij", (v, v), "all products"),
    ("ij,ij->", (a, b), "product by element, all added"),
]:
    ours = einsum(equation, *operands)
    assert np.allclose(ours, np.einsum(equation, *operands))
    print(f"{equation:10} {meaning:30} {ours.tolist()}")

# %% [markdown]
# The letters replace `transpose`, `reshape` and `axis`. The sum at the heart of
# attention ([08](08_attention.ipynb)) compares, in each sequence of a batch `b` and for
# each head `h`, position `t` with position `s` over `d` numbers: `"bthd,bshd->bhts"`.
# Ours against the library's, the same numbers, and the time:

# %% tags=["nbval-ignore-output"]
rng = np.random.default_rng(0)
q, k = rng.standard_normal((2, 2, 12, 4, 8))  # two arrays (B, T, H, D)
equation = "bthd,bshd->bhts"
scratch = einsum(equation, q, k)
library = mb.einsum(equation, mb.tensor(q), mb.tensor(k)).numpy()
assert np.allclose(scratch, library)

slow = seconds(lambda: einsum(equation, q, k), 2)
fast = seconds(lambda: mb.einsum(equation, mb.tensor(q), mb.tensor(k)))
print(f"loops {slow * 1e3:.1f} ms, minibig {fast * 1e3:.3f} ms")

# %% [markdown]
# The same loops, run by compiled code: hundreds of times faster. **Where it lives:**
# [`minibig/ops/matmul.py`](../minibig/ops/matmul.py), with a pleasant fact in it: the
# gradient of an einsum is an einsum again, with the letters exchanged.
#
# Two things that professionals trip over. First, `np.einsum` on its own runs plain
# loops, whereas `@` calls a library tuned for decades to the cache and the vector units
# (BLAS). `optimize=True` lets einsum recognise a matrix product and call it too.
# Second, the order of a chain is a matter of arithmetic: for $a\,b\,v$ with $n \times
# n$ matrices, $(a\,b)\,v$ takes $n^3 + n^2$ multiplications and $a\,(b\,v)$ takes $2
# n^2$: for $n = 500$, 251 times fewer. (Be wary of single times, though: if `a @ b`
# comes out slower than `(a @ b) @ v`, which contains it, the clock has caught the
# library at a bad moment. Run the cell again.)

# %% tags=["nbval-ignore-output"]
a, b = rng.standard_normal((2, 500, 500)).astype("float32")
v = rng.standard_normal(500).astype("float32")
for name, way in {
    "np.einsum": lambda: np.einsum("ij,jk->ik", a, b),
    "optimize=True": lambda: np.einsum("ij,jk->ik", a, b, optimize=True),
    "a @ b": lambda: a @ b,
    "(a @ b) @ v": lambda: (a @ b) @ v,
    "a @ (b @ v)": lambda: a @ (b @ v),
}.items():
    print(f"{name:14} {seconds(way) * 1e3:8.3f} ms")

# %% [markdown]
# ## What a float is
#
# The other half of the riddle is in the numbers. A float32 has 32 bits: one for the
# sign $s$, 8 for an exponent $e$, and 23 for a fraction $f$ between 0 and $2^{23} - 1$.
# It stands for
#
# $$(-1)^s \cdot \left(1 + \frac{f}{2^{23}}\right) \cdot 2^{\,e - 127} .$$

# %%
bits = format(int(np.float32(0.1).view("uint32")), "032b")
s, e, f = int(bits[0], 2), int(bits[1:9], 2), int(bits[9:], 2)
print(bits[0], bits[1:9], bits[9:], "-> s, e, f =", (s, e, f))
print(
    f"(1 + {f / 2**23:.7f}) · 2^{e - 127} = {(1 + f / 2**23) * 2.0 ** (e - 127):.18f}"
)

# %% [markdown]
# $1.6 \cdot 2^{-4} = 0.1$, nearly: a tenth cannot be written with finitely many binary
# digits, any more than a third with decimal ones. What matters more is the *spacing*.
# Between $2^k$ and $2^{k+1}$ there are $2^{23}$ equally spaced floats, hence $2^{k-23}$
# apart. The larger the number, the coarser the ruler. At $2^{24}$ the marks are 2
# apart:

# %%
sixteen_million = np.float32(2**24)
print(sixteen_million + np.float32(1) == sixteen_million, np.spacing(sixteen_million))

# %% [markdown]
# 16,777,216 + 1 = 16,777,216. A float32 that counts tokens stops there, for good and in
# silence. Smaller types stop sooner:

# %%
print("type      bytes  spacing at 1  counts up to       largest")
for name in ("float16", "float32", "float64"):
    kind = np.finfo(name)
    print(
        f"{name}  {kind.bits // 8:6}  {kind.eps:12.2g}  {2 ** (kind.nmant + 1):>12.6g}"
        f"  {kind.max:12.5g}"
    )
assert np.float16(2048) + np.float16(1) == 2048

# %% [markdown]
# The bfloat16 of today's accelerators has float32's exponent and only 7 bits of
# fraction: it counts to 256. This is why a GPU multiplies in 16 bits but adds in 32,
# and why weights that are trained in 16 bits have a float32 copy beside them: steps
# smaller than half the spacing would vanish (arXiv:1710.03740).

# %% [markdown]
# ## Ten million tenths
#
# Adding $x$ to a running total means: compute the exact sum, then go to the nearest
# mark of the ruler. A total between $2^{19} = 524288$ and $2^{20}$ lies on marks
# $2^{19-23} = 1/16$ apart. A tenth is 1.6 marks and is rounded to 2: **each 0.1 counts
# as 0.125**. Below $2^{19}$ the marks are half as far apart, $1/32$; a tenth is 3.2 of
# them, rounded to 3, and counts as 0.09375. Nothing is random here, and nothing averages
# out.

# %%
running = np.cumsum(tenths[:, 0])  # every total on the way, one after the other
assert running.dtype == "float32" and running[-1] == tenths.sum(axis=0)[0]

counts = np.arange(20_000, 10_000_001, 20_000)
exact = counts * 0.1
one_by_one = running[counts - 1]
in_pairs = [tenths[:n, 0].sum() for n in counts[9::10]]

# %%
figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
axes.plot(counts / 1e6, (one_by_one / exact - 1) * 100, label="one after the other")
pairs = (in_pairs / exact[9::10] - 1) * 100
axes.plot(counts[9::10] / 1e6, pairs, "--", label="in pairs (below)")
for power in (17, 18, 19):
    place = int(np.searchsorted(running, 2**power)) / 1e6
    axes.axvline(place, color="0.8", zorder=0)
    axes.text(place + 0.05, 8.7, f"total $2^{{{power}}}$", color="0.4")
axes.text(7.2, 1.2, "each 0.1\ncounts as 0.125")
axes.text(3.0, -2.6, "each 0.1 counts\nas 0.09375")
axes.set(xlabel="tenths added (millions)", ylabel="error of the total (%)")
axes.set_ylim(-5.5, 9.5)
axes.legend(loc="lower right")
axes.grid(alpha=0.3, axis="y")
viz.show(
    figure,
    alt="Error of the running total of tenths in float32, in percent, against millions "
    "of tenths added. One after the other: it falls to about minus 4.5 percent by the "
    "time the total passes 2 to the 19, then climbs to plus 9 percent at ten million. "
    "Added in pairs: zero throughout.",
)

# %% [markdown]
# So the wrong answer can be predicted without adding ten million numbers: go from one
# power of two to the next, and ask how much a tenth counts there and how many are
# needed.

# %%
# NBVAL_CHECK_OUTPUT
import math

tenth = float(np.float32(0.1))
total, left = tenth, 10_000_000 - 1
while left:
    top = 2.0 ** (math.floor(math.log2(total)) + 1)  # here the ruler gets coarser
    mark = top / 2**24
    counted = round(tenth / mark) * mark
    steps = min(left, math.ceil((top - total) / counted))
    total, left = total + steps * counted, left - steps
    if top >= 2**17:
        print(f"to {top:9,.0f}: a tenth counts {counted:.7f}, {steps:9,} steps")
print(f"predicted {total:,.1f}, computed {running[-1]:,.1f}")
assert abs(total - running[-1]) < 0.125

# %% [markdown]
# Twenty-odd steps with a pencil instead of ten million additions. And had we gone on:
# above $2^{21}$ the marks are $1/4$ apart, a tenth is less than half a mark, and the
# total stays at 2,097,152 for ever.

# %%
stuck = np.float32(2**21)
print(stuck + np.float32(0.1) == stuck)

# %% [markdown]
# The cure is to add numbers of like size. Add neighbours in pairs, then the sums in
# pairs, and so on: after $\log_2 n$ rounds one number is left. Each tenth has then been
# through 24 roundings instead of up to ten million.


# %%
def pairwise_sum(x):
    """The sum of a 1-d array: neighbours first, then neighbouring sums, and so on."""
    while len(x) > 1:
        odd = x[-1:] if len(x) % 2 else x[:0]
        half = len(x) // 2
        x = np.concatenate([x[: 2 * half : 2] + x[1 : 2 * half : 2], odd])
    return x[0]


sums = pairwise_sum(tenths[:, 0]), tenths[:, 0].sum(), np.float32(1_000_000)
print(*(f"{total:,.4f}" for total in sums))
assert abs(pairwise_sum(tenths[:, 0]) - tenths[:, 0].sum()) <= 0.125

# %% [markdown]
# NumPy does this too, in the fast way with blocks (Higham 1993 has the proof that the
# error grows like $\log n$ and not like $n$). But only along an axis that it reduces to
# one number at a time, as in a row or a single column. Down the columns of a whole
# table it keeps one running total for each, because that is fast, as we saw. **That is
# the answer to the riddle: another axis, another order of additions, another
# rounding.**
#
# Equal numbers are the worst case, since every rounding goes the same way. Numbers of
# mixed size and sign round up as often as down:

# %% tags=["nbval-ignore-output"]
noise = rng.random((5_000_000, 2), dtype="float32")
for name, numbers in {"tenths": tenths, "random in 0 … 1": noise}.items():
    exact = numbers[:, 0].sum(dtype="float64")
    error = abs(numbers.sum(axis=0)[0] / exact - 1)
    print(f"{name:16} relative error down the column {error:.1e}")

column = tenths[:, 0]
print(f"in pairs, ours  {seconds(lambda: pairwise_sum(column), 3) * 1e3:5.0f} ms")
print(f"in pairs, NumPy {seconds(column.sum) * 1e3:5.0f} ms")

# %% [markdown]
# What to take home: keep long-lived totals (losses of an epoch, counts, running means)
# in float64 or in Python's own floats, which are float64; and expect the last digits to
# depend on the order. $(a + b) + c$ is not $a + (b + c)$:

# %%
big, one = np.float32(1e8), np.float32(1)
print((big + one) - big, "and", (big - big) + one)

# %% [markdown]
# A GPU adds with thousands of threads in an order of its own, sometimes another one
# each time. Two correct programs differ in the last digits; tests that compare floats
# need a tolerance.

# %% [markdown]
# ## Cancellation and overflow
#
# Rounding is small compared with the numbers that are added. Trouble begins when two
# large ones are subtracted and only their rounding errors are left. The *variance*, the
# mean squared distance from the mean, has two formulas that are equal on paper:
#
# $$\mathrm{mean}\left((x - \bar{x})^2\right) = \mathrm{mean}(x^2) - \bar{x}^2 .$$
#
# Take 4, 7, 13, 16: the mean is 10, the distances −6, −3, 3, 6, and the variance
# $(36 + 9 + 9 + 36)/4 = 22.5$. Adding the same number to all four changes nothing about
# their distances.

# %%
for shift in (0, 1_000, 10_000, 100_000):
    y = np.array([4, 7, 13, 16], dtype="float32") + np.float32(shift)
    one_pass = (y * y).mean() - y.mean() ** 2
    two_passes = ((y - y.mean()) ** 2).mean()
    print(f"shift {shift:7,}: in one pass {one_pass:5}, in two passes {two_passes:5}")

# %% [markdown]
# At a shift of 10,000 the squares are near $10^8$, where float32 marks are 8 apart: the
# difference of two such numbers is a multiple of 8, so 24 is as near as it can come to
# 22.5. One step further every digit is lost, and with other numbers the result may be
# negative, and its root not a number. So a layer that normalises must take the mean off
# first, as [`minibig/ops/normalization.py`](../minibig/ops/normalization.py) does.
#
# The other edge is overflow. *Softmax* turns scores $x$ into probabilities,
#
# $$p_i = \frac{e^{x_i}}{\sum_j e^{x_j}},$$
#
# and will appear in every network that chooses. In float32 $e^x$ is infinite from $x =
# 88.73$ on, and infinity divided by infinity is not a number. But softmax does not
# notice when the same number is taken from all scores, $e^{x - m} = e^x / e^m$, so we
# may take the largest: then the largest exponential is $e^0 = 1$.

# %%
scores = np.array([1000, 1001, 1002], dtype="float32")
with np.errstate(all="ignore"):  # NumPy would warn here, and rightly
    print("as written", np.exp(scores) / np.exp(scores).sum())
shifted = np.exp(scores - scores.max())
print("shifted   ", shifted / shifted.sum())
assert np.allclose(
    shifted / shifted.sum(), F.softmax(mb.tensor(scores), dim=-1).numpy()
)

# %% [markdown]
# By hand: $1 : e : e^2$ is $1 : 2.718 : 7.389$, in all 11.107, so the shares are 0.090,
# 0.245 and 0.665. **Where it lives:**
# [`minibig/ops/softmax.py`](../minibig/ops/softmax.py). You will write it yourself
# below.

# %% [markdown]
# ## Which type comes out
#
# Two arrays of different types meet; which type has the result? NumPy, made for
# science, picks one that loses as little as possible. PyTorch, made for networks, says
# that a whole number must not widen a float. minibig follows PyTorch in every row
# below.

# %%
# NBVAL_CHECK_OUTPUT
whole, small = np.array([1, 2, 3]), np.array([1, 2, 3], dtype="float32")
cases = {
    "int64 + float32": lambda make: make(whole) + make(small),
    "int64 * 0.5": lambda make: make(whole) * 0.5,
    "int64 / int64": lambda make: make(whole) / make(whole),
    "float32 * math.sqrt(2)": lambda make: make(small) * math.sqrt(2),
    "float32 * np.sqrt(2)": lambda make: make(small) * np.sqrt(2),
    "float32 + float16": lambda make: make(small) + make(small.astype("float16")),
    "float32 + float64": lambda make: make(small) + make(small.astype("float64")),
    "sum of int32": lambda make: make(whole.astype("int32")).sum(),
}
print(f"{'':24}NumPy    minibig, PyTorch")
for name, compute in cases.items():
    print(f"{name:24}{compute(np.array).dtype!s:9}{compute(mb.tensor).dtype}")

# %% [markdown]
# The fourth and fifth line cost real money. `math.sqrt(2)` is a Python number, which
# takes on the array's type. `np.sqrt(2)` is a NumPy float64, and turns the float32
# array, silently, into one of twice the size and half the speed. That is why minibig
# takes its constants from `math`, and why a test of it forbids any operation to turn
# float32 into float64.
#
# Whole numbers have no marks that grow apart; they go round like an odometer, in all
# three libraries. Pictures come as uint8, from 0 to 255:

# %%
# NBVAL_CHECK_OUTPUT
pixel = np.array([200], dtype="uint8")
print(
    "brighter:", pixel + np.uint8(100), " difference:", np.array([50], "uint8") - pixel
)

# %% [markdown]
# $200 + 100 = 300 = 256 + 44$ gives 44: the brightest pixels turn dark. Turn pictures
# into float32 before you compute with them.

# %% [markdown]
# ## One program, two machines
#
# On a GPU the arrays are CuPy's. They have the same shapes, strides, views and
# broadcasting, so code need not know the machine: `array_module(x)` answers `numpy` or
# `cupy`, whichever made `x`. Here is a function in that style. It gives each row mean 0
# and variance 1, in two passes, with `keepdims=True` so that the mean of a row stays a
# column, $(N, 1)$, and broadcasts along its row:

# %%
from minibig.backend import array_module


def normalise_rows(x):
    """Rows with mean 0 and variance 1; (N, C) -> (N, C)."""
    xp = array_module(x)
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / xp.sqrt((centred * centred).mean(axis=1, keepdims=True))


# %% [markdown]
# `.to("cuda")` copies a tensor's numbers to the GPU's memory; a machine without one
# says so, and we go on with the CPU alone. By hand: 4, 7, 13, 16 have the mean 10 and
# the deviation $\sqrt{22.5} = 4.743$, so 4 becomes $-6 / 4.743 = -1.265$.

# %% tags=["nbval-ignore-output"]
data = mb.tensor([[4.0, 7.0, 13.0, 16.0], [10_004.0, 10_007.0, 10_013.0, 10_016.0]])
devices = ["cpu"]
try:
    data.to("cuda")
    devices.append("cuda")
except mb.DeviceError as reason:
    print(reason)

for device in devices:
    rows = normalise_rows(data.to(device).array)
    print(device, type(rows).__module__, rows.round(3), sep="\n")

# %%
expected = F.layer_norm(data, (4,)).numpy()  # the library's, notebook 09's work horse
assert np.allclose(normalise_rows(data.array), expected, atol=1e-5)

# %% [markdown]
# What is different over there: a copy between the two memories is slow, so numbers are
# moved once and stay; CuPy refuses to mix its arrays with NumPy's rather than copy in
# silence; and a call returns before the work is done, so that a clock must wait for the
# GPU before it is read. Notebook
# [15](15_one_array_two_machines.ipynb) does that properly. The one place in minibig that
# knows about devices is [`minibig/backend.py`](../minibig/backend.py).

# %% [markdown]
# ## Summary
#
# - A tensor is a row of numbers, a shape, strides and a start; views share the numbers.
# - Reading in the order of memory is several times faster than against it.
# - Broadcasting is stride 0; shapes are lined up at the right. $(N)$ against $(N, 1)$
#   bites.
# - einsum: one loop a letter, letters missing in the output are summed.
# - A float sum rounds at every step, so its order counts; float32 counts to $2^{24}$.
# - Subtract the mean before squaring, the maximum before exponentiating.

# %% [markdown]
# ## Exercises
#
# Replace `raise NotImplementedError` by your code and run the cell: `check` tries it on
# several cases and says what it expected. `from minibig.exercises import hint`, then
# `hint("01.strides")`, gives a hint, and when you call it again, a stronger one.
#
# ### 1. The offset of an element
#
# Given are an `index`, a `shape` and `strides` in bytes, three tuples of equal length.
# Return how many bytes after element $(0, \ldots, 0)$ the element lies. A negative
# index counts from the end of its axis, as in Python.

# %%
from minibig.exercises import check


def offset(index, shape, strides):
    """Bytes from element (0, …, 0) to the element at `index`."""
    ### BEGIN SOLUTION
    places = (i + n if i < 0 else i for i, n in zip(index, shape, strict=True))
    return sum(i * stride for i, stride in zip(places, strides, strict=True))
    ### END SOLUTION


check("01.strides", offset)

# %% [markdown]
# ### 2. The shape of a sum
#
# Given are two shapes, tuples of any lengths. Return the shape that `a + b` would have,
# as a tuple, or the text `"error"` if the shapes do not broadcast. (Try to do it
# without NumPy. A length may be 0.)


# %%
def broadcast_shape(a, b):
    """The shape of the sum of arrays of shapes a and b, or "error"."""
    ### BEGIN SOLUTION
    longest = max(len(a), len(b))
    a = (1,) * (longest - len(a)) + tuple(a)
    b = (1,) * (longest - len(b)) + tuple(b)
    if any(n != m and 1 not in (n, m) for n, m in zip(a, b, strict=True)):
        return "error"
    return tuple(m if n == 1 else n for n, m in zip(a, b, strict=True))
    ### END SOLUTION


check("01.broadcast", broadcast_shape)

# %% [markdown]
# ### 3. Attention's sum, by loops
#
# `q` has shape $(T, H, D)$, `k` has shape $(S, H, D)$. Return `"thd,shd->hts"`, an
# array of shape $(H, T, S)$, with nothing but loops, products and `+=`.


# %%
def scores_by_loops(q, k):
    """(T, H, D), (S, H, D) -> (H, T, S)."""
    ### BEGIN SOLUTION
    (T, H, D), S = q.shape, len(k)
    out = np.zeros((H, T, S))
    for h, t, s, d in itertools.product(range(H), range(T), range(S), range(D)):
        out[h, t, s] += q[t, h, d] * k[s, h, d]
    return out
    ### END SOLUTION


check("01.einsum_loops", scores_by_loops)

# %% [markdown]
# ### 4. A softmax for every row
#
# `x` has shape $(N, C)$. Return an array of that shape in which each row is the softmax
# of the row of `x`. Rows may hold scores of 1000 beside others of −1000, and single
# scores of $-\infty$, whose probability is 0.


# %%
def softmax_rows(x):
    """Probabilities: each row of the result sums to 1; (N, C) -> (N, C)."""
    ### BEGIN SOLUTION
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
    ### END SOLUTION


check("01.softmax_stable", softmax_rows)

# %% [markdown]
# ### 5. An open problem: how exact can a float32 sum be?
#
# `math.fsum` adds exactly and rounds once. Using float32 operations only, and reading
# the numbers once from front to back, how near can you come? Kahan's idea (1965) is to
# carry along what the last addition lost: with total $s$ and a term $y$, the new total
# is $t = s + y$ and the loss $(t - s) - y$, which is 0 on paper and is taken off the
# next term. Try it on the tenths. Then find four numbers for which it fails although
# each is a float32 (start with $1, 10^{10}, 1, -10^{10}$), mend that (Neumaier 1974
# did), and find out whether your repair can be made to fail too. How much slower is it
# than `sum(axis=0)`, and could it be as fast?

# %% [markdown]
# ## Sources
#
# - C. R. Harris and others, *Array programming with NumPy*, arXiv:2006.10256.
# - N. J. Higham, *The accuracy of floating point summation*, SIAM Journal on Scientific
#   Computing 14 (1993).
# - D. Goldberg, *What every computer scientist should know about floating-point
#   arithmetic*, ACM Computing Surveys 23 (1991).
# - P. Blanchard, D. J. Higham, N. J. Higham, *Accurately computing the log-sum-exp and
#   softmax functions*, arXiv:1909.03469.
# - P. Micikevicius and others, *Mixed precision training*, arXiv:1710.03740.
