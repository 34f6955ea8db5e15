# %% [markdown]
# # The vision transformer
#
# > **You will build** a transformer that reads pictures: patches cut by hand, a class
# > token, positions that are learnt. You will train it on handwritten digits, look at
# > where it looks, test whether that means anything, and measure what it pays for
# > knowing nothing about pictures.
# >
# > **You need** attention ([08](08_attention.ipynb)), the encoder
# > ([09](09_transformer.ipynb)), and the digits and their CNN
# > ([06](06_convolutions.ipynb)).
# >
# > **It takes** an hour to read; the code runs for about two and a half minutes on 2
# > CPU cores in 500 MB of memory. No GPU.
#
# **A transformer reads a list of vectors. What does it take to make it read a picture,
# and what does it pay for not knowing which pixels are neighbours?**

# %%
import contextlib
import dataclasses
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
rng = np.random.default_rng(0)
print(digits.train.features.shape)

# %% [markdown]
# The digits of notebook 06 once more: (N, channels, height, width), one channel, ink
# from 0 to 1.
#
# ## A picture as a list
#
# The encoder of notebook 09 takes vectors (B, T, C) and has every one look at every
# other. Nothing in it asks for words. The first thought is to make each pixel a token.
# But attention has $T^2$ scores for each head, and a photograph of 224 by 224 pixels
# has 50,176 of them. Squares of 16 by 16 pixels, *patches*, are 196:

# %%
# NBVAL_CHECK_OUTPUT
for size in (1, 8, 16, 32):
    tokens = (224 // size) ** 2
    print(f"patches of {size:2}: {tokens:6,} tokens, {tokens**2:13,} scores a head")

# %% [markdown]
# Halve the side of a patch and there are 4 times as many tokens and 16 times as many
# scores. So a patch is a compromise, and 16 was a good one: "an image is worth 16x16
# words", says the title of the paper (arXiv:2010.11929). Our digits have 8 by 8 pixels;
# we take patches of 2 by 2, which makes 16 tokens of 4 numbers.
#
# ### Cut by hand
#
# A picture of 4 by 4 pixels, numbered, becomes four patches of four numbers. They come
# row by row, and so do the pixels within each:
#
# | picture | | | | | patch | | | | |
# |---|---|---|---|---|---|---|---|---|---|
# | 0 | 1 | 2 | 3 | | first | 0 | 1 | 4 | 5 |
# | 4 | 5 | 6 | 7 | | second | 2 | 3 | 6 | 7 |
# | 8 | 9 | 10 | 11 | | third | 8 | 9 | 12 | 13 |
# | 12 | 13 | 14 | 15 | | fourth | 10 | 11 | 14 | 15 |


# %%
def patches_loops(images, size):
    """(B, channels, H, W) -> (B, N, channels · size²)."""
    found = []
    for i in range(0, images.shape[2], size):
        for j in range(0, images.shape[3], size):
            square = images[:, :, i : i + size, j : j + size]
            found.append(square.reshape(len(images), -1))
    return np.stack(found, 1)


# %%
# NBVAL_CHECK_OUTPUT
counted = np.arange(16).reshape(1, 1, 4, 4)
print(patches_loops(counted, 2)[0])

# %% [markdown]
# No loop is needed. A side of $H$ pixels is $H/P$ patches of $P$ pixels, so one axis
# becomes two; then the axes that number the patches go to the front, and those within a
# patch to the back. **The trap is to leave the middle step out.** A reshape alone never
# changes the order of the numbers: the shape would be right, nothing would complain,
# and the patches would be stripes.


# %%
def cut(images, size):
    """The same by two reshapes and a transpose."""
    b, channels, h, w = images.shape
    x = images.reshape(b, channels, h // size, size, w // size, size)
    x = x.transpose(0, 2, 4, 1, 3, 5)  # (B, rows, columns, channels, size, size)
    return x.reshape(b, -1, channels * size * size)


colourful = rng.normal(size=(5, 3, 8, 12))
assert np.array_equal(cut(colourful, 4), patches_loops(colourful, 4))
picture = digits.train.features[:1]
ways = {"patches": cut(picture, 2)[0], "reshape alone": picture.reshape(16, 4)}

# %%
figure, panels = plt.subplots(1, 3, figsize=(8, 2.9), layout="constrained")
panels[0].imshow(picture[0, 0], cmap="gray_r")
for place in (1.5, 3.5, 5.5):
    panels[0].axhline(place, color="#0072B2", linewidth=1)
    panels[0].axvline(place, color="#0072B2", linewidth=1)
panels[0].set_title("the picture", fontsize=10)
for axes, (name, rows) in zip(panels[1:], ways.items(), strict=True):
    sheet = np.full((11, 11), np.nan)
    for number, row in enumerate(rows):
        i, j = (3 * n for n in divmod(number, 4))
        sheet[i : i + 2, j : j + 2] = row.reshape(2, 2)
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    axes.set_title(name, fontsize=10)
    axes.set_facecolor("#cfe3f2")
for axes in panels:
    axes.set(xticks=[], yticks=[])
viz.show(
    figure,
    alt="Left, a handwritten digit of 8 by 8 pixels with a grid of 16 squares over it. "
    "Middle, the 16 patches pulled apart: the digit can still be seen. Right, what a "
    "reshape alone makes of it: 16 squares in which no digit can be recognised.",
)

# %% [markdown]
# ### It is a convolution
#
# A linear layer makes a vector of $C$ numbers of each patch, the same layer for all:
# its *embedding*, as for words. One set of weights that is laid on every window: that
# is the convolution of notebook 06, with a kernel of $P$ by $P$ and a *stride* of $P$,
# so that windows do not overlap. The weight (C, channels · P²) only needs another
# shape.

# %%
images = mb.tensor(rng.normal(size=(64, 3, 16, 16)))
weight, bias = (mb.tensor(rng.normal(size=s)) for s in ((24, 48), (24,)))
linear = F.linear(mb.tensor(cut(images.numpy(), 4)), weight, bias)  # (B, 16, 24)
kernel = weight.reshape(24, 3, 4, 4)
convolved = F.conv2d(images, kernel, bias, stride=4)  # (B, 24, 4, 4)
assert np.allclose(linear.numpy(), convolved.reshape(64, 24, 16).numpy().swapaxes(1, 2))

# %% [markdown]
# They are equal to the last few bits, and it is in this form that weights are
# published: `patch_embeddings.projection.weight` of shape (768, 3, 16, 16). So it is
# not true that a vision transformer has no convolution. It has one, and after it
# nothing any more that knows what lies beside what.

# %% tags=["nbval-ignore-output"]
from minibig.models.vit import patches_of


def milliseconds(function, *inputs):
    """The best of a few calls."""
    return 1e3 * min(timeit.repeat(lambda: function(*inputs), number=1, repeat=7))


assert np.array_equal(patches_of(images, 4).numpy(), cut(images.numpy(), 4))
print(f"loops      {milliseconds(patches_loops, images.numpy(), 2):6.2f} ms")
print(f"reshape    {milliseconds(cut, images.numpy(), 2):6.2f} ms")
print(f"patches_of {milliseconds(patches_of, images, 2):6.2f} ms")

# %% [markdown]
# Where it lives: [`minibig/models/vit.py`](../minibig/models/vit.py).
#
# ## The token that asks, and the places
#
# Two things are missing.
#
# **Who answers?** The encoder returns a vector for each patch, and we want one answer
# for the picture. One could take the mean of all. The paper, after BERT, puts one more
# vector in front, the *class token*: a parameter, the same for every picture. It says
# nothing itself; it looks at the patches, layer by layer, and in the end the class is
# read off it by a linear layer.
#
# **Where was it?** Attention is a sum over the others, and a sum has no order: swap two
# patches and the class token notices nothing (notebook 08). So every place has a vector
# of its own that is added. There, sines and cosines did it. Here the positions are
# parameters, *learnt* like weights, and nobody tells the network that place 5 is below
# place 1:
#
# $$x = [\,c\,;\; p_1 E\,;\; \ldots\,;\; p_N E\,] + e, \qquad e \in R^{(1+N) \times C} .$$
#
# The semicolons put rows on top of each other, $p_i$ are patches, $E$ the embedding,
# $c$ the class token. Then come blocks as in notebook 09, pre-norm, with GELU in the
# place of ReLU, a last layer norm, and the linear layer. That is all of it:


# %%
class VisionTransformer(nn.Module):
    """Pictures (B, 1, 8, 8) -> logits (B, 10)."""

    def __init__(self, layers, heads, width, hidden, patch=2, count=16):
        self.patch = patch
        self.embedding = nn.Linear(patch * patch, width)
        self.class_token = nn.Parameter(mb.zeros(1, 1, width))
        self.positions = nn.Parameter(mb.zeros(1, 1 + count, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, hidden, 0.0, "gelu", 1e-6, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, 1e-6)
        self.output = nn.Linear(width, 10)

    def forward(self, images):
        x = self.embedding(patches_of(images, self.patch))  # (B, 16, C)
        asking = self.class_token.expand(len(x), 1, x.shape[2])
        x = mb.cat([asking, x], 1) + self.positions  # (B, 17, C)
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x)[:, 0])


# %% [markdown]
# The library's `models.ViT` is the same network. We make it from the *preset* `vit`,
# which holds all the numbers of this notebook's main run, and give ours its weights:

# %%
seed = mb.random.get_state()["seed"]
preset = dataclasses.replace(
    PRESETS["vit"], seed=seed, steps=scaled(PRESETS["vit"].steps, smoke=20),
    warmup=scaled(PRESETS["vit"].warmup, smoke=5),
)  # fmt: skip
task = recipes.prepare(preset)
model = task.model
sizes = preset.n_layer, preset.n_head, preset.n_embd, preset.dim_feedforward
ours = VisionTransformer(*sizes)
with mb.no_grad():
    for mine, theirs in zip(ours.parameters(), model.parameters(), strict=True):
        mine.copy_(theirs)
    some = mb.tensor(digits.validation.features[:5])
    assert np.allclose(ours(some).numpy(), model(some).numpy(), atol=1e-6)
print("layers, heads, width, hidden:", sizes, f"{model.num_parameters():,} parameters")

# %% [markdown]
# What if the positions are taken away? Then a picture and the same picture with its
# patches in another order are the same to it, exactly. With them they are not:


# %%
def shuffled(images, order):
    """Pictures whose patches of 2 by 2 stand in another order."""
    x = images.reshape(-1, 1, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3, 5)
    x = x.reshape(-1, 4, 4, 1, 2, 2)[:, *np.divmod(order, 4)].reshape(-1, 4, 4, 1, 2, 2)
    return x.transpose(0, 3, 1, 4, 2, 5).reshape(-1, 1, 8, 8)


mixed = mb.tensor(shuffled(some.numpy(), rng.permutation(16)))
with mb.no_grad():
    assert not np.allclose(ours(some).numpy(), ours(mixed).numpy(), atol=1e-6)
    ours.positions.copy_(mb.zeros(*ours.positions.shape))
    assert np.allclose(ours(some).numpy(), ours(mixed).numpy(), atol=1e-6)

# %% [markdown]
# ### How large?
#
# A block has four matrices for attention, two for the MLP, their biases, and two norms;
# everything else is small. Counted by hand, for $C$ the width, $F$ the hidden units,
# $L$ layers, $N$ patches of $d$ numbers and $K$ classes:
#
# $$L\,(4C^2 + 2CF + 9C + F) + (d + 1)\,C + C + (1 + N)\,C + 2C + (C + 1)\,K .$$


# %%
# NBVAL_CHECK_OUTPUT
def parameters(layers, C, hidden, count, numbers, classes):
    block = 4 * C * C + 2 * C * hidden + 9 * C + hidden
    outside = (numbers + 1) + 1 + (1 + count) + 2
    return layers * block + outside * C + (C + 1) * classes


assert parameters(sizes[0], *sizes[2:], 16, 4, 10) == model.num_parameters()
published = parameters(12, 768, 3072, 196, 16 * 16 * 3, 1000)
print(f"ViT-B/16, for 224 by 224 pixels and 1,000 classes: {published:,}")

# %% [markdown]
# Those are the 86 million of ViT-B/16, to the last one. Positions are 0.2 % of it,
# patches 0.7 %; what makes a picture of the list is next to nothing.

# %% [markdown]
# ### First weights
#
# The field draws the weights of transformers with a deviation of 0.02, and few ask why.
# Notebook 04 says what a layer needs to hand on the variance that it gets: a deviation
# of $1/\sqrt{n}$ for $n$ inputs. For a width of 768 that is 0.036, and 0.02 is in the
# neighbourhood. For our 48 it is 0.14, and for the 4 numbers of a patch a half: with
# 0.02 each layer hands on a seventh of the signal, the blocks hardly add anything to
# their shortcuts, and the network must first grow its own weights. Let us see what that
# costs, on pictures changed as in the main run below:


# %%
def initialise(model, positions=0.5):
    """Deviation 1/√inputs for matrices, and one for positions."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
    nn.init.normal_(model.position_embedding, std=positions)
    return model


# %%
def train(model, batches, steps, rate):
    """AdamW with warm-up and cosine; the loss of every step."""
    optimizer = optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    schedule = optim.WarmupCosine(optimizer, steps // 10, steps, 1e-5)
    losses = []
    for step in range(steps):
        images, labels = map(mb.tensor, batches.batch(step))
        loss = F.cross_entropy(model.train()(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def accuracy(model, images, labels):
    with nn.evaluating(model), mb.no_grad():
        return (model(mb.tensor(images)).argmax(-1).numpy() == labels).mean()


# %% tags=["nbval-ignore-output"]
from minibig.models import ViT

ways = {
    "0.02": lambda model: model,
    "1/√n": lambda model: initialise(model, positions=0.02),
    "1/√n, positions 0.5": initialise,
}
steps, starts, ends = scaled(250, smoke=2), {}, {}
for name, prepared in ways.items():
    mb.seed(seed)
    starts[name] = prepared(ViT(model.config))
    losses = train(starts[name], task.training, steps, rate=3e-3)
    ends[name] = np.mean(losses[-25:])
    score = accuracy(starts[name], *digits.validation)
    print(f"{name:19} last 25 losses {ends[name]:.2f}, validation {score:.3f}")
if not in_smoke_mode():
    assert ends["1/√n, positions 0.5"] < 0.5 * ends["0.02"]

# %% [markdown]
# Over three seeds the last losses were 1.0 to 1.4 with 0.02, 0.57 to 0.63 with
# $1/\sqrt{n}$, and 0.24 to 0.27 with positions that begin large as well: then the
# patches can be told apart from the first step on. In the preset's 1,500 steps large
# positions are still worth having, 99.1 % of the validation digits in the mean of two
# seeds against 97.6. Nothing else that we tried made a difference like this one. **A
# number that everybody uses was right for somebody's width.**

# %% [markdown]
# ## The run
#
# AdamW with warm-up and cosine, and each picture turned, moved and scaled a little anew
# in every epoch, as for the CNN of notebook 06. The numbers were chosen by the
# validation rows of two seeds. `python -m minibig train --preset vit` makes the same
# run and keeps the model.
#
# Expect half a minute, nine of ten validation digits after 150 steps, and a validation
# loss of 0.02 to 0.04 in the end. Over the seeds 0, 1 and 2 it read 98.1, 99.6 and
# 99.3 % of the test digits. They are 269, so that one of them is 0.37 points; and sums
# that round another way, on another machine, make another run of the same seed: for
# seed 0 we have seen 98.1 and 98.5.

# %% tags=["nbval-ignore-output"]
import os

os.environ["TQDM_DISABLE"] = "1"  # a line an evaluation: a bar would not be kept
history = recipes.carry_out(task, preset)
found = task.judge(model)

# %%
print(preset.describe(found))
_ = result("digits test accuracy, ViT", found["accuracy"], at_least=0.97)
viz.show(
    viz.loss_curves(history, title="ViT on digits, changed anew in every epoch"),
    alt="Training loss and held-out loss against the step, on a logarithmic axis. "
    "The training loss falls from 2.5 to 0.5 in the first 200 steps and to 0.04 at the "
    "end; the held-out loss stays a little below it and ends near 0.03.",
)

# %% [markdown]
# ### Beside it
#
# The CNN is the preset `cnn` of notebook 06, on the same pictures with the same
# changes. The plain method is notebook 06's as well: the nearest of the training
# pictures and ten changed copies of each. Nothing is learnt there.


# %%
def quietly(preset):
    """The model of a preset, trained without a word, and what its test rows say."""
    task = recipes.prepare(preset)
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        recipes.carry_out(task, preset)
    return task.judge(task.model)


def neighbour(images, labels, queries):
    """The label of the nearest picture, for each query."""
    a, b = queries.reshape(len(queries), -1), images.reshape(len(images), -1)
    return labels[((b**2).sum(1) - 2 * a @ b.T).argmin(1)]  # |a|² changes no order


# %% tags=["nbval-ignore-output"]
cnn = PRESETS["cnn"]
cnn = dataclasses.replace(
    cnn, seed=seed, steps=scaled(cnn.steps, smoke=20), warmup=scaled(50, smoke=5)
)
of_cnn = quietly(cnn)

# %%
change = data.RandomAffine(preset.degrees, preset.shift, preset.scale)
images, labels = digits.train
copies = [change(images, np.random.default_rng(i)) for i in range(10)]
everything = np.concatenate([images, *copies]), np.tile(labels, 11)
test = digits.test
right = neighbour(*everything, test.features) == test.targets
_ = result("digits test accuracy, CNN", of_cnn["accuracy"])
_ = result("digits test accuracy, neighbour with copies", right.mean())

# %% [markdown]
# Level, give or take two pictures, and the ViT took about four times as long as the
# CNN: a step is some 20 milliseconds of one core against 5. The neighbour, who has
# learnt nothing, is ahead of it. On 64 pixels there is nothing that a transformer is
# needed for. Here we wish to understand it, and what it is good for comes below.
#
# ## What it has learnt about places
#
# Nobody told it that the patches form a square of 4 by 4. Has it found out? If two
# places are near, what is true of one tends to be true of the other, and their vectors
# should be alike. Each small square below belongs to one of the 16 places, and shows
# the *cosine* of its vector with those of all places (the scalar product of both,
# scaled to length 1: 1 for the same direction, 0 for a right angle). They are those of
# the second network from above, whose positions began at almost nothing, so that what
# one sees was learnt. In the last column of numbers is the main run.


# %%
def cosines(vectors):
    """Of each with each: (N, C) -> (N, N)."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


small = cosines(starts["1/√n"].position_embedding.numpy()[0, 1:])  # of (16, C)
large = cosines(model.position_embedding.numpy()[0, 1:])
figure, panels = plt.subplots(4, 4, figsize=(4.6, 4), layout="constrained")
limit = np.abs(small[~np.eye(16, dtype=bool)]).max()
for number, axes in enumerate(panels.flat):
    map_of_one = small[number].reshape(4, 4)
    shown = axes.imshow(map_of_one, cmap="RdBu", vmin=-limit, vmax=limit)
    axes.plot(*np.divmod(number, 4)[::-1], "k.")
    axes.set(xticks=[], yticks=[])
figure.colorbar(shown, ax=panels, label="cosine of two positions", shrink=0.8)
viz.show(
    figure,
    alt="Sixteen small maps of 4 by 4 places, one for each place, which has a dot. "
    "Places beside the dot are mostly blue, alike; two or three steps away most are red, "
    "unlike. Places of the top row are also alike to some of the bottom row.",
)

# %%
row, column = np.divmod(np.arange(16), 4)
distance = np.hypot(row[:, None] - row, column[:, None] - column)
for low, high in ((1, 1), (1.4, 2), (2.2, 2.9), (3, 4.3)):
    chosen = (distance >= low - 0.05) & (distance <= high)
    means = [f"{values[chosen].mean():5.2f}" for values in (small, large)]
    print(f"distance {low:3} to {high:3}: mean cosine", *means)
apart = ~np.eye(16, dtype=bool)
for name, values in {"0.02": small, "0.5": large}.items():
    correlation = np.corrcoef(distance[apart], values[apart])[0, 1]
    _ = result(f"distance and cosine, positions begun at {name}", correlation)

# %% [markdown]
# It has begun, faintly, to find out: next neighbours are alike, 0.12 in the mean, and
# two or three steps away they are unlike. At the far end the order breaks off, perhaps
# since edges of a digit are all mostly paper. (Of networks trained to the end from such
# a beginning, neighbours had 0.09 and 0.15; in the paper's, with 14 by 14 places and
# millions of pictures, whole rows and columns can be seen.) In the main run there is
# nothing to see. Its positions began as large random vectors, and those are different
# already; that is all that the network needs. **A picture of positions shows what was
# learnt only if they began small.**
#
# ### Pictures of another size
#
# A network without a fixed size for its input can read larger pictures: more patches of
# the same size are only a longer list. But there are no positions for them. So one
# *interpolates*: lay a finer grid over the same square, and read off between the old
# places. Where neighbours have learnt to be alike that is natural; but even between two
# unrelated vectors, as ours are, a mixture is nearer to those two than to any other. By
# hand, along one line: two positions with the values 0 and 1 become four. The outer
# edges stay where they were, so new place $i$ lies at $(i + \frac12) \cdot \frac24 -
# \frac12$ of the old ones: at $-0.25$, $0.25$, $0.75$ and $1.25$. Linearly, and with
# the ends repeated, that reads 0, 0.25, 0.75 and 1. (Not $0, \frac13, \frac23, 1$: that
# would stretch the picture.) Published models use cubic curves through four neighbours,
# which overshoot a little:

# %%
# NBVAL_CHECK_OUTPUT
from minibig.models.vit import bicubic

print(bicubic(2, 4) @ np.array([0, 1]))

# %% [markdown]
# The class token's position belongs to no place and is passed on as it is. Now digits
# of 12 by 12 pixels, made of the same pictures by the same interpolation: 36 patches.


# %%
def enlarged(images, side=12):
    """Pictures (B, 1, 8, 8) with `side` pixels a side."""
    weights = bicubic(8, side).astype("float32")
    return (weights @ images @ weights.T).clip(0, 1)


bigger = {
    part: enlarged(getattr(digits, part).features)
    for part in ("train", "validation", "test")
}
before = accuracy(model, bigger["test"], test.targets)
_ = result("12 by 12 pixels, positions interpolated", before)

# %% [markdown]
# About 86 %, over three seeds 78 to 91, without one step of training at this size. The
# positions still say where a patch is; but a patch of 2 by 2 pixels now shows a smaller
# piece of a thicker stroke, and that is another language. The paper (section 3.2)
# interpolates, and then trains on for a little while. Beside it, a network that gets
# the same 80 steps from the start:


# %% tags=["nbval-ignore-output"]
batches = data.ArrayBatches(bigger["train"], labels, batch_size=32, seed=0)
steps = scaled(80, smoke=3)
for name, start in {"fine-tuned": model, "from the start": None}.items():
    mb.seed(seed)
    tuned = initialise(ViT(dataclasses.replace(model.config, image_size=12)))
    if start is not None:
        state = start.state_dict()
        with mb.no_grad():
            state["position_embedding"] = start.positions(6, 6).numpy()
        tuned.load_state_dict(state)
    train(tuned, batches, steps, rate=5e-4)
    score = accuracy(tuned, bigger["test"], test.targets)
    _ = result(f"12 by 12 pixels, {name}", score)

# %% [markdown]
# About 97 % against 77, over three seeds 96 to 98 against 70 to 77: what was learnt on
# small pictures serves on larger ones. That is how large vision transformers are made,
# cheaply at 224 pixels, then for a short time at 384.
#
# ## Where it looks
#
# Each layer has a map for each head: row $i$ says how much token $i$ takes from each
# of the others, and row 0 is the class token's. These numbers are at hand in every
# forward pass; it is tempting to lay them over the picture and to say "it looked
# *there*". Two cautions, and then a test.
#
# **The last layer is not the network.** What the class token takes from a patch in
# layer 2 is what that patch has become in layer 1, a mixture of all the others. And
# every block has a shortcut: half of what a token becomes, say, is what it was.
# *Attention rollout* (arXiv:2005.00928) follows both. With $A_l$ the mean of the heads
# of layer $l$ and $I$ the unit matrix:
#
# $$R = \tilde A_L \cdots \tilde A_2\, \tilde A_1, \qquad
# \tilde A_l = \textstyle\frac12 I + \frac12 A_l .$$
#
# Row 0 of $R$ says how much of each token has reached the class token. By hand, three
# tokens and two layers:
#
# | $A_1$ | | | | $A_2$ | | | | $R$ | | |
# |---|---|---|---|---|---|---|---|---|---|---|
# | 0 | 1 | 0 | | 0 | ½ | ½ | | ¼ | ⅜ | ⅜ |
# | 0 | 0 | 1 | | 0 | 1 | 0 | | 0 | ½ | ½ |
# | 0 | 0 | 1 | | 0 | 0 | 1 | | 0 | 0 | 1 |
#
# The class token gives $(\frac12, \frac14, \frac14)$ to what the three have become
# after layer 1, $(\frac12, \frac12, 0)$, $(0, \frac12, \frac12)$ and $(0, 0, 1)$; the
# sum is $(\frac14, \frac38, \frac38)$.


# %%
def rollout(maps):
    """Maps of all layers, each (B, H, T, T) -> (B, T, T)."""
    flow = unit = np.eye(maps[0].shape[-1])
    for weights in maps:
        flow = (unit + weights.mean(1)) / 2 @ flow
    return flow


first = [[0, 1, 0], [0, 0, 1], [0, 0, 1]]
second = [[0, 0.5, 0.5], [0, 1, 0], [0, 0, 1]]
by_hand = rollout([np.array(m)[None, None] for m in (first, second)])[0]
assert np.array_equal(by_hand[0], [0.25, 0.375, 0.375])

with nn.evaluating(model), mb.no_grad():
    maps = [weights.numpy() for weights in model.attention_maps(test.features)]
flow = rollout(maps)[:, 0, 1:]  # (B, 16), how much of each patch
last = maps[-1].mean(1)[:, 0, 1:]
assert np.allclose(maps[0].sum(-1), 1, atol=1e-5)

# %%
chosen = [int(np.flatnonzero(test.targets == digit)[0]) for digit in range(10)]
figure, panels = plt.subplots(3, 10, figsize=(9, 2.9), layout="constrained")
rows = {"picture": test.features[:, 0], "last layer": last, "rollout": flow}
for line, (name, values) in zip(panels, rows.items(), strict=True):
    line[0].set_ylabel(name, fontsize=9)
    colours = "gray_r" if name == "picture" else "inferno"
    for axes, value in zip(line, values[chosen], strict=True):
        side = round(value.size**0.5)
        axes.imshow(value.reshape(side, side), cmap=colours, vmin=0)
        axes.set(xticks=[], yticks=[])
viz.show(
    figure,
    alt="Ten test digits, and for each two maps of 4 by 4 squares. In the last "
    "layer the class token takes nearly everything from two or three patches, on the "
    "stroke for some digits, beside it for others. The rollout below is softer: nearly "
    "every patch has its share, those in the middle somewhat more.",
)

# %% [markdown]
# The last layer picks two or three patches; the rollout is softer, since every layer's
# shortcut keeps a share for everyone. Do they show the stroke? With good will. Bright
# squares lie on ink and on empty paper alike.
#
# **A map is no explanation.** It says what was mixed, not what it was used for; whether
# attention explains anything is disputed (arXiv:1902.10186). But a claim can be tested.
# If the map shows what matters, then wiping out the patches that it ranks highest must
# hurt more than wiping out as many at random, and wiping out the lowest must hurt less.
# A rank that knows nothing of the network stands beside it: how much ink there is.


# %%
def wiped(images, ranks, count):
    """Pictures whose `count` highest-ranked patches (B, 16) are empty paper."""
    keep = np.ones(ranks.shape, images.dtype)
    np.put_along_axis(keep, np.argsort(-ranks, 1)[:, :count], 0, 1)
    mask = keep.reshape(-1, 1, 4, 4).repeat(2, 2).repeat(2, 3)
    return images * mask


noise = np.random.default_rng(0)
ranks = {
    "highest rollout": flow, "highest in the last layer": last,
    "most ink": cut(test.features, 2).sum(2), "at random": noise.random(flow.shape),
    "lowest rollout": -flow,
}  # fmt: skip
counts = range(0, 11, 2)
scores = {
    name: [accuracy(model, wiped(test.features, rank, n), test.targets) for n in counts]
    for name, rank in ranks.items()
}

# %%
figure, axes = plt.subplots(figsize=(6.6, 3.4), layout="constrained")
styles = ("o-", "s-", "^--", "x:", "o--")
for (name, values), style in zip(scores.items(), styles, strict=True):
    axes.plot(counts, 100 * np.array(values), style, label=f"wiped: {name}")
axes.set(xlabel="patches wiped out, of 16", ylabel="test accuracy (%)", ylim=(0, 102))
axes.grid(alpha=0.3)
axes.legend(fontsize=8)
viz.show(
    figure,
    alt="Test accuracy against the number of patches that were wiped out, from 0 to "
    "10. Without the patches with the most ink it falls at once, to 21 % after four. All "
    "other curves lie close together far above: after four patches 55 to 63 %, whether "
    "those of the highest rollout, the lowest, the last layer's highest or any.",
)
for name, values in scores.items():
    print(f"{name:26} 4 of 16 wiped: {values[2]:.2f}")

# %% [markdown]
# The maps hardly know more than chance. Without the four patches of the highest rollout
# some 50 to 55 % are still read, without four at random about 63; where the ink is
# tells it far better, 21 %, and asks no network. Be fair to the maps: an empty patch
# cannot be wiped, so whoever points at empty paper loses a turn, and what a network
# takes from an empty patch (that there is *no* stroke) is something it may well need.
# But then the map does not mean what people read into it. Draw attention by all means,
# and believe it as far as a test goes.
#
# ## Why small data hurt
#
# A convolution knows before it has seen anything that neighbours belong together, and
# that a stroke is a stroke wherever it stands. A vision transformer must learn both
# from examples. The paper's own finding: trained on ImageNet alone, 1.3 million
# pictures, it was a few points behind residual networks of its size; trained on 14 to
# 300 million first, it was ahead. Here is that curve in small. Both networks from the
# start, on the first 60, 300 and all 1,258 training pictures, and for every point the
# same steps of 32 pictures, 400 for the ViT and 1,200 for the CNN, which takes no
# longer for them; once with the pictures as they are, once changed anew in every epoch.
# And the neighbour, for free.


# %%
def fresh(name, rows, changed, seed, steps):
    """Test accuracy of a preset's network, on the first `rows` pictures."""
    mb.seed(seed)
    network = PRESETS[name].make_model()
    loader = data.ArrayBatches(images[:rows], labels[:rows], batch_size=32, seed=seed)
    if changed:
        loader = data.Augmented(loader, change)
    losses = train(network, loader, steps, PRESETS[name].lr)
    return accuracy(network, test.features, test.targets), np.mean(losses[-20:])


# %% tags=["nbval-ignore-output"]
few = (60, 300, 1258)
lengths = {"vit": scaled(400, smoke=2), "cnn": scaled(1200, smoke=2)}
curve = {
    (name, changed): [fresh(name, n, changed, seed, lengths[name]) for n in few]
    for name in ("vit", "cnn")
    for changed in (False, True)
}

# %%
plain = [np.mean(neighbour(images[:n], labels[:n], test.features) == test.targets)
         for n in few]  # fmt: skip
figure, panels = plt.subplots(
    1, 2, figsize=(8.6, 3.5), layout="constrained", sharey=True
)
titles = "pictures as they are", "changed anew in every epoch"
for axes, changed, title in zip(panels, (False, True), titles, strict=True):
    for name, label, style in (("cnn", "CNN", "s-"), ("vit", "ViT", "o-")):
        wrong = [100 * (1 - score) for score, _ in curve[name, changed]]
        axes.plot(few, wrong, style, label=label)
    axes.plot(few, 100 * (1 - np.array(plain)), "k:", label="neighbour, as they are")
    axes.set(xlabel="training pictures", title=title, xscale="log", xticks=few)
    axes.set_xticks([], minor=True)
    axes.set_xticklabels(few)
    axes.grid(alpha=0.3)
panels[0].set(ylabel="test digits misread (%)", ylim=(0, None))
panels[0].legend()
viz.show(
    figure,
    alt="Test digits misread against the number of training pictures, 60, 300 and "
    "1,258. Left, pictures as they are: with 60 the ViT misreads 26 %, CNN and neighbour "
    "18; with 300 all three 6 to 7; with all of them 1 to 2. Right, changed anew: the "
    "ViT begins at 18 %, the CNN at 14, and they meet at 5 with 300 pictures.",
)

# %%
print("test accuracy, and loss of the last 20 steps")
for (name, changed), found in curve.items():
    cells = "  ".join(f"{score:.3f} ({loss:.2f})" for score, loss in found)
    print(f"{name} {'changed' if changed else 'as they are':11} {cells}")
print(f"{'neighbour':15} " + "  ".join(f"{score:.3f}       " for score in plain))
for name in ("vit", "cnn"):
    score = curve[name, False][-1][0]
    _ = result(f"all pictures as they are, {name}", score)
if not in_smoke_mode():
    means = {
        n: np.mean([score for score, _ in curve[n, False]]) for n in ("cnn", "vit")
    }
    assert means["cnn"] > means["vit"]

# %% [markdown]
# The picture is of seed 0 alone, and one test digit is 0.37 %. In the mean of the seeds
# 0, 1 and 2 there are misread:
#
# | training pictures | 60 | 300 | 1,258 |
# |---|---|---|---|
# | CNN, as they are | 17.8 % | 6.9 % | 1.6 % |
# | CNN, changed | 14.3 % | 5.7 % | 1.1 % |
# | ViT, as they are | 27.6 % | 8.3 % | 2.1 % |
# | ViT, changed | 19.0 % | 5.5 % | 2.7 % |
# | neighbour, as they are | 17.5 % | 5.9 % | 1.5 % |
#
# **Small data hurt.** With about six pictures of each digit the ViT misreads ten points
# more than the CNN, though it knows its 60 by heart: the loss is 0.00. With 300 it is a
# point and a half behind, and with all of them about level. Where the curves meet
# depends on the pictures; for photographs it takes millions. The neighbour is as good
# as the CNN throughout.
#
# **What changed copies do.** With few pictures they take away a third of the ViT's
# mistakes and a fifth of the CNN's. They tell it what the convolution knew: a stroke
# that has moved a little is the same stroke. **And what they do not do.** With all
# 1,258 pictures the ViT gains nothing by them here, and its training loss says why:
# 0.14 to 0.19, where it was 0.00. Changed pictures are a harder task, and 400 steps are
# too few for it. The 1,500 of the main run make 1.0 % of them, in the mean of three
# seeds. Augmentation pays in data and costs steps. (In this way, with a teacher
# besides, a ViT was later trained on ImageNet alone: arXiv:2012.12877.)
#
# ### Digits anywhere
#
# Notebook 06 took away what makes the digits easy: each on an empty sheet of 16 by 16
# pixels, once, at a random place. The MLP read 40 to 43 % of them, LeNet 68 to 73, a
# ResNet that ends in a mean over all places 97 to 99. Now the ViT, with patches of 4 by
# 4 pixels, on the same sheets for as many steps:


# %%
def scattered(images, seed, side=16):
    """Each picture at a random place of an empty sheet."""
    places = np.random.default_rng(seed).integers(0, side - 7, (len(images), 2))
    sheets = np.zeros((len(images), 1, side, side), np.float32)
    for sheet, image, (i, j) in zip(sheets, images, places, strict=True):
        sheet[:, i : i + 8, j : j + 8] = image
    return sheets


# %% tags=["nbval-ignore-output"]
sheets = [scattered(part.features, n) for n, part in enumerate((digits.train, test))]
batches = data.ArrayBatches(sheets[0], labels, batch_size=64, seed=0)
mb.seed(seed)
wide = initialise(ViT(dataclasses.replace(model.config, image_size=16, patch_size=4)))
losses = train(wide, batches, scaled(300, smoke=2), rate=2e-3)
score = accuracy(wide, sheets[1], test.targets)
_ = result("scattered digits, ViT", score)
print(f"on its training pictures {accuracy(wide, sheets[0], labels):.3f}")

# %% [markdown]
# Over three seeds 37, 40 and 41 %: like the MLP, while it knows 81 to 89 % of its own
# training sheets. Here is the price in one number. The embedding of a patch is the same
# everywhere, but a digit that moves by one pixel is cut into other patches, in 16 ways,
# and stands on other positions, and each way must be learnt for itself. The ResNet's
# 97 % are not intelligence; somebody told it that a picture may be moved. With 300
# million pictures one need not be told. With 1,258 one had better be.
#
# ## Summary
#
# - A vision transformer is the encoder of notebook 09; patches, a class token and
#   learnt positions make a list of the picture.
# - Cutting patches and embedding them is one convolution whose stride is its size.
# - Positions are learnt from nothing, and can be interpolated to pictures of another
#   size; a short training there does the rest.
# - First weights must fit the width: 0.02 is for 768, and costs a narrow network most
#   of its speed.
# - Attention can be drawn, and what is drawn can be tested. Here ink knew more.
# - It knows nothing of neighbours. With 60 pictures that costs ten points; changed
#   copies tell it most of what it lacks, if it gets the steps to learn it.
#
# ## Exercises
#
# ### 1. Patches of any picture
#
# `my_patches(images, size)`: images (B, channels, H, W), NumPy; return (B, N, channels
# · size²), row by row, within a patch by channel, then row, then column. No loop is
# needed. Stuck? `hint("13.patches")`.


# %%
def my_patches(images, size):
    ### BEGIN SOLUTION
    b, channels, height, width = images.shape
    x = images.reshape(b, channels, height // size, size, width // size, size)
    x = x.transpose(0, 2, 4, 1, 3, 5)  # (B, rows, columns, channels, size, size)
    count = (height // size) * (width // size)
    return x.reshape(b, count, channels * size * size)
    ### END SOLUTION


check("13.patches", my_patches)

# %% [markdown]
# ### 2. Backwards
#
# $x$ is made of embedded patches (B, N, C), the class token (1, 1, C) in front of them,
# and positions (1, 1 + N, C) on top. `input_gradients(dx)`: dx (B, 1 + N, C) is the
# gradient of the loss by $x$; return three arrays, the gradients of patches, class
# token and positions, each of the shape that it has itself.


# %%
def input_gradients(dx):
    ### BEGIN SOLUTION
    everywhere = dx.sum(0, keepdims=True)
    return dx[:, 1:], everywhere[:, :1], everywhere
    ### END SOLUTION


check("13.gradients", input_gradients)

# %% [markdown]
# ### 3. Positions of another grid
#
# `resize(table, rows, columns)`: table (1 + side², C), the class token's position and
# those of a square grid; return (1 + rows · columns, C), interpolated linearly both
# ways. New place $i$ of `after` lies at $(i + \frac12) \cdot$ before/after $- \frac12$
# of the old ones, cut back to 0 … before − 1.


# %%
def resize(table, rows, columns):
    ### BEGIN SOLUTION
    side = round((len(table) - 1) ** 0.5)

    def weights(after):
        places = ((np.arange(after) + 0.5) * side / after - 0.5).clip(0, side - 1)
        return np.maximum(1 - np.abs(places[:, None] - np.arange(side)), 0)

    grid = table[1:].reshape(side, side, -1)
    grid = np.einsum("is,jt,stc->ijc", weights(rows), weights(columns), grid)
    return np.concatenate([table[:1], grid.reshape(rows * columns, -1)])
    ### END SOLUTION


check("13.positions", resize)

# %% [markdown]
# ### 4. Rollout for one picture
#
# `class_rollout(maps)`: a list, one array (H, T, T) for each layer, the first layer
# first; return how much of each of the T − 1 patches has reached the class token.


# %%
def class_rollout(maps):
    ### BEGIN SOLUTION
    flow = unit = np.eye(maps[0].shape[-1])
    for weights in maps:
        flow = (0.5 * unit + 0.5 * weights.mean(0)) @ flow
    return flow[0, 1:]
    ### END SOLUTION


check("13.rollout", class_rollout)

# %% [markdown]
# ### 5. A little knowledge (open)
#
# Give the network something to know and see what it is worth. Ideas: two convolutions
# of 3 by 3 in the place of the patches' linear layer (arXiv:2106.14881); the mean over
# all patches in the place of the class token; positions that begin as the waves of
# notebook 08; attention that may only look at neighbouring patches in the first layer
# (a mask). Choose by the validation rows, over three seeds, at 300 training pictures.
# Write down a forecast first, then look at the test rows, once.
#
# ## Sources
#
# - A. Dosovitskiy et al., the vision transformer: arXiv:2010.11929.
# - A. Vaswani et al., the transformer: arXiv:1706.03762; J. Devlin et al., BERT and its
#   class token: arXiv:1810.04805.
# - H. Touvron et al., a ViT from ImageNet alone, by augmentation and a teacher:
#   arXiv:2012.12877.
# - A. Steiner et al., how much data augmentation is worth: arXiv:2106.10270.
# - S. Abnar, W. Zuidema, attention rollout: arXiv:2005.00928.
# - S. Jain, B. Wallace, *Attention is not Explanation*: arXiv:1902.10186.
# - T. Xiao et al., convolutions before the first block: arXiv:2106.14881.
# - R. Keys, cubic interpolation, IEEE Transactions on Acoustics, Speech, and Signal
#   Processing 29, 1981.
