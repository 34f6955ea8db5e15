# %% [markdown]
# # Start here
#
# > **You will build** your first gradient, check it by hand and go downhill with it;
# > then train a real GPT in one minute, read what it writes, and choose your way
# > through the course.
# >
# > **You need** Python: functions, loops, lists. From mathematics: what a slope is.
# >
# > **It takes** a quarter of an hour of reading; the code runs for a minute and a half
# > on 2 CPU cores in 300 MB of memory. No GPU.
#
# **How does a computer get better at something for which nobody can write the rules?**
#
# Nobody can write down the rules that tell a 3 from an 8 in every handwriting, or that
# say which word comes next in a sentence. What can be written down is a function with
# many adjustable numbers in it, its *parameters*, and a second function that says with
# one number how wrong the first one is: the *loss*. Learning is then a search for
# parameters with a small loss.
#
# For that search each parameter has to answer one question: if you grow a little, does
# the loss rise or fall, and how fast? The answer is a slope. The slopes of all the
# parameters together are called the *gradient*, and nearly everything that is called
# AI today, from a digit reader to the models behind ChatGPT, was found by following it.

# %% [markdown]
# ## The smallest gradient
#
# Take two parameters and a loss that is easy to see through:
#
# $$L(x_1, x_2) = x_1^2 + x_2^2, \qquad
# \frac{\partial L}{\partial x_i} = 2\,x_i .$$
#
# At $x = (1, 2)$ the loss is $1 + 4 = 5$ and the gradient is $(2, 4)$. Now let minibig
# say so. `requires_grad=True` announces that we shall want the gradient by `x`, and
# `backward()` walks from the loss back to `x` and leaves it in `x.grad`.

# %%
# NBVAL_CHECK_OUTPUT
import minibig as mb

x = mb.tensor([1.0, 2.0], requires_grad=True)
loss = (x * x).sum()
loss.backward()

print("loss    ", loss.item())
print("gradient", x.grad.numpy())

# %% [markdown]
# A gradient is a claim about what happens when a parameter grows a little, so it can be
# put to the test: let $x_2$ grow by 0.001 and see by how much the loss grew, per step.

# %%
# NBVAL_CHECK_OUTPUT
import numpy as np

step = 0.001
moved = mb.tensor(np.array([1.0, 2.0 + step]))  # NumPy's floats have 16 digits
print(f"{((moved * moved).sum().item() - 5) / step:.4f}")

# %% [markdown]
# 4.001, where the gradient says 4; what is left over shrinks with the step. This
# comparison will guard every operation that the course builds. How `backward()` finds
# the answer without trying out each parameter is the subject of notebook 02, which
# builds the machine in about a hundred lines.

# %% [markdown]
# ## Downhill
#
# If the gradient points to where the loss grows, a step against it makes the loss
# smaller. With a step of a tenth of the gradient,
#
# $$x_i \leftarrow x_i - 0.1 \cdot 2\,x_i = 0.8\,x_i,$$
#
# so each step keeps 80 % of every parameter and 64 % of the loss: from 5 to 3.2, to
# 2.048, and on towards 0.

# %%
# NBVAL_CHECK_OUTPUT
for _ in range(5):
    x = mb.tensor(x.numpy() - 0.1 * x.grad.numpy(), requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    print(f"x = ({x.numpy()[0]:.3f}, {x.numpy()[1]:.3f})   loss = {loss.item():.3f}")

assert abs(loss.item() - 5 * 0.64**5) < 1e-6

# %% [markdown]
# That is the whole of training. What the rest of the course adds is better functions
# (networks, attention, transformers), better steps (momentum, Adam), real data, and
# machines fast enough for billions of parameters in the place of two.

# %% [markdown]
# ## A GPT in one minute
#
# Two parameters are a toy. Here is the same search with 0.9 million of them: a *GPT*, a
# small sister of the models behind ChatGPT, made by the same rules. Every part of it is
# a later notebook's subject; today it may be a black box for once.
#
# It will learn from the texts that Python's `help()` shows, which are on your computer
# already, and it has one single task: **read a piece of text, guess the next piece.**
# A *piece* is a word, or a part of one where the word is rare. The 1,024 pieces are
# learnt from the text too, by joining what often stands together (notebook 10 does it).

# %%
from dataclasses import replace

from minibig import recipes
from minibig.exercises import in_smoke_mode, result, scaled
from minibig.presets import PRESETS

mb.seed(0)  # all that is drawn at random from here on follows from this number
preset = replace(
    PRESETS["demo"], seed=mb.random.get_state()["seed"],
    steps=scaled(700, smoke=12), warmup=scaled(50, smoke=2),
)  # fmt: skip
task = recipes.prepare(preset)
model, tokenizer = task.model, task.tokenizer
print(f"{model.num_parameters():,} parameters, {tokenizer.vocab_size:,} pieces")

# %% [markdown]
# This is how the model sees a sentence. A space belongs to the piece that follows it.

# %%
sentence = "The while statement is used for repeated execution."
ids = tokenizer.encode(sentence)
print("|".join(tokenizer.decode([i]) for i in ids))
print(ids)

# %% [markdown]
# Each piece has a number, and for every place in a text the model returns 1,024
# probabilities, one for each piece that might come next. To write, draw a piece
# by these probabilities, append it, and ask again. The new model's parameters are
# random, and so is what it writes:

# %%
print(recipes.write(model, tokenizer, "The", 60, temperature=0.8, seed=0))

# %% [markdown]
# Now the loss. When the true next piece turns up, the model had given it some
# probability $p$, and the loss is its *surprise* $-\ln p$, in a unit called *nats*:
# 0 for a piece that was certain, $\ln 2 = 0.69$ for one that was as likely as heads, and
# for one among 1,024 equals $\ln 1024 = 6.93$. That is where a model begins that
# knows nothing. Two plain guessers to compare with: one gives all pieces the same
# probability; the other knows how frequent each piece is, and nothing else.

# %%
from minibig import data

corpus = data.documentation()
seen = corpus.text[: int(0.9 * len(corpus.text))]  # the last tenth is kept for a test
counts = np.bincount(tokenizer.encode(seen), minlength=tokenizer.vocab_size) + 1
frequency = counts / counts.sum()

kept_back = np.concatenate([y[y >= 0] for _, y in task.watching])
baselines = {
    "all pieces alike": np.log(tokenizer.vocab_size),
    "by frequency": -np.log(frequency[kept_back]).mean(),
}
for name, nats in baselines.items():
    print(f"{name:17} {nats:.2f} nats a piece")

# %% [markdown]
# Each step shows the model 12 snippets of 64 pieces, asks `backward()` for
# the gradient of the mean surprise by all the parameters, and moves them a little
# against it, 700 times. Ten times on the way it is tested on the tenth of the text that
# it never learns from: *held out*. On 2 CPU cores that takes one to
# two minutes.

# %% tags=["nbval-ignore-output"]
history = recipes.carry_out(task, preset)

# %%
import matplotlib.pyplot as plt

from minibig import viz

figure, axes = plt.subplots(figsize=(7.4, 3.8), layout="constrained")
axes.plot(history.loss, color="#56B4E9", linewidth=0.8, label="on what it learns from")
steps, held_out = history.column("loss")
axes.plot(steps, held_out, "o-", color="#0072B2", label="on held-out text")
for (name, nats), style in zip(baselines.items(), (":", "--"), strict=True):
    label = f"guessing {name}: {nats:.2f}"
    axes.axhline(nats, color="black", linestyle=style, linewidth=1, label=label)
axes.set(xlabel="step (12 snippets of 64 pieces each)", ylabel="loss (nats a piece)")
axes.set(ylim=(0, 7.3))
axes.grid(alpha=0.3)
axes.legend()
viz.show(
    figure,
    alt="Loss against the step. The training loss begins at the dotted line of guessing "
    "all pieces alike, 6.93, crosses the dashed line of guessing by frequency, 5.93, "
    "within the first hundred steps and goes on falling, ever more slowly, to about 3.5. "
    "The held-out loss, first measured after 70 steps below the dashed line, follows it "
    "and ends near 3.9.",
)

# %% [markdown]
# The curve first falls to what frequencies alone can tell, and rests there for a moment:
# that is the first thing a language model learns. Then it goes below: from there on,
# the model uses what stands *before*. Expect about 3.9 nats on held-out text at the
# end. Since $e^{3.9} \approx 50$, the model is now as undecided as between 50 equally
# likely pieces, where it began with 1,024. The training loss is lower, about 3.5: the
# model has seen each snippet of that text nearly four times and begins to know it by
# heart. Only the held-out loss says what it has understood of the language.
#
# And this is what it writes now, from four openings. A *temperature* below 1 makes likely
# pieces a little likelier still. (Dashes and bars are the documentation's own habit: it
# draws its tables with them.)

# %%
openings = ["The while statement", "A class", "If an object", "Note that"]
texts = [
    recipes.write(model, tokenizer, opening, 150, temperature=0.8, seed=0)
    for opening in openings
]
for text in texts:
    print(text[:320], end="\n\n- - - - -\n\n")

# %% [markdown]
# How good is that? For a start, count: which share of its words, of three letters or
# more, occur anywhere in Python's documentation? As a baseline, draw pieces by their
# frequency and nothing else. Many pieces are whole words, so that finds some as well.

# %%
from minibig.data.text import share_of_known_words

rng = mb.random.generator("baseline")
drawn = tokenizer.decode(rng.choice(len(frequency), 2000, p=frequency))
print(drawn[:160], "\n")

pairs = zip(texts, openings, strict=True)  # its own words only
written = "\n".join(text.removeprefix(opening) for text, opening in pairs)
share = share_of_known_words(written, corpus.text)
chance = share_of_known_words(drawn, corpus.text)
result("share of known words", share, at_least=0.6, corpus=corpus.hash)
result("the same, pieces drawn by frequency", chance, corpus=corpus.hash)
result("loss on held-out text", task.judge(model)["loss"], corpus=corpus.hash)
if not in_smoke_mode():
    assert share > chance

# %% [markdown]
# Be fair to it in both directions. Nobody told this model what a sentence is, a table or
# a heading; it had a minute, and guessing the next piece was enough to find out that
# there are such things. But it knows nothing of Python. Its sentences have the sound of
# the documentation and no meaning, its words are sometimes made up, and it cannot
# answer a question. The large models do the very same thing, with a thousand to a
# million times as many parameters and far more text; notebook [11](11_gpt.ipynb) takes
# all of it apart, and measures how far a model can get at all.
#
# Try it: a temperature of 0.5 in the place of 0.8, then 1.5. What becomes of the words,
# and what of the variety?
#
# In a terminal, `make demo` trains this same model, and `python -m minibig doctor` says
# what your computer has and what it lacks for the course.

# %% [markdown]
# ## One program, two machines
#
# minibig stores numbers in arrays and computes with one of two libraries. *NumPy* runs
# on the processor of every computer. *CuPy* has the same functions, but works on an
# NVIDIA graphics card (GPU). The array itself decides: code that receives NumPy arrays
# uses NumPy, code that receives CuPy arrays uses CuPy, and nothing else in a program
# changes. So everything here can be learnt without a GPU, and on one it is faster.
#
# Whether this computer has one that minibig can use, it says itself:

# %%
device = "cpu"
try:
    device = x.to("cuda").device
except mb.DeviceError as reason:
    print(reason)

print(f"This notebook goes on with device {device!r}.")
print(x.to(device) * 10)

# %% [markdown]
# ## The course on one picture
#
# Read it like a page, from left to right and from top to bottom: a notebook uses only
# what it or an earlier one has built. Filled boxes are ready to be opened; the others
# are being written.

# %%
parts = {
    "Part 1\nlearning\nmachines": "start here, tensors, backpropagation, gradient "
    "descent, neural networks, generalisation, convolutions, recurrence",
    "Part 2\nattention": "attention, transformer, tokenizers, GPT, BERT, ViT, "
    "pretrained weights",
    "Part 3\nthe GPU": "two machines, first kernels, attention kernels, tensor cores, "
    "precision and memory",
    "Part 4\nbig": "budget, many machines, smaller models, trust, serving, capstone",
}
ready = set(range(20))  # what can be opened today
doors = {1: "never trained\nanything", 2: "fluent\nin NumPy"}
doors |= {8: "have trained\nnetworks", 15: "know\ntransformers"}

# %% jupyter={"source_hidden": true}
import textwrap

whole_words = {"break_long_words": False}


def draw(axes, part, titles, row, number):
    """One part of the course: a row of boxes, numbered from `number` on."""
    axes.text(-0.2, -row, part, ha="right", va="center", fontsize=11, weight="bold")
    for column, title in enumerate(titles):
        face, ink = ("#1f4e79", "white") if number in ready else ("white", "black")
        corner = (column, -row - 0.3)
        axes.add_patch(plt.Rectangle(corner, 0.94, 0.6, fc=face, ec="#1f4e79"))
        label = f"{number:02d}\n" + "\n".join(textwrap.wrap(title, 10, **whole_words))
        place = {"ha": "center", "va": "center", "color": ink, "fontsize": 8}
        axes.text(column + 0.47, -row, label, **place)
        if number in doors:
            text = f"{doors[number]} ↓"
            axes.text(column + 0.47, 0.33 - row, text, ha="center", color="#b03a00")
        number += 1
    return number


# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(12, 5.6))
number = 0
for row, (part, titles) in enumerate(parts.items()):
    number = draw(axes, part, titles.split(", "), row, number)
axes.set(xlim=(-1.2, 8), ylim=(-3.5, 0.8))
axes.axis("off")
viz.show(
    figure,
    alt="Map of the course: 26 numbered notebooks in four rows, one row for each part: "
    "learning machines, attention, the GPU, big. Arrows mark four places to begin: 01 "
    "for those who never trained anything, 02 for those fluent in NumPy, 08 for those "
    "who have trained networks, 15 for those who know transformers.",
)

# %% [markdown]
# ## Where to go next
#
# - **You program, but have never trained anything.** Go on with
#   [01](01_tensors.ipynb) and keep the order.
# - **You are fluent in NumPy** (shapes, broadcasting, views). Begin with
#   [02](02_backpropagation.ipynb).
# - **You have trained networks**, in PyTorch perhaps. Begin with
#   [08](08_attention.ipynb); minibig's names
#   and arguments are PyTorch's, so you will read its code at once. Come back to 02
#   when you want to know what happens inside `backward()`.
# - **You know transformers and want them fast.** Begin with
#   [15](15_one_array_two_machines.ipynb), which needs no GPU either.
#
# After `make lab` you work in the folder `my/`, on your own copy: change any number and
# run the cell again (Shift+Enter); updating minibig never overwrites what you wrote.
# When a name in a notebook makes you curious, the library's source is meant to be read,
# and each file of it fits in one sitting. Most notebooks end with exercises that check
# themselves; `python -m minibig progress` lists which of them have passed.

# %% [markdown]
# ## Summary
#
# - A model is a function with parameters; a loss says with one number how wrong it is.
# - The gradient holds the slope of the loss by each parameter; `backward()` finds it.
# - Small steps against the gradient make the loss smaller: that is training.
# - A GPT learns to guess the next piece of a text; its loss is surprise, in nats.
# - The same program runs on NumPy (any computer) and on CuPy (NVIDIA GPUs).
#
# ## Sources
#
# The models of part 2: the transformer (arXiv:1706.03762), GPT-3 (arXiv:2005.14165),
# BERT (arXiv:1810.04805), ViT (arXiv:2010.11929).
