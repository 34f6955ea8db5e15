# %% [markdown]
# # Start here
#
# > **You will build** your first gradient, check it by hand and go downhill with it;
# > then see on which machines the same line can run, and choose your way through the
# > course.
# >
# > **You need** Python: functions, loops, lists. From mathematics: what a slope is.
# >
# > **It takes** ten minutes of reading; the code runs in a few seconds on 2 CPU cores
# > in 200 MB of memory. No GPU.
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
step = 0.001
moved = mb.tensor([1.0, 2.0 + step], dtype="float64")
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
ready = {0, 1, 2, 3, 4, 8, 11}  # what can be opened today
doors = {1: "never trained\nanything", 2: "fluent\nin NumPy"}
doors |= {8: "have trained\nnetworks", 15: "know\ntransformers"}

# %%
import textwrap

import matplotlib.pyplot as plt

from minibig import viz

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


# %%
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
# - **You know transformers and want them fast.** Begin with 15.
#
# You are working in the folder `my/`, on your own copy: change any number and run the
# cell again (Shift+Enter); updating minibig never overwrites what you wrote. When a
# name in a notebook makes you curious, the library's source is meant to be read, and
# each file of it fits in one sitting.

# %% [markdown]
# ## Summary
#
# - A model is a function with parameters; a loss says with one number how wrong it is.
# - The gradient holds the slope of the loss by each parameter; `backward()` finds it.
# - Small steps against the gradient make the loss smaller: that is training.
# - The same program runs on NumPy (any computer) and on CuPy (NVIDIA GPUs).
#
# ## Sources
#
# The models of part 2: the transformer (arXiv:1706.03762), GPT-3 (arXiv:2005.14165),
# BERT (arXiv:1810.04805), ViT (arXiv:2010.11929).
