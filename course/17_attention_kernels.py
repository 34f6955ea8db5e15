# %% [markdown]
# # Attention kernels
#
# > **You will build** attention without its $T \times T$ array of weights: the online
# > softmax on paper, then flash attention forward and backward in twenty lines of NumPy
# > each. And you will read, run, count and break the three float32 kernels of minibig
# > that climb from the plain formula to it.
# >
# > **You need** attention ([08](08_attention.ipynb)), the chain rule
# > ([02](02_backpropagation.ipynb)), and what a thread, a block, shared memory and a
# > barrier are ([16](16_first_kernels.ipynb)).
# >
# > **It takes** about three hours with the exercises; the code runs for under a minute
# > on 2 CPU cores in 500 MB of memory. No GPU: where there is none, the kernels run on
# > the emulator, which wants a C++ compiler; where that is missing too, the cells with
# > kernels say so and the rest goes on.
#
# **Attention's array of weights is written, read and thrown away. Can we do without?**
#
# A text of 16,384 tokens has 268 million pairs of tokens, and the formula of notebook
# 08, taken at its word, writes down a number for each of them: a gigabyte a head, of
# which nothing is left in the result but one vector a token. By 2022 that gigabyte had
# disappeared. Nothing was approximated; the same sums were added up in another order.
# The order is what this notebook is about.

# %% tags=["nbval-ignore-output"]
import math

import matplotlib.pyplot as plt
import numpy as np

import minibig as mb
from minibig import backend, viz
from minibig.exercises import recorded, result, scaled
from minibig.kernels import attention, emulator

mb.seed(0)
rng = np.random.default_rng(0)
try:
    backend.check_device("cuda")
    device, no_kernels = "cuda", None
except mb.DeviceError:
    device, no_kernels = "cpu", emulator.missing()
where = "a GPU" if device == "cuda" else "the emulator"
print(no_kernels or f"kernels run on {where}")

# %% [markdown]
# ## What the array costs
#
# One head, $T$ queries and as many keys, width $D$, numbers of 4 bytes. The four
# matrices that we want to have anything to do with, $Q$, $K$, $V$ and the output, take
# $4 \cdot T D \cdot 4$ bytes; the weights take $T^2 \cdot 4$. For $D = 64$ and
# $T = 1024$ that is 1 MiB against 4 MiB; the ratio is $T / 4D$, and grows with $T$.


# %%
# NBVAL_CHECK_OUTPUT
def mib(numbers):
    return numbers * 4 / 2**20


D = 64
print("     T   q, k, v, out     weights")
for T in (256, 1024, 4096, 16384):
    print(f"{T:6} {mib(4 * T * D):10.2f} MiB {mib(T * T):7.2f} MiB")

# %% [markdown]
# Room is one cost. The other is time, and the reason is not that the weights are
# computed, but that they are *carried*. Computing takes $2 T^2 D$ multiplications and
# additions for the scores and as many for the mixture: $4D = 256$ operations for each
# weight. Meanwhile each weight travels at least five times between the chip and its
# memory: written as a score; read by the softmax, written as $e^s$ and written again
# when divided by the sum; read by the product with $V$. Five times 4 bytes:
#
# $$\frac{4 D}{5 \cdot 4} = \frac{256}{20} = 12.8 \ \mathrm{operations\ a\ byte},$$
#
# and $T$ has dropped out. How many can a chip do in the time that one byte takes? That
# is the ridge of its roofline ([15](15_one_array_two_machines.ipynb)), its peak rate
# divided by its bandwidth:

# %%
# NBVAL_CHECK_OUTPUT
# float32 without tensor cores, operations and bytes a second: from the data sheets
chips = {"T4": (8.1e12, 320e9), "RTX 4090": (82.6e12, 1008e9), "H200": (67e12, 4.8e12)}
for name, (rate, bandwidth) in chips.items():
    print(f"{name:8}  {rate / bandwidth:5.1f} operations a byte")

# %% [markdown]
# All three lie above 12.8: at $D = 64$, whatever the length of the text, they would
# wait for memory. At $D = 128$ it is 25.6 operations a byte, and of the three only the
# RTX 4090 still waits: the T4 is just past its ridge, the H200 well past. With 16-bit
# numbers and tensor cores the gap is a gulf at any of these widths: the bytes halve, to
# 25.6 or 51.2 operations each, but an H200 then does 989 · 10¹² of them a second, 206 a
# byte.
#
# So the weights should never leave the chip. What stands in the way is the softmax. To
# turn a row of scores into weights we need its maximum and its sum, so it seems that
# the row must be there as a whole before the first value can be mixed in. A row of
# 16,384 scores, for each of 64 queries that a block works on, is 4 MiB. The shared
# memory of a block is some tens of *kilo*bytes, 227 on the largest chips.

# %% [markdown]
# ## A softmax that never sees its row
#
# Suppose that of a row of scores only a piece $A$ has been seen. Keep three things
# of it, the largest score, the sum, and the mixture of values without its divisor:
#
# $$m_A = \max_{i \in A} s_i, \qquad l_A = \sum_{i \in A} e^{s_i - m_A}, \qquad
# o_A = \sum_{i \in A} e^{s_i - m_A}\, v_i .$$
#
# Another piece $B$ has its own. Their sums cannot be added as they stand, since they
# are measured in different units: one counts in $e^{m_A}$, the other in $e^{m_B}$. But
# that is all that is wrong with them, and multiplying by $e^{m_A - m}$ changes the
# unit:
#
# $$m = \max(m_A, m_B), \qquad l = l_A\, e^{m_A - m} + l_B\, e^{m_B - m}, \qquad
# o = o_A\, e^{m_A - m} + o_B\, e^{m_B - m} .$$
#
# In the end the answer is $o / l$. One of the two factors is always $e^0 = 1$, the
# other is at most 1, so nothing can overflow.
#
# By hand, on four numbers: scores $\ln 2, \ln 1, \ln 8, \ln 4$ with the values
# $3, 9, 0, 15$. The weights are $\frac{2}{15}, \frac{1}{15}, \frac{8}{15},
# \frac{4}{15}$ and the answer is $\frac{6 + 9 + 0 + 60}{15} = 5$. Now in two pieces.
# The first has $m_A = \ln 2$, so $e^{s - m_A}$ is $1$ and $\frac{1}{2}$, and
# $l_A = 1.5$, $o_A = 3 + 4.5 = 7.5$. The second has $m_B = \ln 8$, again $1$ and
# $\frac{1}{2}$, $l_B = 1.5$, $o_B = 0 + 7.5 = 7.5$. Together $m = \ln 8$; the first
# piece shrinks by $\frac{2}{8}$:
#
# $$l = \tfrac{1.5}{4} + 1.5 = 1.875, \qquad o = \tfrac{7.5}{4} + 7.5 = 9.375, \qquad
# \tfrac{9.375}{1.875} = 5 .$$


# %%
# NBVAL_CHECK_OUTPUT
def piece(scores, values):
    m = scores.max()
    e = np.exp(scores - m)
    return m, e.sum(), e @ values


def merge(a, b):
    (m_a, l_a, o_a), (m_b, l_b, o_b) = a, b
    m = max(m_a, m_b)
    shrink_a, shrink_b = np.exp(m_a - m), np.exp(m_b - m)
    return m, l_a * shrink_a + l_b * shrink_b, o_a * shrink_a + o_b * shrink_b


scores, values = np.log([2.0, 1, 8, 4]), np.array([3.0, 9, 0, 15])
first, second = piece(scores[:2], values[:2]), piece(scores[2:], values[2:])
m, l, o = merge(first, second)
for name, (a, b, c) in zip("AB ", (first, second, (m, l, o)), strict=True):
    print(f"{name}  e^m = {np.exp(a):.0f}   l = {b:.3f}   o = {c:.3f}")
print(f"answer {o / l:.3f}, e^m times l = {np.exp(m) * l:.3f}")

# %% [markdown]
# The last number is $2 + 1 + 8 + 4 = 15$, the sum that the plain softmax would have
# divided by. So $m + \ln l = \ln \sum_i e^{s_i}$, in whatever pieces the row was read.
# Remember this *log-sum-exp*: the backward pass will need it.
#
# `merge` does not care which piece came first, nor how the row was cut: it is
# associative and commutative, like a sum. This is more than a nicety. Pieces may be
# read one after the other (flash attention), or by many blocks at once and merged in a
# tree, or lie on different machines (arXiv:2310.01889).

# %%
scores, values = 3 * rng.normal(size=1000), rng.normal(size=1000)
e = np.exp(scores)
for _ in range(100):
    order = rng.permutation(1000)
    cuts = np.sort(rng.choice(np.arange(1, 1000), 9, replace=False))
    pieces = [piece(scores[i], values[i]) for i in np.split(order, cuts)]
    while len(pieces) > 1:  # any two of them
        i = rng.integers(len(pieces) - 1)
        pieces[i : i + 2] = [merge(*pieces[i : i + 2])]
    m, l, o = pieces[0]
    assert np.isclose(o / l, e @ values / e.sum())
    assert np.isclose(m + np.log(l), np.log(e.sum()))

# %% [markdown]
# Read in order, it looks like this: a row of 256 scores in tiles of 32. At every moment
# $o / l$ is a perfectly good attention over *the keys seen so far*. The orange line is
# the commonest mistake: $l$ is rescaled when a larger maximum comes, and $o$ is not.

# %%
row, column = (
    np.r_[rng.normal(size=128), rng.normal(1.5, 1.5, 128)],
    rng.normal(size=256),
)
column[128:] += 1
states, wrong, best = [(-np.inf, 0.0, 0.0)], 0.0, []
for start in range(0, 256, 32):
    tile = piece(row[start : start + 32], column[start : start + 32])
    states.append(merge(states[-1], tile))
    wrong += tile[2] * np.exp(tile[0] - states[-1][0])  # o is not made smaller
    best.append((states[-1][2] / states[-1][1], wrong / states[-1][1]))

# %%
figure, (top, bottom) = plt.subplots(2, figsize=(7.5, 5), layout="constrained")
top.plot(row, ".", color="#999999", ms=4, label="scores")
edges = np.arange(0, 257, 32)
top.step(edges[1:], [s[0] for s in states[1:]], color="#0072B2", where="pre",
         label="m, the largest so far")  # fmt: skip
top.set(ylabel="score", xticks=edges)
bottom.plot(edges[1:], [x for x, _ in best], "o-", color="#0072B2", label="o / l")
bottom.plot(edges[1:], [x for _, x in best], "s--", color="#D55E00",
            label="o / l where o is never rescaled")  # fmt: skip
final = best[-1][0]
bottom.axhline(final, color="black", lw=1, ls=":", label="attention over all 256 keys")
bottom.set(
    xlabel="keys read", ylabel="mixture of values", xticks=edges, xlim=top.get_xlim()
)
for axes in (top, bottom):
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
viz.show(
    figure,
    alt="Above, 256 scores as dots, larger in the second half, and the running maximum "
    "as a staircase that rises several times. Below, o divided by l after each tile of "
    "32 keys: it ends exactly on the dotted line of attention over all keys. The line "
    "without rescaling leaves it where the maximum first rises, and ends elsewhere.",
)

# %% [markdown]
# (`merge` began with an empty piece, $m = -\infty$ and $l = o = 0$: the zero of this
# addition. Two empty pieces would be $-\infty$ minus $-\infty$, which is not a number.
# We shall meet that again.)
#
# ## Flash attention, forward
#
# Now for all queries, in tiles: take 64 queries, walk through the keys 32 at a time,
# and merge. Only a $64 \times 32$ tile of scores exists at any moment. For a causal
# mask, tiles that lie wholly in the future are never visited. Besides the output we
# keep the log-sum-exp of each row, *lse*.


# %%
def hide_future(s, i, j):
    """-inf where a key (column, from j) lies ahead of its query (row, from i)."""
    s[np.arange(j, j + s.shape[1]) > np.arange(i, i + len(s))[:, None]] = -np.inf


def flash_forward(q, k, v, is_causal=False, rows=64, columns=32):
    """softmax(q kᵀ / √D) v, (T, D), and the rows' lse, (T,); k and v are (S, D)."""
    out, lse = np.empty_like(q), np.empty(len(q), q.dtype)
    for i in range(0, len(q), rows):
        tile = q[i : i + rows] / math.sqrt(q.shape[1])
        m = np.full(len(tile), -np.inf, q.dtype)
        l, o = np.zeros_like(m), np.zeros_like(tile)
        seen = min(len(k), i + rows) if is_causal else len(k)
        for j in range(0, seen, columns):
            s = tile @ k[j : j + columns].T  # (rows, columns)
            if is_causal:
                hide_future(s, i, j)
            m_new = np.maximum(m, s.max(1))
            p, shrink = np.exp(s - m_new[:, None]), np.exp(m - m_new)
            l = l * shrink + p.sum(1)
            o = o * shrink[:, None] + p @ v[j : j + columns]
            m = m_new
        out[i : i + rows], lse[i : i + rows] = o / l[:, None], m + np.log(l)
    return out, lse


# %% [markdown]
# And the formula, taken at its word. The two must agree at *every* length; the ones
# that hurt are 1, and those just above and below the size of a tile.


# %%
def plain_forward(q, k, v, is_causal=False):
    s = q @ k.T / math.sqrt(q.shape[1])
    if is_causal:
        hide_future(s, 0, 0)
    p = np.exp(s - s.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p @ v, p


for T in (1, 2, 31, 32, 33, 63, 64, 65, 200):
    q, k, v = rng.normal(size=(3, T, D))
    for is_causal in (False, True):
        out, lse = flash_forward(q, k, v, is_causal)
        exact, p = plain_forward(q, k, v, is_causal)
        assert np.allclose(out, exact, rtol=0, atol=1e-13)
        assert np.allclose(lse, q @ k[0] / math.sqrt(D) - np.log(p[:, 0]))

# %% [markdown]
# (The last line holds because $\ln p_{ts} = s_{ts} - \mathrm{lse}_t$ for every key, so
# for the first one, which all may see.)
#
# Two choices are hidden in these lines. The order of the loops: queries outside, keys
# inside, so that $m$, $l$ and $o$ of a tile live in registers until they are done. The
# first FlashAttention had it the other way round and carried the half-finished output
# to memory and back for every tile of keys; FlashAttention-2 turned the loops about.
# And the division: $o$ is divided by $l$ once, at the end, not at each merge.
#
# Online softmax is older than both (arXiv:1805.02867), and attention by pieces was
# shown shortly before, to save room (arXiv:2112.05682). What FlashAttention
# (arXiv:2205.14135) saw is that the greater prize was the trips.
#
# Here is the walk for 512 queries with a causal mask. In row $i$ of 64 queries the last
# visible key is $64 i + 63$, so $2(i + 1)$ tiles of 32 are visited: by hand,
# $2 \cdot (1 + 2 + \dots + 8) = 72$ of 128.


# %%
# NBVAL_CHECK_OUTPUT
def visited_tiles(T, rows=64, columns=32):
    return sum(-(-min(T, i + rows) // columns) for i in range(0, T, rows))


T = 512
tiles, needed = visited_tiles(T), T * (T + 1) // 2
print(f"{tiles} of {(T // 64) * (T // 32)} tiles, {tiles * 64 * 32} scores computed")
print(f"{needed} needed: {needed / tiles / 64 / 32:.0%} of the work is of use")
for longer in (64, 512, 4096, 16384):
    share = longer * (longer + 1) / 2 / visited_tiles(longer) / 64 / 32
    print(f"T {longer:6}: {share:.1%} of use")

# %%
from matplotlib.patches import Rectangle

figure, axes = plt.subplots(figsize=(6.2, 5.4), layout="constrained")
white, light, dark, grey = "white", "#9BCBEB", "#0072B2", "#777777"
for i in range(0, T, 64):
    for j in range(0, T, 32):
        colour = white if j > i + 63 else light if j + 31 <= i else dark
        axes.add_patch(Rectangle((j, i), 32, 64, fc=colour, ec=grey, lw=0.6))
for colour, kind in ((white, "skipped"), (light, "whole"), (dark, "cut by the mask")):
    axes.add_patch(Rectangle((0, 0), 0, 0, fc=colour, ec=grey, label=kind))
axes.plot([0, T], [0, T], color="#D55E00", lw=1.5, label="key = query")
axes.annotate("", (384, 352), (0, 352), arrowprops={"arrowstyle": "->", "lw": 1.8})
axes.set(xlim=(0, T), ylim=(T, 0), aspect="equal", xticks=range(0, 513, 64))
axes.set(yticks=range(0, 513, 64), xlabel="keys (32 a tile)")
axes.set(ylabel="queries (64 a block)")
axes.legend(loc="upper right", framealpha=1)
viz.show(
    figure,
    alt="512 queries by 512 keys in tiles of 64 by 32. Right of the diagonal they are "
    "skipped, left of it whole; the two tiles of each row that the diagonal passes are "
    "cut by the mask. An arrow shows a block's walk through its keys to the diagonal.",
)

# %% [markdown]
# The two tiles on the diagonal are the price of tiles: half of what is computed there
# is thrown away. At $T = 64$ that is half of everything; at 16,384, half a percent. So
# the often quoted "causal costs half" is a promise about long texts only.
#
# ## Memory: from O(T²) to O(T)
#
# The whole gain, in bytes. The plain version holds the weights; ours a tile, and one
# number a row. We ask Python's `tracemalloc`, which sees every array that NumPy makes,
# for the peak of both, beyond the inputs.

# %%
import tracemalloc


def peak_bytes(function, *arrays):
    tracemalloc.start()
    function(*arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


lengths = [128, 256, 512, 1024, 2048, 4096][: scaled(6, smoke=4)]
peaks = {plain_forward: [], flash_forward: []}
for T in lengths:
    q, k, v = rng.standard_normal((3, T, D), dtype="float32")
    for function, found in peaks.items():
        found.append(peak_bytes(function, q, k, v))
result("peak of plain / flash", peaks[plain_forward][-1] / peaks[flash_forward][-1],
       at_least=100)  # fmt: skip
for T, plain, flash in zip(lengths, *peaks.values(), strict=True):
    print(f"T {T:5}: plain {plain / 2**20:6.2f} MiB, flash {flash / 2**20:5.2f} MiB")

# %%
T, gib = np.array([128, 131072]), 2**30
figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
numbers = {"weights": T * T, "flash's output and lse": T * (D + 1)}
colours = "#D55E00", "#0072B2"
for (name, each), colour in zip(numbers.items(), colours, strict=True):
    for heads, line in ((12, "-"), (1, ":")):
        label = f"{name}, {heads} head{'s' * (heads > 1)}"
        axes.loglog(T, heads * each * 4 / gib, line, color=colour, label=label)
for found, colour, marker in zip(peaks.values(), colours, "os", strict=True):
    axes.loglog(lengths, np.array(found) / gib, marker, mfc="none", color=colour)
axes.plot([], [], "ok", mfc="none", label="peak measured in NumPy, 1 head")
for size, chip in ((16, "T4, 16 GB"), (141, "H200, 141 GB")):
    axes.axhline(size * 1e9 / gib, color="#777777", lw=1, ls="--")
    axes.text(128, size * 1e9 / gib * 1.2, chip, fontsize=8, color="#555555")
axes.set(xlabel="tokens T", ylabel="memory of one layer (GiB)")
axes.legend(fontsize=8, loc="lower right")
viz.show(
    figure,
    alt="Memory against tokens, both logarithmic. Weights rise with slope 2: 12 heads "
    "cross 16 GB near 18,000 tokens, 141 GB near 54,000. Flash rises with slope 1, to "
    "0.4 GiB at 131,072 tokens. Peaks measured in NumPy for one head follow both.",
)

# %% [markdown]
# Double the length, and the plain version's peak is four times as large, flash's not
# quite twice.
# (Plain NumPy needs three arrays at once where one would do, and the peak of ours is
# mostly the output.) And in training the weights of *every* layer wait for the backward
# pass. GPT-2's small model, 12 layers of 12 heads, with 8 texts of 1,024 tokens:


# %%
# NBVAL_CHECK_OUTPUT
rows = 12 * 8 * 12 * 1024  # layers, texts, heads, tokens
print(f"weights {rows * 1024 * 4 / 1e9:.2f} GB, lse {rows * 4 / 1e6:.1f} MB")

# %% [markdown]
# ## Flash attention, backward
#
# But the backward pass *uses* the weights. Let $dO$ be the gradient of the loss by the
# output, $S$ the scores and $P$ the weights, $O = P V$. The chain rule through the two
# products is that of any linear layer:
#
# $$dV = P^T dO, \qquad dP = dO\, V^T, \qquad dQ = \frac{dS\, K}{\sqrt{D}}, \qquad
# dK = \frac{dS^T Q}{\sqrt{D}},$$
#
# and the softmax between them is the one of notebook 04, a row at a time:
#
# $$dS_{ts} = P_{ts} \left( dP_{ts} - \Delta_t \right), \qquad
# \Delta_t = \sum_s P_{ts}\, dP_{ts} .$$
#
# With $S$ computed again these are five products of matrices, where the forward pass
# has two: hence the rule of thumb that attention backward costs 2.5 times the forward
# pass.
#
# Two things stand in the way of doing this by tiles. The first is $P$, which we have
# refused to keep. But $P_{ts} = e^{S_{ts} - \mathrm{lse}_t}$: with one number a row,
# any tile of it can be computed again, alone, and this time without a running maximum.
#
# The second is $\Delta_t$, a sum over the whole row, wanted before the first tile is
# done. Put $dP = dO\, V^T$ into it and change the order of the sums:
#
# $$\Delta_t = \sum_s P_{ts} \sum_d dO_{td}\, V_{sd}
# = \sum_d dO_{td} \sum_s P_{ts} V_{sd}
# = \sum_d dO_{td}\, O_{td} .$$
#
# It is the dot product of two vectors that we have. (The papers call it $D$.)
#
# Back to our row of four. $P = \frac{1}{15}(2, 1, 8, 4)$, the values are $3, 9, 0, 15$,
# $O = 5$. Let $dO = 1$. Then $dP$ is the values, $\Delta = 1 \cdot 5 = 5$, and
# $dS = \frac{1}{15} (2 \cdot (-2),\ 1 \cdot 4,\ 8 \cdot (-5),\ 4 \cdot 10) =
# \frac{1}{15} (-4, 4, -40, 40)$. Its sum is zero, as it must be: raising all scores
# alike changes nothing.

# %%
# NBVAL_CHECK_OUTPUT
p, column = np.array([2, 1, 8, 4]) / 15, np.array([3.0, 9, 0, 15])
delta = 1.0 * (p @ column)
print("15 dS:", (15 * p * (column - delta)).round(9))


# %%
def flash_backward(q, k, v, out, lse, dout, is_causal=False, rows=64, columns=32):
    """dq, dk, dv, in the shapes of q (T, D), k and v (S, D)."""
    scale = 1 / math.sqrt(q.shape[1])
    dq, dk, dv = (np.zeros_like(x) for x in (q, k, v))
    delta = (dout * out).sum(1)
    for i in range(0, len(q), rows):
        here = slice(i, i + rows)
        seen = min(len(k), i + rows) if is_causal else len(k)
        for j in range(0, seen, columns):
            there = slice(j, j + columns)
            s = q[here] @ k[there].T * scale
            if is_causal:
                hide_future(s, i, j)
            p = np.exp(s - lse[here, None])  # once more
            ds = p * (dout[here] @ v[there].T - delta[here, None])
            dv[there] += p.T @ dout[here]
            dk[there] += ds.T @ q[here] * scale
            dq[here] += ds @ k[there] * scale
    return dq, dk, dv


# %% [markdown]
# Two judges. The first knows nothing of attention: it moves each number a little, up
# and down, and looks at what the loss $\sum dO \cdot O$ does. With 35 queries and tiles
# of 16 by 8, so that tiles are full, cut by the mask, skipped and ragged.

# %%
small = {"rows": 16, "columns": 8}
inputs = [rng.normal(size=(35, 4)) for _ in range(3)]
dout, step = rng.normal(size=(35, 4)), 1e-5


def loss(is_causal):
    return (dout * flash_forward(*inputs, is_causal, **small)[0]).sum()


for is_causal in (False, True):
    gradients = flash_backward(
        *inputs, *flash_forward(*inputs, is_causal, **small), dout, is_causal, **small
    )
    for x, gradient in zip(inputs, gradients, strict=True):
        numerical = np.empty_like(x)
        for i in np.ndindex(x.shape):
            x[i] += step
            up = loss(is_causal)
            x[i] -= 2 * step
            numerical[i] = (up - loss(is_causal)) / (2 * step)
            x[i] += step
        assert np.abs(gradient - numerical).max() < 1e-8

# %% [markdown]
# The second is the library's op in float64, at lengths that are no multiple of
# anything. Where it lives: [`minibig/ops/attention.py`](../minibig/ops/attention.py).
# On a CPU it does what we just did, in blocks of 128 queries, for many heads at once on
# all cores.

# %%
from minibig.ops.attention import scaled_dot_product_attention

for T, S, is_causal in (
    (1, 1, True),
    (65, 33, False),
    (33, 65, False),
    (300, 300, True),
):
    q, dout = rng.normal(size=(2, T, D))
    k, v = rng.normal(size=(2, S, D))
    out, lse = flash_forward(q, k, v, is_causal)
    theirs, backward = scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    assert np.allclose(out, theirs, rtol=0, atol=1e-13)
    ours = flash_backward(q, k, v, out, lse, dout, is_causal)
    for a, b in zip(ours, backward(dout), strict=False):
        assert np.allclose(a, b, rtol=0, atol=1e-13)

# %% tags=["nbval-ignore-output"]
import time


def seconds(function):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


q, k, v = rng.standard_normal((3, scaled(2048, smoke=512), D), dtype="float32")
print(f"plain      {1e3 * seconds(lambda: plain_forward(q, k, v)):6.1f} ms")
print(f"by tiles   {1e3 * seconds(lambda: flash_forward(q, k, v)):6.1f} ms")
print(
    f"the op     {1e3 * seconds(lambda: scaled_dot_product_attention(q, k, v)):6.1f} ms"
)

# %% [markdown]
# In NumPy the tiles buy memory and no time: every small step is a call from Python, and
# a core of a CPU has megabytes of cache in which weights can wait. A GPU has neither
# excuse.
#
# ## Three kernels, read piece by piece
#
# minibig climbs to flash attention on a *ladder*. Each rung is one `.cu` file for the
# forward pass and one for the backward pass, right at every size, and each improves on
# the one below. (A fourth and a fifth rung, `mma` and `hopper`, do rung 3's work on
# tensor cores; that is [18](18_tensor_cores.ipynb).) What follows are pieces of the
# files themselves.

# %%
from minibig.kernels import Module, load, parse, read


def show(name, start, stop):
    """Prints a .cu file's lines from the first with `start` to the next with `stop`."""
    text = read(name).text
    begin = text.rindex("\n", 0, text.index(start)) + 1
    end = text.index("\n", text.index(stop, begin))
    print(text[begin:end])


# %% [markdown]
# **Rung 1, naive**: the formula in three kernels, `scores`, `softmax`, `weighted_sum`.
# A thread computes one number of the result. Where it lives:
# [`attention_naive_forward.cu`](../minibig/kernels/attention_naive_forward.cu).

# %%
# NBVAL_CHECK_OUTPUT
show("attention_naive_forward.cu", "const int t = i / S", "p[matrix * T * S + i]")

# %% [markdown]
# `heads / kv_heads` is for *grouped queries* (arXiv:2305.13245): several heads of
# queries may share one head of keys and values. `may_attend` knows the causal mask and
# the padding. Every thread reads its query and its key anew, $2D$ numbers for one
# score: a query is fetched by $S$ threads, a key by $T$. Caches catch some of it.
#
# **Rung 2, tiled**: the same three kernels, but a block computes a tile of
# $64 \times 64$ numbers, and what it needs passes through shared memory, so that a
# number fetched once serves 64 products. In its softmax a warp takes a row, so that
# neighbouring lanes read neighbouring numbers; in naive's a thread takes one, and
# neighbours read numbers that lie $S$ apart. Where it lives:
# [`attention_tiled_forward.cu`](../minibig/kernels/attention_tiled_forward.cu), its
# products in [`tile.cuh`](../minibig/kernels/tile.cuh).

# %%
# NBVAL_CHECK_OUTPUT
show("attention_tiled_forward.cu", "for (int d = 0; d < D; d += DEPTH)", "(sum, a, b)")
print("\n...\n")
show("attention_tiled_forward.cu", "for (int d = 0; d < DEPTH; d += 4)", "* y.w;")

# %% [markdown]
# Two barriers an iteration: one so that nobody overwrites a tile that another thread
# still reads, one so that nobody reads a tile that is not there yet.
#
# The second piece is `add_product_transposed`, the heart of all rungs above the first.
# A thread computes not one number but $R \times C$, here $4 \times 8$, in registers.
# Per step it reads $4 + 8$ vectors of four numbers from shared memory, and multiplies
# each of the 4 with each of the 8: 128 products for 48 numbers read, where one number a
# thread would mean two reads a product. Which numbers of the tile are whose:

# %%
figure, axes = plt.subplots(figsize=(5.6, 5.0), layout="constrained")
owner = np.zeros((64, 64))
chosen = {0: "#0072B2", 3: "#56B4E9", 77: "#D55E00"}
for thread, colour in chosen.items():
    y, x = divmod(thread, 8)
    for j in range(8):
        axes.add_patch(Rectangle((x + 8 * j, 4 * y), 1, 4, fc=colour, ec="none"))
    axes.add_patch(Rectangle((0, 0), 0, 0, fc=colour, label=f"thread {thread}"))
for warp in range(5):
    axes.axhline(16 * warp, color="black", lw=1)
axes.set(xlim=(0, 64), ylim=(64, 0), aspect="equal", xticks=range(0, 65, 8))
axes.set(
    yticks=range(0, 65, 4), xlabel="keys of the tile", ylabel="queries of the tile"
)
axes.grid(alpha=0.3)
axes.legend(loc="lower left")
viz.show(
    figure,
    alt="A tile of 64 queries by 64 keys. Thread 0 owns four rows at the top in every "
    "eighth column from column 0 on, thread 3 the same rows in columns 3, 11, 19 and "
    "so on, thread 77 rows 36 to 39 in columns 5, 13, 21 and so on. Lines after every 16 "
    "rows part the four warps.",
)

# %% [markdown]
# Why every eighth key, and not eight neighbours? Because of banks: shared memory serves
# 32 four-byte words a cycle, one from each bank, and eight threads that read four words
# each want to be served at once. At each step their keys are eight neighbouring rows,
# and the code makes a row 36 numbers long although 32 are used. What the addresses say:


# %%
# NBVAL_CHECK_OUTPUT
def cycles(stride, keys):
    """How often the fullest bank is asked when 8 threads read 4 words each."""
    words = (np.array(keys)[:, None] * stride + np.arange(4)).ravel()
    return np.bincount(words % 32).max()


print("stride 32, neighbouring keys:", cycles(32, range(8)))
print("stride 36, neighbouring keys:", cycles(36, range(8)))
print("stride 36, every eighth key: ", cycles(36, range(0, 64, 8)))

# %% [markdown]
# **Rung 3, flash**: one kernel, no array of scores. It is `flash_forward` from above,
# with the same tiles, 64 queries by 32 keys. Where it lives:
# [`attention_flash_forward.cu`](../minibig/kernels/attention_flash_forward.cu). The
# state of the online softmax, in registers, of the 4 queries that a thread works on:

# %%
# NBVAL_CHECK_OUTPUT
show("attention_flash_forward.cu", "float top[R], total[R]", "start += KEYS")

# %% [markdown]
# `top`, `total` and `sum` are $m$, $l$ and $o$; `seen` stops the walk at the diagonal.
# Then, for each of its rows, the merge:

# %%
# NBVAL_CHECK_OUTPUT
show("attention_flash_forward.cu", "high = row_max(high);", "weights[y * P_STRIDE")

# %% [markdown]
# Line by line: `row_max` makes the 8 threads that share a row agree on its maximum, by
# three shuffles, each with the lane 4, 2, 1 away (a warp owns 16 whole rows, so no
# barrier is needed). `shift` is the maximum, except while a row has seen nothing but
# forbidden keys. `shrink` is $e^{m_{\mathrm{old}} - m}$, 0 for the first tile. Then the
# new weights go to shared memory, because the product with $V$ deals them out to other
# threads. `total` is the thread's own part of $l$ all along: the eight parts are added
# up once, after the last tile. And the end:

# %%
# NBVAL_CHECK_OUTPUT
show("attention_flash_forward.cu", "const float all = row_sum", "saw nothing")

# %% [markdown]
# The backward pass,
# [`attention_flash_backward.cu`](../minibig/kernels/attention_flash_backward.cu),
# does to a tile just what ours does; `total` is the row's lse, `mean` its $\Delta$.

# %%
# NBVAL_CHECK_OUTPUT
show("attention_flash_backward.cu", "const float total = t < T", "dscores[y * P_STR")

# %% [markdown]
# It departs from ours in one thing. `flash_backward` has one pair of loops, and in it a
# tile adds to `dq` of its queries *and* to `dk`, `dv` of its keys. With a block for
# each row of tiles, all running at once, many blocks would add to one `dk`: that needs
# atomic additions, whose order, and so whose rounding, changes from run to run. minibig
# has two kernels instead: a block of `dq` owns queries and walks through the keys, a
# block of `dkv` owns keys and walks through the queries. Nobody writes where another
# does, and every run gives the same bits. The price is that each of them computes $S$
# and $dP$: seven products instead of five.
#
# ### Run them, at the lengths that hurt
#
# The judge is the op in float64, in both passes. With NumPy arrays the kernels run on
# the emulator, with CuPy arrays on the GPU.


# %%
def draw(T, S, D=64, batch=1, heads=1, kv_heads=1):
    """q, dout (B, H, T, D) and k, v (B, G, S, D)."""
    rng = np.random.default_rng(T * 1000 + S)
    shapes = [(batch, heads, T, D)] * 2 + [(batch, kv_heads, S, D)] * 2
    return [rng.standard_normal(shape, dtype="float32") for shape in shapes]


def exact(q, dout, k, v, mask=None, is_causal=False):
    """out, dq, dk, dv by the op in float64; heads that share keys in an axis more."""
    (batch, heads, T, D), groups = q.shape, k.shape[1]
    q, dout = (x.reshape(batch, groups, -1, T, D).astype(float) for x in (q, dout))
    k, v = (x[:, :, None].astype(float) for x in (k, v))
    mask = None if mask is None else mask[:, None, None, None]
    out, backward = scaled_dot_product_attention(
        q, k, v, mask=mask, is_causal=is_causal
    )
    dq, dk, dv, _ = backward(dout)
    flat = (x.reshape(batch, heads, T, D) for x in (out, dq))
    return *flat, dk.sum(2), dv.sum(2)


# %%
def errors(rung, arrays, machine=device, **settings):
    """The largest error of out, and of dq, dk, dv, by a rung of the ladder."""
    moved = [backend.to_device(x, machine) for x in arrays]
    mask = settings.pop("mask", None)
    given = None if mask is None else backend.to_device(mask, machine)
    q, dout, k, v = moved
    out, backward = attention.attention(q, k, v, mask=given, rung=rung, **settings)
    found = [backend.to_device(x, "cpu") for x in (out, *backward(dout))]
    right = exact(*arrays, mask=mask, **settings)
    differences = [abs(a - b).max() for a, b in zip(found, right, strict=True)]
    return differences[0], max(differences[1:])


RUNGS = "naive", "tiled", "flash"
padding = np.ones((2, 65), bool)
padding[0, 40:] = False
hard = {
    "T 1, S 1": (draw(1, 1), {}),
    "T 33, S 65": (draw(33, 65), {}),
    "T 65, causal": (draw(65, 65), {"is_causal": True}),
    "padding": (draw(33, 65, batch=2), {"mask": padding}),
    "4 heads share 2": (draw(65, 33, heads=4, kv_heads=2), {"is_causal": True}),
}

# %% tags=["nbval-ignore-output"]
if no_kernels:
    print(no_kernels)
else:
    worst = 0
    print(f"{'largest error of':18}" + "".join(f"{rung:^20}" for rung in RUNGS))
    print(" " * 18 + f"{'out':>8}{'gradients':>11} " * 3)
    for name, (arrays, settings) in hard.items():
        pairs = [errors(rung, arrays, **settings) for rung in RUNGS]
        print(f"{name:18}" + "".join(f"{a:8.0e}{b:11.0e} " for a, b in pairs))
        worst = max(worst, *map(max, pairs))
    result("largest error of three rungs, both passes", worst, at_most=3e-5)

# %% [markdown]
# All errors are of the size that float32 rounding leaves. One is telling: with a single
# key there is nothing to choose, so `dq` and `dk` are exactly 0, and the lower rungs
# say so. Flash says $4 \cdot 10^{-7}$, because it takes $dP - \Delta$ of two sums that
# were added up in different orders.
#
# ## Bytes, by formula and by count
#
# How many numbers does each rung ask memory for? From the code, for $T$ queries and $S$
# keys, with every $T / 64$ rounded up:
#
# - naive: $2D$ for each score, 3 for each in the softmax (its row three times), and
#   $2 S$ for each of the $T D$ outputs: $T S\, (4D + 3)$;
# - tiled: $Q$ once for each column of tiles, $K$ and $V$ once for each row of tiles,
#   the weights 3 times in the softmax and once for every 64 columns of $V$:
#   $T D\, \frac{S}{64} + 2 S D\, \frac{T}{64} + T S\, (3 + \frac{D}{64})$;
# - flash: $Q$ once, $K$ and $V$ once for each row of tiles:
#   $T D + 2 S D\, \frac{T}{64}$.
#
# A formula read off a program may be wrong, so let the program count. The emulator
# compiles whatever text it is given; we mark every read in the kernels' text, and a
# counter goes up.


# %%
def ceil(n, step=64):
    return -(-n // step)


formulas = {
    "naive": lambda T, S, D: T * S * (4 * D + 3),
    "tiled": lambda T, S, D: T * D * ceil(S) + 2 * S * D * ceil(T)
    + T * S * (3 + ceil(D)),
    "flash": lambda T, S, D: T * D + 2 * S * D * ceil(T),
}  # fmt: skip
marked = (  # every place where these kernels read an array, «so»
    "«matrix[r * row_length + c]»",
    "«query[d]» * «key[d]»",
    "«weights[s]» * «values[(long long)s * D + d]»",
    "fmaxf(top, «p[s]»)",
    "expf(«p[s]» - top)",
    "«p[s]» / total",
)

# %%
from unittest.mock import patch


def counting(text):
    for place in marked:
        plain = place.replace("«", "").replace("»", "")
        text = text.replace(plain, place.replace("«", "READ(").replace("»", ")"))
    template = "template <typename Number, int D>" if "flash_" in text else ""
    taking = "void take(unsigned* count) { count[0] = reads; reads = 0; }"
    head = "static unsigned reads;\n#define READ(x) (reads++, x)\n"
    return f"{head}{text}\n{template} __global__ {taking}\n"


def changed(rung, change):
    """Within it the texts of a rung's kernels go through `change` first."""

    def load_changed(name, *template):
        return Module(parse(name, change(read(name).text)), *template)

    where = "flash" if rung == "flash" else "unfused"
    return patch(f"minibig.kernels.attention_{where}.load", load_changed)


# %%
def count_reads(rung, T, S, D=64, is_causal=False):
    q, _, k, v = draw(T, S, D)
    with changed(rung, counting):
        attention.attention(q, k, v, is_causal=is_causal, rung=rung)
    name, count = f"attention_{rung}_forward.cu", np.zeros(1, "uint32")
    template = ("float", D) if rung == "flash" else ()
    module = Module(parse(name, counting(read(name).text)), *template)
    module["take"]((1,), (1,), count)
    return int(count[0])


if emulator.missing():
    print(emulator.missing())
else:
    for rung, formula in formulas.items():
        counted = count_reads(rung, 200, 130)
        print(f"{rung:6} {counted:8} counted, {formula(200, 130, 64):8} by formula")
        assert counted == formula(200, 130, 64)
    tiles = visited_tiles(512)
    assert (
        count_reads("flash", 512, 512, is_causal=True) == 512 * 64 + tiles * 2 * 32 * 64
    )

# %% [markdown]
# They agree to the number, and the last line confirms the 72 tiles of the causal walk.
# At a length where it matters, with the writes added (three times the weights and the
# output, or the output and the lse), for one head:

# %%
# NBVAL_CHECK_OUTPUT
T = 4096
written = {"naive": 3 * T * T + T * D, "tiled": 3 * T * T + T * D, "flash": T * (D + 1)}
for rung, formula in formulas.items():
    asked, least = 4 * formula(T, T, D), 4 * (4 * T * D + 5 * T * T)
    least = 4 * (4 * T * D + T) if rung == "flash" else least
    sizes = [n / 2**20 for n in (asked, 4 * written[rung], least)]
    print("{:6} asks for {:5.0f} MiB, writes {:3.0f};".format(rung, *sizes), end=" ")
    print(
        f"with perfect caches {sizes[2]:3.0f}: {4 * T * T * D / least:.4g} FLOP a byte"
    )

# %% [markdown]
# Between what is asked and what must travel stand the caches. Flash asks for $K$ and
# $V$ again and again, but they are 2 MiB a head, which even a T4's 4 MB of L2 cache can
# hold. The weights are 64 MiB a head.
#
# ## Six ways to be wrong
#
# Flash attention is short, and most of what can go wrong in it is invisible in the
# tests that one writes first. Here are six versions of the forward kernel, each with
# one thing missing, and seven tests. (`changed` hands the emulator the altered text.)

# %%
without = {
    "nothing": ("//", "//"),
    "o rescaled": ("sum[i][j] *= shrink;", ";"),
    "l rescaled": ("total[i] *= shrink;", ";"),
    "a barrier": ("__syncthreads();  // all are done with the keys", ""),
    "shift's guard": ("high == -INFINITE ? 0 : high", "high"),
    "division's guard": ("all != 0 ? sum[i][j] / all : 0", "sum[i][j] / all"),
    "the tail's guard": ("if (first + y >= T) continue;", ""),
}
falling = draw(64, 64)
falling[2][:, :, :32] *= 4  # the first keys are the loudest
empty, left = np.ones((2, 64), bool), np.ones((1, 64), bool)
empty[0], left[:, :32] = False, False  # a text without tokens; padding on the left
tests = {
    "T64 S32": (draw(64, 32), {}),
    "falling": (falling, {}),
    "T64 S64": (draw(64, 64), {}),
    "causal": (draw(64, 64), {"is_causal": True}),
    "T65 S33": (draw(65, 33), {}),
    "empty": (draw(64, 64, batch=2), {"mask": empty}),
    "left pad": (draw(64, 64), {"mask": left}),
}


# %%
def run_changed(change, arrays, seed=0, **settings):
    """The output of the changed flash kernel, its threads in the order of `seed`."""
    q, _, k, v = arrays
    with changed("flash", lambda text: text.replace(*change)), emulator.shuffled(seed):
        return attention.attention(q, k, v, rung="flash", **settings)[0]


def verdict(change, arrays, **settings):
    try:
        out = run_changed(change, arrays, **settings)
    except emulator.EmulatorError as error:
        return "outside" if "outside" in str(error) else "error"
    error = abs(out - exact(*arrays, **settings)[0]).max()
    return "nan" if np.isnan(error) else "ok" if error < 3e-5 else f"off {error:.1g}"


if emulator.missing():
    print(emulator.missing())
else:
    print(f"{'without':16}" + "".join(f"{name:>10}" for name in tests))
    for name, change in without.items():
        said = [verdict(change, arrays, **set_) for arrays, set_ in tests.values()]
        print(f"{name:16}" + "".join(f"{word:>10}" for word in said))
        assert (set(said) == {"ok"}) == (name == "nothing")

# %% [markdown]
# The first test, whose keys fit into one tile, lets five of the six pass. So does the
# second (`falling`), with two tiles: its loudest keys come first, so the maximum never
# rises and `shrink` is always 1. A text with no token at all finds one of the two
# guards, but not the other: there $-\infty - (-\infty)$ makes $l$ a `nan`, which is not
# greater than 0, and so the *division's* guard turns it into the right zero. Only
# padding on the left, a first tile without keys and then a second with some, brings it
# to light. And the tail shows at lengths that no tile divides, and there alone. These
# are the tests to write for anybody's attention kernel: more than one tile of keys,
# lengths that divide nothing, nothing at all to see, nothing to see *at first*.
#
# The missing barrier is another matter. On a GPU it may go unnoticed for weeks: whether
# a fast warp overwrites the keys that a slow one still reads is a matter of timing. The
# emulator runs threads and warps in an order drawn by chance, another one for each
# seed:

# %%
if emulator.missing():
    print(emulator.missing())
else:
    arrays = tests["T65 S33"][0]
    for name in ("nothing", "a barrier"):
        outs = [run_changed(without[name], arrays, seed) for seed in range(5)]
        apart = [abs(out - outs[0]).max() for out in outs[1:]]
        print(f"without {name:9}: the orders differ by", *(f"{x:.2g}" for x in apart))

# %% [markdown]
# The kernel as it is gives the same bits in every order. And the emulator puts each
# array between pages that nobody may touch, so that a missing guard is not a wrong
# number somewhere else but a sentence:

# %%
if emulator.missing():
    print(emulator.missing())
else:
    try:
        run_changed(without["the tail's guard"], arrays)
    except emulator.EmulatorError as error:
        print(error)

# %% [markdown]
# ## Where each rung wins and loses
#
# Flash moves far fewer bytes. It does not follow that it always wins. Three counts say
# where it cannot.
#
# **Short texts.** Tiles are computed whole, also where the text ends. Of what a rung
# computes for $T$ queries and $T$ keys, this share is of use:

# %%
T = np.arange(1, 385)
computed = {  # scores: threads that have none count too
    "naive": (256 * ceil(T * T, 256), "#777777", ":"),
    "tiled": ((64 * ceil(T)) ** 2, "#D55E00", "--"),
    "flash": (64 * ceil(T) * 32 * ceil(T, 32), "#0072B2", "-"),
}
figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
for rung, (number, colour, line) in computed.items():
    axes.plot(T, 100 * T * T / number, line, color=colour, lw=1.4, label=rung)
axes.set(xlabel="tokens T", ylabel="of use (%)", xlim=(0, 384), ylim=(0, 103))
axes.set(xticks=range(0, 385, 32))
axes.grid(alpha=0.3)
axes.legend()
viz.show(
    figure,
    alt="The share of the computed scores that is of use, against the tokens. Naive "
    "is above 90 % from 41 tokens on. Tiled and flash are saw-teeth: they rise "
    "to 100 % at 64 tokens, fall to 26 and 34 % at 65, and the teeth get smaller; "
    "flash lies above tiled.",
)

# %%
# NBVAL_CHECK_OUTPUT
for T, S in ((1, 1000), (33, 33), (65, 65), (1000, 1000)):
    useful = T * S / (64 * ceil(T) * 32 * ceil(S, 32))
    print(f"T {T:4}, S {S:4}: {useful:6.1%} of flash's work, {12 * ceil(T):3} blocks "
          f"for 12 heads")  # fmt: skip

# %% [markdown]
# The first line is how a model *writes*: one new query, many keys. Of 64 rows, 63 are
# computed for nobody. And there are 12 blocks for the 132 multiprocessors of an H200,
# where each walks through all keys alone. Since pieces may be merged in any order, the
# keys can be shared out among many blocks; that is the last exercise.
#
# **The backward pass.** The lower rungs have kept the weights: they need four products.
# Flash must compute the scores again, and minibig's two kernels do so twice: seven
# products. Whether the bytes saved are worth it depends on the chip. Take the peak
# rates of the data sheets, let a kernel take as long as its operations or its bytes
# need, whichever is longer, and let everything that can be cached be cached.


# %%
def least_time(rung, direction, rate, bandwidth, size=4, D=64):
    """The least seconds a score, by the data sheet, in long texts; `size` in bytes."""
    product, trip = 2 * D / rate, size / bandwidth  # a product; the array, once over
    products = {"forward": 2, "backward": 7 if rung == "flash" else 4}[direction]
    if rung == "flash":
        return products * product
    return products * max(product, trip) + 3 * trip  # the softmax: read, write, write


# %%
# NBVAL_CHECK_OUTPUT
print("bounds from data sheets, not measured: picoseconds a score, D = 64")
ratios, sheets = {}, chips | {"H200, bf16": (989e12, 4.8e12, 2)}  # tensor cores, dense
for chip, sheet in sheets.items():
    for direction in ("forward", "backward"):
        tiled, flash = (1e12 * least_time(rung, direction, *sheet)
                        for rung in ("tiled", "flash"))  # fmt: skip
        ratios[chip, direction] = tiled / flash
        print(f"{chip:10} {direction:9} unfused {tiled:6.2f}, flash {flash:6.2f}: "
              f"{tiled / flash:.2f} times")  # fmt: skip

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for direction, shift, colour in (
    ("forward", -0.2, "#0072B2"),
    ("backward", 0.2, "#E69F00"),
):
    heights = [ratios[chip, direction] for chip in sheets]
    bars = axes.bar(np.arange(4) + shift, heights, 0.38, color=colour, label=direction)
    box = {"fc": "white", "ec": "none", "pad": 0.8}
    axes.bar_label(bars, [f"{h:.2f}" for h in heights], fontsize=9, padding=3, bbox=box)
axes.axhline(1, color="black", lw=1, zorder=0)
note = "products alone: the\nexponentials may take\nas long again"
axes.text(2.56, 7.9, note, ha="right", va="top", fontsize=8)
axes.set(xticks=range(4), xticklabels=sheets, ylabel="unfused / flash", ylim=(0, 9))
axes.set_title("Ratio of least times, from data sheets, not measured", fontsize=10)
axes.legend()
viz.show(
    figure,
    alt="Bars of the least times' ratio, unfused to flash. Forward: 2.19 on a T4, 6.40 "
    "on an RTX 4090, 1.65 on an H200, 8.05 there with tensor cores. Backward: 0.91, "
    "2.56, 0.76 and 3.22: on the T4 and the H200 in float32 below the line at 1. A "
    "note beside 8.05: products alone, the exponentials may take as long again.",
)

# %% [markdown]
# These are bounds, and a kernel may be far from its own; they say what to expect, not
# what is. By them flash gains most where a chip has much arithmetic and little
# bandwidth, and on long texts its forward pass never loses. But its backward pass in
# float32, on a T4 or an H200, may well be *slower* than one that keeps the weights, if
# there is room to keep them. With tensor cores arithmetic is fifteen times as cheap on
# that H200 and a byte is not, and the scales tip: this is why attention in 16 bits is
# always flash on long texts.
#
# The bar of 8.05 flatters flash: only its products are counted, and each score also
# needs an exponential, which no tensor core computes. Hopper has units for 3.9 · 10¹²
# of these a second (FlashAttention-3, arXiv:2407.08608, for the H100, whose chip the
# H200 has, too). That is 0.256 ps a score, and both products together take 0.259. One
# after the other they make 0.515 ps, and the ratio is 4.04: the unfused rungs wait for
# memory long enough to hide theirs. To get back to 8, a kernel has to compute
# exponentials of one tile *during* the products of another.
#
# **Room for warps.** A multiprocessor hides waiting by running other warps, as many as
# its registers and shared memory have room for. The state of the online softmax lives
# in registers, and tiles of wider heads are larger. What the compiler says of each
# rung's hungriest forward kernel, where NVRTC is installed (it needs no GPU); a
# multiprocessor of compute capability 8.0 has 65,536 registers, 164 KiB of shared
# memory and room for 64 warps:


# %%
from minibig.kernels import nvrtc


def room(rung, threads, template=(), shared=0):
    source = read(f"attention_{rung}_forward.cu")
    found = nvrtc.compile(source, template, "sm_80")[1].values()
    most = max(found, key=lambda kernel: kernel.registers)
    registers, shared = 8 * ceil(most.registers, 8), most.shared + shared
    blocks = min(65536 // (threads * registers), 164 * 1024 // (shared + 1024))
    warps = min(64, blocks * threads // 32)
    return f"{most.registers:3} registers, {shared / 1024:4.1f} KiB, {warps:2} warps"


# %% tags=["nbval-ignore-output"]
if nvrtc.missing():
    print(nvrtc.missing())
else:
    print("naive     ", room("naive", 256))
    print("tiled     ", room("tiled", 128))
    for width in (64, 128):
        shared = 4 * (96 * (width + 4) + 64 * 36)  # queries and keys, weights
        print(f"flash {width:4}", room("flash", 128, ("float", width), shared))

# %% [markdown]
# Each rung has room for fewer warps than the one below, flash for a fifth of naive's.
# It also needs fewer: for the scores, a thread of flash does 64 multiplications for 8
# vectors that it reads from shared memory; one of naive does a single one for every two
# numbers, and those come from far away.
#
# And what a clock says. The following cell prints the newest report that
# `benchmarks/gpu_attention.py` has written on some GPU, its machine and date first, or
# that none has been recorded yet. Without one, nothing in this notebook is a measured
# time of a GPU: only counts, bounds and right results.

# %% tags=["nbval-ignore-output"]
try:
    recorded("gpu_attention", "float32, head width 64, full")
except ValueError as reason:  # a report without that section
    print(reason)

# %% [markdown]
# The table of this notebook, from the counts:
#
# | rung | wins | loses |
# |---|---|---|
# | naive | reads like the formula; any width; computes little beyond a short text's end | asks memory for $4D$ numbers a score: 37 times what tiled asks for at $D = 64$ |
# | tiled | any width; four products backward, not seven; short texts whose weights fit a cache | $T^2$ weights in memory, five trips of each; a tail of up to 63 rows and 63 columns |
# | flash | memory linear in $T$; no trips of weights; one launch; skips what a causal mask hides | five widths; one query costs as much as 64; seven products backward |
#
# ## Who decides
#
# `attention.explain` says which rung serves given arrays on a chip, named by its
# compute capability (75 is a T4, 80 an A100, 90 an H200), and why no better one. Where
# it lives: [`minibig/kernels/attention.py`](../minibig/kernels/attention.py).


# %%
# NBVAL_CHECK_OUTPUT
def ask(dtype, width, chip):
    x = np.zeros((1, 4, 16, width), dtype)
    print(
        f"{dtype}, width {width}, chip {chip}: {attention.explain(x, x, x, chip=chip)}"
    )


ask("float32", 64, 90)
ask("float32", 72, 90)
ask("float16", 64, 75)
ask("float16", 64, 80)
ask("float16", 64, 90)

# %% [markdown]
# It goes by what a rung *can*, best first, not by the clock: at $T = 1$ it names flash
# all the same. And a layer of the library asks nobody at all: with its arrays on a GPU,
# `F.scaled_dot_product_attention` takes the rung that `explain` names; with a bias,
# dropout, float64 or a mask that hides more than keys it takes the plain op. Either way
# the result is the same.

# %% [markdown]
# ## Summary
#
# - Unfused, float32 does $D / 5$ operations a byte: at $D = 64$ it waits for memory.
# - Maximum, sum and mixture of a piece of a row can be merged with another's, exactly.
# - So scores exist a tile at a time. Kept for later is one number a row, the lse.
# - Backward computes the weights again from it; $\sum_s P\, dP$ is $dO \cdot O$.
# - Memory falls from $O(T^2)$ to $O(T)$; arithmetic rises from four products to seven.
# - Test with more than one tile of keys, at odd lengths, with nothing to see at first.

# %% [markdown]
# ## Exercises
#
# Each ends in a call of `check`, which says case by case what is right. `hint` gives a
# hint, and the next call a stronger one. None of them needs a compiler.

# %%
from minibig.exercises import check, hint

hint("17.merge")

# %% [markdown]
# **1. Merge two pieces.** In: two pieces $a$ and $b$ of the keys, as two blocks have
# left them for the same $T$ queries, each a tuple of $m$ $(T,)$, $l$ $(T,)$ and $o$
# $(T, D)$. Out: the tuple $(m, l, o)$ of both together. A row that has seen nothing has
# $m = -\infty$ and zeros; two of those make another one, with no `nan` on the way.


# %%
def merge_rows(a, b):
    ### BEGIN SOLUTION
    m = np.maximum(a[0], b[0])
    shift = np.where(m == -np.inf, 0, m)
    shrink_a, shrink_b = np.exp(a[0] - shift), np.exp(b[0] - shift)
    l = a[1] * shrink_a + b[1] * shrink_b
    o = a[2] * shrink_a[:, None] + b[2] * shrink_b[:, None]
    return m, l, o
    ### END SOLUTION


check("17.merge", merge_rows)

# %% [markdown]
# **2. The tiles that `dkv` visits.** A block of the backward kernel `dkv` owns `own`
# keys and walks through the queries, `other` at a time. Query $t$ sees the keys $0
# \dots t + \mathrm{offset}$. In: `queries`, `keys`, `offset`, `own`, `other`. Out: how
# many tiles of queries are visited by all blocks of one head together, if a tile is
# skipped when none of its queries sees any of the block's keys. The ends may be ragged.


# %%
def dkv_tiles(queries, keys, offset, own, other):
    ### BEGIN SOLUTION
    count = 0
    for first in range(0, keys, own):  # its own first key is the one most queries see
        for start in range(0, queries, other):
            last = min(start + other, queries) - 1
            count += last + offset >= first
    return count
    ### END SOLUTION


check("17.dkv_tiles", dkv_tiles)

# %% [markdown]
# **3. The backward pass with padding.** In: `q` $(T, D)$, `k` and `v` $(S, D)$, `mask`
# $(S,)$ (True where a key is real), the forward pass's `out` $(T, D)$ and `lse` $(T,)$,
# and `dout` $(T, D)$. Out: `dq`, `dk`, `dv`. Without tiles; the scale is $1 /
# \sqrt{D}$. If no key is real, `lse` is $-\infty$ and all three are zeros.


# %%
def attention_backward(q, k, v, mask, out, lse, dout):
    ### BEGIN SOLUTION
    scale = 1 / math.sqrt(q.shape[1])
    s = np.where(mask, q @ k.T * scale, -np.inf)
    p = np.exp(s - np.where(lse == -np.inf, 0, lse)[:, None])
    ds = p * (dout @ v.T - (dout * out).sum(1, keepdims=True))
    return ds @ k * scale, ds.T @ q * scale, p.T @ dout
    ### END SOLUTION


check("17.backward", attention_backward)

# %% [markdown]
# **4. The least bytes.** In: $B$, $H$ heads of queries, $G$ heads of keys and values,
# $T$, $S$, $D$ and the bytes of a number. Out: two counts of the bytes that the forward
# pass must move with perfect caches: unfused ($Q$, $K$, $V$ and the output once, the
# weights five times) and flash (no weights, but the lse, which is float32 always).


# %%
def least_bytes(B, H, G, T, S, D, size):
    ### BEGIN SOLUTION
    vectors = 2 * B * H * T * D + 2 * B * G * S * D
    return size * (vectors + 5 * B * H * T * S), size * vectors + 4 * B * H * T
    ### END SOLUTION


check("17.least_bytes", least_bytes)

# %% [markdown]
# **5. An open problem.** Make one new query fast. Cut the keys into pieces, give each
# (head, piece) a block of its own that writes its $m$, $l$ and $o$, and let a second
# kernel merge them: start from the text of `attention_flash_forward.cu` and from your
# `merge_rows`. A block then need not hold 64 rows of queries either; with grouped
# queries, what could fill them? Judge it by `exact` at $S$ = 1, 33, 1000, with a mask
# that hides whole pieces. Count its reads with `counting`, its blocks, and, if you have
# a GPU, its time against `flash` at $S$ from 128 to 65,536. There is no check; a good
# answer is a table that also says from which $S$ on the cut is worth a second launch.

# %% [markdown]
# ## Sources
#
# The formula: Vaswani and others (arXiv:1706.03762). The online softmax: Milakov and
# Gimelshein (arXiv:1805.02867). Attention by pieces, in little memory: Rabe and Staats
# (arXiv:2112.05682). FlashAttention: Dao and others (arXiv:2205.14135); with the loops
# turned about and the work shared out anew: Dao, FlashAttention-2 (arXiv:2307.08691).
# Exponentials during products: Shah and others, FlashAttention-3 (arXiv:2407.08608).
# Grouped queries: Ainslie and others (arXiv:2305.13245). Pieces on many machines: Liu,
# Zaharia and Abbeel (arXiv:2310.01889).
