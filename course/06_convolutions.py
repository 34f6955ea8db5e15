# %% [markdown]
# # Convolutions
#
# > **You will build** convolution and pooling by loops, then as one matrix product;
# > batch norm and a residual block; and a LeNet that reads 99 % of handwritten digits.
# >
# > **You need** [01](01_tensors.ipynb) for views, [02](02_backpropagation.ipynb) for
# > gradients, [03](03_gradient_descent.ipynb) for AdamW and its schedules,
# > [04](04_neural_networks.ipynb) for the digits and their baselines, and
# > [05](05_generalisation.ipynb) for batch norm, dropout and augmentation.
# >
# > **It takes** an hour to read; the code runs for about two minutes on 2 CPU cores in
# > 500 MB of memory. No GPU.
#
# **An MLP takes a picture for a list of numbers. What does a network gain by knowing
# which pixels are neighbours?**

# %%
import contextlib
import dataclasses
import tempfile
import timeit

import matplotlib.pyplot as plt
import numpy as np

import minibig as mb
from minibig import data, nn, optim, recipes, viz
from minibig import functional as F
from minibig.exercises import check, in_smoke_mode, result, scaled
from minibig.presets import PRESETS

mb.seed(0)
digits = data.digit_images()
print(digits.train.features.shape)

# %% [markdown]
# These are the digits of notebook 04, now as pictures: (N, channels, height, width),
# with one *channel*, the ink. A colour picture has three; inside a network there may be
# hundreds, one for each thing that is looked for.
#
# ## What an MLP cannot see
#
# Choose an order of the 64 pixels at random, and put the pixels of *every* picture in
# that order. You can no longer read them. An MLP does not even notice: its first layer
# has one weight for each pixel, drawn from the same distribution for all, and a sum
# does not depend on the order of its terms. Up to the luck of the first weights it
# learns the scrambled digits exactly as well, at the same rate, to the same accuracy.

# %%
order = np.random.default_rng(0).permutation(64)
scrambled = digits.train.features.reshape(-1, 64)[:, order].reshape(-1, 8, 8)
figure, panels = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for i in range(8):
    for axes, picture in zip(
        panels[:, i], (digits.train.features[i, 0], scrambled[i]), strict=True
    ):
        axes.imshow(picture, cmap="gray_r")
        axes.axis("off")
viz.show(
    figure,
    alt="Above, eight handwritten digits of 8 by 8 pixels. Below, the same digits with "
    "their pixels in one random order: unreadable speckles.",
)

# %% [markdown]
# That a network can do without knowing what is next to what may sound like a strength.
# It means that whatever it learns about a stroke in one corner it must learn again in
# every other place. How much that costs we shall measure at the end.
#
# ## A window that slides
#
# A *convolution* looks at the picture $x$ through a small window. A table of weights,
# the *kernel* $w$, is laid on the window, the numbers that lie on each other are
# multiplied, and everything is added up, with a bias $b$:
#
# $$y_{ij} = b + \sum_{u,v} w_{uv}\, x_{i+u,\,j+v} .$$
#
# The same few weights serve every place. By hand, 4 by 4 pixels and a kernel that
# compares left with right:
#
# | picture | | | | | kernel | | |
# |---|---|---|---|---|---|---|---|
# | 1 | 2 | 0 | 1 | | 1 | 0 | −1 |
# | 0 | 1 | 3 | 1 | | 2 | 0 | −2 |
# | 2 | 1 | 0 | 0 | | 1 | 0 | −1 |
# | 1 | 0 | 1 | 2 | | | | |
#
# The window fits in two places each way. Top left it sees the columns $(1, 0, 2)$ and
# $(0, 3, 0)$ at its sides: $(1 - 0) + 2\,(0 - 3) + (2 - 0) = -3$. The others are
# 2, 1 and 0. (Mathematicians turn the kernel round first, and call what we do
# *cross-correlation*. A kernel that is learnt does not care.)
#
# With several channels the kernel has a sheet for each, and all are added up; with
# several kernels there are several outputs, channels again. So a weight has the shape
# (O, C, kh, kw): output channels, input channels, height and width of the window.


# %%
def conv_loops(x, weight, bias):
    """x (B, C, H, W), weight (O, C, kh, kw), bias (O,) -> (B, O, H', W')."""
    kh, kw = weight.shape[2:]
    height, width = x.shape[2] - kh + 1, x.shape[3] - kw + 1
    y = np.zeros((len(x), len(weight), height, width), x.dtype)
    for b in range(len(x)):
        for o in range(len(weight)):
            for i in range(height):
                for j in range(width):
                    window = x[b, :, i : i + kh, j : j + kw]
                    y[b, o, i, j] = (window * weight[o]).sum() + bias[o]
    return y


# %%
# NBVAL_CHECK_OUTPUT
x = np.array([[1.0, 2, 0, 1], [0, 1, 3, 1], [2, 1, 0, 0], [1, 0, 1, 2]])[None, None]
sobel = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])[None, None]
print(conv_loops(x, sobel, np.zeros(1))[0, 0])

# %% [markdown]
# That kernel is Sobel's, from 1968: it answers where the left is darker than the right.
# Turned by a quarter it finds horizontal edges, and nine times $\frac{1}{9}$ blurs. On
# a digit:

# %%
kernels = np.stack([sobel[0], sobel[0].swapaxes(1, 2), np.full((1, 3, 3), 1 / 9)])
answers = conv_loops(digits.train.features[:1], kernels, np.zeros(3))[0]
figure, panels = plt.subplots(1, 4, figsize=(8, 2.3), layout="constrained")
panels[0].imshow(digits.train.features[0, 0], cmap="gray_r")
panels[0].set_title("the picture", fontsize=10)
for axes, answer, name in zip(
    panels[1:], answers, ("left − right", "above − below", "blurred"), strict=True
):
    shown = axes.imshow(answer, cmap="RdBu", vmin=-4, vmax=4)
    axes.set_title(name, fontsize=10)
figure.colorbar(shown, ax=panels, label="answer", shrink=0.8)
for axes in panels:
    axes.set(xticks=[], yticks=[])
viz.show(
    figure,
    alt="A handwritten digit of 8 by 8 pixels and three answers of 6 by 6. The kernel "
    "left minus right is blue on one side of each stroke and red on the other; above "
    "minus below does the same for horizontal strokes; the third is a pale blur.",
)

# %% [markdown]
# Nobody designs kernels any more: they are weights like any others, and gradient
# descent finds them. What is designed is how many there are, and two more numbers. The
# 8 by 8 picture came out 6 by 6. *Padding* puts $p$ zeros around the picture first;
# *stride* $s$ moves the window by $s$ pixels at a time. Along a side of $n$ pixels, a
# window of $k$ finds
#
# $$n' = \left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1$$
#
# places: the way that it can still move, in strides, rounded down, and the first place.
# $n = 8$, $k = 3$: with $p = 0$ and $s = 1$ there are 6, with $p = 1$ there are 8 (the
# size is kept, as with PyTorch's `padding="same"`), with $p = 1$ and $s = 2$ there are
# $\lfloor 7/2 \rfloor + 1 = 4$.
#
# **What it saves.** From one channel of 8 by 8 to 32 of the same size, a linear layer
# needs $64 \cdot 2048$ weights and 2,048 biases. The convolution needs $32 \cdot 9$
# and 32:

# %%
# NBVAL_CHECK_OUTPUT
print(f"linear      {nn.Linear(64, 32 * 64).num_parameters():7,}")
print(f"convolution {nn.Conv2d(1, 32, 3, padding=1).num_parameters():7,}")

# %% [markdown]
# ### Backwards
#
# Tap $w_{uv}$ touches every output, with the factor that it met there, so its gradient
# adds up over all places (and all pictures of the batch). Pixel $x_{pq}$ is seen by
# every window that covers it. With $dy$ the gradient of the loss by $y$:
#
# $$dw_{uv} = \sum_{i,j} dy_{ij}\, x_{i+u,\,j+v} , \qquad
# dx_{pq} = \sum_{u,v} w_{uv}\, dy_{p-u,\,q-v} , \qquad db = \sum_{i,j} dy_{ij} .$$
#
# Both are convolutions again: $dw$ of $x$ with the kernel $dy$, and $dx$ of the padded
# $dy$ with the kernel turned round. (So the mathematicians' version does turn up.)


# %%
def conv_loops_backward(x, weight, dy):
    """Gradients of x, weight and bias."""
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    kh, kw = weight.shape[2:]
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            window = np.s_[:, :, i : i + kh, j : j + kw]
            at = dy[:, :, i, j]  # (B, O)
            dweight += np.einsum("bo,bcuv->ocuv", at, x[window])
            dx[window] += np.einsum("bo,ocuv->bcuv", at, weight)
    return dx, dweight, dy.sum((0, 2, 3))


# %% [markdown]
# Is it right? The library's `F.conv2d` must give the same numbers, and its `backward()`
# the same three gradients.

# %%
rng = np.random.default_rng(0)
arrays = [rng.normal(size=s) for s in ((16, 4, 8, 8), (8, 4, 3, 3), (8,))]
dy = rng.normal(size=(16, 8, 6, 6))
tensors = [mb.tensor(array, requires_grad=True) for array in arrays]
theirs = F.conv2d(*tensors)
theirs.backward(mb.tensor(dy))
assert np.allclose(conv_loops(*arrays), theirs.numpy())
for ours, tensor in zip(conv_loops_backward(*arrays[:2], dy), tensors, strict=True):
    assert np.allclose(ours, tensor.grad.numpy())

# %% [markdown]
# ## Windows as rows: im2col
#
# Four loops in Python are slow, and none of them is needed. Write each window as a row,
# $C \cdot k_h \cdot k_w$ numbers long, and each kernel as a row too. Then every output
# number is the product of two rows, and the whole convolution is one matrix product,
# the one thing that computers do best. The table is known by the name of the MATLAB
# function that makes it, *im2col*. For the picture above, its four windows are
#
# | window | | | | | | | | |
# |---|---|---|---|---|---|---|---|---|
# | 1 | 2 | 0 | 0 | 1 | 3 | 2 | 1 | 0 |
# | 2 | 0 | 1 | 1 | 3 | 1 | 1 | 0 | 0 |
# | 0 | 1 | 3 | 2 | 1 | 0 | 1 | 0 | 1 |
# | 1 | 3 | 1 | 1 | 0 | 0 | 0 | 1 | 2 |
#
# and the kernel's row is $(1, 0, -1, 2, 0, -2, 1, 0, -1)$; the first product is
# $1 - 6 + 2 = -3$, as before. Finding the windows costs nothing: with the strides of
# notebook 01, `sliding_window_view` shows all of them as a view of the same memory.
# Only the table itself is a copy, and it holds most pixels nine times.


# %%
def im2col(x, kh, kw):
    """The windows of x (B, C, H, W) as rows: (B, H', W', C · kh · kw)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (2, 3))
    windows = windows.transpose(0, 2, 3, 1, 4, 5)  # (B, H', W', C, kh, kw)
    return windows.reshape(*windows.shape[:3], -1)


def conv_columns(x, weight, bias):
    """y (B, O, H', W'), and the function from dy to the three gradients."""
    rows = im2col(x, *weight.shape[2:])
    table = weight.reshape(len(weight), -1)  # (O, C · kh · kw)
    y = rows @ table.T + bias  # (B, H', W', O)

    def backward(dy):
        dy = dy.transpose(0, 2, 3, 1)  # (B, H', W', O)
        dtable = np.tensordot(dy, rows, ([0, 1, 2], [0, 1, 2]))  # a linear layer's
        dx = col2im(dy @ table, x.shape, *weight.shape[2:])
        return dx, dtable.reshape(weight.shape), dy.sum((0, 1, 2))

    return y.transpose(0, 3, 1, 2), backward


# %% [markdown]
# The gradients are those of a linear layer, $dy^T x$ and $dy\,W$, letter by letter. One
# thing is new. The gradient of the table has up to nine numbers for each pixel, and
# the pixel's is their sum. *col2im* puts them back, one tap of the kernel at a time:


# %%
def col2im(rows, shape, kh, kw):
    """Adds the rows of `im2col` up where they came from: (B, C, H, W)."""
    b, height, width, _ = rows.shape
    rows = rows.reshape(b, height, width, shape[1], kh, kw)
    x = np.zeros(shape, rows.dtype)
    for u in range(kh):
        for v in range(kw):
            tap = rows[..., u, v].transpose(0, 3, 1, 2)  # (B, C, H', W')
            x[:, :, u : u + height, v : v + width] += tap
    return x


# %%
y, backward = conv_columns(*arrays)
assert np.allclose(y, theirs.numpy())
for ours, tensor in zip(backward(dy), tensors, strict=True):
    assert np.allclose(ours, tensor.grad.numpy())
counted = col2im(im2col(np.ones((1, 1, 4, 4)), 3, 3), (1, 1, 4, 4), 3, 3)
print(counted[0, 0])

# %% [markdown]
# There and back counts how many windows see each pixel: four in the middle, one in a
# corner. **A pixel at the edge has less say than one in the middle**, unless there is
# padding; that is one more reason for it.


# %% tags=["nbval-ignore-output"]
def milliseconds(function, *inputs, repeat=5):
    """The best of a few calls."""
    return 1e3 * min(timeit.repeat(lambda: function(*inputs), number=1, repeat=repeat))


arrays = [rng.normal(size=s) for s in ((32, 16, 8, 8), (32, 16, 3, 3), (32,))]
tensors = [mb.tensor(array) for array in arrays]
print(f"loops    {milliseconds(conv_loops, *arrays, repeat=1):8.1f} ms")
print(f"im2col   {milliseconds(conv_columns, *arrays):8.1f} ms")
print(f"F.conv2d {milliseconds(F.conv2d, *tensors):8.1f} ms")

# %% [markdown]
# The loops take several hundred times as long for the same additions. The library does
# what we did, with padding, stride, *dilation* (gaps between the taps) and *groups*
# (kernels that see some of the channels only), on all cores.
# Where it lives: [`minibig/ops/convolution.py`](../minibig/ops/convolution.py).
#
# ## Pooling
#
# To say what a picture shows, a network must see far, and a window of 3 sees 3 pixels.
# Two convolutions in a row see 5, three see 7; shrinking the picture in between goes
# faster. *Max pooling* keeps the largest number of each window of 2 by 2, *average
# pooling* the mean. By hand:
#
# | picture | | | | | max | | | average | |
# |---|---|---|---|---|---|---|---|---|---|
# | 1 | 2 | 0 | 1 | | 2 | 3 | | 1 | 1.25 |
# | 0 | 1 | 3 | 1 | | 2 | 2 | | 1 | 0.75 |
# | 2 | 1 | 0 | 0 | | | | | | |
# | 1 | 0 | 1 | 2 | | | | | | |
#
# Backwards, the mean hands a quarter of the gradient to each of the four pixels; the
# largest one takes it all, and the others get nothing, for moving them a little would
# change nothing.


# %%
def max_pool_loops(x, size=2):
    """The largest of each window, and the function from dy to dx."""
    b, c, height, width = x.shape
    y = np.zeros((b, c, height // size, width // size))
    winner = np.zeros(y.shape, int)
    for place in np.ndindex(y.shape):
        i, j = (size * n for n in place[2:])
        window = x[(*place[:2], slice(i, i + size), slice(j, j + size))]
        winner[place] = window.argmax()
        y[place] = window.max()

    def backward(dy):
        dx = np.zeros_like(x)
        for n, k, i, j in np.ndindex(dy.shape):
            u, v = divmod(winner[n, k, i, j], size)
            dx[n, k, size * i + u, size * j + v] += dy[n, k, i, j]
        return dx

    return y, backward


# %%
y, backward = max_pool_loops(x)
print(y[0, 0])
print(backward(np.ones((1, 1, 2, 2)))[0, 0])

# %%
many = rng.normal(size=(8, 3, 8, 8))
dy = rng.normal(size=(8, 3, 4, 4))
y, backward = max_pool_loops(many)
tensor = mb.tensor(many, requires_grad=True)
pooled = F.max_pool2d(tensor, 2)
pooled.backward(mb.tensor(dy))
assert np.allclose(y, pooled.numpy())
assert np.allclose(backward(dy), tensor.grad.numpy())
means = many.reshape(8, 3, 4, 2, 4, 2).mean((3, 5))  # no loop: two axes of 2
assert np.allclose(means, F.avg_pool2d(mb.tensor(many), 2).numpy())

# %% tags=["nbval-ignore-output"]
print(f"loops        {milliseconds(max_pool_loops, many):6.2f} ms")
print(f"F.max_pool2d {milliseconds(F.max_pool2d, tensor, 2):6.2f} ms")

# %% [markdown]
# Where it lives: [`minibig/ops/pooling.py`](../minibig/ops/pooling.py).
#
# ### What moves with the picture
#
# Move a picture by a pixel, and the answer of a convolution moves by a pixel: it is
# *equivariant*. It is often said that pooling makes a network *invariant* to small
# moves. Let us look, with one bright pixel that travels along a line, and windows of 2:

# %%
# NBVAL_CHECK_OUTPUT
for place in range(4):
    line = np.zeros((1, 1, 2, 8))
    line[..., place] = 1
    print(f"pixel {place}:", F.max_pool2d(mb.tensor(line), 2).numpy()[0, 0, 0])

# %% [markdown]
# From 0 to 1 nothing changes, from 1 to 2 the answer jumps. Only moves by a whole
# stride are certain to come through. What makes a network forget a place altogether is
# a mean over *all* places, *global average pooling*; keep it in mind.
#
# ## Batch norm
#
# Notebook 05 found no use for it: two layers train without. Notebook 04 found first
# weights that keep the signal's variance near 1; but training changes the weights, and
# through twenty layers nothing holds the variance any more. Batch norm does. It is the
# one of notebook 05,
#
# $$y = \gamma\,\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta ,$$
#
# with running statistics for `model.eval()`, and one thing is new: $\mu$ and $\sigma^2$
# of a *channel* are taken over all pictures of the batch **and all places**, since the
# same kernel made them all, and $\gamma$ and $\beta$ are one number a channel. By hand:
# two pictures of one channel and two pixels each, $(1, 3)$ and $(5, 7)$, are four
# numbers with the mean 4 and the variance 5, and become $(-1.342, -0.447)$ and $(0.447,
# 1.342)$. Means for each place by itself, 3 and 5, would make $(-1, -1)$ and $(1, 1)$
# of them, and what differs within a picture would be lost.


# %%
def batch_norm(x, gamma, beta, eps=1e-5):
    """x (B, C, H, W) as in training; gamma, beta (C,)."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    shape = (1, -1, 1, 1)
    normal = (x - mean) / (variance + eps).sqrt()
    return gamma.reshape(shape) * normal + beta.reshape(shape)


two = mb.tensor(np.array([1.0, 3, 5, 7]).reshape(2, 1, 1, 2))
print(batch_norm(two, mb.ones(1), mb.zeros(1)).numpy()[:, 0, 0].round(3))

# %%
gamma, beta = mb.tensor([1.5, 0.5, 1.0]), mb.tensor([0.0, 1.0, -1.0])
gradients = []
for function in (
    batch_norm,
    lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True),
):
    tensor = mb.tensor(many.astype("float32"), requires_grad=True)
    y = function(tensor, gamma, beta)
    (y**3).sum().backward()
    gradients.append((y.numpy(), tensor.grad.numpy()))
for ours, theirs in zip(*gradients, strict=True):
    assert np.allclose(ours, theirs, atol=1e-3)

# %% [markdown]
# The gradient goes through mean and variance as well, so it adds up to 0 over a
# channel: adding the same to every number would change nothing. And a trap beside the
# forgotten `eval()` of notebook 05: what is divided by is the variance of the batch as
# it is ($1/n$), but what is remembered is the unbiased one ($1/(n-1)$), in PyTorch and
# here. Where it lives: [`minibig/ops/batch_norm.py`](../minibig/ops/batch_norm.py).
#
# ## The residual block
#
# If twelve layers are good, twenty-four cannot be worse: the upper twelve could copy
# their input. They do not learn it. A *residual block* makes copying the starting
# point: it computes a change and adds it to what came in,
#
# $$y = \mathrm{ReLU}(x + f(x)) , \qquad dx = dz + f'(x)^T dz ,$$
#
# where $f$ is two convolutions with batch norm and $dz$ the gradient that has passed
# the ReLU. The first term is the point: the gradient has a way down on which nothing is
# multiplied with anything. By hand: if $f$ multiplies by $\frac{1}{10}$, ten layers of
# $f$ alone leave $10^{-10}$ of a gradient; ten of $x + f(x)$ leave $1.1^{10} = 2.6$.


# %%
class Block(nn.Module):
    """relu(x + f(x)); without the shortcut relu(f(x)). (B, C, H, W), the same."""

    def __init__(self, channels, shortcut=True):
        self.shortcut = shortcut
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        for convolution in (self.layers[0], self.layers[3]):
            nn.init.kaiming_normal_(convolution.weight)

    def forward(self, x):
        y = self.layers(x)
        return F.relu(x + y if self.shortcut else y)


# %%
class Tower(nn.Module):
    """Blocks on top of each other, then the mean over all places."""

    def __init__(self, blocks, shortcut, channels=16):
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels, shortcut) for _ in range(blocks)))
        self.output = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.blocks(F.relu(self.first(x)))
        return self.output(x.mean((2, 3)))  # (B, C, H, W) -> (B, C)


# %% [markdown]
# Ten blocks, twenty-one convolutions, with and without the shortcut. Both have batch
# norm, so neither suffers from vanishing numbers. Over three seeds the mean loss of
# the last ten steps was 0.19 to 0.23 with the shortcut, and 1.5 to 1.8 without it.


# %%
def train(model, batches, steps, rate):
    """AdamW with warm-up and cosine; the loss of every step."""
    optimizer = optim.AdamW(model.parameters(), lr=rate)
    schedule = optim.WarmupCosine(optimizer, min(20, steps // 2), steps, 1e-5)
    losses = []
    for step in range(steps):
        images, labels = map(mb.tensor, batches.batch(step))
        loss = F.cross_entropy(model.train()(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def accuracy(model, images, labels):
    with nn.evaluating(model), mb.no_grad():
        return (model(mb.tensor(images)).argmax(-1).numpy() == labels).mean()


# %%
steps = scaled(100, smoke=3)
batches = data.ArrayBatches(*digits.train, batch_size=64, seed=0)
curves = {}
for name, shortcut in {"with shortcuts": True, "without": False}.items():
    mb.seed(0)
    curves[name] = train(Tower(10, shortcut), batches, steps, rate=2e-3)
    print(f"{name:15} last ten losses {np.mean(curves[name][-10:]):.3f}")
if not in_smoke_mode():
    assert np.mean(curves["with shortcuts"][-10:]) < 0.5
    assert np.mean(curves["without"][-10:]) > 0.8

# %%
figure, axes = plt.subplots(figsize=(6.2, 3), layout="constrained")
for (name, losses), style in zip(curves.items(), ("-", "--"), strict=True):
    axes.plot(range(1, steps + 1), losses, style, label=name, linewidth=2)
axes.axhline(np.log(10), color="gray", linewidth=1)
axes.text(steps, np.log(10) - 0.02, "ln 10", ha="right", va="top")
axes.set(xlabel="step", ylabel="training loss (nats)", ylim=(0, None))
axes.grid(alpha=0.3)
axes.legend(loc="lower left")
viz.show(
    figure,
    alt="Training loss of two networks of 21 convolutions over 100 steps. With "
    "shortcuts it begins near 2.8 and falls quickly, to 0.2 at the end; without them "
    "it begins at ln 10 and comes down slowly, to 1.5.",
)

# %% [markdown]
# Mind what the picture shows: the *training* loss. The plain tower does not learn its
# examples by heart too well, it learns them too slowly. Where it lives: `ResNet` in
# [`minibig/models/cnn.py`](../minibig/models/cnn.py).
#
# ## LeNet
#
# The network that read cheques in the 1990s, put together from our parts: twice
# convolution, ReLU and pooling, then an MLP. The picture goes from 1 · 8 · 8 over
# 32 · 4 · 4 to 64 · 2 · 2: less and less of *where*, more and more of *what*.


# %%
class LeNet(nn.Module):
    """(B, 1, 8, 8) -> logits (B, 10)."""

    def __init__(self, first=32, second=64, hidden=(120, 84), p=0.3):
        self.conv1 = nn.Conv2d(1, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.hidden1 = nn.Linear(second * 2 * 2, hidden[0])
        self.hidden2 = nn.Linear(*hidden)
        self.output = nn.Linear(hidden[1], 10)
        self.dropout = nn.Dropout(p)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # (B, 32, 4, 4)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (B, 64, 2, 2)
        x = self.dropout(F.relu(self.hidden1(x.reshape(len(x), -1))))
        return self.output(self.dropout(F.relu(self.hidden2(x))))


# %% [markdown]
# The library's has the same layers in the same order. With the same weights it must
# give the same answers:

# %%
preset = PRESETS["cnn"]
task = recipes.prepare(preset)
mb.seed(preset.seed)
ours = LeNet()
with mb.no_grad():
    pairs = zip(ours.parameters(), task.model.parameters(), strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)
    some = mb.tensor(digits.train.features[:5])
    assert np.allclose(ours.eval()(some).numpy(), task.model.eval()(some).numpy())
print(f"{ours.num_parameters():,} parameters")

# %% [markdown]
# ### Each digit in many ways
#
# 1,258 pictures are few, so each is turned, moved and scaled a little anew whenever it
# comes round: the augmentation of notebook 05, which helped most there, more labels
# aside. The strengths are the preset's, with moves somewhat larger than there. Where it
# lives: [`minibig/data/augmentation.py`](../minibig/data/augmentation.py).

# %%
change = data.RandomAffine(preset.degrees, preset.shift, preset.scale)
print(f"turned by up to {preset.degrees} degrees, moved by {preset.shift} pixels, "
      f"scaled by {preset.scale:.0%}")  # fmt: skip

# %% [markdown]
# ### The plain methods first
#
# Nearest neighbours again, on the training pictures as they are, and on those and ten
# changed copies of each. Nothing is learnt.


# %%
def neighbour(images, labels, queries):
    """The label of the nearest picture, for each query."""
    a, b = queries.reshape(len(queries), -1), images.reshape(len(images), -1)
    return labels[((b**2).sum(1) - 2 * a @ b.T).argmin(1)]  # |a|² changes no order


images, labels = digits.train
copies = [change(images, np.random.default_rng(i)) for i in range(10)]
everything = np.concatenate([images, *copies]), np.tile(labels, 11)
for name, known in {
    "neighbour": digits.train,
    "neighbour, with copies": everything,
}.items():
    right = (neighbour(*known, digits.test.features) == digits.test.targets).mean()
    _ = result(f"digits test accuracy, {name}", right)

# %% [markdown]
# ### The run
#
# The preset `cnn` holds every number of the recipe; they were chosen by the validation
# rows. `python -m minibig train --preset cnn` makes the same run and keeps the model.
# Three seeds, a few seconds each; expect between 98.5 and 100 % of the test rows, which
# are 269, so that one picture is 0.37 percentage points. The loss is high for such an
# accuracy, since *label smoothing* asks for a probability of 0.91 and not 1 (a tenth of
# the target is spread over all ten classes), which keeps logits small.


# %%
def run(name, seed):
    """The trained model of a preset, and its accuracy on the test rows."""
    preset = dataclasses.replace(PRESETS[name], seed=PRESETS[name].seed + seed)
    if in_smoke_mode():
        preset = dataclasses.replace(preset, steps=20, warmup=5)
    first = (name, seed) == ("cnn", 0)  # which alone shows its progress
    shown = contextlib.nullcontext() if first else contextlib.redirect_stdout(None)
    with tempfile.TemporaryDirectory() as folder, shown:
        return recipes.train(preset, folder, say=lambda line: None)


# %% tags=["nbval-ignore-output"]
runs = {name: [run(name, seed) for seed in range(3)] for name in ("cnn", "mlp")}

# %%
mb.seed(0)
for name, least in (("cnn", 0.99), ("mlp", 0.97)):
    found = [trained.results["accuracy"] for trained in runs[name]]
    print(name, *(f"{value:.4f}" for value in found))
    mean = np.mean(found)
    _ = result(f"digits test accuracy, {name}, mean of 3 seeds", mean, at_least=least)

# %% [markdown]
# More than 99 %: one to three pictures of 269 are misread. But look at the others. With
# the same changed copies and 512 hidden units the MLP is level within a picture or so,
# **and the nearest neighbour with copies, which has learnt nothing, is as good as
# either.** It is the augmentation that did it. On small, centred pictures there is
# little for a convolution to know that the copies have not told already.
#
# What did the first layer find?

# %%
model = runs["cnn"][0].model
weights = next(model.parameters()).numpy()[:, 0]  # (32, 3, 3)
limit = np.abs(weights).max()
figure, panels = plt.subplots(2, 16, figsize=(9, 1.5), layout="constrained")
for axes, kernel in zip(panels.flat, weights, strict=True):
    axes.imshow(kernel, cmap="RdBu", vmin=-limit, vmax=limit)
    axes.axis("off")
viz.show(
    figure,
    alt="The 32 kernels of the first layer, 3 by 3 each, blue positive and red "
    "negative: many have one side blue and the other red, in several directions.",
)

# %% [markdown]
# Noisy, since each has but nine numbers and the windows are large for such small
# pictures. Still, many compare one side with the other, as Sobel's kernel does, or a
# line with what lies beside it, and nobody asked for that.
#
# ## What a convolution is good for
#
# Now take away what makes the digits easy. Each is put on an empty sheet of 16 by 16
# pixels, once, at a random place; nothing else changes, and there are no copies. For
# the MLP and the neighbour a 7 at the top is another thing than a 7 at the bottom.


# %%
def scattered(images, seed, side=16):
    """Each picture at a random place of an empty sheet."""
    places = np.random.default_rng(seed).integers(0, side - 7, (len(images), 2))
    sheets = np.zeros((len(images), 1, side, side), np.float32)
    for sheet, image, (i, j) in zip(sheets, images, places, strict=True):
        sheet[:, i : i + 8, j : j + 8] = image
    return sheets


sheets = {
    part: scattered(getattr(digits, part).features, seed)
    for seed, part in enumerate(("train", "test"))
}
figure, panels = plt.subplots(1, 6, figsize=(8, 1.6), layout="constrained")
for axes, sheet in zip(panels, sheets["train"], strict=False):
    axes.imshow(sheet[0], cmap="gray_r")
    axes.set(xticks=[], yticks=[])
viz.show(figure, alt="Six sheets, each with one small digit at another place.")

# %% [markdown]
# Three networks: an MLP with 512 units; a LeNet, whose windows slide but whose last
# layers see *where* each answer came from; and a small ResNet that ends in a mean over
# all places. Over three seeds they reached 40 to 43, 68 to 73, and 97 to 99 %.

# %%
from minibig.models import MLP, LeNetConfig, MLPConfig, ResNet, ResNetConfig
from minibig.models import LeNet as LibraryLeNet

makers = {
    "MLP": lambda: MLP(MLPConfig((256, 512, 10), dropout=0.3)),
    "LeNet": lambda: LibraryLeNet(LeNetConfig(16, 1, 10, 3, (32, 64), (120, 84), 0.3)),
    "ResNet": lambda: ResNet(ResNetConfig(1, 10, (16, 32, 64))),
}
steps = scaled(300, smoke=3)
batches = data.ArrayBatches(
    sheets["train"], digits.train.targets, batch_size=64, seed=0
)
test = sheets["test"], digits.test.targets

# %%
right = neighbour(sheets["train"], digits.train.targets, test[0]) == test[1]
_ = result("scattered digits, neighbour", right.mean())
scores = {}
for name, make in makers.items():
    mb.seed(0)
    model = make()
    train(model, batches, steps, rate=2e-3)
    least = 0.95 if name == "ResNet" else None
    scores[name] = accuracy(model, *test)
    _ = result(f"scattered digits, {name}", scores[name], at_least=least)
if not in_smoke_mode():
    assert scores["MLP"] < 0.55 < scores["LeNet"] < scores["ResNet"]

# %% [markdown]
# Here is the gain that the question asked for. A 7 that was seen in one place is known
# in all: the network that is built so needs no copies to be told. The LeNet shares its
# kernels over all places but not its last layers, and lies in between. Knowledge that
# is built into a network need not be learnt from data; where data are plenty, or copies
# can be made, it is worth less. (Notebook 13 meets the opposite: a network for pictures
# that knows nothing of neighbours, and its price.)
#
# ## Summary
#
# - A convolution lays the same few weights on every window; as im2col it is one matrix
#   product, and its gradients are a linear layer's.
# - Pooling shrinks; batch norm holds the variance, with other numbers in `eval()`;
#   a shortcut gives the gradient a way on which nothing is multiplied.
# - LeNet reads 99 % of the digits. So do an MLP and nearest neighbours with as many
#   changed copies; what convolutions add shows when the digits may stand anywhere.
#
# ## Exercises
#
# ### 1. How many places?
#
# `places(size, kernel, stride, padding)`: four whole numbers; return how many places
# the window finds along one side. Stuck? `hint("06.output_size")`.


# %%
def places(size, kernel, stride, padding):
    ### BEGIN SOLUTION
    return (size + 2 * padding - kernel) // stride + 1
    ### END SOLUTION


check("06.output_size", places)

# %% [markdown]
# ### 2. Convolution with stride and padding
#
# `my_conv2d(x, weight, bias, stride, padding)`: x (B, C, H, W), weight (O, C, kh, kw),
# bias (O,), NumPy arrays; return (B, O, H', W'). With loops or without.


# %%
def my_conv2d(x, weight, bias, stride, padding):
    ### BEGIN SOLUTION
    margin = (padding, padding)
    x = np.pad(x, ((0, 0), (0, 0), margin, margin))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (2, 3))
    windows = windows[:, :, ::stride, ::stride]  # (B, C, H', W', kh, kw)
    return np.einsum("bchwij,ocij->bohw", windows, weight) + bias[:, None, None]
    ### END SOLUTION


check("06.conv2d", my_conv2d)

# %% [markdown]
# ### 3. The gradient of the kernel
#
# `weight_gradient(x, dy)`: x (B, C, H, W), dy (B, O, H', W'), of a convolution with
# stride 1 and without padding; return dW (O, C, kh, kw). The size of the kernel follows
# from the two shapes. One loop over the taps is enough.


# %%
def weight_gradient(x, dy):
    ### BEGIN SOLUTION
    height, width = dy.shape[2:]
    kh, kw = x.shape[2] - height + 1, x.shape[3] - width + 1
    dweight = np.zeros((dy.shape[1], x.shape[1], kh, kw))
    for u, v in np.ndindex(kh, kw):
        met = x[:, :, u : u + height, v : v + width]
        dweight[:, :, u, v] = np.einsum("bohw,bchw->oc", dy, met)
    return dweight
    ### END SOLUTION


check("06.weight_gradient", weight_gradient)

# %% [markdown]
# ### 4. Batch norm, as it is trained
#
# `norm(x, running_mean, running_var, momentum)`: x (B, C, H, W), the running statistics
# (C,); return three arrays: the normalised pictures ($\epsilon = 10^{-5}$, no $\gamma$
# and $\beta$), the new running mean and the new running variance. Leave the inputs as
# they are.


# %%
def norm(x, running_mean, running_var, momentum):
    ### BEGIN SOLUTION
    axes = (0, 2, 3)
    count = x.size // x.shape[1]
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    y = (x - mean) / np.sqrt(variance + 1e-5)
    unbiased = variance.ravel() * count / (count - 1)
    new_mean = (1 - momentum) * running_mean + momentum * mean.ravel()
    return y, new_mean, (1 - momentum) * running_var + momentum * unbiased
    ### END SOLUTION


check("06.batch_norm", norm)

# %% [markdown]
# ### 5. Ninety-nine per cent with little (open)
#
# The preset's LeNet has 60,670 parameters, 31,000 of them in its first hidden layer.
# Find a network with fewer than 5,000 that still reads 99 % of the validation rows over
# three seeds. Ideas: a mean over all places instead of hidden layers; kernels that see
# one channel each (`groups`) followed by windows of 1 by 1. Write down a forecast, then
# look at the test rows, once.
#
# ## Sources
#
# - Y. LeCun et al., *Gradient-Based Learning Applied to Document Recognition*,
#   Proceedings of the IEEE 86, 1998 (LeNet).
# - S. Ioffe, C. Szegedy, batch normalisation: arXiv:1502.03167.
# - K. He et al., residual networks: arXiv:1512.03385; first weights: arXiv:1502.01852.
# - M. Lin et al., global average pooling: arXiv:1312.4400.
# - C. Szegedy et al., label smoothing: arXiv:1512.00567.
# - R. Zhang, why pooling is not invariant to shifts: arXiv:1904.11486.
# - K. Chellapilla et al., *High Performance Convolutional Neural Networks for Document
#   Processing*, 2006 (convolution as a matrix product).
