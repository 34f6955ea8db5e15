# %% [markdown]
# # Backpropagation
#
# > **You will build** an engine of about a hundred lines that runs a computation,
# > remembers it, and walks back through it to find the gradient; tools to draw what it
# > remembers and to prove its gradients right; and with it a network that learns XOR.
# >
# > **You need** [01](01_tensors.ipynb): shapes, broadcasting, matrix products. From
# > mathematics: what a slope is.
# >
# > **It takes** 45 minutes of reading; the code runs in about 15 seconds on 2 CPU cores
# > in 200 MB of memory. No GPU.
#
# **How can a single walk back through a computation tell each of its parameters, though
# there be a billion of them, what it did to the result?**
#
# Notebook [00](00_start_here.ipynb) tested a gradient by letting one parameter grow a
# little and running the computation again. That answers the question for *one*
# parameter. A model with a billion parameters would have to run a billion times for
# every step downhill. What we build here needs the work of about three runs, for all
# the parameters together.

# %%
import minibig as mb

mb.seed(0)

# %% [markdown]
# ## Along a path, slopes multiply
#
# Take three small steps, one after the other, from $x = 2$:
#
# $$u = 3x = 6, \qquad v = u + 1 = 7, \qquad y = v^2 = 49.$$
#
# Each step is simple enough to say how fast its output grows when its input grows. $u$
# grows 3 times as fast as $x$. $v$ grows exactly as fast as $u$. And $v^2$ grows
# $2v = 14$ times as fast as $v$. So if $x$ grows by a little, then $y$ grows by
# $3 \cdot 1 \cdot 14 = 42$ times that little. This is the *chain rule*:
#
# $$\frac{dy}{dx} = \frac{dy}{dv} \cdot \frac{dv}{du} \cdot \frac{du}{dx}
# = 14 \cdot 1 \cdot 3 = 42 .$$
#
# Do not take the formula's word for it. Let $x$ grow by 0.001:

# %%
# NBVAL_CHECK_OUTPUT
x, step = 2.0, 0.001
before = (3 * x + 1) ** 2
after = (3 * (x + step) + 1) ** 2
print(f"{(after - before) / step:.3f}")

# %% [markdown]
# Two things are worth a second look. The slope 14 needs $v = 7$, which is known only
# after the computation has run: so we first go *forward* and keep the numbers that the
# slopes will need. And the product may be multiplied from either end. From the right it
# asks "what does $x$ do to $u$, to $v$, to $y$?"; from the left, "what does $y$ owe to
# $v$, to $u$, to $x$?". For numbers that makes no difference. Later in this notebook it
# will decide between three million multiplications and two billion.

# %% [markdown]
# ## Where paths meet, slopes add
#
# Now let a number be used twice. With $a = 2$ and $b = 3$:
#
# $$e = a \cdot b = 6, \qquad f = e + b = 9.$$
#
# $b$ reaches $f$ on two paths: through the product, whose slope by $b$ is $a = 2$, and
# directly, with slope 1. When $b$ grows, both contributions arrive, so
#
# $$\frac{df}{db} = 1 \cdot 2 + 1 = 3, \qquad \frac{df}{da} = 1 \cdot 3 = 3 .$$
#
# That is all of the theory: **multiply along each path, add over the paths**. The rest
# is bookkeeping, and the bookkeeping has two enemies. There can be very many paths: of
# 50 doublings $y \leftarrow y + y$ in a row each offers two, which makes $2^{50}$,
# about $10^{15}$. And there can be very many parameters. One idea beats both: go back
# from the result, and hand each number its *complete* gradient before going on from it.

# %% [markdown]
# ## An op answers twice
#
# We build the engine from *ops*, the steps that we no longer take apart. An op is a
# function that answers twice: with its value, and with a second function, `backward`.
#
# One convention saves much writing, here and in the library: **`dy` is the gradient of
# the final result by `y`**, that is, how fast the final result grows when `y` grows. An
# op does not know what comes after it, and need not: it is handed `dy` and multiplies
# with its own slope, by its first input, by its second. For a product, $y = ab$, these
# slopes are $b$ and $a$:


# %%
def add(a, b):
    """a + b."""

    def backward(dy):
        return dy, dy

    return a + b, backward


def multiply(a, b):
    """a * b. backward: da = dy * b, db = dy * a."""

    def backward(dy):
        return dy * b, dy * a

    return a * b, backward


# %% [markdown]
# Forward and backward stand together, and what backward needs (`a` and `b`, but not the
# result) it keeps because it is a *closure*: an inner function that still sees the
# variables of the outer one. With them, the example of above can be worked by hand,
# forward and then back:

# %%
# NBVAL_CHECK_OUTPUT
e, back_through_e = multiply(2, 3)
f, back_through_f = add(e, 3)
print("forward ", e, f)

de, db_direct = back_through_f(1)  # f by itself has slope 1
da, db_through_e = back_through_e(de)
print("backward", da, db_direct + db_through_e)

# %% [markdown]
# We shall need two more. Subtraction is simple. The *sigmoid* squeezes any number into
# the range from 0 to 1,
#
# $$y = \sigma(x) = \frac{1}{1 + e^{-x}}, \qquad
# \frac{dy}{dx} = \frac{e^{-x}}{(1 + e^{-x})^2} = y\,(1 - y),$$
#
# and its slope can be had from its value alone: $\sigma(0) = \frac12$ with slope
# $\frac14$, and $\sigma(\ln 3) = 1 / (1 + \frac13) = \frac34$ with slope $\frac3{16}$.

# %%
import numpy as np


def subtract(a, b):
    """a - b."""
    return a - b, lambda dy: (dy, -dy)


def sigmoid(x):
    """1 / (1 + e^-x), between 0 and 1. backward: dx = dy * y (1 - y)."""
    y = 1 / (1 + np.exp(-x))
    return y, lambda dy: (dy * y * (1 - y),)


y, backward = sigmoid(np.log(3))
assert np.allclose([y, *backward(1)], [3 / 4, 3 / 16])

# %% [markdown]
# ## The engine
#
# By hand we wrote down which backward follows which. The engine shall do that while the
# computation runs. A *Node* is the note it makes of one op: which tensors went in, what
# the op's backward is, and how many notes were made before, its *order*.

# %%
import itertools

orders = itertools.count()  # 0, 1, 2, … one each time it is asked


class Node:
    """One op that was run: its name, what went in, and the way back."""

    def __init__(self, op, parents, backward):
        self.order = next(orders)
        self.op, self.parents, self.backward = op, parents, backward


# %% [markdown]
# A *Tensor* is an array (for now, of a single number) that knows the node that made it.
# One that was not computed but given has no node: it is a *leaf*. Parameters are leaves
# that say `requires_grad=True`, and at the end only leaves keep their gradient.


# %%
class Tensor:
    """An array, and with `requires_grad` the gradient that backward leaves in `.grad`."""

    def __init__(self, array, requires_grad=False):
        self.array = np.asarray(array, dtype=float)
        self.requires_grad = requires_grad
        self.grad, self.node = None, None

    def backward(self):
        """Adds the gradient of this number by every leaf to the leaf's `.grad`."""
        assert self.array.size == 1, "the result must be one number"
        for x, dx in run_backward(self, np.ones(self.array.shape)).items():
            if x.node is None:
                x.grad = dx if x.grad is None else x.grad + dx


# %% [markdown]
# `apply` is the only place where the graph grows. It runs an op on the arrays, wraps
# the value, and makes a Node if anyone upstream wants a gradient. Where no one does, as
# for data that only pass through, nothing is remembered.


# %%
def apply(op, *inputs):
    """Runs `op` on tensors (or plain numbers) and notes down how to go back."""
    parents = [x if isinstance(x, Tensor) else Tensor(x) for x in inputs]
    value, backward = op(*(x.array for x in parents))
    out = Tensor(value, any(x.requires_grad for x in parents))
    if out.requires_grad:
        out.node = Node(op.__name__, parents, backward)
    return out


for name, op in {"add": add, "sub": subtract, "mul": multiply}.items():
    # a + b calls a.__add__(b); `op=op` keeps this round's op for later
    setattr(Tensor, f"__{name}__", lambda a, b, op=op: apply(op, a, b))
Tensor.sigmoid = lambda x: apply(sigmoid, x)

# %% [markdown]
# ### The walk back
#
# In which order must the nodes be visited? A tensor's gradient is complete when
# everything that used the tensor has been visited. Now, an op can only use tensors that
# exist already. So whatever used a tensor is *newer* than it, and visiting **the newest
# first** is always right. No sorting by dependency is needed: the order in which things
# were made is one.
#
# The order matters. Take $w = u + u \cdot u$ with $u = 3x$ at $x = 1$: the gradient by
# $x$ is $(1 + 2u) \cdot 3 = 21$. Who walks from $w$ to its first input $u$, and
# straight on to $x$, has used a gradient of $u$ to which the product had not yet added,
# and gets only 3. Who walks each path to its end gets the right number, but walks
# $2^{50}$ paths where 50 doublings stand in a row.
#
# A *heap* is a list that hands out its smallest entry first; storing `-order` makes
# that the newest.

# %%
import heapq


def newest_first(root):
    """The tensors with a node from which `root` was computed, `root` before all."""
    heap, seen = [(-root.node.order, root)], {root}
    while heap:
        tensor = heapq.heappop(heap)[1]
        yield tensor
        for parent in tensor.node.parents:
            if parent.node is not None and parent not in seen:
                seen.add(parent)
                heapq.heappush(heap, (-parent.node.order, parent))


# %% [markdown]
# And here is backpropagation itself. Each node's backward is handed the complete
# gradient of its output, and what it answers is added to what its inputs have so far.


# %%
def run_backward(root, dy):
    """The gradient of `root` by each tensor it was computed from, {tensor: gradient}."""
    gradients = {root: dy}
    for tensor in newest_first(root):
        answers = tensor.node.backward(gradients[tensor])
        for x, dx in zip(tensor.node.parents, answers, strict=True):
            if x.requires_grad:
                gradients[x] = gradients[x] + dx if x in gradients else dx
    return gradients


# %%
# NBVAL_CHECK_OUTPUT
a = Tensor(2, requires_grad=True)
b = Tensor(3, requires_grad=True)
f = a * b + b
f.backward()
print(f"f = {f.array}, df/da = {a.grad}, df/db = {b.grad}")

# %% [markdown]
# As by hand. There is a trap in the line that adds: it makes a new sum and does not say
# `+=`. The backward of `add` returns the *same* array `dy` twice. Adding to it in place
# would change the other input's gradient as well: for arrays, $(a + b) + a$ would tell
# $b$ that its gradient is 2. (The library adds in place too, to save memory, but only
# into sums that it has made itself.)
#
# Now for the enemies: $2^{50}$ paths, and a chain much deeper than the 1,000 calls
# within calls that Python allows. An engine that walks back by recursion fails there.

# %%
# NBVAL_CHECK_OUTPUT
x = Tensor(1, requires_grad=True)
y = x
for _ in range(50):
    y = y + y
y.backward()
print("50 doublings   ", x.grad, x.grad == 2**50)

x = Tensor(1, requires_grad=True)
y = x
for _ in range(50_000):
    y = y + 1
y.backward()
print("50,000 ops deep", x.grad)

# %% [markdown]
# ## A picture of the graph
#
# What the nodes remember is a graph, and graphs want to be drawn. Each box shall stand
# to the left of everything that uses it. That is the same walk once more, with other
# arithmetic: where backward *adds* over all users, the column takes the *largest*.


# %%
def places(root):
    """{tensor: (x, y)} for a drawing of the graph; the result is on the right."""
    column, users = {root: 0}, {root: []}
    for tensor in newest_first(root):
        for parent in tensor.node.parents:
            column[parent] = max(column.get(parent, 0), column[tensor] + 1)
            users.setdefault(parent, []).append(tensor)
    height = {}  # of a box: near the mean height of those that use it
    for c in range(max(column.values()) + 1):
        wanted = [
            (sum(height[user] for user in users[t]) / max(len(users[t]), 1), i, t)
            for i, t in enumerate(column)
            if column[t] == c
        ]
        for row, (_, _, tensor) in enumerate(sorted(wanted)):
            height[tensor] = row - (len(wanted) - 1) / 2
    return {t: (-column[t], height[t]) for t in column}


# %%
import matplotlib.pyplot as plt

from minibig import viz

BLUE, ORANGE, GREY = "#1f4e79", "#b03a00", "#666666"


# %%
def draw(root, text, size):
    """A figure of the graph of `root`; text(tensor) is what stands in a box."""
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    where, boxes = places(root), {}
    for tensor, (x, y) in where.items():
        color = (
            "white" if tensor.node else "#dce8f4" if tensor.requires_grad else "#eee"
        )
        style = {"boxstyle": "round,pad=0.5", "fc": color, "ec": BLUE}
        label = axes.text(x, y, text(tensor), ha="center", va="center", bbox=style)
        boxes[tensor] = label.get_bbox_patch()
    for tensor in where:
        for parent in tensor.node.parents if tensor.node else ():
            ends = {"patchA": boxes[parent], "patchB": boxes[tensor]}
            style = {"arrowstyle": "->", "color": GREY, **ends}
            axes.annotate("", where[tensor], where[parent], arrowprops=style, zorder=1)
    xs, ys = zip(*where.values(), strict=True)
    axes.set(xlim=(min(xs) - 0.5, max(xs) + 0.5), ylim=(min(ys) - 0.6, max(ys) + 0.6))
    axes.axis("off")
    return figure


# %%
gradients = run_backward(f, np.ones(()))
names = {a: "a", b: "b"}


def value_and_gradient(tensor):
    title = tensor.node.op if tensor.node else names[tensor]
    return f"{title}\nvalue {tensor.array:g}\ngradient {gradients[tensor]:g}"


figure = draw(f, value_and_gradient, (7, 3))
viz.show(
    figure,
    alt="The graph of a b + b. Leaves a (value 2, gradient 3) and b (value 3, gradient "
    "3) point to the box multiply (value 6, gradient 1); multiply and b point to the "
    "box add (value 9, gradient 1).",
)

# %% [markdown]
# Values come into being from left to right, gradients from right to left. (`b` has two
# arrows leaving it, so two gradients came back to it: 1 and 2.)

# %% [markdown]
# ## A network, worked through by hand
#
# A *neuron* computes a weighted sum of its inputs, adds a number of its own, the
# *bias*, and sends the sum through a function that is not a straight line; here, the
# sigmoid. Neurons side by side are a *layer*. Two inputs, a layer of two neurons and a
# last one make the smallest network that deserves the name:
#
# $$h_i = \sigma(w_{i1} x_1 + w_{i2} x_2 + b_i), \qquad
# y = \sigma(v_1 h_1 + v_2 h_2 + c), \qquad L = (y - t)^2 .$$
#
# $t$ is the *target*, what $y$ should be. $L$ is the loss. There are nine parameters.
# We choose them so that paper is enough, with $\ln 3 \approx 1.0986$, because
# $\sigma(\ln 3) = \frac34$:
#
# $$x = (1, 2), \quad t = 1, \qquad
# w_1 = (-\ln 3, \ln 3), \; b_1 = 0, \quad w_2 = (\ln 3, -\ln 3), \; b_2 = \ln 3,
# \qquad v = (4, -2), \; c = -2 .$$
#
# **Forward.** The first neuron's sum is $-\ln 3 + 2 \ln 3 + 0 = \ln 3$, so
# $h_1 = \frac34$. The second's is $\ln 3 - 2 \ln 3 + \ln 3 = 0$, so $h_2 = \frac12$.
# The last sum is $4 \cdot \frac34 - 2 \cdot \frac12 - 2 = 0$, so $y = \frac12$, and the
# loss is $(\frac12 - 1)^2 = \frac14$.
#
# **Backward.** We write $dy$ for $dL/dy$, and so on, and call the sums before the
# sigmoids $z$. Each line needs only the line before it and numbers of the forward pass:
#
# $$dy = 2\,(y - t) = -1$$
# $$dz = dy \cdot y\,(1 - y) = -1 \cdot \tfrac14 = -\tfrac14$$
# $$dv_1 = dz \cdot h_1 = -\tfrac3{16}, \qquad dv_2 = dz \cdot h_2 = -\tfrac18,
# \qquad dc = dz = -\tfrac14$$
# $$dh_1 = dz \cdot v_1 = -1, \qquad dh_2 = dz \cdot v_2 = \tfrac12$$
# $$dz_1 = dh_1 \cdot h_1\,(1 - h_1) = -1 \cdot \tfrac3{16} = -\tfrac3{16}, \qquad
# dz_2 = \tfrac12 \cdot \tfrac14 = \tfrac18$$
# $$dw_{11} = dz_1 \cdot x_1 = -\tfrac3{16}, \quad dw_{12} = dz_1 \cdot x_2 = -\tfrac38,
# \quad db_1 = -\tfrac3{16}$$
# $$dw_{21} = dz_2 \cdot x_1 = \tfrac18, \quad dw_{22} = dz_2 \cdot x_2 = \tfrac14,
# \quad db_2 = \tfrac18$$

# %% jupyter={"source_hidden": true}
spots = {"x₁ = 1": (0, 1), "x₂ = 2": (0, -1), "h₁ = ¾": (2, 1), "h₂ = ½": (2, -1)}
spots |= {"y = ½": (4, 0), "loss ¼": (5.2, 0)}
sums = {"h₁ = ¾": "bias 0\n$-3/16$", "h₂ = ½": "bias ln 3\n$1/8$"}
sums |= {"y = ½": "bias $-2$\n$-1/4$"}
edges = [("x₁ = 1", "h₁ = ¾", r"$-\ln 3$", "$-3/16$", 0.5)]
edges += [("x₂ = 2", "h₁ = ¾", r"$\ln 3$", "$-3/8$", 0.75)]
edges += [("x₁ = 1", "h₂ = ½", r"$\ln 3$", "$1/8$", 0.75)]
edges += [("x₂ = 2", "h₂ = ½", r"$-\ln 3$", "$1/4$", 0.5)]
edges += [("h₁ = ¾", "y = ½", "$4$", "$-3/16$", 0.5)]
edges += [("h₂ = ½", "y = ½", "$-2$", "$-1/8$", 0.5)]
edges += [("y = ½", "loss ¼", "", "$-1$", 0.45)]

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
plate = {"fc": "white", "ec": "none", "pad": 0.5}
for left, right, value, gradient, along in edges:
    (x0, y0), (x1, y1) = spots[left], spots[right]
    x, y = x0 + along * (x1 - x0), y0 + along * (y1 - y0)
    axes.plot([x0, x1], [y0, y1], color=GREY, lw=1, zorder=0)
    axes.text(x, y + 0.1, value, ha="center", color=BLUE, bbox=plate)
    axes.text(x, y - 0.2, gradient, ha="center", color=ORANGE, bbox=plate)
for name, (x, y) in spots.items():
    axes.plot(x, y, "o", ms=48, mfc="white", mec=BLUE)
    axes.text(x, y, name, ha="center", va="center", color=BLUE, fontsize=11)
    if name in sums:
        bias, gradient = sums[name].split("\n")
        down = -0.62 if y < 0 else 0.45
        axes.text(x, y + down + 0.14, bias, ha="center", color=BLUE)
        axes.text(x, y + down - 0.1, gradient, ha="center", color=ORANGE)
axes.text(0, -1.75, "blue: forward", color=BLUE, ha="center")
axes.text(1.2, -1.75, "orange: gradients", color=ORANGE, ha="center")
axes.set(xlim=(-0.5, 5.7), ylim=(-1.9, 1.75))
axes.axis("off")
viz.show(
    figure,
    alt="The network with every number: inputs 1 and 2, hidden neurons 3/4 and 1/2, "
    "output 1/2, loss 1/4. Beside each weight and bias its value and its gradient.",
)

# %% [markdown]
# Look for the reason of each gradient. $w_{12}$ has twice the gradient of $w_{11}$ only
# because $x_2$ is twice $x_1$. $dw_1$ and $dw_2$ have opposite signs because $v_1$ and
# $v_2$ have. And each sigmoid on the way multiplied by at most $\frac14$: ten of them
# in a row leave at most $4^{-10}$, a millionth, of a gradient. That is the *vanishing
# gradient*, and why deep networks of today avoid the sigmoid; notebook
# [04](04_neural_networks.ipynb) measures it.
#
# Now let the engine say the same, one number at a time:

# %%
# NBVAL_CHECK_OUTPUT
ln3 = np.log(3)
numbers = [-ln3, ln3, ln3, -ln3, 0, ln3, 4, -2, -2]
p = [Tensor(number, requires_grad=True) for number in numbers]
w11, w12, w21, w22, b1, b2, v1, v2, c = p

h1 = (w11 * 1 + w12 * 2 + b1).sigmoid()
h2 = (w21 * 1 + w22 * 2 + b2).sigmoid()
d = (v1 * h1 + v2 * h2 + c).sigmoid() - 1
loss = d * d
loss.backward()

for names, part in ("w", p[:4]), ("b", p[4:6]), ("v", p[6:8]), ("c", p[8:]):
    print(f"d{names} ", *(f"{x.grad:8.4f}" for x in part))
by_hand = np.array([-3 / 16, -3 / 8, 1 / 8, 1 / 4, -3 / 16, 1 / 8, -3 / 16, -1 / 8])
assert np.allclose([x.grad for x in p], [*by_hand, -1 / 4], rtol=0, atol=1e-15)

# %% [markdown]
# ## From numbers to arrays
#
# Nobody writes a network number by number. The sums of a layer are a matrix product:
# with one example a row, $Z = XW + b$ does the whole layer for all examples at once.
# What must change in the engine? The walk does not care what a gradient is, as long as
# it can be added. Two things are new: ops on whole arrays, and broadcasting.
#
# **The matrix product.** $y_{ij} = \sum_k a_{ik} b_{kj}$. The entry $a_{ik}$ reaches
# the whole row $i$ of the result: it reaches each $y_{ij}$ with slope $b_{kj}$. Add
# over the paths:
#
# $$da_{ik} = \sum_j dy_{ij}\, b_{kj}, \qquad \text{so} \qquad
# da = dy\, b^T, \qquad db = a^T dy .$$
#
# There is no need to learn this by heart: the shapes leave no other choice. If $a$ is
# $(N, K)$ and $b$ is $(K, M)$, then $dy$ is $(N, M)$, and $dy\,b^T$ is the only product
# of the two that has the shape of $a$.


# %%
def matmul(a, b):
    """a @ b: (..., N, K), (..., K, M) -> (..., N, M). backward: dy bᵀ and aᵀ dy."""

    def backward(dy):
        return dy @ b.mT, a.mT @ dy  # .mT: the last two axes exchanged

    return a @ b, backward


def mean(x):
    """The mean of all numbers, as one. backward: each gets the same share of dy."""
    return x.mean(), lambda dy: (np.full(x.shape, dy / x.size),)


Tensor.__matmul__ = lambda a, b: apply(matmul, a, b)
Tensor.mean = lambda x: apply(mean, x)

# %% [markdown]
# **Broadcasting.** The bias of shape (2,) is added to each of $N$ rows. So each of its
# two numbers is used $N$ times, on $N$ paths, and over paths we add. The op itself does
# not notice, and its backward answers with a gradient of shape $(N, 2)$:

# %%
# NBVAL_CHECK_OUTPUT
sums, backward = add(np.zeros((3, 2)), np.array([10.0, 20.0]))
dz, db = backward(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
print("the bias has shape (2,), its gradient", db.shape)
print("summed over the rows:", db.sum(0))

# %% [markdown]
# Forgetting this sum is the classic mistake of everyone who writes a gradient. So no op
# shall have to think of it: the engine does it for all of them, in one line of
# `run_backward`. **The gradient of a broadcast is a sum**: over axes that were put in
# front, and over axes of size 1 that were stretched.


# %%
def unbroadcast(dx, shape):
    """`dx` summed over the axes that broadcasting added to or stretched in `shape`."""
    dx = dx.sum(tuple(range(dx.ndim - len(shape))))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 < dx.shape[i])
    return dx.sum(stretched, keepdims=True)


def run_backward(root, dy):
    """The gradient of `root` by each tensor it was computed from, {tensor: gradient}."""
    gradients = {root: dy}
    for tensor in newest_first(root):
        answers = tensor.node.backward(gradients[tensor])
        for x, dx in zip(tensor.node.parents, answers, strict=True):
            if x.requires_grad:
                dx = unbroadcast(dx, x.array.shape)
                assert dx.shape == x.array.shape, tensor.node.op
                gradients[x] = gradients[x] + dx if x in gradients else dx
    return gradients


# %% [markdown]
# That was the last line of the engine. The network becomes two lines, for any number of
# examples and neurons, and the nine gradients of above come out of it again:


# %%
def network(x, w, b, v, c):
    """(N, inputs) -> (N, 1), through a hidden layer of sigmoid neurons."""
    hidden = (x @ w + b).sigmoid()  # (N, hidden)
    return (hidden @ v + c).sigmoid()


def squared_error(y, target):
    """The mean of (y - target)², as one number."""
    error = y - target
    return (error * error).mean()


# %%
x, target = Tensor([[1, 2]]), Tensor([[1]])
arrays = [[-ln3, ln3], [ln3, -ln3]], [0, ln3], [[4], [-2]], [-2]  # w, b, v, c
w, b, v, c = (Tensor(array, requires_grad=True) for array in arrays)

loss = squared_error(network(x, w, b, v, c), target)
loss.backward()
# w here has a column for each neuron, where w₁ and w₂ above were rows: hence .T
found = np.concatenate([w.grad.T.ravel(), b.grad, v.grad.ravel(), c.grad])
assert np.allclose(found, [*by_hand, -1 / 4], rtol=0, atol=1e-15)

# %%
names = {x: "x", target: "target", w: "w", b: "b", v: "v", c: "c"}


def name_and_shape(tensor):
    shape = "×".join(map(str, tensor.array.shape)) or "one number"
    return f"{tensor.node.op if tensor.node else names[tensor]}\n{shape}"


figure = draw(loss, name_and_shape, (11, 3.2))
viz.show(
    figure,
    alt="The graph of the network on arrays, nine ops in a row from left to right: "
    "matmul, add, sigmoid, matmul, add, sigmoid, subtract, multiply, mean. Leaves x and w "
    "enter the first matmul, b the first add, v and c the second pair, the target the "
    "subtraction. Each box shows its shape.",
)

# %% [markdown]
# ## Are the gradients right?
#
# A wrong gradient does not crash. The network learns a little worse, or a little more
# slowly, and one searches for weeks in the wrong place. So every backward is held
# against the definition of a slope. Of the two ways to take a difference,
#
# $$\frac{f(x + \varepsilon) - f(x)}{\varepsilon} \qquad \text{and} \qquad
# \frac{f(x + \varepsilon) - f(x - \varepsilon)}{2\,\varepsilon},$$
#
# the second, the *central* one, is far better. The error of the first shrinks like
# $\varepsilon$, that of the second like $\varepsilon^2$, since a bend of the curve
# shifts both of its ends alike. But $\varepsilon$ must not be too small either: numbers
# are rounded, to about 16 digits in float64 and 7 in float32, and in the difference of
# two nearly equal numbers what is left is mostly rounding.


# %%
def difference_errors(eps, dtype, central):
    """How wrong the slope of x³ at 0.7 is when taken by a difference, as a share."""
    x, eps = dtype(0.7), dtype(eps)
    low, width = (x - eps, eps + eps) if central else (x, eps)
    found = ((x + eps) ** 3 - low**3) / width
    return abs(float(found) / (3 * 0.7**2) - 1)


# %%
figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
steps = np.logspace(-12, -0.5, 70)
for label, dtype, central, style in (
    ("float32, central", np.float32, True, "C7:"),
    ("float64, one-sided", np.float64, False, "C1--"),
    ("float64, central", np.float64, True, "C0-"),
):
    kept = [e for e in steps if dtype is np.float64 or e > 1e-7]
    errors = [max(difference_errors(e, dtype, central), 1e-13) for e in kept]
    axes.loglog(kept, errors, style, label=label)
axes.set(xlabel="step ε", ylabel="relative error of the slope")
axes.grid(alpha=0.3)
axes.legend()
viz.show(
    figure,
    alt="Relative error of the slope against the step, both logarithmic. Each curve is a "
    "V. float64 with central differences is best near a step of 1e-5, with an error near "
    "1e-11; one-sided differences reach 1e-8; float32 does best near a step of 3e-3, "
    "between 1e-6 and 1e-4, and is three digits off that at 1e-5.",
)

# %% [markdown]
# From the right the errors fall, with slope 1 and with slope 2; from the left rises the
# noise of rounding. Central differences in float64 with a step near $10^{-5}$ agree
# with a right gradient in about ten digits. In float32, at that step, they
# agree in three, at the best step in five with luck, and a gradient that is wrong by a
# thousandth can pass: **check gradients in float64**.
#
# An op with many outputs has many slopes. We ask for those of one number, the weighted
# sum $\sum dy \cdot y$, because that is what backward claims to return: the gradient of
# that sum, for *any* weights $dy$.


# %%
def numerical(function, x, dy, eps=1e-5):
    """Gradient of sum(dy * function(x)) by each number of `x`, by differences."""
    dx = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = eps
        dx[place] = (dy * (function(x + step) - function(x - step))).sum() / (2 * eps)
    return dx


def worst_error(op, arrays, dy):
    """The largest difference between an op's backward and the numerical gradient."""
    errors = []
    for i, dx in enumerate(op(*arrays)[1](dy)):

        def one_input(x, i=i):
            return op(*arrays[:i], x, *arrays[i + 1 :])[0]

        errors.append(abs(dx - numerical(one_input, arrays[i], dy)).max())
    return max(errors)


# %%
rng = mb.random.generator("gradient checks")
square = [rng.standard_normal((3, 3)) for _ in range(2)]
for op in (add, subtract, multiply, matmul, sigmoid):
    arrays = square[:1] if op is sigmoid else square
    error = worst_error(op, arrays, dy=rng.standard_normal((3, 3)))
    print(f"{op.__name__:9}{error:8.0e}")
    assert error < 1e-8

# %% [markdown]
# ### Why the weights must be random
#
# It is tempting to let $dy$ be all ones, that is, to check the gradient of a plain sum.
# Here are four wrong backwards. The first forgets `dy`, the second divides where it
# should multiply, the third transposes `dy`, and the fourth answers with nothing but
# zeros. (`shares` divides numbers by their sum. Shares always add up to 1, so the
# gradient of a plain sum of them *is* zero.)


# %%
def forgets(a, b):
    return a * b, lambda dy: (b, a)


def divides(x):
    y = np.exp(x)
    return y, lambda dy: (y / dy,)


def transposes(a, b):
    return a @ b, lambda dy: (dy.T @ b.T, a.T @ dy.T)


def shares(x):
    return x / x.sum(), lambda dy: (np.zeros(x.shape),)


# %%
# NBVAL_CHECK_OUTPUT
print("             dy = ones   dy random")
for op in (forgets, divides, transposes, shares):
    arrays = [x + 3 for x in (square[:1] if op in (divides, shares) else square)]
    dys = np.ones((3, 3)), rng.standard_normal((3, 3))
    verdicts = [
        "passes" if worst_error(op, arrays, dy) < 1e-6 else "fails" for dy in dys
    ]
    print(f"{op.__name__:11}{verdicts[0]:>11}{verdicts[1]:>12}")
    assert verdicts == ["passes", "fails"]

# %% [markdown]
# With ones, all four pass. So the library's `gradcheck`
# ([`minibig/gradcheck.py`](../minibig/gradcheck.py)) draws random weights, insists on
# float64, and every op of the library has to pass it.

# %% [markdown]
# ## XOR
#
# *Exclusive or* is 1 when exactly one of two inputs is 1. It is the smallest problem
# that no weighted sum can solve, and it is famous for that. All four cases are our
# data:

# %%
inputs = Tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
targets = Tensor([[0], [1], [1], [0]])

# %% [markdown]
# First the plain baseline: the best straight plane $y = w_1 x_1 + w_2 x_2 + b$, which
# can be had exactly, by least squares. It gives up and says ½ to everything; the loss
# is exactly ¼. Any learning below that needs the hidden layer.

# %%
# NBVAL_CHECK_OUTPUT
with_ones = np.column_stack([inputs.array, np.ones(4)])
plane = np.linalg.lstsq(with_ones, targets.array)[0]
answers = with_ones @ plane
baseline = ((answers - targets.array) ** 2).mean()
print("answers", answers.ravel().round(6), " loss", baseline.round(6))

# %% [markdown]
# Then the network, with 4 hidden neurons: 17 parameters. They start as random numbers
# (with equal ones, all hidden neurons would get the same gradient and stay equal for
# ever), and each step moves them against their gradient, as in notebook 00. Whoever
# forgets to set `.grad` back to `None` adds the next gradient to the last; that, too,
# is a classic.


# %%
def start(number, hidden=4):
    """Random parameters w, b, v, c: the same ones for the same number."""
    rng = mb.random.at("xor", number)
    shapes = (2, hidden), (hidden,), (hidden, 1), (1,)
    return [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]


def train(parameters, steps, rate=5.0):
    """The loss at each step of gradient descent."""
    losses = []
    for _ in range(steps):
        loss = squared_error(network(inputs, *parameters), targets)
        loss.backward()
        losses.append(loss.array.item())
        for p in parameters:
            p.array, p.grad = p.array - rate * p.grad, None
    return losses


# %% [markdown]
# Expect about a quarter of a second a start, and after 1,000 steps a loss between
# 0.0004 and 0.001 from each of five starts. (`scaled(1000, smoke=300)` is 1000 for
# you; only the course's own quick tests take the smaller number. `result` prints a
# number beside the goal set for it.)

# %%
from minibig.exercises import in_smoke_mode, result, scaled

steps = scaled(1000, smoke=300)
trained = [start(number) for number in range(5)]
curves = [train(parameters, steps) for parameters in trained]
for number, curve in enumerate(curves):
    print(f"start {number}: loss {curve[0]:.3f} -> {curve[-1]:.5f}")

worst = result("XOR loss, worst of 5 starts", max(c[-1] for c in curves), at_most=0.01)
assert worst < 0.01 or in_smoke_mode()

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for number, curve in enumerate(curves):
    left.semilogy(curve, label=f"start {number}", lw=1.3)
left.axhline(baseline, color=GREY, ls="--", label="straight plane")
left.set(xlabel="step", ylabel="loss (mean squared error)")
left.grid(alpha=0.3)
left.legend(fontsize=8)

side = np.linspace(-0.4, 1.4, 121)
grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)  # (121 · 121, 2)
answers = network(Tensor(grid), *trained[0]).array.reshape(121, 121)
image = right.contourf(side, side, answers, np.linspace(0, 1, 11), cmap="cividis")
colors = ["white" if t else "black" for t in targets.array.ravel()]
right.scatter(*inputs.array.T, c=colors, s=90, edgecolors="C1", linewidths=2)
right.set(xlabel="x₁", ylabel="x₂", aspect="equal", title="start 0: 1 at white dots")
figure.colorbar(image, label="answer of the network")
viz.show(
    figure,
    alt="Left: the loss of five starts falls from about 0.3, rests for a while at the "
    "straight plane's 0.25 and then drops below 0.01. Right: the trained network's answer "
    "over the plane, near 1 in a band that holds the two white dots and near 0 around the "
    "two black ones.",
)

# %% [markdown]
# All start by doing what the plane does: say ½. Then the hidden neurons part ways, and
# the loss drops. What the network has found is a band: one neuron says "at least one",
# another "not both", and the last takes them together.

# %% [markdown]
# ### The trap of the smallest network
#
# Two hidden neurons are enough to *express* XOR. Are they enough to *learn* it? That
# needs many starts, and here broadcasting shows what it is worth: with weights of shape
# (200, 2, hidden) the same two lines train 200 networks at once. (The mean is now over
# 200 networks as well; a rate 200 times as large makes up for it.)


# %%
def start_many(hidden, count=200):
    """Parameters of `count` networks; those of each are drawn as in `start`."""
    one = [start(number, hidden) for number in range(count)]
    w, b, v, c = (np.stack([p.array for p in kind]) for kind in zip(*one, strict=True))
    arrays = w, b[:, None, :], v, c[:, None, :]  # biases (count, 1, …): for all rows
    return [Tensor(array, requires_grad=True) for array in arrays]


# %%
for hidden in (2, 3, 4):
    many = start_many(hidden)
    train(many, scaled(2000, smoke=100), rate=5.0 * 200)
    answers = network(inputs, *many).array  # (200, 4, 1)
    losses = ((answers - targets.array) ** 2).mean((1, 2))
    values, counts = np.unique(losses[losses > 0.01].round(2), return_counts=True)
    print(f"{hidden} hidden: {counts.sum():3} of 200 are stuck")
    print(
        "    " + ", ".join(f"{n} at {v}" for v, n in zip(values, counts, strict=True))
    )

# %% [markdown]
# One in five networks with two hidden neurons never gets there: 2,000 steps on, its
# gradients have all but vanished. The losses where they end are no accident. A loss of
# $\frac18$ means that two of the four cases have become one for the network: their
# targets are 0 and 1, it says ½ to both, and $(\frac14 + \frac14) / 4 = \frac18$. Where
# three have become one, with targets 1, 1, 0, it says $\frac23$, and
# $(\frac19 + \frac19 + \frac49) / 4 = \frac16$. With four neurons none of 200 is stuck.
# That networks learn better with more parameters than the problem needs is one of the
# oldest observations of the field, and its whole recent history.

# %% [markdown]
# ## What it costs
#
# Back to the question. The backward of a matrix product $ab$ is two products of the
# same size, $dy\,b^T$ and $a^T dy$. So going back costs about twice as much as going
# forward, and one gradient as much as three forward passes, no matter how many
# parameters there are. Two differences for each parameter would cost more:

# %% tags=["nbval-ignore-output"]
import timeit


def seconds(function, number=20):
    """The time of one call, at its best of five tries."""
    return min(timeit.repeat(function, number=number, repeat=5)) / number


rng = mb.random.generator("cost")
x, target = Tensor(rng.random((64, 256))), Tensor(rng.random((64, 1)))
shapes = (256, 256), (256,), (256, 1), (1,)
wide = [Tensor(rng.normal(0, 0.1, shape), requires_grad=True) for shape in shapes]
count = sum(p.array.size for p in wide)

loss = squared_error(network(x, *wide), target)
forward = seconds(lambda: squared_error(network(x, *wide), target))
backward = seconds(lambda: run_backward(loss, np.ones(())))
print(f"{count:,} parameters")
print(f"forward                {forward * 1e3:8.2f} ms")
print(f"gradient, backward     {backward * 1e3:8.2f} ms")
print(f"gradient, differences  {2 * count * forward:8.0f} s, calculated")

# %% [markdown]
# Milliseconds against more than half a minute, for a network that is a toy. (If your
# clock says that going back took much more than twice the forward time: the "twice"
# counts multiplications, and on matrices as small as these $a^T dy$ can take the
# library many times as long as $ab$, although it has as many of them.)
#
# **Why backwards?** Because the result is one number. Think of three layers of 1,000
# numbers each and a loss. The slopes of a layer by the one before it are a matrix of
# 1,000 × 1,000 (its *Jacobian*), and the chain rule multiplies them:
#
# $$(1 \times 1000) \cdot (1000 \times 1000) \cdot (1000 \times 1000) \cdot
# (1000 \times 1000) .$$
#
# From the left, from the result, each step is a row times a matrix: a million
# multiplications, three million in all. From the right, from the input, the first two
# steps multiply matrices: a billion each. The order of the brackets is all that
# backpropagation is. (With one input and many outputs it would be the other way
# round; that is called *forward mode*.) And no Jacobian is ever written down: of a
# sigmoid on 1,000 numbers it would have a million entries, all but 1,000 of them zero.
#
# **What is the price?** Memory. Each closure holds on to the numbers its backward will
# need, from the moment it runs forward until the gradient has been computed. So memory
# grows with the depth of a network and with the number of examples in a step, and it is
# mostly this, and not the parameters, that fills a GPU in training. One can throw
# numbers away and compute them again on the way back (arXiv:1604.06174); notebook 19
# will.

# %% [markdown]
# ## The library's engine
#
# The functions `network` and `squared_error` say only `@`, `+`, `sigmoid`, `mean`. So
# the tensors of minibig can go through them as they are, and must give the same:


# %%
def in_minibig(tensor):
    return mb.tensor(tensor.array, requires_grad=tensor.requires_grad)


loss.backward()
x_mb, target_mb, *wide_mb = map(in_minibig, (x, target, *wide))
loss_mb = squared_error(network(x_mb, *wide_mb), target_mb)
loss_mb.backward()

assert abs(loss_mb.item() - loss.array) < 1e-14
for ours, theirs in zip(wide, wide_mb, strict=True):
    assert np.allclose(ours.grad, theirs.grad.numpy(), rtol=1e-10, atol=1e-14)


# %% tags=["nbval-ignore-output"]
def step(network_inputs, network_targets, parameters):
    for p in parameters:
        p.grad = None
    squared_error(network(network_inputs, *parameters), network_targets).backward()


small = trained[0]
small_mb = [in_minibig(p) for p in small]
xor_mb = in_minibig(inputs), in_minibig(targets)
print("forward and backward     ours   minibig")
for name, ours, theirs, n in (
    ("XOR, 17 parameters", (inputs, targets, small), (*xor_mb, small_mb), 200),
    ("66,049 parameters", (x, target, wide), (x_mb, target_mb, wide_mb), 20),
):
    times = seconds(lambda a=ours: step(*a), n), seconds(lambda a=theirs: step(*a), n)
    print(f"{name:20} {times[0] * 1e3:6.3f} ms {times[1] * 1e3:6.3f} ms")

# %% [markdown]
# On four examples nearly all of the time goes into Python's bookkeeping, of which the
# library has more to do; as soon as there is something to compute, that no longer
# counts. Where it lives: [`minibig/autograd.py`](../minibig/autograd.py) and
# [`minibig/tensor.py`](../minibig/tensor.py), and the ops by subject in
# [`minibig/ops`](../minibig/ops/arithmetic.py). You will recognise every part:
#
# | here | in the library | what has grown |
# |---|---|---|
# | `multiply`, `sigmoid`, … | `ops/` | the same form; also on CuPy arrays; `axis` and other settings |
# | `apply` | `tensor.apply` | several outputs; silent within `no_grad()` |
# | `Node` | `autograd.Node` | points to nodes, not to tensors, so that numbers which no backward needs are freed at once; notices if an array it needs was overwritten |
# | `run_backward` | `autograd.run_backward` | the same heap, newest first; frees the graph as it goes; adds in place into sums of its own |
# | `unbroadcast` | `autograd.unbroadcast` | nothing |
# | `worst_error` | `gradcheck` | whole networks; random directions where there are many inputs |
#
# PyTorch's engine counts for each node how many users have yet to report, and among
# the nodes that are ready takes the newest; it needs the counts because it walks back
# on several threads.

# %% [markdown]
# ## Summary
#
# - Along a path slopes multiply; where paths meet they add. That is the chain rule.
# - An op returns its value and a `backward`, which turns `dy` into a gradient per
#   input.
# - Newest first, each node once: so every gradient is complete before it is passed on.
# - The gradient of a broadcast is a sum; that of a matrix product, two matrix products.
# - Check gradients in float64, with central differences and random weights, never ones.
# - One gradient costs about three forward passes, and memory for all that was kept.

# %% [markdown]
# ## Exercises
#
# `check("02.name", function)` tries your function and prints what it expected;
# `hint("02.name")` helps, each time a little more.
#
# **1. A quotient.** $y = a / b$ for arrays of equal shape. Given `a`, `b` and `dy`,
# return the pair `da, db`. One line is enough. For $a = 6$, $b = 2$, $dy = 1$ it is
# $(\frac12, -\frac32)$.

# %%
from minibig.exercises import check, hint


def divide_backward(a, b, dy):
    ### BEGIN SOLUTION
    return dy / b, -dy * a / b**2
    ### END SOLUTION


check("02.divide", divide_backward)

# %% [markdown]
# **2. The forgotten sum.** Many layers end in $y = x \cdot s + m$, with `x` of shape
# (…, C), any number of axes in front, and a scale `s` and a shift `m` of shape (C,).
# Here no engine undoes the broadcasting for you. Given `x`, `s` and `dy` (of the shape
# of `x`), return `dx, ds, dm`, each in the shape of what it belongs to.


# %%
def scale_shift_backward(x, s, dy):
    ### BEGIN SOLUTION
    rows = tuple(range(x.ndim - 1))
    return dy * s, (dy * x).sum(rows), dy.sum(rows)
    ### END SOLUTION


check("02.scale_shift", scale_shift_backward)

# %% [markdown]
# **3. Find the wrong ones.** `ops` is a dictionary of names and ops, each of one array:
# `op(x)` returns `(y, backward)`, and `backward(dy)` returns `(dx,)`. Return the list
# of the names, in order, of those whose gradient is wrong anywhere at `x` (float64).
# You may use `numerical` from above. Gradients can be as large as a million, so ask for
# agreement relative to their size.


# %%
def wrong_gradients(ops, x):
    ### BEGIN SOLUTION
    rng, wrong = np.random.default_rng(0), []
    for name, op in ops.items():
        y, backward = op(x)
        dy = rng.standard_normal(y.shape)
        expected = numerical(lambda z, op=op: op(z)[0], x, dy)
        if not np.allclose(backward(dy)[0], expected, rtol=1e-5, atol=1e-7):
            wrong.append(name)
    return wrong
    ### END SOLUTION


check("02.wrong_gradients", wrong_gradients)

# %% [markdown]
# **4. Softmax**, the op at the heart of notebook [08](08_attention.ipynb). It turns the
# numbers of a row into positive ones that add up to 1: $y_i = e^{x_i} / \sum_j
# e^{x_j}$. Each output depends on *every* input of its row: $\partial y_i / \partial
# x_j$ is $y_i (1 - y_i)$ for $i = j$ and $-y_i y_j$ otherwise. Add over the paths, and
# write the result without loops. Given `y` and `dy`, both (…, C), return `dx`; rows lie
# along the last axis. For $y = (\frac12, \frac14, \frac14)$ and $dy = (1, 0, 0)$ it is
# $(\frac14, -\frac18, -\frac18)$.


# %%
def softmax_backward(y, dy):
    ### BEGIN SOLUTION
    return y * (dy - (dy * y).sum(-1, keepdims=True))
    ### END SOLUTION


check("02.softmax", softmax_backward)

# %% [markdown]
# **5. Open: the slope of the slope.** Our backward functions compute with arrays, and
# so a gradient is a number that has forgotten where it came from. What would have to
# change for `x.grad` to be a Tensor with a graph of its own, so that calling `backward`
# on it gives the second derivative? Try it on $x^3$ at 2: 8, 12, 12, and at last 6. How
# much memory does each further derivative take, and which line of `run_backward`
# decides it?

# %% [markdown]
# ## Sources
#
# Reverse mode was found several times: S. Linnainmaa's master's thesis (Helsinki, 1970)
# has it for rounding errors; D. Rumelhart, G. Hinton and R. Williams, *Learning
# representations by back-propagating errors* (Nature 323, 1986), made networks learn
# with it. A survey of automatic differentiation: arXiv:1502.05767. Computing again what
# does not fit into memory: arXiv:1604.06174.
