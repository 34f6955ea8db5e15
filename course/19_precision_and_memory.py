# %% [markdown]
# # Precision and memory
#
# > **You will build** an account of every byte that a training step of a GPT holds,
# > by formula, by walking the graph and by measuring; and the four ways to need fewer:
# > numbers of 16 bits with a scaled loss and float32 weights, a batch in parts, and
# > layers that are computed twice.
# >
# > **You need** the graph ([02](02_backpropagation.ipynb)), Adam
# > ([03](03_gradient_descent.ipynb)), the GPT ([11](11_gpt.ipynb)) and the floats of
# > [01](01_tensors.ipynb).
# >
# > **It takes** two or three hours with the exercises; the code runs for one to two
# > minutes on 2 quiet CPU cores, in 300 MB of memory. No GPU; with one, the last
# > section uses it (none has run it yet).
#
# **The weights of GPT-2 are a file of half a gigabyte. Why does one training step need
# 67 gigabytes, and which of them can go?**
#
# The half gigabyte is quickly counted: 124 million weights of 4 bytes. The 67 gigabytes
# are the same network in the middle of a step, with 64 texts of 1,024 tokens. A card
# that was bought for the file is too small by a factor of a hundred. Most people learn
# this from an error message, and then try settings until the message stays away. We
# shall count instead, and by the end of the notebook a GPT will learn the same thing,
# by the same loss curve, in less than half of its memory.

# %% [markdown]
# ## The run that we want to repeat
#
# Everything here is measured on one small GPT, which reads the tales of notebook 11:
# one story a row, a word a token, six blocks of width 48. It is small so that it learns
# in seconds; it is deep and has a batch of 16 stories so that its memory is divided up
# as in a big one.

# %%
# NBVAL_CHECK_OUTPUT
import time

import matplotlib.pyplot as plt
import numpy as np

import minibig as mb
from minibig import data, nn, optim, training, viz
from minibig import functional as F
from minibig.data import tales
from minibig.exercises import in_smoke_mode, recorded, result, scaled
from minibig.models import GPT, GPTConfig
from minibig.tensor import apply

BEGIN, END = "<|begin|>", "<|end|>"
stories = tales.generate(2000)
tokenizer = data.WordTokenizer.train(
    stories, unknown=False, special_tokens=(BEGIN, END)
)
begin, end = (tokenizer.special_tokens[name] for name in (BEGIN, END))
documents = [tokenizer.encode(story) for story in stories]
context = max(map(len, documents)) + 1
config = GPTConfig(tokenizer.vocab_size, context, n_layer=6, n_head=4, n_embd=48)
print(config)


# %%
def batches(size):
    """A loader of `size` stories at a time."""
    return data.Documents(
        documents, context_length=context, batch_size=size, begin_id=begin, end_id=end
    )


def new_gpt(seed=0):
    mb.seed(seed)
    model = GPT(config)
    with mb.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.mul_(4)  # a width of 48 wants 0.02 · √(768 / 48): notebook 11
    return model


# %%
steps = scaled(60, smoke=4)


def train(model, steps=steps, loader=None, **settings):
    """The history of a run with AdamW, warm-up and cosine, as in notebook 11."""
    optimizer = optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.99))
    schedule = optim.WarmupCosine(optimizer, 10, max(steps, 12), 1e-4)
    return training.fit(
        model, loader or batches(16), training.next_token_loss, optimizer,
        steps=steps, schedule=schedule, clip_norm=1.0, **settings,
    )  # fmt: skip


# %% tags=["nbval-ignore-output"]
gpt = new_gpt()
began = time.perf_counter()
plain = np.array(train(gpt).loss)
print(f"{gpt.num_parameters():,} parameters, {steps} steps in "
      f"{time.perf_counter() - began:.0f} s")  # fmt: skip
print(f"loss {plain[0]:.3f} at first, {plain[-10:].mean():.3f} at last")

# %% [markdown]
# The loss falls from 5.25 to about 1.15 nats a token. That curve is what we shall ask
# for again.
#
# ## What the optimizer makes of a weight
#
# Take a layer from 3 numbers to 2: six weights and two biases, 8 numbers, 32 bytes in
# float32. Backward adds a gradient for each, 32 bytes. Adam keeps a running mean of the
# gradient and one of its square ([03](03_gradient_descent.ipynb)): 64 more. Of a layer
# of 32 bytes, training makes 128: **16 bytes a weight**, four numbers for one.
#
# How many weights has a GPT with $V$ tokens, $T$ places, $L$ blocks and the width $C$?
# Each block has matrices of $C \times 3C$, $C \times C$, $C \times 4C$ and $4C \times
# C$, together $12 C^2$, and biases and norms of $3C + C + 4C + C + 4C = 13 C$. Before
# and after the $L$ blocks there are the tables of tokens and places and a last norm:
#
# $$N = V C + T C + L\,(12 C^2 + 13 C) + 2 C .$$


# %%
# NBVAL_CHECK_OUTPUT
def count_parameters(V, T, C, L):
    """Parameters of a GPT whose output layer is its token table."""
    return V * C + T * C + L * (12 * C**2 + 13 * C) + 2 * C


V, C, L, H = config.vocab_size, config.n_embd, config.n_layer, config.n_head
N = count_parameters(V, context, C, L)
assert gpt.num_parameters() == N
print(f"ours: {N:,}; GPT-2: {count_parameters(50257, 1024, 768, 12):,}")

# %% [markdown]
# To measure, we need a scale. Python's `tracemalloc` counts every byte that is
# allocated through Python, and NumPy allocates its arrays so. It does not see the
# interpreter, nor what BLAS keeps for itself: it is the memory of *our arrays*, which
# we are after. (On a GPU the counterpart is CuPy's memory pool; the last section uses
# it. The cells before it stay on the CPU on any machine, where counts are exact.)


# %%
import tracemalloc


def traced(run):
    """(bytes still held after run(), the most that were held) of new arrays."""
    tracemalloc.start()
    kept = run()  # noqa: F841, held while we count
    sizes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return sizes


held, _ = traced(new_gpt)
print(f"a new GPT: {held / N:.1f} bytes a parameter")

# %% [markdown]
# A little more than 4: the names, shapes and Python objects around the arrays weigh
# something too, which shows in so small a network. Now a step of AdamW on a single
# matrix of a million weights.


# %%
def a_matrix_after_a_step():
    layer = nn.Linear(1000, 1000, bias=False)
    optimizer = optim.AdamW(layer.parameters())
    layer.weight.sum().backward()
    optimizer.step()
    return layer, optimizer


held, _ = traced(a_matrix_after_a_step)
print(f"weight, gradient, moments: {held / 1e6:.1f} bytes a weight")

# %% [markdown]
# ## What forward keeps for backward
#
# For GPT-2 these 16 bytes make 2 GB. Nearly all the others are *activations*: results
# of the forward pass that the backward pass will ask for. Which ones? That can be read
# off the derivatives, an op at a time, in units of one array $(B, T, C)$, the hidden
# states of $B$ texts of $T$ tokens:
#
# - A linear layer $y = x W^T$ needs its input $x$, for $dW = dy^T x$. It does *not* need
#   $y$.
# - A sum $x + f(x)$ needs nothing: its gradient is handed on as it is. So the residual
#   stream, which looks like the backbone of the network, is free by itself.
# - A norm needs its input, and two numbers a row.
# - GELU needs its input, of the width $4C$: 4 units.
# - Attention needs $q$, $k$, $v$ (3 units), its output (1) and, if computed as in
#   [17](17_attention_kernels.ipynb), one number a row and head in the place of the
#   $T \times T$ scores. (On the CPU the library keeps the weights of short texts,
#   $T \le 4D$ for a head of width $D$; ours are longer.)
#
# A block has a norm (1), the projection to $q, k, v$ (1), attention (4), the projection
# out (it needs attention's output, which is kept already: 0), a second norm (1), the
# wide layer (1), GELU (4) and the narrow layer, whose input is GELU's output (4). That
# is **16 units a block**, and not one of them is a weight. With 2 bytes a number it
# makes the $32\,BTC$ bytes that arXiv:2205.05198 counts for a block (34 there, with the
# masks of two dropouts).
#
# Counting by hand is how one learns; counting by machine is how one finds out that one
# was wrong. Each node of the graph has a backward function, and what it will need is
# what it has captured. So we walk the graph and collect the arrays, each memory once.


# %%
def captured(function):
    """The arrays that a backward function holds, also through inner functions."""
    todo, seen = [function], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            yield item if item.base is None else item.base  # the memory, not the view
        elif isinstance(item, (tuple, list)):
            todo.extend(item)
        elif getattr(item, "__closure__", None):
            todo.extend(cell.cell_contents for cell in item.__closure__)


def nodes(node):
    """All nodes from which `node` was computed, in the order of the forward pass."""
    found, todo = {}, [node]
    while todo:
        node = todo.pop()
        if node.order not in found:
            found[node.order] = node
            todo.extend(p[0] for p in node.parents if type(p) is tuple)
    return [found[order] for order in sorted(found)]


# %%
def held_for_backward(model, loss):
    """[(op, bytes)] of all arrays in the graph of `loss` that are no weights."""
    seen = {id(p.array if p.array.base is None else p.array.base)
            for p in model.parameters()}  # fmt: skip
    rows = []
    for node in nodes(loss.node):
        for memory in captured(node.backward):
            if id(memory) not in seen:
                seen.add(id(memory))
                rows.append((node.op, memory.nbytes))
    return rows


x, y = (mb.tensor(array) for array in batches(16).batch(0))
B, T = x.shape
unit = 4 * B * T * C  # bytes of a (B, T, C) array of float32
loss = training.next_token_loss(gpt, x, y)
rows = held_for_backward(gpt, loss)
in_blocks = [(op, size / unit) for op, size in rows[2:] if size >= unit]
print(f"a unit is {unit:,} bytes; the graph holds {sum(s for _, s in rows):,}")
for op, units in in_blocks[:8]:
    print(f"{units:4.0f}  {op}")

# %% [markdown]
# That is the first block, as counted: $1 + 1 + 3 + 1 + 1 + 1 + 4 + 4 = 16$. (`unbind`
# holds $q$, $k$ and $v$, three views of one array; `linear_activation` is the wide
# layer and GELU in one.) Add the last norm and the output layer, a unit each, the
# logits, and the small change: two numbers a row for each norm and for the loss, one a
# row and head for attention, the ids, and on the CPU a table $T \times T$ a block of
# who may look where, which is small only while $T$ is. This is the whole formula, to
# the byte:
#
# $$A = \left(16 L + 2\right) BTC\,s + B T V s + \mathrm{small\ change},$$
#
# with $s$ the bytes of a number.


# %%
# NBVAL_CHECK_OUTPUT
def activations(B, T, C, L, V, size=4):
    """Bytes kept for backward, without small change."""
    return size * B * T * ((16 * L + 2) * C + V)


small = 4 * B * T * (2 * (2 * L + 1) + H * L + 2)  # norms, attention, cross-entropy
masks = 4 * L * T * T  # who may look where, a table for each block
ids = 8 * (B * T + T) + 8 * B * T + B * T  # tokens, places; targets, which ones count
by_formula = activations(B, T, C, L, V) + small + masks + ids
walked = sum(size for _, size in rows)
print(f"formula {by_formula:,}   graph {walked:,}")
assert by_formula == walked

# %%
figure, axes = plt.subplots(figsize=(7.4, 2.6), layout="constrained")
names = ["norm", "q k v proj.", "q, k, v", "att. out", "norm", "wide", "GELU", "narrow"]
families = ["#999999", "#0072B2", "#E69F00", "#E69F00", "#999999", "#0072B2", "#009E73",
            "#0072B2"]  # fmt: skip
left = 0
for i, ((_, units), name, colour) in enumerate(
    zip(in_blocks[:8], names, families, strict=True)
):
    axes.barh(0, units, left=left, color=colour, edgecolor="white")
    y_text = 0.5 if i % 2 else -0.5
    side = "bottom" if i % 2 else "top"
    axes.text(left + units / 2, y_text, name, ha="center", va=side)
    axes.text(left + units / 2, 0, f"{units:.0f}", ha="center", va="center")
    left += units
axes.set(ylim=(-0.8, 0.8), yticks=[], xticks=range(0, 17, 2))
axes.set(xlabel="kept for backward, in arrays of (B, T, C)")
for side in ("left", "top", "right"):
    axes.spines[side].set_visible(False)
viz.show(
    figure,
    alt="One bar of length 16 for what a block keeps: norm 1, projection to q k v 1, "
    "the q, k and v themselves 3, attention's output 1, norm 1, the wide layer's input "
    "1, GELU's input 4, the narrow layer's input 4.",
)

# %% [markdown]
# Half of it, 8 of 16, is GELU: its input and its output. (ReLU could do with the output
# alone, since $y > 0$ tells where $x$ was; a network with ReLU keeps 12.)
#
# ## The peak is not the sum
#
# Weights, moments, gradients and activations are never all there. When backward begins,
# all activations are there and no gradient of a weight; when it ends, all gradients are
# and no activation. What the machine must have is the largest value on the way. To see
# the way, we put a *probe* behind each block: an op that changes nothing and notes how
# much memory was in use, both when forward passes it and when backward comes back.


# %%
def probe(x, *, log):
    """x itself; notes the most that was held since the note before, both ways."""

    def note():
        log.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.reset_peak()

    def backward(dy):
        note()
        return (dy,)

    note()
    return x, backward


class Probed(nn.Module):
    """A block with a probe behind it."""

    def __init__(self, block, log):
        self.block, self.log = block, log

    def forward(self, x, **settings):
        return apply(probe, self.block(x, **settings), log=self.log)


# %%
def memory_of_a_step(model):
    """MB in use, noted behind each block: forward, backward, and after the update."""
    log = []
    model.blocks = nn.ModuleList(Probed(block, log) for block in model.blocks)
    optimizer = optim.AdamW(model.parameters())
    for _ in range(2):  # the second step has the moments from its beginning
        optimizer.zero_grad()
        log.clear()
        loss = training.next_token_loss(model, x, y)
        loss.backward()
        log.append(tracemalloc.get_traced_memory()[1] / 1e6)
        optimizer.step()
        log.append(tracemalloc.get_traced_memory()[0] / 1e6)
        tracemalloc.reset_peak()
    return log


def traced_step(make):
    tracemalloc.start()
    log = memory_of_a_step(make())
    tracemalloc.stop()
    return log


# %%
def draw_way(axes, log, colour, label):
    axes.plot(range(1, len(log) + 1), log, marker="o", color=colour, label=label)
    axes.fill_between(range(1, len(log) + 1), log, color=colour, alpha=0.2)


def name_ways(axes):
    places = [*(f"{i}" for i in range(1, L + 1)), *(f"{i}" for i in range(L, 0, -1))]
    axes.set_xticks(range(1, 2 * L + 3), [*places, "end", "step"])
    axes.set(xlabel="behind block: forward, then backward", ylim=(0, None))
    axes.set(ylabel="memory in use (MB)")
    axes.grid(alpha=0.3)


# %%
way = traced_step(new_gpt)
figure, axes = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
draw_way(axes, way, "#0072B2", "float32")
axes.axhline(12 * N / 1e6, color="black", linestyle="--", linewidth=1)
axes.text(1, 12 * N / 1e6, " weights and moments", va="bottom")
name_ways(axes)
viz.show(
    figure,
    alt="Memory during a training step. It rises in a straight line through the six "
    "blocks of the forward pass, has its peak in the backward pass of the last block, and "
    "falls back in a straight line; weights and Adam's moments are a low base.",
)

# %% [markdown]
# A mountain on a small plinth. The climb is the 16 units of each block; the summit
# comes right after forward, and there the formula for the *peak* is
#
# $$\mathrm{peak} \approx 12 N + A + BTVs :$$
#
# weights and two moments, all activations, and the gradient of the logits, which is as
# large as the logits. The gradients of the weights are not in it. They are made when
# activations are let go, at most $4N$ in the end, and unless a model is large and its
# batch tiny that is not the peak.


# %%
# NBVAL_CHECK_OUTPUT
def peak_by_formula(B, T, C, L, V, size=4, bytes_a_weight=12):
    N = count_parameters(V, T, C, L)
    return bytes_a_weight * N + activations(B, T, C, L, V, size) + size * B * T * V


expected = peak_by_formula(B, T, C, L, V) / 1e6
print(f"formula {expected:.1f} MB")
assert expected < max(way) < 1.3 * expected

# %% tags=["nbval-ignore-output"]
print(f"measured {max(way):.1f} MB, {max(way) / expected - 1:.0%} more")

# %% [markdown]
# What is missing is *workspace*. In our network it even moves the summit by one dot:
# the logits are gone there, but the backward of block 6's GELU, say, holds three or
# four arrays of $(B, T, 4C)$ for a moment. It does not grow with the number of layers,
# and the next op uses the same memory.
#
# Now GPT-2, by the formula that holds for ours.


# %%
# NBVAL_CHECK_OUTPUT
def parts_of(B, T, C, L, V, size=4, bytes_a_weight=12):
    """GB at the peak: weights and moments, activations, logits and their gradient."""
    logits = size * B * T * V
    model = bytes_a_weight * count_parameters(V, T, C, L)
    return (
        np.array([model, activations(B, T, C, L, V, size) - logits, 2 * logits]) / 1e9
    )


gpt2 = {"T": 1024, "C": 768, "L": 12, "V": 50257}
for size in (1, 8, 64):
    parts = parts_of(size, **gpt2)
    print(f"{size:2} texts:", *parts.round(1), "=", parts.sum().round(1), "GB")

# %%
PARTS = {"weights, moments": "#999999", "activations": "#0072B2", "logits": "#E69F00"}


def draw_parts(axes, rows, legend):
    """Stacked bars: {name: parts}, and where the legend stands."""
    left = np.zeros(len(rows))
    for i, (part, colour) in enumerate(PARTS.items()):
        widths = np.array([row[i] for row in rows.values()])
        axes.barh(list(rows), widths, left=left, color=colour, label=part)
        left = left + widths
    axes.invert_yaxis()
    axes.legend(loc=legend)
    axes.grid(axis="x", alpha=0.3)


# %%
figure, axes = plt.subplots(figsize=(7.4, 2.8), layout="constrained")
rows = {f"{b} texts": parts_of(b, **gpt2) for b in (1, 8, 16, 32, 64)}
draw_parts(axes, rows, "upper right")
for gigabytes, card in ((16, "T4"), (24, "RTX 4090")):
    axes.axvline(gigabytes, color="black", linestyle="--", linewidth=1)
    axes.text(gigabytes, -0.6, card, ha="center", va="bottom")
axes.set(xlabel="GB at the peak of a step of GPT-2 in float32, 1,024 tokens a text")
viz.show(
    figure,
    alt="Stacked bars for GPT-2 in float32 with 1, 8, 16, 32 and 64 texts. Weights and "
    "moments are always 1.5 GB; activations and logits grow with the batch, to 39 and "
    "26 GB. The memory of a T4, 16 GB, is passed between 8 and 16 texts, that of an "
    "RTX 4090, 24 GB, between 16 and 32.",
)

# %% [markdown]
# There is the answer to the first half of the question: 1.5 GB of the 67 are the model,
# 39 are activations, and 26 are one single layer, the last, because it has 50,257
# numbers for each token. (The sizes of the cards are from their data sheets.)
#
# Two handles suggest themselves. Make $s$ smaller: 2 bytes in the place of 4. And make
# the activations fewer. We begin with the first, which is the harder one, since it
# changes the numbers.

# %% [markdown]
# ## Sixteen bits, two ways
#
# A float is $\pm 1.f \cdot 2^e$: bits for the *exponent* $e$ decide how far the numbers
# reach, bits for the *fraction* $f$ how close they stand. With 16 bits there are two
# opinions about the division.
#
# | | exponent | fraction | largest | smallest normal | smallest | next after 1 |
# |---|---|---|---|---|---|---|
# | float32 | 8 bits | 23 bits | 3.4e38 | 1.2e-38 | 1.4e-45 | $1 + 2^{-23}$ |
# | float16 | 5 bits | 10 bits | 65,504 | 6.1e-5 | 6.0e-8 | $1 + 2^{-10}$ |
# | bfloat16 | 8 bits | 7 bits | 3.4e38 | 1.2e-38 | 9.2e-41 | $1 + 2^{-7}$ |
#
# By hand, for float16: between 2,048 and 4,096 its numbers are $2048 \cdot 2^{-10} = 2$
# apart. So $2048 + 1$ lies in the middle of two, goes to the even one, and is 2,048: a
# counter of float16 stops there. And $300 \cdot 300$ is infinite.

# %%
# NBVAL_CHECK_OUTPUT
half = np.float16
with np.errstate(over="ignore"):
    print(*map(float, (half(2048) + half(1), half(300) * half(300), half(1e-8))))

# %% [markdown]
# bfloat16 is simply the upper half of a float32. NumPy has none, but two lines make
# one: look at the bits as a whole number, add half of what will be cut off (the last
# bit that stays decides ties, to even), and cut.


# %%
# NBVAL_CHECK_OUTPUT
def bfloat16(x):
    """x rounded to bfloat16, as float32 again; not for NaN."""
    bits = np.asarray(x, "float32").view("uint32")
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & 0xFFFF0000).view("float32")


def float16(x):
    with np.errstate(over="ignore"):
        return np.asarray(x).astype("float16").astype("float32")


numbers = np.float32([3.14159265, 256 + 1, 1e-8, 1e30])
for rounding in (bfloat16, float16):
    print(f"{rounding.__name__:>8}:", *(f"{x:.6g}" for x in rounding(numbers)))

# %% [markdown]
# $\pi$ keeps three digits or four; 257 does not exist in bfloat16; $10^{-8}$ does not
# in float16. The picture shows the distance to the next number, as a share of the
# number itself, wherever the format has any:

# %%
FORMATS = {"float32": (23, -126, 127), "float16": (10, -14, 15),
           "bfloat16": (7, -126, 127)}  # fmt: skip
COLOURS = {"float32": "#000000", "float16": "#0072B2", "bfloat16": "#E69F00"}

figure, axes = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
for name, (fraction, lowest, highest) in FORMATS.items():
    e = np.arange(lowest - fraction, highest + 1)
    spacing = np.maximum(e, lowest) - fraction  # below `lowest` it stays as it is there
    axes.plot(e, spacing - e, color=COLOURS[name], label=name)
    axes.plot(e[[0, -1]], (spacing - e)[[0, -1]], "o", color=COLOURS[name])
axes.set(xlabel="number (powers of 2)", ylabel="distance to the next (powers of 2)")
axes.set(xticks=range(-140, 141, 20), yticks=range(-24, 1, 4))
axes.grid(alpha=0.3)
axes.legend(loc="center", bbox_to_anchor=(0.35, 0.4))
viz.show(
    figure,
    alt="Relative spacing against size, both as powers of two. float32 is a low line at "
    "-23 from -126 to 127 that rises on the far left; bfloat16 has the same width at "
    "-7; float16 lies at -10 but only from -14 to 15, and rises steeply to 0 at -24.",
)

# %% [markdown]
# bfloat16 has the *range* of float32 and few digits; float16 has digits and a narrow
# window. Below $2^{-14}$ its numbers, called *subnormal*, lose a bit with each halving,
# and below $2^{-24}$ there are none: what is less than half of that becomes 0. For
# weights and for most activations the window is wide enough, though some large models
# overflow in it. For gradients?

# %% [markdown]
# ## Gradients that are too small
#
# We take the trained GPT and look at all gradients of one backward pass: those of the
# logits, of the outputs of the blocks and of the weights.


# %%
class Listening(nn.Module):
    """A block that keeps the gradients of its output."""

    def __init__(self, block, heard):
        self.block, self.heard = block, heard

    def forward(self, x, **settings):
        out = self.block(x, **settings)
        out.register_hook(lambda gradient: self.heard.append(gradient.numpy()))
        return out


def all_gradients(model, x, y):
    """{where: gradients of one backward pass}, flat."""
    heard = {"logits": [], "between blocks": []}
    blocks, places = list(model.blocks), heard["between blocks"]
    model.blocks = nn.ModuleList(Listening(block, places) for block in blocks)
    logits = model(x)
    logits.register_hook(lambda gradient: heard["logits"].append(gradient.numpy()))
    model.zero_grad()
    F.cross_entropy(logits, y).backward()
    model.blocks = nn.ModuleList(blocks)
    heard["weights"] = [p.grad.numpy() for p in model.parameters()]
    return {name: np.concatenate([g.ravel() for g in gs]) for name, gs in heard.items()}


# %%
gradients = all_gradients(gpt, x, y)
sizes = {name: np.log2(np.abs(g[g != 0])) for name, g in gradients.items()}
targets = int((y.array != -100).sum())
print(f"{targets:,} targets; of the gradients that are not 0, float16 makes 0:")
for name, exponents in sizes.items():
    lost, big = (exponents < -25).mean(), (exponents - 9 < -25).mean()
    more = "" if name == "weights" else f"; with 512 times as many targets {big:6.1%}"
    print(f"{name:>15}: {lost:6.1%}{more}")

# %%
figure, axes = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
bins = np.arange(-45, 5)
styles = {"logits": "#E69F00", "between blocks": "#0072B2", "weights": "#000000"}
for name, exponents in sizes.items():
    share = np.histogram(exponents, bins)[0] / len(exponents)
    axes.stairs(100 * share, bins, color=styles[name], label=name, linewidth=1.5)
axes.axvspan(-45, -25, color="#D55E00", alpha=0.15)
axes.axvspan(-25, -14, color="#D55E00", alpha=0.05)
axes.text(-44.5, 23.5, "float16: 0")
axes.text(-24.5, 23.5, "fewer digits")
axes.set(xlabel="size of a gradient (powers of 2)", ylim=(0, 26))
axes.set(ylabel="share (% for each power of 2)")
axes.legend(loc="center right")
viz.show(
    figure,
    alt="Histogram of gradients by their power of two, from -45 to 4. Those of the "
    "logits stand around -21, with a part below -25, where float16 has only 0; those "
    "between the blocks stand between -20 and -13 and those of the weights around -11. "
    "Nearly nothing stands above -5, while float16 reaches up to 15.",
)

# %% [markdown]
# Of the logits' gradients 1.5 % are lost already, and nearly all others stand where
# digits are missing. Why are they so small? A loss is a *mean*. Each logit's gradient
# is $(p - 1)$ or $p$ divided by the number of targets, here about a thousand. A serious
# batch has half a million, and the two curves on the left move nine powers of 2 further
# (that of the weights does not: its gradients are sums over all targets): then nearly
# all of the logits' gradients are 0, and with them half of those that should travel on
# between the blocks. At the other end, up to $2^{15}$, the range is empty.
#
# ## A scale for the loss
#
# Which is the remedy. Multiply the loss by $S$ before backward; by the chain rule each
# gradient is multiplied by $S$; when it has arrived, turn it into float32 and divide.
# With $S$ a power of 2 not a digit changes on the way. By hand: $10^{-8}$ is 0 in
# float16. Times 65,536 it is 6.55e-4, which float16 has to three digits, and divided
# again, in float32, it is $10^{-8}$. (Divided in float16 it would be 0 again. This is
# the classic mistake.)

# %%
# NBVAL_CHECK_OUTPUT
scaled_up = np.float16(np.float32(1e-8) * 65536)
right, wrong = np.float32(scaled_up) / 65536, scaled_up / np.float16(32768) / 2
print(scaled_up, f"{right:.3e}", wrong)

# %% [markdown]
# Now the GPT by hand: copies of the weights in float16 take the place of the weights;
# forward, a scaled loss, backward; then the float32 weights come back.


# %%
def half_gradient(model, x, y, scale):
    """The gradient by all weights, from a pass in float16; flat, float32."""
    masters = [(p, p.array) for p in model.parameters()]
    model.zero_grad()
    with np.errstate(all="ignore"):
        for p, array in masters:
            p.array = array.astype("float16")
        loss = training.next_token_loss(model, x, y)  # a float32: see below
        (loss * scale).backward()
        wide = [p.grad.array.astype("float32") / scale for p, _ in masters]
    for p, array in masters:
        p.array = array
    return np.concatenate([g.ravel() for g in wide])


exact = gradients["weights"]
scales = 2.0 ** np.arange(-12, 29, scaled(4, smoke=20))
errors = [half_gradient(gpt, x, y, scale) - exact for scale in scales]
errors = [np.linalg.norm(e) / np.linalg.norm(exact) for e in errors]

# %%
figure, axes = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
good = np.isfinite(errors)
axes.loglog(scales[good], np.array(errors)[good], "o-", color="#0072B2")
axes.loglog(scales[~good], np.ones((~good).sum()), "x", color="#D55E00", markersize=9)
axes.axvline(65536, color="black", linestyle="--", linewidth=1)
axes.text(65536, 0.4, " 65,536", va="top")
axes.set_xscale("log", base=2)
axes.set(xlabel="scale of the loss", ylabel="error of the gradient")
axes.set(ylim=(1e-3, 2), xticks=[2.0**k for k in range(-12, 29, 4)])
axes.grid(alpha=0.3)
viz.show(
    figure,
    alt="Relative error of the float16 gradient against the scale of the loss, from 2 "
    "to the -12 to 2 to the 28. It falls from about 1 at the left to about 0.0018 and "
    "stays there from 16 to 2 to the 20; crosses at 2 to the 24 and 28 mark overflow. "
    "65,536 lies in the flat part.",
)

# %% [markdown]
# A cliff on the left, where the gradients vanish; a wall on the right, where the first
# of them passes 65,504; and a plain between them, as flat as a table, where the error
# is that of float16's ten bits. Any scale on the plain is as good as another.
#
# For this GPT with its thousand targets a scale of 1 is nearly good enough: one can
# train small networks in float16 for a long time before one meets the cliff. With 256
# times as many targets the gradients on their way are 256 times smaller, and a scale of
# 1 does to them what $2^{-8}$ does here, where half of the gradient is wrong.
#
# Where does the wall stand? Nobody knows beforehand, and it moves while the network
# learns. So one walks against it: begin at 65,536; after a number of good steps in a
# row double the scale; when a gradient is infinite or NaN, *skip* the step, so that no
# harm is done, and halve it. With 3 good steps in a row as the rule:

# %%
# NBVAL_CHECK_OUTPUT
scaler = training.GradScaler(growth_interval=3)
for finite in (True, True, True, True, False, True):
    print(f"{scaler.scale:,.0f}", "step" if finite else "skipped", end="; ")
    scaler.update(finite)
print(f"{scaler.scale:,.0f}")

# %% [markdown]
# The library's rule doubles after 2,000 good steps, as PyTorch's does, so that about
# one step in 2,000 is lost. To see it at work in a short run we make it impatient: 4
# steps. `fit(precision="fp16")` does all that stands above, on the CPU too. Where it
# lives:
# [`minibig/training/mixed_precision.py`](../minibig/training/mixed_precision.py).


# %% tags=["nbval-ignore-output"]
def impatient(run):
    if run.step == 1:
        run.precision.scaler = training.GradScaler(growth_interval=4)


tried = scaled(40, smoke=4)
history = train(new_gpt(), tried, precision="fp16", callbacks=[impatient])
trace = np.array([row["scale"] for row in history.steps])
skipped = np.flatnonzero(trace[1:] < trace[:-1])
print(f"{len(skipped)} of {tried} steps skipped, the first is step {skipped[:1] + 1}")

# %%
figure, axes = plt.subplots(figsize=(7.4, 3), layout="constrained")
axes.step(np.arange(1, tried + 1), trace, where="mid", color="#0072B2")
axes.plot(skipped + 1, trace[skipped], "x", color="#D55E00", markersize=9,
          label="overflow: step skipped")  # fmt: skip
axes.set_yscale("log", base=2)
axes.set(xlabel="step", ylabel="scale", ylim=(2**14, 2**23))
axes.grid(alpha=0.3)
axes.legend(loc="lower right")
viz.show(
    figure,
    alt="The scale over 40 steps, on a logarithmic axis: it doubles every four good "
    "steps, and each time it becomes too large a cross marks a skipped step and it "
    "falls back by half; the level drifts upwards from 65,536.",
)

# %% [markdown]
# It feels its way along the wall, which moves away while the gradients get smaller. If
# you watch a run in float16, a skipped step now and then is a sign of health. A scale
# that falls and falls is not: then something is infinite with any scale.
#
# bfloat16 needs none of this; it has the range of float32. That, more than speed or
# digits, is why it has won wherever the hardware has it.

# %% [markdown]
# ## Weights in 32 bits
#
# The copies are of 16 bits; the weights are not, and the gradient is added to them in
# float32. Is that necessary? By hand: a weight of 1, an update of $-0.0001$. Just below
# 1 the numbers of float16 are $2^{-11} = 0.00049$ apart, so 0.9999 is rounded to 1:
# nothing has happened. A thousand such updates, which should make 0.9, make 1.

# %%
# NBVAL_CHECK_OUTPUT
for dtype in ("float16", "float32"):
    w = np.ones((), dtype)
    for _ in range(1000):
        w = w - np.asarray(1e-4, dtype)
    print(f"{dtype}: {w:.4f}")

# %% [markdown]
# That is no accident of the numbers: Adam's updates are about as large as the learning
# rate, and learning rates are small. An update is lost when it is less than half the
# distance between numbers: about $2^{-12}$ of the weight in float16, $2^{-9} = 0.2$ %
# in bfloat16. In the run from above, let us keep the weights in 16 bits (all else in
# float32) and count how many of them an update leaves as they were.


# %%
def kept_in(rounding, unchanged):
    """A callback that rounds the weights, and notes which share has not moved."""
    before = []

    def after_step(run):
        for p in run.model.parameters():
            p.array[...] = rounding(p.array)
        now = np.concatenate([p.array.ravel() for p in run.model.parameters()])
        unchanged.extend((now == old).mean() for old in before)
        before[:] = [now]

    return after_step


# %% tags=["nbval-ignore-output"]
narrow = {}
for name, rounding in (("float16", float16), ("bfloat16", bfloat16)):
    unchanged = []
    history = train(new_gpt(), callbacks=[kept_in(rounding, unchanged)])
    narrow[name] = unchanged, np.array(history.loss)
    more = (narrow[name][1] - plain)[-10:].mean()
    print(f"{name}: {unchanged[-1]:.0%} unchanged at last, loss higher by {more:.4f}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for name, (unchanged, losses) in narrow.items():
    left.plot(range(2, steps + 1), 100 * np.array(unchanged), color=COLOURS[name])
    apart = np.convolve(losses - plain, np.ones(5) / 5, "valid")
    right.plot(np.arange(3, 3 + len(apart)), apart, color=COLOURS[name], label=name)
left.set(xlabel="step", ylabel="weights that did not move (%)", ylim=(0, 100))
right.set(xlabel="step", ylabel="loss above float32's (nats)")
for axes in (left, right):
    axes.grid(alpha=0.3)
right.legend()
viz.show(
    figure,
    alt="Left, the share of weights that a step leaves unchanged, against the step: in "
    "bfloat16 it grows to most of them as the learning rate falls, in float16 it stays "
    "much smaller until the end. Right, how far the loss is above the run with float32 "
    "weights: float16 stays near 0; bfloat16 is above it for 20 steps, meets it once, "
    "and then rises away to 0.05.",
)

# %%
for name, bound in (("bfloat16", {"at_least": 0.02}), ("float16", {"at_most": 0.005})):
    higher = (narrow[name][1] - plain)[-10:].mean()
    result(f"weights in {name}, loss above float32's", higher, **bound)

# %% [markdown]
# The lower the learning rate falls, the fewer weights move: in the last step nine of
# ten stand still in bfloat16, and half of them in float16. Over three seeds the
# bfloat16 run ended 0.045 to 0.067 nats too high, as if it had come to a halt while it
# could still learn; for float16 no difference can be seen in so short a run (0.001 at
# most). So *master* weights of float32 stay, and the account of a weight becomes: 4
# bytes for the master, 8 for moments, 2 for the copy, and 2 or 4 for the gradient: **16
# to 18 bytes, as many as before**. Sixteen bits save nothing on this side. What they
# halve are the activations, which is why *mixed* precision is worth it all the same.
# Sums over many numbers are the third thing to keep wide: norms, softmax and the loss
# are computed in float32 here, from float16 and into it.

# %% [markdown]
# ## A large batch in small parts
#
# Activations are in proportion to the batch. But a gradient is a mean over the batch,
# and a mean can be taken in parts: forward and backward on 4 stories, four times, let
# the gradients add up in `.grad`, and then one update. *Gradient accumulation* changes
# nothing but the memory and, in the last digits, the order of a sum.
#
# One trap, on paper. Two parts, with 3 targets of loss 1 each and with one target of
# loss 5. The mean is $(3 + 5) / 4 = 2$, but the mean of the two means is
# $(1 + 5) / 2 = 3$. Stories differ in length, so each part must be weighted by its
# share of the targets.

# %%
inputs, answers = x.array, y.array
whole = all_gradients(gpt, x, y)["weights"]


def in_parts(parts, weighted=True):
    """The gradient of the batch, added up over parts of its rows."""
    gpt.zero_grad()
    for rows in np.array_split(np.arange(B), parts):
        count = (answers[rows] != -100).sum()
        share = count / targets if weighted else 1 / parts
        loss = training.next_token_loss(gpt, inputs[rows], answers[rows])
        (loss * float(share)).backward()
    return np.concatenate([p.grad.numpy().ravel() for p in gpt.parameters()])


def apart(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


print(f"4 parts, weighted {apart(in_parts(4), whole):.1e}, "
      f"not weighted {apart(in_parts(4, False), whole):.1e}")  # fmt: skip
assert apart(in_parts(4), whole) < 1e-5 < 1e-3 < apart(in_parts(4, False), whole)

# %% [markdown]
# The same gradient to six digits. `fit(accumulate=4)` does so. What it saves:

# %% tags=["nbval-ignore-output"]
every, two = (1, 2, 4, 8, 16), scaled(2, smoke=1)


def peak_in(parts):
    """MB at the peak of two steps, each of 16 stories in so many parts."""
    loader = batches(B // parts)
    return traced(lambda: train(new_gpt(), two, loader, accumulate=parts))[1] / 1e6


peaks = [peak_in(parts) for parts in every]
for parts, peak in zip(every, peaks, strict=True):
    print(f"{parts:2} parts: {peak:5.1f} MB")

# %%
figure, axes = plt.subplots(figsize=(7.4, 3.2), layout="constrained")
curve = [peak_by_formula(B / n, T, C, L, V, 4, 12 if n == 1 else 16) for n in every]
axes.loglog(every, peaks, "o", color="#0072B2", label="measured")
axes.loglog(every, np.array(curve) / 1e6, color="#0072B2", label="formula")
axes.axhline(16 * N / 1e6, color="black", linestyle="--", linewidth=1,
             label="16 bytes a weight")  # fmt: skip
ticks = [2, 5, 10, 20, 30]
axes.set(xlabel="parts", ylabel="peak (MB)")
axes.set_xticks(every, every)
axes.set_yticks(ticks, ticks)
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend()
viz.show(
    figure,
    alt="Peak memory against the number of parts, both axes logarithmic: it falls from "
    "about 30 MB with one part towards the 3 MB of weights, gradients and moments, and "
    "the measured dots lie a little above the formula's line.",
)

# %% [markdown]
# Its limit is a part of one text, and its price is that small parts keep a GPU less
# busy. If a single text is too long there must be another way.

# %% [markdown]
# ## Forget, and compute again
#
# There is, and it is bold: do not keep the activations. Keep only the *input* of each
# block. When backward comes to the block, run its forward a second time, use what it
# makes, and let go of it again (arXiv:1604.06174).
#
# As an op it takes ten lines. Forward records nothing; backward builds the little graph
# of the block and walks it at once. The gradients of the block's weights arrive where
# they always do, since weights are leaves.


# %%
def recompute(x, *, function):
    """function(x), whose inside is computed again for backward."""
    with mb.no_grad():
        y = function(mb.Tensor(x)).array

    def backward(dy):
        copy = mb.Tensor(x, requires_grad=True)
        function(copy).backward(mb.Tensor(dy))
        return (copy.grad.array,)

    return y, backward


# %%
def gradients_through(way):
    """The gradients of all blocks, each run as way(block, h)."""
    gpt.zero_grad()
    h = gpt.token_embedding(x) + gpt.position_embedding(mb.arange(T))
    for block in gpt.blocks:
        h = way(block, h)
    h.sum().backward()
    return [p.grad.numpy().copy() for p in gpt.blocks.parameters()]


def ours(block, h):
    return apply(recompute, h, function=lambda x: block(x, is_causal=True))


def theirs(block, h):
    return mb.checkpoint(block, h, is_causal=True)


pairs = zip(gradients_through(ours), gradients_through(theirs), strict=True)
assert all(np.array_equal(a, b) for a, b in pairs)

# %% [markdown]
# Bit for bit the library's `minibig.checkpoint`, which takes several inputs and, where
# there is dropout, repeats the same random numbers; forget that, and backward goes
# through another network than forward did. Where it lives:
# [`minibig/recompute.py`](../minibig/recompute.py).
#
# How long should the parts be? Take $n$ layers that keep one array each, in segments of
# $k$. The inputs of the segments are kept, $n / k$ arrays, and while one segment is
# computed again its $k$ arrays exist. Together
#
# $$m(k) = \frac{n}{k} + k, \qquad m'(k) = 1 - \frac{n}{k^2} = 0
# \quad\mathrm{at}\quad k = \sqrt{n},$$
#
# which makes $2 \sqrt{n}$. By hand, 16 layers in segments of 4: $4 + 4 = 8$ in the
# place of 16; 64 layers in segments of 8: 16 in the place of 64. And the price does not
# depend on $k$: one more forward pass. Backward costs about twice a forward, so a step
# goes from 3 to 4, a third more. We measure it on 64 layers $\tanh(x W)$.

# %%
n, rows = 64, 1024
matrices = [mb.randn(64, 64) / 8 for _ in range(n)]
data_in = mb.randn(rows, 64, requires_grad=True)


def run_chain(k):
    """Forward and backward through the chain, in segments of k."""
    h = data_in
    for i in range(0, n, k):

        def segment(h, i=i):
            for w in matrices[i : i + k]:
                h = (h @ w).tanh()
            return h

        h = mb.checkpoint(segment, h) if k < n else segment(h)
    h.sum().backward()


lengths = [1, 2, 4, 8, 16, 32, 64]
run_chain(n)
arrays = [traced(lambda k=k: run_chain(k))[1] / (rows * 64 * 4) for k in lengths]

# %%
figure, axes = plt.subplots(figsize=(7.4, 3.2), layout="constrained")
k = np.geomspace(1, 32, 100)
axes.semilogx(k, n / k + k, color="#0072B2", label="n / k + k")
axes.semilogx(lengths[:-1], arrays[:-1], "o", color="#0072B2", label="measured")
axes.axhline(arrays[-1], color="black", linestyle="--", linewidth=1,
             label="nothing computed again")  # fmt: skip
axes.set_xticks(lengths[:-1], lengths[:-1])
axes.minorticks_off()
axes.set(xlabel="layers in a segment", ylabel="arrays held at the peak", ylim=(0, None))
axes.grid(alpha=0.3)
axes.legend(loc="center", bbox_to_anchor=(0.6, 0.65))
viz.show(
    figure,
    alt="Arrays held at the peak for 64 layers against the length of a segment. The "
    "curve n/k + k is 65 at 1, has its minimum of 16 at 8 and rises to 34 at 32; the "
    "measured dots lie a few above it. A dashed line at about 67 is the peak without "
    "recomputation.",
)

# %% [markdown]
# In a GPT the natural segment is a block: 1 unit is kept in the place of 16, and 16
# come back for one block at a time, $L + 16$ for $16 L$. (With $a = 16$ arrays inside a
# layer the rule becomes $k = \sqrt{n / a}$, which for 12 blocks is 0.9. Two blocks
# together need $n / 2 + 32$, less than $n + 16$ for more than 32 blocks (for whole
# segments from 34 on).)


# %%
class Recomputed(nn.Module):
    """A block whose inside is computed again."""

    def __init__(self, block):
        self.block = block

    def forward(self, x, **settings):
        return mb.checkpoint(self.block, x, **settings)


def recomputing_gpt(seed=0):
    model = new_gpt(seed)
    model.blocks = nn.ModuleList(Recomputed(block) for block in model.blocks)
    return model


# %%
figure, axes = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
low = traced_step(recomputing_gpt)
draw_way(axes, traced_step(new_gpt), "#0072B2", "everything kept")
draw_way(axes, low, "#D55E00", "blocks computed again")
name_ways(axes)
axes.legend()
viz.show(
    figure,
    alt="Memory during a step, twice. The mountain of before, and far below it the step "
    "with recomputation: almost flat through forward, then one level for all blocks of "
    "the backward pass, where the inside of one block at a time is held.",
)

# %% [markdown]
# The price: a third by the count; measured on a small network, whose many short calls
# have a price of their own, up to a half.


# %% tags=["nbval-ignore-output"]
def seconds(model):
    """CPU seconds of forward and backward."""
    began = time.process_time()
    training.next_token_loss(model, x, y).backward()
    return time.process_time() - began


both = new_gpt(), recomputing_gpt()
tries = [[seconds(model) for model in both] for _ in range(scaled(12, smoke=2))]
kept, again = np.median(tries, axis=0)
print(f"{1e3 * kept:.0f} ms of CPU, {1e3 * again:.0f} ms with recomputation: "
      f"{again / kept - 1:.0%} more")  # fmt: skip
losses = train(recomputing_gpt(), scaled(8, smoke=2)).loss
assert np.array_equal(losses, plain[: len(losses)])

# %% [markdown]
# And the losses are equal in every bit, which the cell asserts. Of all our ways it is
# the one that costs time and nothing else.

# %% [markdown]
# ## The same curve, half the memory
#
# What does each way give alone, and what do they give together? Two steps of the run,
# measured from before the model is made.

# %% tags=["nbval-ignore-output"]
WAYS = {
    "float32": ("fp32", False, 1),
    "float16": ("fp16", False, 1),
    "recomputed": ("fp32", True, 1),
    "4 parts": ("fp32", False, 4),
    "float16, recomputed": ("fp16", True, 1),
    "all three": ("fp16", True, 4),
}


def run_way(precision, again, parts, steps=two):
    model = recomputing_gpt() if again else new_gpt()
    return train(model, steps, batches(B // parts), accumulate=parts,
                 precision=precision)  # fmt: skip


peaks = {name: traced(lambda w=way: run_way(*w))[1] / 1e6 for name, way in WAYS.items()}
for name, peak in peaks.items():
    print(f"{name:>20} {peak:6.1f} MB {peak / peaks['float32']:6.0%}")

# %% [markdown]
# Read it with the formula in mind. **float16 alone** does not reach the half. It takes
# 10 MB off, half of the activations; but the model has not become smaller, it has even
# got copies, and on the CPU, where NumPy works in float32 between two arrays of
# float16, the workspace is as before. **Recomputation alone** goes below the half and
# changes no number, and so do **parts alone**, but for the order of a sum. With
# recomputation, float16 has little left to halve: 2 MB. What makes the half here is
# recomputation; in a network of 48 layers or 50,000 tokens the 16 bits would count for
# more.
#
# Does the network still learn the same? The float16 run with recomputation, beside
# float32 and, as a yardstick for *the same*, a float32 run from other first weights.
# Expect it to take three to five times as long here, recomputation included: a CPU has
# no units for float16, and minibig converts to float32 and back around each product.
# Over three seeds its loss was 0.0001 nats apart from float32's on average.

# %% tags=["nbval-ignore-output"]
began = time.perf_counter()
lean = np.array(run_way("fp16", True, 1, steps).loss)
middle = time.perf_counter()
other = np.array(train(new_gpt(seed=1)).loss)
print(f"float16, recomputed: {middle - began:.0f} s, "
      f"float32: {time.perf_counter() - middle:.0f} s")  # fmt: skip
for name, losses in (("float16, recomputed", lean), ("other weights", other)):
    print(f"{name}: apart by {np.abs(losses - plain).mean():.4f} nats on average, "
          f"{np.abs(losses - plain)[-10:].mean():.4f} at last")  # fmt: skip

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
left.plot(plain, color="#000000", linewidth=4, alpha=0.3, label="float32")
left.plot(lean, color="#D55E00", linewidth=1.2, label="float16, recomputed")
left.set(xlabel="step", ylabel="loss (nats a token)")
right.semilogy(np.abs(lean - plain), color="#D55E00", label="float16, recomputed")
right.semilogy(np.abs(other - plain), color="#0072B2", label="other first weights")
right.set(xlabel="step", ylabel="apart from float32 (nats)")
for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.legend()
viz.show(
    figure,
    alt="Left, the loss of float16 with recomputation lies exactly on that of float32, "
    "from 5.2 to about 1. Right, how far apart from float32 on a logarithmic axis: "
    "float16 with recomputation around 0.0001 nats, a float32 run from other first "
    "weights around 0.01 to 0.1, a hundred times as far.",
)

# %%
figure, axes = plt.subplots(figsize=(7.4, 2.8), layout="constrained")
colours = ["#D55E00" if name == "float16, recomputed" else "#999999" for name in peaks]
bars = axes.barh(list(peaks), list(peaks.values()), color=colours)
axes.bar_label(bars, [f" {peak / peaks['float32']:.0%}" for peak in peaks.values()])
axes.axvline(peaks["float32"] / 2, color="black", linestyle="--", linewidth=1)
axes.text(peaks["float32"] / 2, 5.4, "the half ", ha="right", va="bottom")
axes.invert_yaxis()
axes.margins(x=0.1)
axes.set(xlabel="most that was in use during two steps (MB)")
viz.show(
    figure,
    alt="Bars of the peak memory against float32's 29 MB: float16 alone above 60 %, "
    "recomputed alone near 40 %, four parts alone near 35 %, float16 with recomputation "
    "a third, all three 20 %. All but float16 alone stay below the dashed line at the "
    "half.",
)

# %%
mb.seed(0)
result("peak memory, share of float32's", peaks["float16, recomputed"]
       / peaks["float32"], at_most=0.5)  # fmt: skip
result("loss apart from float32's", np.abs(lean - plain)[-10:].mean(), at_most=0.01)
if not in_smoke_mode():
    assert np.abs(lean - plain).mean() < np.abs(other - plain).mean()

# %% [markdown]
# And GPT-2 with its 67 GB? The formula answers, with $s = 2$ and 14 bytes a weight (the
# copies are there at the peak), $L + 2$ units for $16 L + 2$, and with parts 4 bytes a
# weight more, since the gradients of the parts before are there already. (The logits
# count 2 bytes, since our loss widens a few rows at a time; a framework that makes
# float32 logits of them needs several times as much there.) The 16 units of a block
# that is computed again do not add to the peak: when the first of them comes, the
# logits are gone, and they were more.


# %%
# NBVAL_CHECK_OUTPUT
def lean_parts(B, T, C, L, V, size, again, accumulated):
    """`parts_of`, with blocks computed again, or gradients already there."""
    bytes_a_weight = 12 + 2 * (size == 2) + 4 * accumulated
    parts = parts_of(B, T, C, L, V, size, bytes_a_weight)
    if again:
        parts[1] = size * B * T * C * (L + 2) / 1e9
    return parts


table = {
    "float32": lean_parts(64, **gpt2, size=4, again=False, accumulated=False),
    "16 bits": lean_parts(64, **gpt2, size=2, again=False, accumulated=False),
    "recomputed": lean_parts(64, **gpt2, size=4, again=True, accumulated=False),
    "both": lean_parts(64, **gpt2, size=2, again=True, accumulated=False),
    "both, 8 parts": lean_parts(8, **gpt2, size=2, again=True, accumulated=True),
}
for name, parts in table.items():
    print(f"{name:>14}", *parts.round(1), "=", parts.sum().round(1), "GB")

# %%
figure, axes = plt.subplots(figsize=(7.4, 2.8), layout="constrained")
draw_parts(axes, table, "lower right")
axes.set(xlabel="GB at the peak of a step of GPT-2, 64 texts of 1,024 tokens")
viz.show(
    figure,
    alt="Stacked bars for GPT-2 with 64 texts: float32 67 GB, 16 bits 34, float32 with "
    "recomputation 31, where the logits are most of it, both 16, and both in 8 parts "
    "4.1 GB, of which weights and moments are the largest part.",
)

# %% [markdown]
# So the second half of the question has a surprising answer: of 67 GB more than 60 can
# go, and the batch is the same. Note what is left after recomputation: not the blocks,
# which everybody talks about, but the logits. Nobody needs them all at once either
# (arXiv:2411.09009), and exercise 5 asks for it.

# %% [markdown]
# ## On a GPU
#
# There, 16 bits are fast as well: the matrix units of [18](18_tensor_cores.ipynb) work
# with them. `fit(precision="bf16")` runs on a GPU alone, since NumPy has no such
# numbers. The memory is that of CuPy's pool ([15](15_one_array_two_machines.ipynb)):
# what it has taken from the device, which is the peak and what lies unused between
# arrays. Here the weights are not counted: the model is moved before the count begins.


# %% tags=["nbval-ignore-output"]
from minibig.backend import cupy

device = "cuda"
try:
    mb.tensor([0.0]).to("cuda")
except mb.DeviceError as reason:
    device = "cpu"
    print(f"No GPU here ({reason}).")


def pool_megabytes(run):
    """MB that the pool took for run(), beyond what it had."""
    pool = cupy().get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    run()
    return (pool.total_bytes() - before) / 1e6


# %% tags=["nbval-ignore-output"]
for precision in ("fp32", "fp16", "bf16") if device == "cuda" else ():
    if precision == "bf16" and int(cupy().cuda.Device().compute_capability) < 80:
        print("bf16: this GPU is older than Ampere, the first to multiply bfloat16")
        continue
    model = new_gpt().to("cuda")
    taken = pool_megabytes(lambda p=precision, m=model: train(m, 2, precision=p))
    last = train(new_gpt().to("cuda"), precision=precision).loss[-1]
    print(f"{precision}: {taken:.0f} MB, loss {last:.3f}")

# %% [markdown]
# What a step of GPT-2 took on a real card, in tokens a second and in GB, is measured by
# `benchmarks/gpu_train.py`; here is the newest report, if one has been recorded:

# %% tags=["nbval-ignore-output"]
recorded("gpu_train")

# %% [markdown]
# ## Summary
#
# - A weight costs 16 bytes in training, in 16 bits too; a block keeps 16 arrays
#   $(B, T, C)$; the peak is $12 N$, all activations and the logits twice.
# - float16 has the digits and not the range: gradients vanish below $2^{-25}$. Scale the
#   loss, divide in float32, skip what overflows. bfloat16 has the range and needs no
#   scale.
# - Updates are added to float32 weights; in 16 bits the late ones are lost.
# - A batch in parts gives the same gradient, if each part counts by its targets.
# - Recomputation keeps one array a block and costs a third to a half more time; the
#   numbers stay the same to the bit.
#
# ## Exercises
#
# `hint("19.memory")` helps with the first, and so on.
#
# **1. The account.** In: batch `B`, length `T`, width `C`, blocks `L`, vocabulary `V`
# of a GPT as above, `size` (4, or 2 for mixed precision) and `again` (whether the
# blocks are computed again). Out: bytes at the peak of a step, as a whole number, by
# the formulas of this notebook without small change and workspace: weights and moments
# (with 2 bytes a weight more for the copies if `size` is 2); 16 arrays $(B, T, C)$ for
# each block, or 1 if computed again; 2 arrays for the last norm and the output layer;
# the logits and their gradient. If blocks are computed again, the 16 arrays of the
# block at work come when the logits are gone: the larger of the two counts.

# %%
from minibig.exercises import check


def memory(B, T, C, L, V, size, again):
    ### BEGIN SOLUTION
    N = V * C + T * C + L * (12 * C**2 + 13 * C) + 2 * C
    model = N * (12 if size == 4 else 14)
    arrays = 2 + (L if again else 16 * L)
    largest = max(2 * V, 16 * C) if again else 2 * V
    return model + size * B * T * (arrays * C + largest)
    ### END SOLUTION


check("19.memory", memory)

# %% [markdown]
# **2. Any small float.** In: `x` $(N,)$, float64; `exponent` and `fraction`, the bits
# of a format as in the table above. Its bias is $b = 2^{\mathrm{exponent} - 1} - 1$:
# normal numbers have exponents from $1 - b$ to $b$, and below them the spacing stays as
# it is at $1 - b$. Out: `x` rounded to the nearest number of the format, ties to even,
# as float64. What rounds to more than the largest number is infinite. float16 is $(5,
# 10)$, bfloat16 $(8, 7)$; $(5, 2)$ is one of the formats of 8 bits in arXiv:2209.05433.


# %%
def round_to(x, exponent, fraction):
    ### BEGIN SOLUTION
    bias = 2 ** (exponent - 1) - 1
    e = np.maximum(np.frexp(x)[1] - 1, 1 - bias)  # x = 1.f · 2^e
    spacing = 2.0 ** (e - fraction)
    y = np.rint(x / spacing) * spacing
    largest = (2 - 2.0**-fraction) * 2.0**bias
    return np.where(np.abs(y) > largest, np.copysign(np.inf, x), y)
    ### END SOLUTION


check("19.round_to", round_to)

# %% [markdown]
# **3. Gradients from parts, in float16.** In: `gradients` $(P, N)$, float16: of part
# $p$, the gradient of (mean loss over the targets of this part) times `scale`; `counts`
# $(P,)$, the targets of each part; `scale`. Out: the gradient of the mean loss over all
# targets, $(N,)$ float32, without the scale; and whether the optimizer may step, `True`
# or `False`.


# %%
def unscaled(gradients, counts, scale):
    ### BEGIN SOLUTION
    shares = (counts / counts.sum()).astype("float32")
    total = (gradients.astype("float32") * shares[:, None]).sum(0)
    return total / np.float32(scale), bool(np.isfinite(total).all())
    ### END SOLUTION


check("19.unscaled", unscaled)

# %% [markdown]
# **4. The best segment.** In: `n` layers, each of which holds `a` arrays inside. In
# segments of $k$ layers, from 1 to $n$ (the last may be shorter), the inputs of all
# segments are kept, and while one is computed again the $a$ arrays of each of its
# layers. Out: the pair $(k, m)$ of the best length and its arrays at the peak; of
# several best the smallest $k$. For whole numbers: do not trust the root, try them all.


# %%
def best_segment(n, a):
    ### BEGIN SOLUTION
    held = [-(-n // k) + a * k for k in range(1, n + 1)]
    return held.index(min(held)) + 1, min(held)
    ### END SOLUTION


check("19.best_segment", best_segment)

# %% [markdown]
# **5. An open problem.** After recomputation the logits are the largest part. Write a
# loss that takes the hidden states and the token table, goes over the tokens in chunks,
# and never holds more than one chunk's logits, forward and backward (an op: `recompute`
# is half of it). Hold its gradient against the plain one, draw its peak and its time
# against the size of the chunk, and work out from which vocabulary on it pays.
#
# ## Sources
#
# Mixed precision, loss scaling and master weights: Micikevicius and others
# (arXiv:1710.03740). bfloat16 in training: Kalamkar and others (arXiv:1905.12322).
# Eight bits: Micikevicius and others (arXiv:2209.05433). Recomputation and its square
# root: Chen and others (arXiv:1604.06174). What a block keeps, and what is worth
# computing again: Korthikanti and others (arXiv:2205.05198). The 16 bytes a weight:
# Rajbhandari and others (arXiv:1910.02054). Attention without the scores: Dao and
# others (arXiv:2205.14135). The loss without all logits: Wijmans and others
# (arXiv:2411.09009). GPT-2: Radford and others, "Language Models are Unsupervised
# Multitask Learners" (2019). Sizes of cards: NVIDIA's data sheets of T4 and RTX 4090.
