# %% [markdown]
# # Gradient descent
#
# > **You will build** the six optimizers with which nearly all networks are trained,
# > each from its formula in a few lines; the schedules that change their rate on the
# > way; and a classifier whose best possible loss you know exactly.
# >
# > **You need** gradients (notebook [02](02_backpropagation.ipynb)) and NumPy arrays
# > ([01](01_tensors.ipynb)).
# >
# > **It takes** an hour of reading; the code runs in about 10 seconds on 2 CPU cores in
# > 300 MB of memory. No GPU.
#
# **Two programs follow the same gradients. Why has one arrived after ten steps, while
# the other needs ten thousand or flies off to infinity?**
#
# A gradient says which way is down. It does not say how far to go. Everything in this
# notebook is an answer to *how far*, and for the simple landscapes at its beginning the
# answers are exact: you can check each of them with a pencil. Then we let them loose on
# real data, and find out which of them still hold.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

import minibig as mb
from minibig import optim, viz
from minibig.data import breast_cancer
from minibig.exercises import result

mb.seed(0)

# %% [markdown]
# ## One parameter
#
# The loss is $f(\theta) = (\theta - 2)^2$: a parabola with its minimum at 2, where the
# slope $f'(\theta) = 2(\theta - 2)$ is zero. *Gradient descent* repeats one line,
#
# $$\theta \leftarrow \theta - \eta \, f'(\theta),$$
#
# in which $\eta$ (eta) is the *learning rate*. (In this notebook a loss is called $f$,
# because $L$ will have another meaning.) From $\theta = 1$ with $\eta = 0.1$:
#
# | step | $\theta$ | slope $2(\theta-2)$ | next $\theta$ |
# |---|---|---|---|
# | 1 | 1 | −2 | 1 + 0.2 = 1.2 |
# | 2 | 1.2 | −1.6 | 1.2 + 0.16 = 1.36 |
# | 3 | 1.36 | −1.28 | 1.36 + 0.128 = 1.488 |
#
# minibig agrees:

# %%
# NBVAL_CHECK_OUTPUT
theta = mb.tensor([1.0], requires_grad=True)
for _ in range(3):
    loss = ((theta - 2) * (theta - 2)).sum()
    loss.backward()
    theta = mb.tensor(theta.numpy() - 0.1 * theta.grad.numpy(), requires_grad=True)
    print(f"{theta.item():.3f}")

# %% [markdown]
# From here on we write gradients as plain functions, so that nothing distracts from the
# steps. All optimizers will have one form: a function of the parameters, their gradient
# and a dictionary `state`, empty at first, in which an optimizer may keep notes.
# `descend` applies it again and again and keeps the whole path.


# %%
def sgd(theta, gradient, state, lr):
    return theta - lr * gradient


def descend(step, gradient, start, steps, **settings):
    """The path: start and where each step led, (steps + 1, parameters)."""
    path, state = [np.asarray(start, dtype=float)], {}
    for _ in range(steps):
        path.append(step(path[-1], gradient(path[-1]), state, **settings))
    return np.stack(path)


def slope(theta):
    return 2 * (theta - 2)


path = descend(sgd, slope, [1.0], 3, lr=0.1)
print(path[:, 0])
assert np.allclose(path[:, 0], [1, 1.2, 1.36, 1.488])

# %% [markdown]
# (The function is called `sgd`, *stochastic gradient descent*, because that is its name
# in most libraries, even where, as now, nothing is stochastic. Chance comes later.)
#
# ## Which rates work
#
# Subtract 2 on both sides of the update and look at the *error* $\theta - 2$:
#
# $$(\theta - 2) \leftarrow (\theta - 2) - \eta \cdot 2(\theta - 2)
# = (1 - 2\eta)\,(\theta - 2) .$$
#
# Each step multiplies the error by the same factor $1 - 2\eta$, so after $t$ steps it
# is $(1 - 2\eta)^t$ times the first error. That goes to zero exactly when
# $|1 - 2\eta| < 1$, which is when $0 < \eta < 1$. Nothing else can happen:
#
# - $\eta = 0.1$: factor 0.8. Every step keeps 80 % of the error.
# - $\eta = 0.5$: factor 0. One step, and we are there.
# - $\eta = 0.9$: factor −0.8. As fast as 0.1, but jumping from one side to the other.
# - $\eta = 1$: factor −1. From 1 to 3, to 1, to 3, for ever.
# - $\eta = 1.1$: factor −1.2. Each jump is longer than the one before: it *diverges*.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
rates = [0.1, 0.5, 0.9, 1.0, 1.1]
for rate, marker in zip(rates, "os^Dv", strict=True):
    path = descend(sgd, slope, [1.0], 8, lr=rate)
    left.plot(path[:, 0], marker=marker, label=f"rate {rate}")
    right.plot(rate, abs(path[8, 0] - 2) ** (1 / 8), "ok", markersize=7)
left.axhline(2, color="0.6", linewidth=1, zorder=0)
left.set(xlabel="step", ylabel="θ (minimum at 2)", title="Five rates, eight steps")
left.set_ylim(-2.8, 7)
left.legend(ncols=2, fontsize=8)
grid = np.linspace(0, 1.25, 251)
right.plot(grid, abs(1 - 2 * grid), label="|1 − 2η|")
right.axhspan(1, 1.5, color="C3", alpha=0.15)
right.text(0.02, 1.05, "diverges")
right.plot([], [], "ok", label="measured over 8 steps")
right.set(xlabel="learning rate η", ylabel="error kept per step", ylim=(-0.05, 1.5))
right.set_title("The factor of one step")
right.legend(loc="center", bbox_to_anchor=(0.42, 0.58), fontsize=8)
viz.show(
    figure,
    alt="Left: theta over eight steps from 1 for five rates. 0.1 creeps up to 2, 0.5 "
    "is there after one step, 0.9 jumps around 2 and settles, 1.0 jumps between 1 and "
    "3, 1.1 jumps ever farther. Right: the factor |1 − 2η| is a V that touches zero at "
    "0.5 and reaches 1 at rate 1; the five measured factors lie on it.",
)

# %% [markdown]
# The 2 in this factor is the second derivative of the loss, its *curvature*. With
# curvature $\lambda$ (lambda) the factor is $1 - \eta\lambda$, the steps converge for
# $\eta < 2/\lambda$, and the best rate is $1/\lambda$. So the rate is not a matter of
# taste: **the steepest curve in the landscape sets a limit of 2 divided by its
# curvature.** Note also what divergence looks like in practice: no error, no warning,
# only a loss that grows by a constant factor a step until it is `inf` and then `nan`.
#
# ## Two parameters that disagree
#
# One parameter is easy because one rate can fit it. Take two, with different
# curvatures:
#
# $$f(x, y) = \frac{1}{2}\,(x^2 + 9\,y^2), \qquad \nabla f = (x,\ 9y) .$$
#
# Along $x$ the curvature is 1, along $y$ it is 9. Call the smallest curvature $\mu$ and
# the largest $L$, as the optimization literature does. One rate $\eta$ has to serve
# both: it multiplies $x$ by $1 - \eta\mu$ and $y$ by $1 - \eta L$, and the slower of
# the two decides. When $\eta$ grows, the first factor falls towards 0 while the second
# one gets ever more negative; the worse of them is smallest where they are equally
# large, $1 - \eta\mu = \eta L - 1$, so
#
# $$\eta = \frac{2}{L + \mu}, \qquad
# \mathrm{factor} = \frac{L - \mu}{L + \mu} = \frac{\kappa - 1}{\kappa + 1}, \qquad
# \kappa = \frac{L}{\mu} .$$
#
# $\kappa$ (kappa) is the *condition number*. Here it is 9, the best rate is
# 2 / 10 = 0.2, and each step keeps 0.8 of $x$ and −0.8 of $y$. Start at (9, 1):
# the gradient is (9, 9), and the path is (9, 1), (7.2, −0.8), (5.76, 0.64)…

# %%
curvature = np.array([1.0, 9.0])
start = np.array([9.0, 1.0])


def bowl(points):
    return (curvature * points**2).sum(-1) / 2


def bowl_gradient(point):
    return curvature * point


path = descend(sgd, bowl_gradient, start, 30, lr=0.2)
print(path[:3])
print("loss", bowl(path[:3]), "ratio", bowl(path[1]) / bowl(path[0]))
assert np.allclose(path[:3], [[9, 1], [7.2, -0.8], [5.76, 0.64]])

# %% [markdown]
# With the best rate there is, thirty steps leave 0.8³⁰ = 0.1 % of the distance. And
# nine is a *good* condition number: that of the tumours at the end of this notebook
# would be 113,000 if we did nothing about it, a factor of 0.99998 a step. That, and not
# the danger of local minima, is the everyday difficulty of training.
#
# ## Momentum
#
# The zigzag wastes work: along $y$ successive gradients cancel, along $x$ they all
# point the same way. So let the step be not the gradient but a running sum of
# gradients, in which each step keeps the fraction $\beta$ (beta) of the old sum:
#
# $$b \leftarrow \beta\,b + \nabla f, \qquad \theta \leftarrow \theta - \eta\,b .$$


# %%
def momentum(theta, gradient, state, lr, beta=0.9):
    state["b"] = beta * state.get("b", 0) + gradient
    return theta - lr * state["b"]


path = descend(momentum, bowl_gradient, start, 3, lr=0.25, beta=0.25)
print(path)

# %% [markdown]
# By hand, with $\eta = \beta = 0.25$: the first sum is the gradient (9, 9), the step
# leads to (9 − 2.25, 1 − 2.25) = (6.75, −1.25). There the gradient is (6.75, −11.25),
# the new sum 0.25 · (9, 9) + (6.75, −11.25) = (9, −9), and the step leads to (4.5, 1).
#
# How fast is that? Along a direction of curvature $\lambda$, eliminate $b$, and each
# position follows from the last two:
#
# $$x_{t+1} = (1 + \beta - \eta\lambda)\,x_t - \beta\,x_{t-1} .$$
#
# Powers $z^t$ solve it if $z^2 - (1 + \beta - \eta\lambda)\,z + \beta = 0$. The product
# of the two roots is $\beta$, so they cannot both be smaller than $\sqrt{\beta}$. With
# our numbers the equation is $(z - 0.5)^2 = 0$ along $x$ and $(z + 0.5)^2 = 0$ along
# $y$: **both directions keep a factor of 0.5 a step, where plain descent could not do
# better than 0.8.** For such a double root the exact path is
# $x_t = (9 + 4.5\,t)\,/\,2^t$. In general the best choice is
#
# $$\eta = \left(\frac{2}{\sqrt{L} + \sqrt{\mu}}\right)^2, \qquad
# \beta = \left(\frac{\sqrt{\kappa} - 1}{\sqrt{\kappa} + 1}\right)^2, \qquad
# \mathrm{factor} = \sqrt{\beta} .$$

# %%
t = np.arange(31)
path = descend(momentum, bowl_gradient, start, 30, lr=0.25, beta=0.25)
assert np.allclose(path[:, 0], (9 + 4.5 * t) / 2**t)
assert np.allclose(path[:, 1], (1 + 1.5 * t) * (-1) ** t / 2**t)

# %%
runs = {
    "plain, rate 0.05": descend(sgd, bowl_gradient, start, 15, lr=0.05),
    "plain, rate 0.2 (the best)": descend(sgd, bowl_gradient, start, 15, lr=0.2),
    "momentum, rate 0.25, β 0.25": path[:16],
}
figure, rows = plt.subplots(3, 1, figsize=(7, 4.4), sharex=True, layout="constrained")
x, y = np.meshgrid(np.linspace(-1.5, 9.6, 200), np.linspace(-1.6, 1.6, 100))
heights = bowl(np.stack([x, y], -1))
colors = ["C0", "C1", "C2"]
for axes, (name, points), color in zip(rows, runs.items(), colors, strict=True):
    axes.contour(x, y, heights, np.geomspace(0.6, 45, 4), colors="0.75", linewidths=0.8)
    axes.plot(*points.T, "o-", color=color, markersize=4)
    axes.plot(0, 0, "k+", markersize=12)
    left_over = f"loss after 15 steps: {bowl(points[-1]):.2g}"
    axes.set(title=f"{name}   ({left_over})", ylabel="y (curvature 9)")
rows[-1].set_xlabel("x (curvature 1)")
viz.show(
    figure,
    alt="Three paths on the contour lines of a long narrow bowl, from (9, 1) to "
    "(0, 0). A small rate falls into the valley, crawls along it and ends halfway. The "
    "best plain rate zigzags across the valley all the way. Momentum swings wider at "
    "first and arrives within about ten steps.",
)

# %% [markdown]
# The gain grows with the condition number, because $\kappa$ has become $\sqrt{\kappa}$.
# Count the steps until 99.9 % of the distance is gone, each method at its best setting:


# %%
def steps_needed(step, curvature, **settings):
    theta, state, steps = np.ones(2), {}, 0
    while np.linalg.norm(theta) > 1e-3 * np.sqrt(2):
        theta = step(theta, curvature * theta, state, **settings)
        steps += 1
    return steps


kappas, counts = [3, 10, 30, 100, 300, 1000, 3000], []
for kappa in kappas:
    root = np.sqrt(kappa)
    best = {"lr": (2 / (root + 1)) ** 2, "beta": ((root - 1) / (root + 1)) ** 2}
    both = np.array([1.0, kappa])
    plain = steps_needed(sgd, both, lr=2 / (kappa + 1))
    counts.append((plain, steps_needed(momentum, both, **best)))
    print(f"κ = {kappa:4d}:  plain {plain:6d}   momentum {counts[-1][1]:4d}")

# %%
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for column, name in enumerate(["plain gradient descent", "momentum"]):
    axes.loglog(kappas, [row[column] for row in counts], "o-", label=name)
axes.loglog(kappas, 3.5 * np.array(kappas), ":", color="0.4", label="3.5 κ")
axes.loglog(kappas, 6 * np.sqrt(kappas), "--", color="0.4", label="6 √κ")
axes.set(xlabel="condition number κ", ylabel="steps to 0.1 % of the distance")
axes.legend()
axes.grid(alpha=0.3)
viz.show(
    figure,
    alt="Steps needed against the condition number on two logarithmic axes. Plain "
    "gradient descent grows in proportion to kappa, momentum like its square root: at "
    "kappa 3000 about 10,400 steps against 360.",
)

# %% [markdown]
# ### What momentum does to the rate
#
# When the gradient is the same at every step, the sum grows to
# $1 + \beta + \beta^2 + \dots = 1/(1 - \beta)$ times that gradient.

# %%
# NBVAL_CHECK_OUTPUT
for beta in [0.9, 0.99]:
    sums = -np.diff(
        descend(momentum, lambda x: 1.0 + 0 * x, [0.0], 2000, lr=1, beta=beta)[:, 0]
    )
    print(f"β = {beta}: {np.round(sums[[0, 1, 2, 9, -1]], 3)}  → {1 / (1 - beta):.0f}")

# %% [markdown]
# So along a steady slope **momentum 0.9 is ten times the learning rate, 0.99 a hundred
# times.** Someone who "adds momentum" and leaves the rate has raised the rate tenfold;
# compare 0.1 with momentum to 1.0 without. And yet the limit of stability does not
# shrink by ten: it *rises*, from $2/\lambda$ to $2(1+\beta)/\lambda$ (set $z = -1$ in
# the equation above). *Nesterov's* variant takes the step that the sum will take next,
#
# $$\theta \leftarrow \theta - \eta\,(\nabla f + \beta\,b),$$
#
# and damps the swings; but its limit is $2(1+\beta) / ((1 + 2\beta)\,\lambda)$, lower
# than that of plain descent. Swap one for the other at a high rate, and a run that was
# stable explodes. Both limits to one per cent, at $\lambda = 1$:


# %%
def nesterov(theta, gradient, state, lr, beta=0.9):
    state["b"] = beta * state.get("b", 0) + gradient
    return theta - lr * (gradient + beta * state["b"])


beta = 0.9
limits = {sgd: 2, momentum: 2 * (1 + beta), nesterov: 2 * (1 + beta) / (1 + 2 * beta)}
for step, limit in limits.items():
    below = abs(descend(step, lambda x: x, [1.0], 3000, lr=0.99 * limit)[-1, 0])
    above = abs(descend(step, lambda x: x, [1.0], 3000, lr=1.01 * limit)[-1, 0])
    name = step.__name__
    print(f"{name:9s} limit {limit:.3f}: just below {below:.0e}, above {above:.0e}")
    assert below < 1 < 1e6 < above

# %% [markdown]
# ## A rate for each parameter
#
# Momentum gives all parameters one rate. In a network the gradients of different layers
# can be of very different size, and no single rate fits. The next family divides each
# gradient by its own usual size.
#
# ### Adadelta
#
# It keeps two running means with weight $\rho$ (rho) on the old value: of $g^2$, where
# $g$ is a gradient, and of $d^2$, where $d$ is a step:
#
# $$E_g \leftarrow \rho\,E_g + (1-\rho)\,g^2, \qquad
# d = \frac{\sqrt{E_d + \epsilon}}{\sqrt{E_g + \epsilon}}\;g, \qquad
# E_d \leftarrow \rho\,E_d + (1-\rho)\,d^2, \qquad
# \theta \leftarrow \theta - \eta\,d .$$
#
# Read it as a physicist: $g / \sqrt{E_g}$ has no unit, and $\sqrt{E_d}$ has the unit of
# $\theta$, as a step should. The paper has no learning rate at all ($\eta = 1$). It has
# $\epsilon$ (epsilon), though, meant to avoid dividing by zero, and with $E_d = 0$ at
# the start the first step is about $\sqrt{\epsilon / (1 - \rho)}$ = 0.0032 whatever the
# gradient: **the harmless-looking constant is the learning rate of the beginning.**


# %%
def adadelta(theta, gradient, state, lr=1.0, rho=0.9, eps=1e-6):
    square = rho * state.get("square", 0) + (1 - rho) * gradient**2
    d = gradient * np.sqrt(state.get("delta", 0) + eps) / np.sqrt(square + eps)
    state["square"] = square
    state["delta"] = rho * state.get("delta", 0) + (1 - rho) * d**2
    return theta - lr * d


print(adadelta(np.zeros(3), np.array([0.1, 10.0, 1000.0]), {}))

# %% [markdown]
# ### Adam
#
# Adam keeps a running mean $m$ of the gradient, as momentum does, and one of its
# square, $v$; all of it separately for each parameter:
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\,g, \qquad
# v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2 .$$
#
# Both start at zero, so at first they are too small. After $t$ steps the weights in $m$
# add up to $1 - \beta_1^t$ and not to 1; dividing by just that is the *bias
# correction*:
#
# $$\hat m = \frac{m}{1 - \beta_1^t}, \qquad \hat v = \frac{v}{1 - \beta_2^t}, \qquad
# \theta \leftarrow \theta - \eta\,\frac{\hat m}{\sqrt{\hat v} + \epsilon} .$$
#
# By hand with the usual $\beta_1 = 0.9$, $\beta_2 = 0.999$ and gradients 2 and then −1:
#
# | $t$ | $g$ | $m$ | $v$ | $\hat m$ | $\hat v$ | $\hat m / \sqrt{\hat v}$ |
# |---|---|---|---|---|---|---|
# | 1 | 2 | 0.2 | 0.004 | 0.2 / 0.1 = 2 | 0.004 / 0.001 = 4 | 2 / 2 = 1 |
# | 2 | −1 | 0.08 | 0.004996 | 0.08 / 0.19 = 0.421 | 0.004996 / 0.001999 = 2.5 | 0.266 |
#
# (In the second row $m = 0.9 \cdot 0.2 - 0.1$ and $v = 0.999 \cdot 0.004 + 0.001$; the
# divisors are $1 - 0.9^2$ and $1 - 0.999^2$.)


# %%
def adam(theta, gradient, state, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    t = state["t"] = state.get("t", 0) + 1
    state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * gradient
    state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * gradient**2
    m_hat = state["m"] / (1 - betas[0] ** t)
    v_hat = state["v"] / (1 - betas[1] ** t)
    return theta - lr * m_hat / (np.sqrt(v_hat) + eps)


state = {}
one = adam(0.0, 2.0, state, lr=1)
two = adam(one, -1.0, state, lr=1)
print(f"steps {-one:.5f} and {one - two:.5f}")
assert abs(-one - 1) < 1e-6 and abs(one - two - 0.26634) < 1e-5

# %% [markdown]
# The first line of the table holds for every gradient: $\hat m = g$ and
# $\sqrt{\hat v} = |g|$, so **Adam's first step is exactly the learning rate, up or
# down, for every parameter, however small or large its gradient is.** Only gradients as
# small as $\epsilon$ itself are spared:

# %%
# NBVAL_CHECK_OUTPUT
gradients = np.array([1e6, 1.0, -1e-4, 1e-8])
print(adam(np.zeros(4), gradients, {}, lr=0.1))

# %% [markdown]
# Half a step for 10⁻⁸, a full one for the others. So a single batch moves all weights
# of a network by the full rate, on no better evidence than one gradient: one of the
# reasons why training with Adam begins with a *warm-up*, a rate that grows from nearly
# zero.
#
# What if we leave the correction out? "The means start too small, so the first steps
# are small, a free warm-up", one hears. It is the other way round: $v$ is too small by
# 1 − 0.999 = 1/1000, $m$ only by 1/10, and the step is
# $(1 - \beta_1^t) / \sqrt{1 - \beta_2^t}$ times the corrected one:

# %%
t = np.arange(1, 5001)
factor = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
print(f"step 1: {factor[0]:.2f} times, step {factor.argmax() + 1}: {factor.max():.2f}")
figure, axes = plt.subplots(figsize=(6, 2.7), layout="constrained")
axes.semilogx(t, factor)
axes.axhline(1, color="0.5", linewidth=1)
axes.set(xlabel="step", ylabel="uncorrected / corrected", ylim=(0, 7))
axes.grid(alpha=0.3)
viz.show(
    figure,
    alt="How much longer Adam's steps are without bias correction, against the step on "
    "a logarithmic axis: 3.2 times at step 1, up to 6.6 times at step 12, then less, "
    "still 2 times at step 288 and near 1 only after some 2000 steps.",
)

# %% [markdown]
# More than three times too long at first, 6.6 times at the twelfth step, and still
# twice too long after 287.
#
# ### What an optimizer does not see
#
# The clearest way to know an optimizer is to ask which changes of the problem leave its
# path alone. Replace the bowl by $\tilde f(u) = c\,f(Mu)$: the number $c$ changes the
# unit of the loss, a diagonal matrix $M$ the units of single parameters, and a rotation
# $M$ turns the axes. Then follow $Mu$, which is where $\theta$ was.


# %%
def path_on(step, c, matrix, lr=0.1):
    """The path of `step` on the changed bowl, in the coordinates of the old one."""

    def gradient(u):
        return c * matrix.T @ bowl_gradient(matrix @ u)

    return descend(step, gradient, np.linalg.solve(matrix, start), 30, lr=lr) @ matrix.T


def turn(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


# %%
changes = {
    "loss times 1000": (1000, np.eye(2)),
    "one unit times 10": (1, np.diag([1.0, 10.0])),
    "axes turned by 45°": (1, turn(45)),
}
print(
    "same path?".ljust(20), *(step.__name__.rjust(9) for step in (sgd, momentum, adam))
)
for name, (c, matrix) in changes.items():
    same = [
        np.allclose(path_on(step, c, matrix), path_on(step, 1, np.eye(2)), atol=1e-6)
        for step in (sgd, momentum, adam)
    ]
    print(name.ljust(20), *(("yes" if x else "no").rjust(9) for x in same))

# %% [markdown]
# Plain descent and momentum see only the shape of the bowl, not how it lies; for
# another unit of the loss they need another rate. Adam does not care about the unit of
# the loss, but about the direction of the axes: it cures a bad condition number only
# where the long valley runs along a parameter. Here is a bowl of $\kappa = 100$,
# straight and turned by 45°:

# %%
steep = np.array([1.0, 100.0])


def losses_on(step, matrix, **settings):
    path = descend(
        step,
        lambda u: matrix.T @ (steep * (matrix @ u)),
        matrix.T @ start,
        150,
        **settings,
    )
    return (steep * (path @ matrix.T) ** 2).sum(-1) / 2


# %%
figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for step, settings, colors in [
    (momentum, {"lr": (2 / 11) ** 2, "beta": (9 / 11) ** 2}, ["C0", "k"]),
    (adam, {"lr": 0.2}, ["C1", "C3"]),
]:
    for degrees, style, color in zip([0, 45], ["-", "--"], colors, strict=True):
        values = losses_on(step, turn(degrees), **settings)
        label = f"{step.__name__}, turned by {degrees}°"
        axes.semilogy(values, style, color=color, label=label)
        print(f"{label}: loss {values[100]:.2g} after 100 steps")
axes.set(xlabel="step", ylabel="loss", ylim=(1e-8, 5e4))
axes.legend(loc="upper right", fontsize=8)
viz.show(
    figure,
    alt="Loss against the step on a bowl of condition number 100. Momentum rises "
    "first, then falls fast, and gives one and the same curve on the straight bowl and "
    "on the one turned by 45 degrees. Adam falls steadily on the straight bowl and far "
    "more slowly on the turned one.",
)

# %% [markdown]
# ## Weight decay: two things with one name
#
# Large weights are often a sign that a model has memorised. *Weight decay* pulls all of
# them towards zero, and there are two ways to write that down. One adds
# $\frac{d}{2}\,|\theta|^2$ to the loss (an *L2 penalty*), so that $d\,\theta$ is added
# to the gradient. The other leaves the gradient alone and takes a share off the
# parameter:
#
# $$\theta \leftarrow (1 - \eta\,d)\,\theta - \eta \cdot \mathrm{step} .$$
#
# For plain descent the two are the same sum in another order. For Adam they are not: a
# penalty goes through $m$ and $v$ and is *divided by the usual size of the gradient*.
# Decoupled decay is not, and Adam with it is called **AdamW**. A thousand weights, all
# 1 at first, see nothing but noise; in a second and third group the noise is smaller,
# and zero. What is left of the weights after 100 steps?


# %%
def adam_l2(theta, gradient, state, weight_decay, **settings):
    return adam(theta, gradient + weight_decay * theta, state, **settings)


def adamw(theta, gradient, state, lr=1e-3, weight_decay=1e-2, **settings):
    shrunk = theta * (1 - lr * weight_decay)
    return adam(shrunk, gradient, state, lr=lr, **settings)


rng = mb.random.generator("noise")
size = np.repeat([10.0, 0.1, 0.0], 1000)
noise = size * rng.standard_normal((100, 3000))
print("weight decay    noise of size 10   of size 0.1     no noise")
for step in (adam_l2, adamw):
    for decay in (0.1, 0.001):
        rows = iter(noise)
        settings = {"lr": 0.01, "weight_decay": decay}
        last = descend(
            step, lambda _, rows=rows: next(rows), np.ones(3000), 100, **settings
        )
        means = last[-1].reshape(3, 1000).mean(1)
        print(f"{step.__name__:8s}{decay:6}" + "".join(f"{m:15.3f}" for m in means))

# %% [markdown]
# AdamW does what it says: after 100 steps each group keeps $(1 - 0.01 \cdot 0.1)^{100}$
# = 0.905 of its weights, or 0.999 with the smaller decay (apart from the noise). With
# the penalty, the weights that see large gradients hardly decay, and those that see
# none run to zero at nearly full speed, **with decay 0.1 and with 0.001 alike**: a
# constant gradient of any size makes a step of $\eta$. (`Adam(weight_decay=…)` means
# the penalty here and in PyTorch, the decoupled decay in Keras: look it up before you
# copy a setting.)
#
# ## The library's optimizers
#
# All six stand in [`minibig/optim/`](../minibig/optim/sgd.py). They hold the
# parameters, take each one's `.grad`, and change the parameter in place when `step()`
# is called. Feed both sides the same random gradients for 200 steps, in float64:


# %%
def follow(optimizer_class, gradients, start, **settings):
    """Where the library's optimizer ends."""
    theta = mb.tensor(start, requires_grad=True)
    optimizer = optimizer_class([theta], **settings)
    for gradient in gradients:
        theta.grad = mb.tensor(gradient)
        optimizer.step()
    return theta.numpy()


# %%
pairs = {
    sgd: (optim.SGD, {"lr": 0.1}, {}),
    momentum: (optim.SGD, {"lr": 0.1}, {"momentum": 0.9}),
    nesterov: (optim.SGD, {"lr": 0.1}, {"momentum": 0.9, "nesterov": True}),
    adadelta: (optim.Adadelta, {"lr": 1.0}, {}),
    adam: (optim.Adam, {"lr": 0.01}, {}),
    adam_l2: (optim.Adam, {"lr": 0.01, "weight_decay": 0.1}, {}),
    adamw: (optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}, {}),
}
gradients = rng.standard_normal((200, 50))
begin = rng.standard_normal(50)
largest = 0.0
for step, (library, shared, extra) in pairs.items():
    rows = iter(gradients)
    ours = descend(step, lambda _, rows=rows: next(rows), begin, 200, **shared)[-1]
    theirs = follow(library, gradients, begin, **shared, **extra)
    largest = max(largest, abs(ours - theirs).max())

result("largest difference from the library", largest, at_most=1e-12)
assert largest <= 1e-12

# %% [markdown]
# On a million parameters the library's version is faster: it writes into the arrays it
# has, in blocks that stay in the processor's cache
# ([`minibig/optim/blocks.py`](../minibig/optim/blocks.py)), where each line of ours
# makes new ones. Expect between a third and two thirds of the time.

# %% tags=["nbval-ignore-output"]
many = rng.standard_normal(1_000_000).astype(np.float32)
parameter = mb.tensor(many, requires_grad=True)
parameter.grad = mb.tensor(many)
optimizer, state = optim.Adam([parameter]), {}
times = []
for call in [lambda: adam(many, many, state), optimizer.step] * 5:
    begun = time.perf_counter()
    call()
    times.append(time.perf_counter() - begun)
print(f"ours {min(times[::2]):.4f} s, library {min(times[1::2]):.4f} s a step")

# %% [markdown]
# ## Noise, and why rates fall
#
# With a million examples nobody computes the whole gradient before each step. One takes
# a random handful, a *mini-batch*, whose gradient is right on average and wrong each
# time: true gradient plus noise. That is the *stochastic* in stochastic gradient
# descent. Back to the parabola, with noise $\xi$ (xi) of variance 1 on the slope:
#
# $$e \leftarrow (1 - 2\eta)\,e - \eta\,\xi , \qquad e = \theta - 2 .$$
#
# The error does not go to zero any more. Its variance $V$ settles where a step changes
# it no longer, $V = (1 - 2\eta)^2\,V + \eta^2$, which gives
#
# $$V = \frac{\eta}{4\,(1 - \eta)} .$$
#
# **A constant rate stops at a floor, and the floor is nearly proportional to the
# rate.** A large rate arrives soon at a high floor, a small one late at a low one.
# Hence *schedules*: begin large, end small. The usual ones, with $s$ for the step, from
# 0:


# %%
def step_decay(s, lr, every, gamma=0.1):
    """A staircase: times gamma after `every` steps."""
    return lr * gamma ** (s // every)


def cosine(s, lr, total, lowest=0.0):
    """Half a cosine from lr to lowest: level at both ends, steepest in the middle."""
    return lowest + (lr - lowest) * (1 + np.cos(np.pi * s / total)) / 2


def warm_up(s, lr, steps, first=1 / 3):
    """A straight line from first · lr to lr in so many steps, then lr."""
    return lr * (first + (1 - first) * min(s / steps, 1))


optimizer = optim.SGD([parameter], lr=0.1)
twins = [
    (optim.StepLR(optimizer, 67), lambda s: step_decay(s, 0.1, 67)),
    (optim.CosineAnnealingLR(optimizer, 200), lambda s: cosine(s, 0.1, 200)),
    (optim.LinearLR(optimizer, total_iters=20), lambda s: warm_up(s, 0.1, 20)),
]
for library, ours in twins:
    assert all(abs(library.lr_at(s)[0] - ours(s)) < 1e-15 for s in range(201))

# %% [markdown]
# Half way down a cosine the rate is half, by hand: $\cos(\pi/2) = 0$. In a program a
# schedule is stepped once after each `optimizer.step()`; where it lives:
# [`minibig/optim/schedules.py`](../minibig/optim/schedules.py). The usual mistake is to
# count in epochs and step in batches, so that the cosine is over before the first epoch
# is, and climbs again.
#
# Now 20,000 independent runs at once, one in each element of an array, from
# $\theta = 1$. The last schedule, $\eta_s = 1 / (2(s+1))$, is the best there can be: it
# makes $\theta$ the plain average of all that was seen so far, with variance $1/(4s)$
# after $s$ steps.

# %%
schedules = {
    "constant 0.1": lambda s: 0.1,
    "constant 0.01": lambda s: 0.01,
    "staircase": lambda s: step_decay(s, 0.1, 67),
    "cosine": lambda s: cosine(s, 0.1, 200),
    "warm-up, cosine": lambda s: (
        warm_up(s, 1, 20, 0.05) * cosine(max(s - 20, 0), 0.1, 180)
    ),
    "1 / (2(s + 1))": lambda s: 1 / (2 * (s + 1)),
}
errors = {}
for name, rate in schedules.items():
    theta, errors[name] = np.full(20_000, 1.0), []
    for s in range(200):
        theta = theta - rate(s) * (slope(theta) + rng.standard_normal(20_000))
        errors[name].append(np.mean((theta - 2) ** 2))
    print(f"{name:16s} mean square of θ − 2 after 200 steps: {errors[name][-1]:.5f}")

assert abs(errors["constant 0.1"][-1] / (0.1 / (4 * 0.9)) - 1) < 0.05
assert abs(errors["1 / (2(s + 1))"][-1] / (1 / 800) - 1) < 0.05

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
styles = ["-", ":", "-", "-", "--", "-."]
for (name, rate), style in zip(schedules.items(), styles, strict=True):
    left.plot([rate(s) for s in range(200)], style, label=name)
    right.semilogy(errors[name], style, label=name)
left.set(xlabel="step", ylabel="learning rate", ylim=(0, 0.12), title="Schedules")
left.legend(fontsize=7.5)
right.axhline(0.1 / (4 * 0.9), color="0.6", linewidth=1, zorder=0)
right.text(115, 0.034, "floor η / 4(1 − η)", fontsize=9)
right.set(
    xlabel="step", ylabel="mean square of θ − 2", title="20,000 noisy runs of each"
)
viz.show(
    figure,
    alt="Left: six learning-rate schedules over 200 steps. Right: the mean squared "
    "error of 20,000 runs of each. Constant 0.1 falls fast and stays on its floor of "
    "0.028; constant 0.01 falls slowly all the way to 0.003; staircase and cosine fall "
    "fast and go on below the floor to 0.003; the rate 1/(2(s+1)) is lowest throughout "
    "and ends at 0.001.",
)

# %% [markdown]
# The falling rates end at an eighth of the constant one's error, for the same 200 noisy
# gradients. (The small constant rate has caught up with them by step 200, but look
# where it was at step 50.) The best schedule is not used on networks, because its 2 is
# the curvature, which one does not know and which is not constant; cosine and staircase
# need to know nothing but the length of the training.
#
# ## A real problem with a known answer
#
# 398 tumours, 30 measurements each, and the question whether a tumour is benign (1) or
# malignant (0). *Logistic regression* gives each measurement a weight, adds up, and
# turns the sum $z$ into a probability with the sigmoid $\sigma(z) = 1/(1 + e^{-z})$.
# The loss of one tumour is minus the logarithm of the probability given to the truth,
# which is $\log(1 + e^z) - y z$; a small L2 penalty is added:
#
# $$f(w) = \frac{1}{N} \sum_i \left[ \log(1 + e^{z_i}) - y_i z_i \right]
# + \frac{0.01}{2}\,|w|^2 , \qquad z = A w, \qquad
# \nabla f = \frac{1}{N} A^T (\sigma(z) - y) + 0.01\,w .$$
#
# $A$ holds one row for each tumour, with a 1 in front so that the first weight is a
# constant. The measurements are *standardised*: mean 0 and deviation 1 in each column.

# %%
data = breast_cancer()


def with_ones(features):
    return np.column_stack([np.ones(len(features)), features.astype(float)])


A, y = with_ones(data.train.features), data.train.targets.astype(float)


def loss(w, penalty=0.01):
    z = A @ w
    return np.mean(np.logaddexp(0, z) - y * z) + penalty / 2 * w @ w


def loss_gradient(w, penalty=0.01, rows=slice(None)):
    p = 1 / (1 + np.exp(-(A[rows] @ w)))
    return A[rows].T @ (p - y[rows]) / len(p) + penalty * w


w = mb.tensor(rng.standard_normal(31), requires_grad=True)
z = mb.tensor(A) @ w
((1 + z.exp()).log() - mb.tensor(y) * z).mean().backward()
assert np.allclose(w.grad.numpy(), loss_gradient(w.numpy(), penalty=0))

# %% [markdown]
# The formula and minibig's `backward()` agree. This loss is *convex*: it has one
# minimum and no other valley. So there is a method that simply goes there. **Newton's
# method** fits a bowl to the loss where it stands, with the matrix $H$ of second
# derivatives, and jumps to that bowl's bottom: $w \leftarrow w - H^{-1}\,\nabla f$. It
# needs no rate. (In statistics, for this loss, it is called *iteratively reweighted
# least squares*.)


# %%
def hessian(w, penalty=0.01):
    p = 1 / (1 + np.exp(-(A @ w)))
    return A.T @ (A * (p * (1 - p))[:, None]) / len(y) + penalty * np.eye(31)


w, newton = np.zeros(31), [loss(np.zeros(31))]
for _ in range(10):
    w = w - np.linalg.solve(hessian(w), loss_gradient(w))
    newton.append(loss(w))
w_best, f_best = w, loss(w)
for step, value in enumerate(newton[:10]):
    print(f"{step}  loss {value:.6f}   above the minimum {value - f_best:.1e}")
assert np.abs(loss_gradient(w_best)).max() < 1e-14

# %% [markdown]
# Eight steps, and from the fifth on the number of correct digits about doubles with
# each. That is the baseline, and it is unbeatable here. It does not scale: $H$ has as
# many entries as there are *pairs* of parameters, and for a small network of a million
# parameters it would fill eight terabytes. Everything else in this notebook is for when
# one cannot have $H$. But as we have it, let it predict what the others will do. In 31
# dimensions a bowl has 31 axes, which need not run along the parameters, and the
# curvatures along them are the *eigenvalues* of $H$: the largest is $L$, the
# smallest $\mu$.

# %%
places = {"start": hessian(np.zeros(31)), "minimum": hessian(w_best)}
places["start, without penalty"] = hessian(np.zeros(31), penalty=0)
for name, H in places.items():
    mu, *_, L = np.linalg.eigvalsh(H)
    print(f"{name:23s} L {L:.3f}  κ {L / mu:7.0f}  limit 2/L {2 / L:.2f}")

# %% [markdown]
# The curvature at the start is sixteen times that at the minimum. So **there is not one
# limit 2/L but one for each place**: at the start the theory warns of rates above 0.61,
# near the minimum it allows 9.9. (The last line has the 113,000 that was announced: the
# small penalty adds 0.01 to every curvature, which the flattest directions needed
# most.) What happens in between? *Sweep* the rate over five powers of ten, four values
# each, and give every optimizer 100 steps.


# %%
def sweep(optimizers, gradient, value, rates, steps=100):
    """{name: losses above the minimum, (rates, steps + 1)}; inf where it diverged."""
    found = {}
    with np.errstate(all="ignore"):
        for name, step in optimizers.items():
            paths = [descend(step, gradient, np.zeros(31), steps, lr=r) for r in rates]
            excess = np.array([[value(w) - f_best for w in path] for path in paths])
            found[name] = np.where(np.isfinite(excess), excess, np.inf)
    return found


# %%
optimizers = {"plain": sgd, "momentum": momentum, "Nesterov": nesterov}
optimizers |= {"Adadelta": adadelta, "Adam": adam}
rates = 10 ** np.arange(-3, 2.01, 0.25)
swept = sweep(optimizers, loss_gradient, loss, rates)


def report(swept):
    print("           best rate   above the minimum   below 1e-2, 1e-3, 1e-4 at step")
    for name, excess in swept.items():
        best = excess[:, -1].argmin()
        at = [int(np.argmax(excess[best] < x)) or "–" for x in (1e-2, 1e-3, 1e-4)]
        print(f"{name:12s}{rates[best]:8.3g}{excess[best, -1]:16.0e}", " " * 12, *at)


report(swept)


# %%
def draw_race(swept):
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    marks = ["o-", "s-", "^-", "D-", "v-", "*-"]
    for (name, excess), mark in zip(swept.items(), marks, strict=False):
        final = np.where(excess[:, -1] < 1, np.maximum(excess[:, -1], 1e-16), np.nan)
        left.loglog(rates, final, mark, markersize=4, label=name)
        best = excess[excess[:, -1].argmin()]
        right.semilogy(np.maximum(best, 1e-16), mark, markevery=10, markersize=4)
    above = [max(value - f_best, 1e-16) for value in newton]
    right.semilogy(above, "k.-", label="Newton")
    left.set(xlabel="learning rate", ylabel="loss above the minimum, step 100")
    right.set(xlabel="step", ylabel="loss above the minimum", ylim=(1e-16, 10))
    left.set_title("Every rate (no point: it ended above 1)")
    right.set_title("Each at its best rate")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    return figure


# %%
viz.show(
    draw_race(swept),
    alt="Left: loss above the minimum after 100 steps against the learning rate. Plain "
    "descent and Nesterov fall steeply to their best rate and jump up at the next; "
    "Adadelta falls to its best, 18, and climbs again by four powers of ten; "
    "momentum and Adam are flat over a factor of ten. Right: the loss of each at its "
    "best rate against the step. Newton is at 1e-13 after 7 steps; plain descent is "
    "lowest of the others at step 100, then Nesterov, Adadelta, and Adam and momentum "
    "near 1e-5.",
)

# %% [markdown]
# Did you expect plain gradient descent to win? Three things can be read off, and each
# is the theory from above at work.
#
# **The best rate can stand at the edge of a cliff.** Plain descent and Nesterov improve
# with the rate right up to the value before the one that fails; for Adadelta the next
# rate is worse by four powers of ten. Hence the habit of looking for the largest rate
# that survives and going back a little, and of sweeping in factors: the scale is
# logarithmic, and 0.1, 0.2, 0.3 is no sweep.
# Adam's valley is wide: from 0.1 to 1 the rate hardly matters. Much of its fame is that
# it forgives a rate that was guessed.
#
# **The best rate is above the limit.** At rate 10 the loss first *rises*, because the
# start is too curved for it; the steps are thrown about until they come down somewhere
# flatter, where the limit is higher. This "catapult" is no accident of our data
# (arXiv:2003.02218), and large networks do more: they go on into ever more curved
# places until the curvature hovers about $2/\eta$ (arXiv:2103.00065). And 10 is a
# little above even 9.9: after 1,000 steps it has drifted away from the minimum again,
# as below.
#
# **Momentum 0.9 is too much here.** The roots multiply to $\beta$, so the distance can
# shrink no faster than $\sqrt{\beta}$ a step and the loss no faster than $\beta$:
# $0.9^{100}$ = 0.00003, which is just where momentum ends, and Adam too, whose
# $\beta_1$ is 0.9. (Nesterov escapes: its roots multiply to
# $\beta\,(1 - \eta\lambda)$.) For $\kappa = 20$ the formula asks for $\beta$ = 0.40:


# %%
def momentum_04(theta, gradient, state, lr):
    return momentum(theta, gradient, state, lr, beta=0.4)


def nearer(theta, gradient, state, lr):
    return adam(theta, gradient, state, lr, betas=(0.4, 0.999))


report(sweep({"β = 0.4": momentum_04, "Adam 0.4": nearer}, loss_gradient, loss, rates))
high = [loss(w) for w in descend(sgd, loss_gradient, np.zeros(31), 1000, lr=10)]
print(f"\nplain descent, rate 10: loss {high[0]:.2f} at first, up to {max(high):.2f};")
for step in (100, 1000):
    print(f"above the minimum by {high[step] - f_best:.0e} after {step} steps")

# %% [markdown]
# So why does anybody use Adam? Because we did its work beforehand: standardising the
# measurements gave all weights about the same curvature. Tell the same problem in other
# units, each measurement multiplied by some number between 0.1 and 10, as millimetres,
# grams and percentages would be:

# %%
units = np.random.default_rng(0).permutation(np.geomspace(0.1, 10, 31))
in_units = sweep(
    optimizers,
    lambda u: units * loss_gradient(units * u),
    lambda u: loss(units * u),
    rates,
)
report(in_units)

# %% [markdown]
# Now Adam is far ahead, and plain descent is lost: its condition number grew by the
# *square* of the units, up to 10,000 times. That is the situation inside a deep
# network, where nobody has standardised the inputs of the twentieth layer. The two
# tables belong together: **an optimizer is good or bad for a shape of the loss, not in
# itself.**
#
# ### What if there is no minimum
#
# The 0.01 in the loss was not decoration. Without it:

# %%
w = np.zeros(31)
for step in range(1, 13):
    w = w - np.linalg.solve(hessian(w, penalty=0), loss_gradient(w, penalty=0))
    if step % 3 == 0:
        length = np.linalg.norm(w)
        print(f"step {step:2d}: loss {loss(w, penalty=0):.5f}, |w| {length:.0f}")
print("training tumours classified rightly:", np.mean((A @ w > 0) == (y == 1)))

# %% [markdown]
# Newton's method, which doubled its digits, now crawls, and the weights grow for ever:
# the classes can be separated without an error, so longer weights are always better,
# and the best loss, 0, lies at infinity. A plateau of the loss is no proof of a
# minimum. (Gradient descent goes there too, as slowly as the logarithm of the number of
# steps: arXiv:1710.10345.)
#
# ## Mini-batches, with the library
#
# To finish, train as one trains networks: 32 tumours at a time in random order,
# gradients from `backward()`, an optimizer and a schedule. SGD's `weight_decay` *is*
# the penalty of the loss. 25 passes over the data (*epochs*) of
# 12 mini-batches make 300 steps; 14 of the 398 rows are left out of each pass, others
# each time.


# %%
def train(lr, schedule=False, epochs=25):
    """The weights, and the loss above the minimum after each epoch."""
    rng = mb.random.generator("batches")
    w = mb.tensor(np.zeros(31), requires_grad=True)
    optimizer = optim.SGD([w], lr=lr, weight_decay=0.01)
    scheduler = optim.CosineAnnealingLR(optimizer, T_max=epochs * 12)
    excess = [loss(w.numpy()) - f_best]
    for _ in range(epochs):
        for rows in rng.permutation(len(A))[: 12 * 32].reshape(12, 32):
            z = mb.tensor(A[rows]) @ w
            cost = ((1 + z.exp()).log() - mb.tensor(y[rows]) * z).mean()
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            if schedule:
                scheduler.step()
        excess.append(loss(w.numpy()) - f_best)
    return w.numpy(), excess


# %%
runs = {
    "rate 2": train(2.0),
    "rate 0.2": train(0.2),
    "rate 2, cosine to 0": train(2.0, schedule=True),
}
for name, (_, excess) in runs.items():
    print(f"{name:20s} after 1 epoch {excess[1]:.1e}, after 25 {excess[-1]:.1e}")

# %%
figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for (name, (_, excess)), style in zip(runs.items(), ["-", ":", "--"], strict=True):
    axes.semilogy(excess, style, label=f"32 tumours a step, {name}")
best = swept["plain"][swept["plain"][:, 25].argmin(), :26]
axes.semilogy(best, color="0.5", label="all tumours a step, best rate")
axes.set(xlabel="passes over the data (epochs)", ylabel="loss above the minimum")
axes.legend(fontsize=9)
viz.show(
    figure,
    alt="Loss above the minimum against passes over the data. Mini-batches at rate 2 "
    "fall fastest at first and then stay on a noisy floor; rate 0.2 falls slowly and "
    "smoothly; the cosine follows rate 2 at first and ends lowest of the three. "
    "Descent with all tumours a step is far behind at first and ends level with it.",
)

# %%
test = data.test
w_sgd = runs["rate 2, cosine to 0"][0]
rows = {"always benign": np.eye(31)[0], "SGD": w_sgd, "Newton": w_best}
for name, w in rows.items():
    right = np.mean((with_ones(test.features) @ w > 0) == (test.targets == 1))
    print(f"{name:14s} {right:.3f} of {len(test.targets)} test tumours")
result("mini-batch SGD, loss above the minimum", excess[-1], at_most=1e-4)
right = np.mean((with_ones(test.features) @ w_sgd > 0) == (test.targets == 1))
accuracy = result("breast cancer test accuracy", right, at_least=0.97, corpus=data.hash)

# %% [markdown]
# What to expect, over five seeds: the constant rate 2 ends anywhere between 0.0008 and
# 0.009 above the minimum, on its floor; the constant 0.2 at 0.0008 to 0.0009, still on
# its way; the cosine at 0.00002 to 0.00006. The noise floor and its cure, on real data.
#
# After one pass the mini-batches (0.005 to 0.013 above the minimum) are about ten times
# nearer than the best single exact step, which costs the same pass (0.08 above, at
# whatever rate). After 25 passes the exact steps have caught up: 398 rows are few, and
# the last digits need exact gradients. On a million rows one pass would be 31,250 noisy
# steps in the place of one exact step.
#
# And look at the test tumours. Weights that are $3 \cdot 10^{-5}$ above the minimum
# classify exactly as well as those at the minimum: 98.8 %, for every seed (one tumour
# of 86 is wrong; answering "benign" always gets 62.8 %). **The loss is what we
# minimise, the accuracy is what we want**, and the last digits of the one did nothing
# for the other. That is why nobody misses Newton's method, and where generalisation, a
# subject of its own, begins.
#
# ## Summary
#
# - At curvature $\lambda$ a step keeps $1 - \eta\lambda$ of the error: below $2/L$ it
#   converges, at $2/(L+\mu)$ it does best and keeps $(\kappa-1)/(\kappa+1)$.
# - Momentum turns $\kappa$ into $\sqrt\kappa$, and along a steady slope it multiplies
#   the rate by $1/(1-\beta)$. Adam divides each gradient by its usual size: its first
#   step is $\pm\eta$, and its weight decay has to be decoupled (AdamW).
# - Noise leaves a floor in proportion to the rate: begin large, end small.
#
# ## Exercises
#
# `check("03.name", function)` tries your function and prints what it expected;
# `hint("03.name")` helps, each time a little more.
#
# **1. One line.** One step of gradient descent on a loss with an L2 penalty
# $\frac{d}{2}\,|\theta|^2$. Given the arrays `theta` and `gradient` (of the loss
# without the penalty) and the numbers `lr` and `weight_decay` ($d$), return the new
# parameters in a new array.

# %%
from minibig.exercises import check, hint


def sgd_with_decay(theta, gradient, lr, weight_decay):
    ### BEGIN SOLUTION
    return theta - lr * (gradient + weight_decay * theta)
    ### END SOLUTION


check("03.sgd", sgd_with_decay)

# %% [markdown]
# **2. Momentum under a schedule.** `start` has shape (N,), `gradients` (T, N) and
# `rates` (T,): the rate may change from step to step. Return the whole path, (T + 1,
# N), of $b \leftarrow \beta b + g$, $\theta \leftarrow \theta - \eta\,b$. (Some
# libraries keep $\eta\,g$ in $b$. As long as the rate is constant one cannot tell. Here
# one can.)


# %%
def momentum_path(start, gradients, rates, beta):
    ### BEGIN SOLUTION
    theta, b, points = start, np.zeros_like(start), [start]
    for gradient, lr in zip(gradients, rates, strict=True):
        b = beta * b + gradient
        theta = theta - lr * b
        points.append(theta)
    return np.stack(points)
    ### END SOLUTION


check("03.momentum", momentum_path)

# %% [markdown]
# **3. AdamW from memory.** Scroll the text away. Given `theta` (N,) and the `gradients`
# of all steps, (T, N), return the parameters after the last step, (N,), with bias
# correction and decoupled decay. The settings are numbers.


# %%
def adamw_steps(theta, gradients, lr, beta1, beta2, eps, weight_decay):
    ### BEGIN SOLUTION
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        theta = theta * (1 - lr * weight_decay)
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        theta = theta - lr * m_hat / (np.sqrt(v_hat) + eps)
    return theta
    ### END SOLUTION


check("03.adam", adamw_steps)

# %% [markdown]
# **4. The schedule of GPTs.** Return the rate, a number, of a `step` counted from 0:
# during `warmup_steps` a line, `lr` times (step + 1) / (`warmup_steps` + 1), so that no
# step is lost on a rate of 0; then half a cosine from `lr` down to `min_lr`, which it
# reaches at `total_steps`; from there on `min_lr`. (The library has it as
# `optim.WarmupCosine`.)


# %%
def warmup_cosine(step, lr, warmup_steps, total_steps, min_lr):
    ### BEGIN SOLUTION
    if step < warmup_steps:
        return lr * (step + 1) / (warmup_steps + 1)
    if step >= total_steps:
        return min_lr
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    return min_lr + (lr - min_lr) * (1 + np.cos(np.pi * done)) / 2
    ### END SOLUTION


check("03.cosine", warmup_cosine)

# %% [markdown]
# **5. Open: one setting for both.** In standard units plain descent won, in others Adam
# did, each with a rate from a sweep of 21 runs. Write a `step` in our form (a function
# of `theta`, `gradient`, `state`; notes may be kept in `state`, second derivatives may
# not be used) that with *one* setting comes within $10^{-4}$ of the minimum on both, in
# as few steps as you can. Where might the missing rate be read from? Two gradients and
# the two places where they were taken already say something about the curvature
# between.
#
# ## Sources
#
# Momentum: B. T. Polyak, "Some methods of speeding up the convergence of iteration
# methods" (1964); G. Goh, "Why Momentum Really Works", Distill (2017). Nesterov's
# variant in this form: I. Sutskever et al., "On the importance of initialization and
# momentum in deep learning" (2013). Adadelta: arXiv:1212.5701. Adam: arXiv:1412.6980.
# AdamW: arXiv:1711.05101. The cosine: arXiv:1608.03983. Why Adam wants a warm-up:
# arXiv:1908.03265. The catapult: arXiv:2003.02218. The edge of stability:
# arXiv:2103.00065. Separable classes: arXiv:1710.10345. The tumours: the UCI set
# "Breast Cancer Wisconsin (Diagnostic)", which comes with scikit-learn.
