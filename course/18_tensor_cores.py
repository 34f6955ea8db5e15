# %% [markdown]
# # Tensor cores
#
# > **You will build** the way from a number of 16 bits to attention on tensor cores:
# > the map that says which of 32 threads holds which number of a matrix, a whole
# > attention in one warp, a memory layout without conflicts, copies that run ahead, and
# > the descriptor by which Hopper's tensor cores read memory on their own.
# >
# > **You need** kernels, warps and shared memory ([16](16_first_kernels.ipynb)) and
# > flash attention ([17](17_attention_kernels.ipynb)).
# >
# > **It takes** about three hours with the exercises; the code runs for about half a
# > minute on 2 CPU cores in 400 MB of memory. No GPU: the kernels run on the emulator,
# > which needs a C++ compiler; with a GPU the same cells are meant to run there, and
# > none has done so yet.
#
# **How can a chip multiply fifteen times as fast as it can multiply?**
#
# The data sheet of an H200 names two speeds for the same chip: 67 TFLOP/s for numbers
# of 32 bits, 989 for numbers of 16 bits. Half the bits might be worth a factor of two.
# The other seven come from an instruction that most CUDA programs never use. It is easy
# to call; what is hard is to feed it, and nearly all of this notebook, like nearly all
# of a fast kernel, is about feeding it.

# %%
import numpy as np

import minibig as mb
from minibig import backend
from minibig.kernels import Module, attention, emulator, parse, read

device = "cpu"
try:
    backend.check_device("cuda")
    if attention.chip_of(backend.cupy()) >= 80:  # older chips lack what follows
        device = "cuda"
except mb.DeviceError:
    pass
absent = emulator.missing() if device == "cpu" else None  # why no kernel can run here


def launch(kernel, block, *arguments):
    """The arguments after one block of a kernel has run; arrays come back to NumPy."""
    moved = [backend.to_device(x, device) if backend.is_array(x) else x
             for x in arguments]  # fmt: skip
    kernel((1,), (block,), *moved)
    return [backend.to_device(x, "cpu") if backend.is_array(x) else x for x in moved]


# %% tags=["nbval-ignore-output"]
place = {"cuda": "on the GPU", "cpu": "on the emulator"}[device]
print(f"kernels do not run here: {absent}" if absent else f"kernels run {place}")

# %% [markdown]
# ## Sixteen bits
#
# A floating-point number is a sign $s$, an exponent $e$ and a fraction $f$, all whole
# numbers, and means
#
# $$x = (-1)^s \, \left(1 + \frac{f}{2^F}\right) 2^{\,e - b},$$
#
# where $F$ is the number of bits of the fraction, and the *bias* $b$ is half of what
# the exponent can count to, rounded down (15 of 31). The two formats of 16 bits divide
# them differently: *float16* has 5 bits of exponent and 10 of fraction, *bfloat16* 8
# and 7. Smallest exponent: the leading 1 becomes a 0 and the power stays at $2^{1-b}$,
# as for $e = 1$, which gives zero and a few tiny numbers (*subnormals*); largest
# exponent: infinity, and NaN. That is all there is to know, so here it is in ten lines,
# and they hold for every one of the 65,536 patterns:


# %%
def decode(bits, exponent_bits, fraction_bits):
    """The numbers that patterns of 1 + exponent_bits + fraction_bits bits mean."""
    bits = np.asarray(bits, dtype="int64")
    fraction = bits % 2**fraction_bits / 2**fraction_bits
    exponent = (bits >> fraction_bits) % 2**exponent_bits
    bias = 2 ** (exponent_bits - 1) - 1
    sign = 1 - 2 * (bits >> (exponent_bits + fraction_bits))
    normal = (1 + fraction) * 2.0 ** (exponent - bias)
    size = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), normal)
    special = np.where(fraction == 0, np.inf, np.nan)
    return sign * np.where(exponent == 2**exponent_bits - 1, special, size)


patterns = np.arange(65536)
with np.errstate(invalid="ignore"):  # some patterns are NaNs that complain when read
    half = patterns.astype("uint16").view("float16").astype("float64")
    upper = (patterns.astype("uint32") << 16).view("float32").astype("float64")
np.testing.assert_array_equal(decode(patterns, 5, 10), half)
np.testing.assert_array_equal(decode(patterns, 8, 7), upper)

# %% [markdown]
# The second check says what bfloat16 is: *the upper half of a float32*. Same exponent,
# fewer digits. By hand, 5.5 is $1.375 \cdot 2^2$. In float16 $e = 2 + 15 = 17$, in bits
# `10001`, and $f = 0.375 \cdot 1024 = 384$, in bits `0110000000`; in bfloat16
# $e = 129$, `10000001`, and $f = 48$, `0110000`.

# %%
# NBVAL_CHECK_OUTPUT
print(decode(0b0_10001_0110000000, 5, 10), decode(0b0_10000001_0110000, 8, 7))

# %% [markdown]
# One tenth has no end in binary, and has to be rounded; here it is in all three
# formats.

# %%
import matplotlib.pyplot as plt

from minibig import viz


def strip(axes, y, bits, parts):
    """Bits as a row of cells; parts are (how many, colour), from the left."""
    colours = [colour for count, colour in parts for _ in range(count)]
    for x, (bit, colour) in enumerate(zip(bits, colours, strict=True)):
        box = plt.Rectangle((x, y), 1, 0.75, facecolor=colour, edgecolor="white")
        axes.add_patch(box)
        axes.text(x + 0.5, y + 0.36, bit, ha="center", va="center", fontsize=8)


# %%
SIGN, EXPONENT, FRACTION = "#E69F00", "#56B4E9", "#DDDDDD"
tenth = {
    "float32": (f"{np.float32(0.1).view('uint32'):032b}", 8, 23),
    "float16": (f"{np.float16(0.1).view('uint16'):016b}", 5, 10),
    "bfloat16": (f"{0x3DCD:016b}", 8, 7),  # the upper half of 0x3DCCCCCD, rounded up
}
figure, axes = plt.subplots(figsize=(8, 2.5), layout="constrained")
for row, (name, (bits, e, f)) in enumerate(tenth.items()):
    y = 3.6 - 1.6 * row
    strip(axes, y, bits, [(1, SIGN), (e, EXPONENT), (f, FRACTION)])
    value = decode(int(bits, 2), e, f)
    axes.text(0, y + 0.95, f"{name}: {value:.12g}", fontsize=9)
legend = {"sign": SIGN, "exponent": EXPONENT, "fraction": FRACTION}
for name, colour in legend.items():
    axes.plot([], [], "s", color=colour, markersize=9, label=name)
axes.legend(loc="lower right", fontsize=9)
axes.set(xlim=(0, 32), ylim=(0.3, 5.2))
axes.set_axis_off()
viz.show(
    figure,
    alt="One tenth as bits. float32: a sign bit, 8 bits of exponent, 23 of fraction, "
    "0.100000001490. float16: 1, 5 and 10 bits, 0.0999755859375. bfloat16: 1, 8 and 7 "
    "bits, 0.10009765625; its bits are the upper 16 of float32, rounded up.",
)

# %% [markdown]
# A rounding moves a number by half of the distance to the next one, at most. With 10
# bits that is one part in 2,048, with 7 bits one in 256, *as long as the exponent
# serves*. Here is what is left of the numbers from $10^{-12}$ to $10^{12}$:


# %%
def rounded(x, fraction_bits):
    """x to the nearest number with that many bits of fraction, ties to even."""
    mantissa, exponent = np.frexp(x)  # x = mantissa · 2^exponent, 1/2 ≤ mantissa < 1
    digits = np.rint(np.ldexp(mantissa, fraction_bits + 1))
    return np.ldexp(digits, exponent - fraction_bits - 1)


x = np.exp(np.random.default_rng(0).uniform(np.log(1e-12), np.log(1e12), 6000))
x.sort()
with np.errstate(over="ignore"):
    errors = {"float16": np.abs(x.astype("float16") / x - 1)}
errors["bfloat16"] = np.abs(rounded(x, 7) / x - 1)

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
for (name, error), colour in zip(errors.items(), ("#0072B2", "#D55E00"), strict=True):
    axes.loglog(x, np.minimum(error, 10), ".", markersize=2, color=colour, label=name)
axes.set(xlabel="number", ylabel="relative error of rounding", ylim=(1e-6, 20))
axes.grid(alpha=0.3)
axes.text(1e8, 3, "infinity", ha="center", color="#0072B2")
axes.text(1e-10, 0.25, "zero", ha="center", color="#0072B2")
axes.legend(markerscale=6)
viz.show(
    figure,
    alt="The relative error of rounding against the size of a number. bfloat16 stays "
    "below 0.004 everywhere. float16 is eight times better, below 0.0005, between 6e-5 "
    "and 65504; below, its error rises until everything is lost at 3e-8, and above "
    "there is only infinity.",
)

# %% [markdown]
# float16 has more digits, and is at home in a band of nine decades; below it numbers
# fade away, above 65,504 they are infinite. That is why training in float16 needs the
# loss scaled (arXiv 1710.03740; notebook [19](19_precision_and_memory.ipynb)), and why
# bfloat16, an eighth as fine, has become the common choice: its range never has to be
# thought about.

# %% [markdown]
# ## A sum that goes wrong
#
# Products of matrices are long sums, and there 16 bits fail for a reason that has
# nothing to do with the range. Take a dot product of 16,384 pairs of numbers between 0
# and 1; the expected sum is a quarter of that, 4,096. We add up with a running sum in
# each format, all from the same products.

# %%
rng = np.random.default_rng(0)
a, b = (rng.random(16384).astype("float16") for _ in range(2))
products = a.astype("float64") * b.astype("float64")

running = {"float64": np.cumsum(products)}
running["float32"] = np.add.accumulate(products.astype("float32"))
running["float16"] = np.add.accumulate(products.astype("float16"))
sums = [0.0]
for product in rounded(products, 7):
    sums.append(float(rounded(sums[-1] + product, 7)))
running["bfloat16"] = np.array(sums[1:])

# %%
# NBVAL_CHECK_OUTPUT
for name, sums in running.items():
    print(f"{name:9} {float(sums[-1]):10.4f}")

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
styles = {"float32": ("#000000", "-"), "float16": ("#0072B2", "--"),
          "bfloat16": ("#D55E00", "-.")}  # fmt: skip
for name, (colour, style) in styles.items():
    axes.loglog(np.arange(1, 16385), running[name].astype("float64"), style,
                color=colour, label=f"sum in {name}")  # fmt: skip
axes.set(xlabel="products added", ylabel="running sum", xlim=(10, 17000), ylim=(2, 6e3))
axes.grid(alpha=0.3)
axes.legend()
viz.show(
    figure,
    alt="Running sums against the number of products, both logarithmic. The float32 "
    "sum rises along a straight line to 4117. The float16 sum follows it, then bends "
    "and stops at exactly 2048; the bfloat16 sum stops at exactly 256.",
)

# %% [markdown]
# Not noise: both stop dead, and on round numbers. At 2,048 neighbouring float16 are 2
# apart, so a product below 1 is less than half a step and rounds away, every time, for
# ever. bfloat16, with 3 bits less, stops at 256. With a tie the sum stays too: 2,048
# plus 1 lies in the middle, and ties go to the even neighbour.
#
# The cure is cheap: *keep the numbers in 16 bits and the sum in 32*. The products then
# cost nothing at all. Two fractions of 11 bits, with the leading one, give a product of
# 22, and float32 has room for 24: **a product of two float16 is exact in float32**. So
# is that of two bfloat16, 16 digits, as long as float32 reaches that far.

# %%
a, b = rng.standard_normal((2, 100_000)).astype("float16")
exact = a.astype("float64") * b.astype("float64")
assert (a.astype("float32") * b.astype("float32") == exact).all()

# %% [markdown]
# This is what a tensor core does: 16 bits in, exact products, a sum in float32. NVIDIA
# promises "at least single precision" and leaves order and rounding open (PTX ISA, on
# `mma`), so two chips may differ in the last bits; what we say below about errors holds
# for any order.

# %% [markdown]
# ## One instruction, 4,096 operations
#
# The instruction is called `mma`, matrix multiply-accumulate. The one that we use until
# Hopper is, in full (`row.col`: both operands come in pairs along $k$; then the types
# of result, $A$, $B$ and sum), `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32`: it
# computes
#
# $$C_{16 \times 8} \leftarrow C_{16 \times 8} + A_{16 \times 16}\, B_{16 \times 8},$$
#
# and it is not an instruction of a thread but of a *warp*: all its 32 threads, the
# *lanes*, give it at once, and the three matrices lie spread over their registers. $C$,
# to which is added, is called the *accumulator*, $A$ and $B$ the operands. It makes
# $16 \cdot 8 \cdot 16$ products and as many additions, 4,096 operations. An ordinary
# multiply-add of a warp makes $32 \cdot 2 = 64$. Divide the data sheets' speeds by
# multiprocessors (SM) and clock, and it shows:

# %%
# NBVAL_CHECK_OUTPUT
CHIPS = {  # TFLOP/s of float32, of 16 bits on tensor cores (dense), SMs, GHz
    "T4": (8.1, 65, 40, 1.59),
    "A100": (19.5, 312, 108, 1.41),
    "RTX 4090": (82.6, 165.2, 128, 2.52),
    "H200": (67, 989, 132, 1.83),
}
print("from the data sheets, not measured   operations a clock and SM, tensor cores")
for name, (plain, tensor, sms, clock) in CHIPS.items():
    rate = tensor * 1e3 / sms / clock
    print(f"{name:9} {tensor:6} / {plain:5} = {tensor / plain:4.1f}{rate:26.0f}")

# %% [markdown]
# (An H200's 67 TFLOP/s are quoted at a higher clock than its 989, which hides a part of
# the ratio: by the clock it is 4,096 to 256, sixteen. And a gaming card's tensor cores
# sum in float32 at half their speed.) An A100's SM does half an `mma` a clock, an
# H200's one. In the same clock its shared memory hands out 128 bytes, four for each of
# its 32 *banks*; of the 768 bytes of an $A$ and a $B$ that is a sixth. Remember this
# number. It is the whole problem.

# %% [markdown]
# ## Who holds what
#
# $A$ has 256 numbers, so each of 32 lanes has 8 of them: four registers with two
# numbers each. $B$ makes two registers a lane, $C$ four floats. Which numbers? Write
# the lane as $4 g + t$, a *group* $g$ of 0 to 7 and a place $t$ of 0 to 3 in it. Then
#
# $$A: \; a_r \text{ holds row } g + 8\,(r \bmod 2),
# \text{ columns } 2t + 8 \lfloor r/2 \rfloor \text{ and the next},$$
#
# $$B: \; b_r \text{ holds rows } 2t + 8r \text{ and the next, column } g,$$
#
# $$C: \; c_i \text{ is row } g + 8 \lfloor i/2 \rfloor,
# \text{ column } 2t + (i \bmod 2).$$
#
# On paper, for lane 13: $g = 3$, $t = 1$. Its $a_0$ is row 3, columns 2 and 3; $a_1$
# the same eight rows further down, $a_2$ eight columns to the right, $a_3$ both. It has
# of $B$ the rows 2, 3 and 10, 11 of column 3, and of $C$ the columns 2, 3 of rows 3 and
# 11. Each register is a pair of neighbours *along* $k$, the axis that is summed.

# %%
LANES = np.arange(32)
G, T = LANES // 4, LANES % 4


def places_of_a():
    """(row, column) of what a_r holds, low and high half; each (32, 4, 2)."""
    r, half = np.arange(4)[:, None], np.arange(2)
    rows = G[:, None, None] + 8 * (r % 2) + 0 * half
    return rows, 2 * T[:, None, None] + 8 * (r // 2) + half


def places_of_b():
    """The same for b_r: (32, 2, 2)."""
    r, half = np.arange(2)[:, None], np.arange(2)
    return 2 * T[:, None, None] + 8 * r + half, G[:, None, None] + 0 * (r + half)


def places_of_c():
    """The same for c_i: (32, 4)."""
    i = np.arange(4)
    return G[:, None] + 8 * (i // 2), 2 * T[:, None] + i % 2


# %%
# NBVAL_CHECK_OUTPUT
for name, (rows, columns) in {"a": places_of_a(), "b": places_of_b()}.items():
    for r, (row, column) in enumerate(zip(rows[13], columns[13], strict=True)):
        print(f"lane 13, {name}{r}: rows {row}, columns {column}")

# %%
HUES = np.array([[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167]]) / 255


def draw_lanes(axes, places, shape, title, marked=13):
    """A matrix whose cells say which lane holds them; the marked lane's are framed."""
    rows, columns = places
    lanes = np.empty(shape, int)
    lanes[rows, columns] = LANES.reshape(-1, *[1] * (rows.ndim - 1))
    strength = (0.15 + 0.08 * (lanes // 4))[..., None]  # deeper with g, hue of t
    axes.imshow(1 - strength * (1 - HUES[lanes % 4]))
    for (i, j), lane in np.ndenumerate(lanes):
        weight = "bold" if lane == marked else "normal"
        axes.text(j, i, lane, ha="center", va="center", fontsize=7, weight=weight)
        if lane == marked:
            box = (j - 0.5, i - 0.5)
            axes.add_patch(plt.Rectangle(box, 1, 1, fill=False, linewidth=1.8))
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(0, shape[1], 4))
    axes.set_yticks(range(0, shape[0], 4))
    axes.tick_params(labelsize=8)


# %%
figure, grid = plt.subplot_mosaic(
    ".b;ac", figsize=(7.6, 10), width_ratios=[2, 1], layout="constrained"
)
draw_lanes(grid["a"], places_of_a(), (16, 16), "A (16, 16): rows m, columns k")
draw_lanes(grid["b"], places_of_b(), (16, 8), "B (16, 8): rows k, columns n")
draw_lanes(grid["c"], places_of_c(), (16, 8), "C (16, 8): rows m, columns n")
key = "In each cell: its lane, 4g + t.\nThe colour is t, its depth g.\nFramed: lane 13."
figure.text(0.06, 0.6, key, fontsize=11, linespacing=1.6)
viz.show(
    figure,
    alt="Three grids laid out as a product: A at the lower left, B above, C at the "
    "lower right. Each cell has the number of the lane that holds it. In A and C lanes "
    "0 to 3 share row 0, lanes 4 to 7 row 1 and so on, and again from row 8; in B they "
    "share column 0, lanes 4 to 7 column 1. The cells of lane 13 are framed: rows 3 "
    "and 11 of A and C, column 3 of B.",
)

# %% [markdown]
# A formula copied from a manual is soon wrong by a transposition. So we let the
# instruction itself judge: scatter two random matrices into registers by our formulas,
# give them to `mma`, gather what comes out, compare with $A B$.

# %%
ONE_MMA = r"""
#include "ptx.cuh"

template <typename Number>
__global__ void one_mma(const unsigned* a, const unsigned* b, float* c) {
  const int lane = threadIdx.x;
  unsigned x[4], y[2];
  float sum[4] = {};
  for (int i = 0; i < 4; i++) x[i] = a[4 * lane + i];
  for (int i = 0; i < 2; i++) y[i] = b[2 * lane + i];
  mma_m16n8k16<Number>(sum, x, y);
  for (int i = 0; i < 4; i++) c[4 * lane + i] = sum[i];
}
"""


def multiply(a, b):
    """A B by one mma, from registers filled by the formulas; (16, 16), (16, 8)."""
    x, y = (np.ascontiguousarray(m[places()]).view("uint32").reshape(32, -1)
            for m, places in ((a, places_of_a), (b, places_of_b)))  # fmt: skip
    kernel = Module(parse("one_mma.cu", ONE_MMA), "float16")["one_mma"]
    *_, c = launch(kernel, 32, x, y, np.zeros((32, 4), "float32"))
    result = np.empty((16, 8), "float32")
    result[places_of_c()] = c
    return result


# %%
a = rng.standard_normal((16, 16)).astype("float16")
b = rng.standard_normal((16, 8)).astype("float16")
if not absent:
    error = np.abs(multiply(a, b) - a.astype("float64") @ b.astype("float64")).max()
    print(f"largest difference to A B in float64: {error:.1e}")
    assert error < 1e-5

# %% [markdown]
# What does this prove? On a GPU, that the chip agrees with us. On the emulator only
# that two texts do: its `mma` is twenty lines of C++
# ([`emulator/ptx.h`](../minibig/kernels/emulator/ptx.h)), written from the same pages.
# And one thing the test cannot see at all: exchange the columns of $A$ and the rows of
# $B$ in the same way, and $C$ stays as it is, since a sum over $k$ does not ask for
# order. Fast kernels use that freedom: whoever loads $A$ and $B$ with the *same*
# permutation of $k$ may load them as suits the memory.

# %%
order = rng.permutation(16)
if not absent:
    same = np.abs(multiply(a[:, order], b[order]) - multiply(a, b)).max()
    print(f"columns of A and rows of B in another order: {same:.1e}")
    assert same < 1e-5

# %% [markdown]
# ## What comes out goes in again
#
# Attention is two products with a softmax between them: $P$ comes out of the first as
# an accumulator, and is the left factor of the second. In notebook 17 it went through
# shared memory on its way. Now look at rows and columns in the formulas for $A$ and
# $C$: a lane's part of $C$ is in the rows $g$ and $g + 8$, in the columns $2t$ and the
# next; of $A$ it needs the same, and the same again 8 columns to the right. So two $C$
# side by side, 16 columns, *lie exactly as one $A$ does*:
#
# $$a_0 = (c_0, c_1), \quad a_1 = (c_2, c_3), \quad
# a_2 = (c_0', c_1'), \quad a_3 = (c_2', c_3').$$

# %%
rows, columns = places_of_c()
pairs = [(rows, columns), (rows, columns + 8)]  # the tile on the left, on the right
as_operand = [np.stack(x, 1).reshape(32, 4, 2) for x in zip(*pairs, strict=True)]
np.testing.assert_array_equal(as_operand, places_of_a())

# %% [markdown]
# No number has to change its lane. Each lane rounds its eight floats to 16 bits, two to
# a register, and the next `mma` can start. (Luck, or good design, of the 16-bit
# formats. With 8 bits four neighbours share a register of $A$, and $C$ still comes in
# pairs: there FlashAttention-3 has to shuffle its $P$ into shape, arXiv 2407.08608.)

# %%
chosen = {0: HUES[0], 13: HUES[1], 31: HUES[2]}
names = (["c0", "c1", "c2", "c3", "c0′", "c1′", "c2′", "c3′"],
         ["a0", "a0", "a1", "a1", "a2", "a2", "a3", "a3"])  # fmt: skip
titles = ("two C, side by side: what a product left", "one A: what the next one wants")
boxes = [plt.Rectangle((0, 0), 1, 1, color=c, alpha=0.6) for c in chosen.values()]

# %%
figure, panels = plt.subplots(1, 2, figsize=(8, 4.4), layout="constrained")
for axes, labels, title in zip(panels, names, titles, strict=True):
    for lane, colour in chosen.items():
        places = zip(*(x[lane].ravel() for x in as_operand), strict=True)
        for label, (row, column) in zip(labels, places, strict=True):
            box = (column - 0.5, row - 0.5)
            axes.add_patch(plt.Rectangle(box, 1, 1, color=colour, alpha=0.6))
            axes.text(column, row, label, ha="center", va="center", fontsize=8)
    axes.axvline(7.5, color="0.4", linewidth=1 if "two" in title else 0)
    axes.set(xlim=(-0.5, 15.5), ylim=(15.5, -0.5), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.set_xticks(np.arange(-0.5, 16), labels=[])
    axes.set_yticks(np.arange(-0.5, 16), labels=[])
    axes.grid(alpha=0.3)
    axes.tick_params(length=0)
labels = [f"lane {lane}" for lane in chosen]
figure.legend(boxes, labels, loc="outside lower center", ncol=3, fontsize=9)
viz.show(
    figure,
    alt="Two grids of 16 by 16. In the left one, two result tiles side by side, the "
    "cells of lanes 0, 13 and 31 are coloured and named c0 to c3 and c0' to c3'. In "
    "the right one, an operand A, the same cells in the same places are coloured, "
    "named a0 to a3: no number has to move.",
)

# %% [markdown]
# ## ldmatrix: one load for 32 lanes
#
# $Q$, $K$ and $V$ come from memory, though, through shared memory, where they lie row
# by row. A lane could fetch its pairs one by one, four loads of 4 bytes for an $A$.
# For $V$ it is worse: there a pair along $k$ is one number from each of two rows, and
# each needs a load of its own.
#
# `ldmatrix` does it for the whole warp in one instruction. It fetches up to four
# matrices of $8 \times 8$ numbers, whose rows are 16 bytes each and can be anywhere.
# The work is divided oddly: **lane $8i + r$ says where row $r$ of matrix $i$ is, but
# lane $4g + t$ gets the pair $(2t, 2t+1)$ of row $g$**, of every matrix. What a lane
# points at is not what it gets. With the suffix `.trans` it gets the pair in column
# $g$ instead, rows $2t$ and $2t + 1$, and $V$ is no harder than $K$.
#
# We fill a tile with the numbers 0 to 255, so that each says where it lay:

# %%
FETCH = r"""
#include "ptx.cuh"

__global__ void fetch(const float16* from, unsigned* straight, unsigned* turned) {
  __shared__ __align__(16) float16 tile[16 * 16];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) tile[i] = from[i];
  __syncwarp();
  const float16* row = tile + lane % 16 * 16 + lane / 16 * 8;  // this lane points here
  unsigned x[4], y[4];
  ldmatrix_x4(x, row);
  ldmatrix_x4_transposed(y, row);
  for (int i = 0; i < 4; i++)
    straight[4 * lane + i] = x[i], turned[4 * lane + i] = y[i];
}
"""
if not absent:
    tile = np.arange(256, dtype="uint16").view("float16")  # bits that say their place
    nothing = np.zeros((32, 4), "uint32")
    kernel = Module(parse("fetch.cu", FETCH))["fetch"]
    _, *found = launch(kernel, 32, tile, nothing, nothing.copy())
    straight, turned = (x.view("uint16").reshape(32, 4, 2) for x in found)

# %% [markdown]
# Straight, the four registers are an $A$, by the formula; turned, registers 0 and 1
# are one $B$ and registers 2 and 3 the $B$ to its right:

# %%
rows, columns = places_of_a()
if not absent:
    np.testing.assert_array_equal(straight, 16 * rows + columns)
    rows, columns = places_of_b()
    np.testing.assert_array_equal(turned[:, :2], 16 * rows + columns)
    np.testing.assert_array_equal(turned[:, 2:], 16 * rows + columns + 8)
    print("lane 13 gets", straight[13].tolist(), "and turned", turned[13].tolist())

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4.5), layout="constrained")
for lane in LANES:
    row, column, matrix = lane % 16, lane // 16 * 8, lane // 8
    box = plt.Rectangle((column - 0.5, row - 0.5), 8, 1, edgecolor="white", linewidth=2,
                        facecolor=HUES[matrix], alpha=0.45)  # fmt: skip
    left.add_patch(box)
    text = f"lane {lane}"
    left.text(column + 3.5, row, text, ha="center", va="center", fontsize=8)
left.set(xlim=(-0.5, 15.5), ylim=(15.5, -0.5), aspect="equal")
left.set_title("who points at which 16 bytes", fontsize=10)
left.set_xticks(range(0, 16, 4))
left.set_yticks(range(0, 16, 4))
left.tick_params(labelsize=8)
draw_lanes(right, places_of_a(), (16, 16), "who gets which numbers")
viz.show(
    figure,
    alt="Two pictures of one tile of 16 by 16 numbers. Left, its 32 half rows, each "
    "with the lane that gives its address: lanes 0 to 15 down the left half, lanes 16 "
    "to 31 down the right half, in four colours for four matrices. Right, the lanes "
    "that receive the numbers: four neighbouring lanes share each row, pair by pair; "
    "lane 13's cells are framed.",
)

# %% [markdown]
# ## Attention in one warp
#
# That is enough for a whole attention: 16 queries, 16 keys, width 16, one warp, and
# between the two products nothing leaves the registers. The scores of keys 0 to 7 are
# in `left`, those of 8 to 15 in `right`. A row is shared by four lanes, so its sum is
# made by two shuffles. (One tile of keys: the online softmax of notebook 17 has nothing
# to do here, and small scores need no maximum taken off.)

# %%
LOAD = r"""
#include "ptx.cuh"

__global__ void one_warp(const float16* q, const float16* k, const float16* v,
                         float* out) {
  __shared__ __align__(16) float16 tile[3][16 * 16];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32)
    tile[0][i] = q[i], tile[1][i] = k[i], tile[2][i] = v[i];
  __syncwarp();
  const int down = lane % 16 * 16 + lane / 16 * 8;  // matrices in the order of an A
  // of K: both halves of its first eight keys, then both of the last eight
  const int across = lane / 16 * 128 + lane % 8 * 16 + lane / 8 % 2 * 8;
  unsigned queries[4], keys[4], values[4];
  ldmatrix_x4(queries, tile[0] + down);
  ldmatrix_x4(keys, tile[1] + across);  // rows of K are columns of its transpose
  ldmatrix_x4_transposed(values, tile[2] + down);
"""

# %%
COMPUTE = r"""
  float left[4] = {}, right[4] = {}, total[2] = {}, first[4] = {}, second[4] = {};
  mma_m16n8k16<float16>(left, queries, {keys[0], keys[1]});
  mma_m16n8k16<float16>(right, queries, {keys[2], keys[3]});
  for (int i = 0; i < 4; i++) {
    left[i] = expf(left[i] / 4), right[i] = expf(right[i] / 4);  // √16 = 4
    total[i / 2] += left[i] + right[i];
  }
  for (int i = 0; i < 2; i++) {
    total[i] += __shfl_xor_sync(0xffffffff, total[i], 1);
    total[i] += __shfl_xor_sync(0xffffffff, total[i], 2);
  }
  const unsigned p[4] = {
      pack<float16>(left[0], left[1]), pack<float16>(left[2], left[3]),
      pack<float16>(right[0], right[1]), pack<float16>(right[2], right[3])};
  mma_m16n8k16<float16>(first, p, {values[0], values[1]});
  mma_m16n8k16<float16>(second, p, {values[2], values[3]});
  for (int i = 0; i < 4; i++) {
    float* place = out + (lane / 4 + i / 2 * 8) * 16 + lane % 4 * 2 + i % 2;
    place[0] = first[i] / total[i / 2], place[8] = second[i] / total[i / 2];
  }
}
"""

# %%
q, k, v = rng.standard_normal((3, 16, 16)).astype("float16")


def reference(q, k, v):
    """softmax(Q Kᵀ / √D) V in float64."""
    q, k, v = (x.astype("float64") for x in (q, k, v))
    e = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
    return e / e.sum(-1, keepdims=True) @ v


if not absent:
    kernel = Module(parse("one_warp.cu", LOAD + COMPUTE))["one_warp"]
    *_, ours = launch(kernel, 32, q, k, v, np.zeros((16, 16), "float32"))
    print(f"largest error: {np.abs(ours - reference(q, k, v)).max():.1e}")
    assert np.abs(ours - reference(q, k, v)).max() < 2e-3

# %% [markdown]
# The error is that of rounding $P$ to float16, one part in 2,048, averaged down.
#
# The library's kernel grows out of this one. It asks for a width of 32 at least, so we
# fill up with zeros, which changes no score and adds columns of zeros, and keep the
# scale of width 16:

# %%
if not absent:
    wide = [np.zeros((1, 1, 16, 32), "float16") for _ in range(3)]
    for x, narrow in zip(wide, (q, k, v), strict=True):
        x[..., :16] = narrow
    wide = [backend.to_device(x, device) for x in wide]
    theirs, _ = attention.attention(*wide, scale=0.25, rung="mma")
    theirs = backend.to_device(theirs, "cpu")[0, 0, :, :16]
    assert np.abs(theirs.astype("float32") - ours).max() < 2e-3

# %% [markdown]
# Where it lives:
# [`attention_mma_forward.cu`](../minibig/kernels/attention_mma_forward.cu), on
# [`mma.cuh`](../minibig/kernels/mma.cuh), on
# [`ptx.cuh`](../minibig/kernels/ptx.cuh). What it has and ours has not: it is fed fast
# enough. The next three sections are about that.

# %% [markdown]
# ## Eight rows, four banks
#
# Shared memory has 32 banks, as notebook 16 found: word $w$ (4 bytes) lies in bank
# $w \bmod 32$, and in one clock each bank gives one word. Lanes that want the *same*
# word share it, lanes that want different words of one bank wait for one another, a
# *bank conflict*. `ldmatrix` reads a matrix at a time: 8 rows of 16 bytes, 32 words,
# one clock if they are all in different banks. So for any set of addresses we can count
# the clocks:

# %%
from collections import Counter


def clocks(addresses, size=16):
    """How often the busiest bank must be read: `size` bytes at each address."""
    words = {(int(a) + i) // 4 for a in addresses for i in range(0, size, 4)}
    return max(Counter(word % 32 for word in words).values())


# %%
# NBVAL_CHECK_OUTPUT
rows = np.arange(8)
print("width   8 rows under each other   the same, rows 16 bytes longer")
for width in (32, 64, 80, 96, 128):
    plain, padded = clocks(rows * 2 * width), clocks(rows * (2 * width + 16))
    print(f"{width:5} {plain:12} clocks {padded:24} clocks")

# %% [markdown]
# By hand for width 64: a row takes 128 bytes, all 32 banks once. So row 1 begins in the
# bank in which row 0 began, and row 2, and all eight: the same 4 banks are asked eight
# times, and 28 do nothing. Of the sixth that we could have, an eighth is left.
#
# The old cure is the last column: leave 16 bytes free after each row. It works, and
# costs memory, and tiles no longer start at round addresses. The better cure moves
# nothing out of its row: it lets the eight 16-byte *chunks* of a row change places,
# each row in its own way,
#
# $$\mathrm{place} = \mathrm{chunk} \oplus (\mathrm{row} \bmod 8),$$
#
# with $\oplus$ the exclusive or of the bits. Row 0 stays, row 1 swaps neighbours, row 7
# is reversed. For a fixed chunk, eight rows give eight different places; for a fixed
# row, eight chunks do, so that nothing is lost. That is a *swizzle*.

# %%
row, chunk = np.mgrid[:8, :8]
swizzled = chunk ^ row  # where each chunk lies in its row

# %%
figure, panels = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
palette = plt.get_cmap("viridis")(np.linspace(0.5, 1, 8))
for axes, places, title in zip(
    panels, (chunk, swizzled), ("as they come", "swizzled"), strict=True
):
    content = np.argsort(places, axis=1)  # which chunk lies in a place
    axes.imshow(palette[content])
    for (i, j), number in np.ndenumerate(content):
        bold = {"weight": "bold"} if number == 2 else {"fontsize": 8}
        axes.text(j, i, number, ha="center", va="center", **bold)
        if number == 2:
            box = (j - 0.5, i - 0.5)
            axes.add_patch(plt.Rectangle(box, 1, 1, fill=False, linewidth=2))
    count = clocks((row * 128 + places * 16)[:, 2])
    axes.set_title(f"{title}: clocks for chunk 2 of 8 rows: {count}", fontsize=10)
    axes.set_xticks(range(8), [f"{4 * i}–{4 * i + 3}" for i in range(8)], fontsize=8)
    axes.set(xlabel="banks", ylabel="row", yticks=range(8))
viz.show(
    figure,
    alt="Two tables of 8 rows and 8 places of 16 bytes, four banks each; a cell says "
    "which chunk of its row lies there. As they come, chunk 2 is in banks 8 to 11 in "
    "every row: 8 clocks. Swizzled, it is in another place in each row, in the order "
    "2, 3, 0, 1, 6, 7, 4, 5: 1 clock.",
)

# %% [markdown]
# Rows of other widths need a little more care: where the places repeat only after $w$ =
# 2 or 4 rows, rows of one such set are in different banks anyway, and what goes into
# the exclusive or is the number of the set, row // $w$, modulo the chunks that change
# places: 4 or 2. The library's `place` knows all five widths. (You will write it in the
# exercises.) Here it is, run as it stands, and counted: reads by `ldmatrix`, eight rows
# under each other, and the writes that fill the tile, eight neighbouring chunks at a
# time.

# %%
PLACES = r"""
#include "ptx.cuh"
#include "attention.cuh"
#include "mma.cuh"

template <int D>
__device__ void list(int* out) {
  for (int i = threadIdx.x; i < 16 * D / 8; i += 32)
    out[i] = place<D>(i / (D / 8), i % (D / 8));
}
__global__ void places(int* out) {  // of 16 rows, 256 numbers for each width
  list<32>(out), list<64>(out + 256), list<80>(out + 512), list<96>(out + 768);
  list<128>(out + 1024);
}
"""
if not absent:
    kernel = Module(parse("places.cu", PLACES))["places"]
    (listed,) = launch(kernel, 32, np.zeros((5, 256), "int32"))
    for width, numbers in zip((32, 64, 80, 96, 128), listed, strict=True):
        tile = 2 * numbers[: 2 * width].reshape(16, -1)  # byte addresses, a row a row
        reads = max(
            clocks(tile[y : y + 8, x]) for y in (0, 8) for x in range(width // 8)
        )
        writes = max(map(clocks, tile.reshape(-1, 8)))
        print(f"width {width:3}: at most {reads} clock a read, {writes} a write")

# %% [markdown]
# ## Fetch once, use often
#
# Without conflicts shared memory gives its 128 bytes a clock. An `mma` whose $A$ and
# $B$ are both fetched for it alone does 4,096 operations for 768 bytes, 5.3 a byte:
# $5.3 \cdot 128 = 683$ operations a clock, where an A100 could do 2,048 and an H200
# 4,096. So operands must stay in registers and be used again. A warp of our kernel
# owns 32 queries, two tiles of 16, and a tile of 64 keys: every $B$ that it fetches
# serves two `mma`, and every $A$ of the queries serves eight. For the second product
# $A$ is $P$, which is in registers anyway.


# %%
# NBVAL_CHECK_OUTPUT
def intensity(m_tiles, n_tiles, fetch_a=True):
    """Operations for each byte fetched, of so many tiles of A times tiles of B."""
    operations = 4096 * m_tiles * n_tiles
    return operations / (512 * m_tiles * fetch_a + 256 * n_tiles)


bounds = {"alone": intensity(1, 1), "Q Kᵀ, 2 × 8 tiles": intensity(2, 8)}
bounds["P V, P in registers"] = intensity(2, 8, fetch_a=False)
bounds["both"] = 2 / (
    1 / bounds["Q Kᵀ, 2 × 8 tiles"] + 1 / bounds["P V, P in registers"]
)
for name, value in bounds.items():
    print(f"{name:20} {value:5.1f} a byte, at most {128 * value:5.0f} a clock and SM")

# %% [markdown]
# 3,277 is comfortable for an A100. For an H200 it is four fifths of what its tensor
# cores could do, before a single copy or conflict: the first sign that Hopper wants to
# be fed in another way. Why not own more queries? Because the sums of 32 queries
# already fill the registers, as we shall see.

# %% [markdown]
# ## Copies that arrive later
#
# Before anything is in shared memory it must come from the GPU's memory, hundreds of
# clocks away. An ordinary load puts it into a register first, which is taken meanwhile,
# and a thread that needs it stands still. `cp.async` (Ampere and newer) copies 16 bytes
# straight to shared memory, and the thread goes on. It closes a *group* of copies with
# `commit`, and later waits until at most $N$ groups are still under way. That is all
# one needs to work on one tile while the next is travelling:

# %%
AHEAD = r"""
#include "ptx.cuh"

__global__ void add_tiles(const float* x, float* y, int tiles) {
  __shared__ __align__(16) float stage[2][128];
  const int lane = threadIdx.x;
  float sum[4] = {};
  copy_async_16(stage[0] + 4 * lane, x + 4 * lane, true);
  copy_async_commit();
  for (int i = 0; i < tiles; i++) {
    x += 128;  // begin to fetch the next tile, zeros after the last one
    copy_async_16(stage[(i + 1) % 2] + 4 * lane, x + 4 * lane, i + 1 < tiles);
    copy_async_commit();
    copy_async_wait<1>();  // one group may be left: this tile is here
    __syncthreads();
    for (int j = 0; j < 4; j++) sum[j] += stage[i % 2][4 * (31 - lane) + j];
    __syncthreads();  // all have read: the stage may be filled again
  }
  for (int j = 0; j < 4; j++) y[4 * (31 - lane) + j] = sum[j];
}
"""
tiles = rng.standard_normal((9, 128)).astype("float32")

# %% [markdown]
# Each thread reads what another one copied: the wait is a thread's own, the barrier
# makes it everybody's. Now let us wait for too little. On a GPU such a kernel may well
# give the right result nine times out of ten. The emulator leaves NaN in the place of
# a copy that nobody has waited for:

# %%
if not absent:
    outcomes = {"as it stands": AHEAD}
    if device == "cpu":  # a race proves nothing on a GPU
        outcomes["waiting for one less"] = AHEAD.replace("wait<1>", "wait<2>")
    for name, text in outcomes.items():
        kernel = Module(parse("add_tiles.cu", text))["add_tiles"]
        _, y, _ = launch(kernel, 32, tiles, np.zeros(128, "float32"), 9)
        right = np.allclose(y, tiles.sum(0), atol=1e-5)
        print(f"{name}: right {right}, NaN {np.isnan(y).sum()} of 128")

# %% [markdown]
# The attention kernel has two stages of another kind: one for keys, one for values.
# While the warps compute $Q K^T$ the values arrive; while they compute $P V$ the next
# keys do. Drawn with bars of made-up lengths (2 for a copy, 2 for a product, 1 for the
# softmax), since it is the order that matters:


# %%
def timeline(tiles, ahead):
    """Bars (who, begin, length, label) of a loop over tiles of keys and values."""
    bars, started, free = [], 0, 0
    for i, name in enumerate(f"{what}{j}" for j in range(tiles) for what in "KV"):
        begin = started if ahead else free  # with the work before, or after it
        bars.append(("copies", begin, 2, name))
        started = free = max(begin + 2, free)
        for label, length in ((("Q Kᵀ", 2), ("soft", 1)), (("P V", 2),))[i % 2]:
            bars.append(("warps", free, length, label))
            free += length
    return bars


# %%
figure, panels = plt.subplots(2, 1, figsize=(8, 3.6), sharex=True, layout="constrained")
colours = {"copies": "#E69F00", "warps": "#56B4E9"}
for axes, ahead in zip(panels, (False, True), strict=True):
    for who, begin, length, label in timeline(4, ahead):
        colour = "#DDDDDD" if label == "soft" else colours[who]
        y = ("warps", "copies").index(who)
        axes.barh(y, length, left=begin, height=0.7, color=colour, edgecolor="white")
        axes.text(begin + length / 2, y, label, ha="center", va="center", fontsize=7)
    how = "copies ahead" if ahead else "copy, then work"
    axes.set_title(f"{how}: {begin + length} units", fontsize=10)
    axes.set_yticks([0, 1], ["warps", "copies"])
panels[1].set_xlabel("time (made-up units)")
viz.show(
    figure,
    alt="Two timelines of four tiles. Above, copies and work take turns: 36 units. "
    "Below, the copy of each tile of keys or values runs while the warps work on the "
    "one before: 22 units, and the warps never wait after the first copy.",
)

# %% [markdown]
# ## All of it together
#
# Now the loop of
# [`attention_mma_forward.cu`](../minibig/kernels/attention_mma_forward.cu) can be read.
# `copy_tile` starts copies into swizzled places, `add_product_transposed` is `ldmatrix`
# and `mma` for $Q K^T$:

# %%
text = read("attention_mma_forward.cu").text
loop = text[text.index("  for (int start = 0; start < seen") :]
print(loop[: loop.index("    hide_keys")].rstrip())

# %% [markdown]
# Then comes the online softmax of notebook 17, on accumulators, with two shuffles a row
# for the maximum. (Powers of two instead of $e$: the scale and $\log_2 e$ are one
# factor, and the chip has an instruction for $2^x$.) And the second half, in which
# `round_to_operand` packs accumulators as the next $A$:

# %%
second = loop[loop.index("    unsigned p[M]") :]
print(second[: second.index("  }\n") + 3].rstrip())

# %% [markdown]
# How good are the results? Some of the error is not the kernel's: its inputs have 16
# bits, and even exact arithmetic on rounded $q$, $k$, $v$ is off. We put three things
# beside one another, all against float64 on inputs that nobody has rounded: exact
# arithmetic on rounded inputs, the kernel, and, as a warning, the same formula with its
# two sums in 16 bits. The error of $x$ is $\lVert x - y \rVert / \lVert y \rVert$, for
# 2 heads, 130 queries and 200 keys of width 64.

# %%
import importlib

NUMBERS = {"float16": (np.dtype("float16"), 10)}
try:
    NUMBERS["bfloat16"] = (np.dtype(importlib.import_module("ml_dtypes").bfloat16), 7)
except ImportError:
    print("without the package ml_dtypes NumPy has no bfloat16: float16 alone")


def narrow_sums(q, k, v, fraction_bits):
    """Attention whose sums are rounded at every step, to so many bits of fraction."""
    scores = np.zeros((*q.shape[:-1], k.shape[-2]))
    for d in range(q.shape[-1]):
        scores = rounded(scores + q[..., d, None] * k[..., None, :, d], fraction_bits)
    e = np.exp((scores - scores.max(-1, keepdims=True)) / np.sqrt(q.shape[-1]))
    e, out = rounded(e, fraction_bits), np.zeros((*q.shape[:-1], v.shape[-1]))
    for s in range(k.shape[-2]):
        out = rounded(out + e[..., s, None] * v[..., None, s, :], fraction_bits)
    return out / e.sum(-1, keepdims=True)


# %%
def difference(x, y):
    return np.linalg.norm(x.astype("float64") - y) / np.linalg.norm(y)


q, dout = rng.standard_normal((2, 1, 2, 130, 64))
k, v = rng.standard_normal((2, 1, 2, 200, 64))
truth, grown = reference(q, k, v), {}
for name, (dtype, bits) in NUMBERS.items():
    narrow = [x.astype("float32").astype(dtype) for x in (q, k, v)]
    wide = [x.astype("float64") for x in narrow]
    given = difference(reference(*wide), truth)
    print(f"{name:9} inputs alone {given:.1e}", end="")
    if not absent:
        moved = [backend.to_device(x, device) for x in narrow]
        out, backward = attention.attention(*moved, rung="mma")
        ours = backend.to_device(out, "cpu").astype("float64")
        grown[name] = difference(ours, truth) / given
        print(f"   the kernel {difference(ours, truth):.1e}", end="")
    print(f"   sums in 16 bits too {difference(narrow_sums(*wide, bits), truth):.1e}")

# %% [markdown]
# Errors of different origin add up as squares do. A kernel that added as much as it was
# given would end $\sqrt 2$ times as far off as the inputs alone. Ours adds less: its own
# roundings, of $P$ and of the output, are smaller than those of the inputs.

# %%
from minibig.exercises import result

for name, times in grown.items():
    what = f"attention by mma in {name}, error over that of its inputs"
    result(what, times, at_most=2**0.5)

# %% [markdown]
# Sums in 16 bits are six times worse, at a mere 200 keys, and get worse with each key
# more. And bfloat16 costs a factor of eight, as its digits say.
#
# The backward pass is made of the same pieces.
# [`attention_mma_backward.cu`](../minibig/kernels/attention_mma_backward.cu) computes
# the scores *transposed* for the gradients of $K$ and $V$, so that $P^T$ comes out just
# as the next product wants its operand. Here against float64, too:

# %%
from minibig.ops.attention import scaled_dot_product_attention

_, exact_backward = scaled_dot_product_attention(
    *(x.astype("float64") for x in (q, k, v))
)
if not absent:
    narrow = [x.astype("float16") for x in (q, k, v, dout)]
    *moved, dy = (backend.to_device(x, device) for x in narrow)
    _, backward = attention.attention(*moved, rung="mma")
    found = [backend.to_device(x, "cpu") for x in backward(dy)]
    expected = exact_backward(dout)
    for name, x, y in zip(("dq", "dk", "dv"), found, expected, strict=False):
        print(f"{name}: {difference(x, y):.1e}")
        assert difference(x, y) < 3e-3

# %% [markdown]
# ## Registers, the last resource
#
# A thread has at most 255 registers of 32 bits, and a multiprocessor 65,536 for all its
# threads. Count what the forward kernel's loop needs at width 128, for two tiles of 16
# queries: the sum of the output takes $2 \cdot \frac{128}{8} \cdot 4 = 128$, the scores
# of 64 keys $2 \cdot 8 \cdot 4 = 64$ (the packed $P$, 32, later takes their place),
# maxima and totals 8. That is 200 before the first operand is fetched and the first
# address computed, and if it does not fit, the compiler *spills*: it keeps numbers in
# memory. NVRTC, CUDA's compiler as a library, says how it went, on a machine that has
# never seen a GPU:

# %%
from minibig.exercises import scaled
from minibig.kernels import nvrtc

WIDTHS = () if nvrtc.missing() else (64, 128)[: scaled(2, smoke=1)]
SHARED = {"sm_80": 164, "sm_90": 228}  # kB of a multiprocessor: A100, H100 and H200
if nvrtc.missing():
    print(nvrtc.missing())
for width in WIDTHS:
    memory = 2 * width * (128 + 64 + 64)  # queries, keys, values
    for chip, most in SHARED.items():
        _, found = nvrtc.compile(
            read("attention_mma_forward.cu"), ("bfloat16", width), chip
        )
        used = found["attention_mma_forward"]
        blocks = min(65536 // (128 * used.registers), (most << 10) // (memory + 1024))
        print(
            f"width {width:3} on {chip}: {used.registers} registers, {used.spilled} "
            f"bytes spilled, {memory >> 10} kB shared: {blocks} blocks, {4 * blocks} "
            "warps at a time"
        )

# %% [markdown]
# At width 128 the registers are full to the last, nothing spills, and 8 warps are on a
# multiprocessor that could hold 64. In other programs that would be a poor figure. Here
# the registers *are* the work, and the copies that run ahead do what a crowd of waiting
# warps does elsewhere.

# %% [markdown]
# ## Hopper: four warps, one instruction
#
# On an H100 or H200 the kernel above should be right, though no GPU has run it yet, and
# must be slower than the chip. Even with operands ready in registers, `mma.sync` was
# measured at about two thirds of Hopper's peak (arXiv 2402.13499), and
# FlashAttention-2, which is built like our kernel, at 35 % of it (arXiv 2407.08608).
# The rest needs an instruction of Hopper's own, `wgmma.mma_async`:
#
# - it belongs to a *warpgroup*, four warps, 128 threads, and computes
#   $C_{64 \times N} \leftarrow C + A_{64 \times 16}\, B_{16 \times N}$ for any $N$ up
#   to 256 that is divisible by 8. Warp $w$ holds rows $16w$ to $16w + 15$ of $C$, and lays
#   them out as `mma` does: all we know about fragments holds;
# - $B$ is **not in registers at all**. The tensor cores read it from shared memory
#   themselves, as it lies. $A$ may be there too, or in registers, as $P$ is;
# - it is *asynchronous*. `wgmma.fence` says that registers are ready, `commit_group`
#   closes a group, `wait_group` waits for all but the last $N$ groups: the words of
#   `cp.async`, now for arithmetic.
#
# Count again. One step of $k$ with $N = 128$ and $A$ in registers does
# $2 \cdot 64 \cdot 128 \cdot 16 = 262{,}144$ operations, as much as 64 `mma`, and reads
# $B$ once for all four warps:

# %%
# NBVAL_CHECK_OUTPUT
for n in (8, 64, 128, 256):
    operations = 2 * 64 * n * 16
    for where, a_bytes in (("registers", 0), ("shared memory", 2 * 64 * 16)):
        rate = 128 * operations / (2 * 16 * n + a_bytes)
        print(
            f"N = {n:3}, A in {where:13}: at most {rate:5.0f} operations a clock and SM"
        )

# %% [markdown]
# With $A$ in registers each byte of $B$ serves 64 rows, and shared memory could feed
# twice what the tensor cores can do, 4,096. With both in shared memory it takes
# $N = 64$ to break even. ($N$ of at least 64 is also what measurements recommend:
# arXiv 2501.12084.)
#
# How does one tell the tensor cores where a matrix lies? Not by 32 addresses but by a
# *descriptor*, one number of 64 bits:

# %%
FIELDS = {  # name: (lowest bit, how many, what they are counted in)
    "start address": (0, 14, 16),
    "leading offset": (16, 14, 16),
    "stride offset": (32, 14, 16),
    "base offset": (49, 3, 1),
    "swizzle": (62, 2, 1),
}


def describe(start, leading, stride, swizzle):
    """A descriptor for wgmma; the first three in bytes, multiples of 16."""
    values = {"start address": start, "leading offset": leading,
              "stride offset": stride, "swizzle": swizzle}  # fmt: skip
    word = 0
    for name, value in values.items():
        low, count, unit = FIELDS[name]
        word |= value // unit % 2**count << low
    return word


def decoded(descriptor):
    """What a descriptor says, by field."""
    return {name: (descriptor >> low) % 2**count * unit
            for name, (low, count, unit) in FIELDS.items()}  # fmt: skip


# %%
# NBVAL_CHECK_OUTPUT
keys = describe(start=0x4000, leading=16, stride=1024, swizzle=1)
print(f"{keys:#018x}", decoded(keys))

# %%
PAINT = {"start address": "#56B4E9", "leading offset": "#E69F00", "swizzle": "#F0E442",
         "stride offset": "#009E73", "base offset": "#CC79A7"}  # fmt: skip
figure, axes = plt.subplots(figsize=(8.4, 1.9), layout="constrained")
bits, cells = f"{keys:064b}", ["#EEEEEE"] * 64
for name, (low, count, _) in FIELDS.items():
    cells[63 - low - count + 1 : 64 - low] = [PAINT[name]] * count
for half in (0, 1):  # the upper 32 bits, then the lower
    part = slice(32 * half, 32 * half + 32)
    strip(axes, 1.5 - 1.5 * half, bits[part], [(1, c) for c in cells[part]])
    axes.text(-0.4, 1.86 - 1.5 * half, 63 - 32 * half, ha="right", va="center")
    axes.text(32.4, 1.86 - 1.5 * half, 32 - 32 * half, ha="left", va="center")
for name, colour in PAINT.items():
    axes.plot([], [], "s", color=colour, markersize=9, label=name)
axes.legend(loc="upper center", ncol=5, fontsize=8, bbox_to_anchor=(0.5, 1.3))
axes.set(xlim=(-2, 34), ylim=(-0.1, 2.4))
axes.set_axis_off()
viz.show(
    figure,
    alt="The 64 bits of a descriptor in two rows. Bits 63 and 62: swizzle, here 01. "
    "Bits 51 to 49: base offset, 0. Bits 45 to 32: stride offset, 64 in units of 16 "
    "bytes. Bits 29 to 16: leading offset, 1. Bits 13 to 0: start address, 1024 in "
    "units of 16 bytes. The other bits are unused.",
)

# %% [markdown]
# The fields, for a matrix whose rows run along $k$ (`K-major`; PTX ISA on `wgmma`,
# "matrix descriptor"):
#
# - **swizzle** 0 none, 1 by 128 bytes, 2 by 64, 3 by 32. With 1, the matrix comes in
#   blocks of 8 rows of 128 bytes, 64 numbers along $k$, and within a block the 16-byte
#   chunks lie at $\mathrm{chunk} \oplus \mathrm{row}$: *our swizzle, cast in silicon*;
# - **stride offset**: bytes from 8 rows to the next 8, here 1,024, with no gap;
# - **leading offset**: not used in this case, and set to one unit. Where $B$ runs along
#   $n$ (as $V$ does), it is the way from one block of 64 columns to the next;
# - **start address**: one step of $k$, 16 numbers, is 32 bytes further, *inside* a
#   swizzled row. That works since the exclusive or is taken on bits of the address: of
#   bits 4 to 6 with bits 7 to 9. Hence the rule that blocks begin at multiples of 1,024
#   (else bits 7 to 9 are not the row, and **base offset** has to say by how much).
#
# A row of width 128 is longer than 128 bytes, so the tile of `mma.cuh` will not do: for
# `wgmma` it is cut into two halves of 64 columns, one after the other.

# %%
row, chunk = np.mgrid[:16, :16]
layouts = {
    "mma.cuh: whole rows, 256 bytes": row * 16 + (chunk ^ row % 8),
    "wgmma: two blocks of 64 columns": chunk // 8 * 128
    + row * 8
    + (chunk % 8 ^ row % 8),
}
figure, panels = plt.subplots(1, 2, figsize=(9, 4.7), layout="constrained")
for axes, (title, place) in zip(panels, layouts.items(), strict=True):
    axes.imshow(place, cmap="viridis", vmin=-300)
    for (i, j), number in np.ndenumerate(place):
        axes.text(j, i, number, ha="center", va="center", fontsize=7)
    axes.set_title(title, fontsize=10)
    axes.set(xlabel="chunk of 8 numbers", ylabel="row")
    axes.set_xticks(range(0, 16, 4))
    axes.set_yticks(range(0, 16, 4))
viz.show(
    figure,
    alt="Two tables of 16 rows and 16 chunks; a cell says at which 16 bytes of a tile "
    "the chunk lies. Left, rows of 256 bytes one after the other, the chunks of each "
    "half swapped by the row's number. Right, chunks 0 to 7 of all rows come first, at "
    "0 to 127, then chunks 8 to 15, at 128 to 255.",
)

# %% [markdown]
# ## TMA: one thread copies a tile
#
# With `cp.async`, a tile of $128 \times 128$ numbers is 2,048 copies of 16 bytes, 16
# for each of 128 threads, and each has its address to work out, in registers that we do
# not have. Hopper's *tensor memory accelerator* takes one instruction of one thread,
# `cp.async.bulk.tensor`, for a whole box. The host has described the array beforehand
# in a *tensor map* of 128 bytes (`cuTensorMapEncodeTiled`: address, shape, strides,
# box, swizzle); the thread names the map, a corner, and who is to be told:
#
# ```
# cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes
#     [tile], [map, {column, row}], [barrier];
# ```
#
# The hardware finds the addresses, fills with zeros what lies outside of the array, and
# writes the box *swizzled*, just as `wgmma` will read it. Since a swizzled row has 128
# bytes, our tile is two boxes of 64 columns. What one box leaves behind, in Python:


# %%
def tma_box(array, row, column, rows):
    """Shared memory after a copy of (rows, 64) numbers of 16 bits: bytes."""
    box = np.zeros((rows, 64), array.dtype)
    inside = array[row : row + rows, column : column + 64]
    box[: len(inside), : inside.shape[1]] = inside
    chunks = box.reshape(rows, 8, 8)
    memory = np.empty_like(chunks)
    for r in range(rows):
        memory[r, np.arange(8) ^ r % 8] = chunks[r]
    return memory.view("uint8").ravel()


# %%
# NBVAL_CHECK_OUTPUT
array = np.arange(20 * 64, dtype="uint16").reshape(20, 64)  # 20 rows, the box has 24
memory = tma_box(array, 0, 0, 24)
for r, c in ((0, 0), (1, 0), (3, 17), (19, 63), (20, 5)):
    address = (r * 128 + 2 * c) ^ (r % 8) << 4
    found = memory[address : address + 2].view("uint16")[0]
    print(f"row {r:2}, column {c:2}: byte {address:4} holds {found}")

# %% [markdown]
# By hand: row 3, column 17 would be byte $3 \cdot 128 + 34 = 418$, which is chunk 2 of
# its row; $2 \oplus 3 = 1$, so it lies 16 bytes earlier, at 402, and is the number
# $3 \cdot 64 + 17 = 209$. Row 20 is outside, and zero.
#
# Who waits for a copy that no thread has made? An *mbarrier*, 8 bytes of shared memory
# that count two things: how many threads have yet to arrive, and how many bytes have
# yet to come. When both are zero its *phase* turns over, and it starts anew. A waiting
# thread asks for the phase's parity, so that it cannot take the last round's end for
# this one's.


# %%
class Mbarrier:
    """What the hardware keeps: arrivals and bytes to come, and the phase."""

    def __init__(self, arrivals):
        self.arrivals = self.pending = arrivals
        self.bytes = self.phase = 0

    def arrive(self, expect_bytes=0):
        self.bytes += expect_bytes
        self.pending -= 1
        self._turn()

    def copied(self, count):
        self.bytes -= count
        self._turn()

    def _turn(self):
        if not self.pending and not self.bytes:
            self.phase, self.pending = self.phase + 1, self.arrivals

    def done(self, parity):
        """Whether the phase of this parity, 0 for the first, is over."""
        return self.phase % 2 != parity


# %%
# NBVAL_CHECK_OUTPUT
full = Mbarrier(arrivals=1)
full.arrive(expect_bytes=2 * 16384)  # one thread: "two boxes are on their way"
for box in (1, 2):
    print(f"before box {box}: may the tile be used?", full.done(0))
    full.copied(16384)
print("after both:", full.done(0), "  the next tile?", full.done(1))

# %% [markdown]
# ## A tile, the Hopper way
#
# Now all the parts are there for a small program: $C = A B^T$ with three matrices of
# $64 \times 64$, in four steps of $k$. One thread asks for two boxes, all wait for the
# barrier, one warpgroup multiplies. The functions are those of
# [`tma.cuh`](../minibig/kernels/tma.cuh) and
# [`wgmma.cuh`](../minibig/kernels/wgmma.cuh), an instruction each: `wgmma_transposed`
# is `wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16`, with 32 floats of $C$ a lane
# and two descriptors.

# %%
ONE_TILE = r"""
#include "ptx.cuh"
#include "wgmma.cuh"
#include "tma.cuh"

struct Tiles {
  float16 a[128 * 64], b[128 * 64];  // a box has 128 rows
  Barrier full;
};
__global__ void one_tile(const __grid_constant__ TensorMap a,
                         const __grid_constant__ TensorMap b, float* c) {
  DYNAMIC_SHARED(char, memory);
  Tiles& tiles = at_block<Tiles>(memory);  // from a multiple of 1,024 on
  if (threadIdx.x == 0) barrier_init(&tiles.full, 1), barrier_init_fence();
  __syncthreads();
  if (threadIdx.x == 0) {
    barrier_arrive_expecting(&tiles.full, sizeof tiles.a + sizeof tiles.b);
    copy_box(tiles.a, a, 0, 0, 0, 0, &tiles.full);  // column, row, head, sequence
    copy_box(tiles.b, b, 0, 0, 0, 0, &tiles.full);
  }
"""

# %%
MULTIPLY = r"""
  barrier_wait(&tiles.full, 0);
  __syncwarp();
  float sum[8][4] = {};
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; k++)  // 16 numbers further along the rows: 32 bytes
    wgmma_transposed<float16, 64>(sum, descriptor_of(tiles.a + 16 * k),
                                  descriptor_of(tiles.b + 16 * k));
  wgmma_commit();
  wgmma_wait<0>();
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  for (int j = 0; j < 8; j++)
    for (int i = 0; i < 4; i++)
      c[(row + i / 2 * 8) * 64 + 8 * j + threadIdx.x % 4 * 2 + i % 2] = sum[j][i];
}
"""
one_tile = Module(parse("one_tile.cu", ONE_TILE + MULTIPLY), options=("-arch=sm_90a",))

# %% [markdown]
# The last line is `places_of_c` once more, eight times side by side. The emulator has
# twins of these functions: copies that arrive when the barrier is waited for, products
# that happen when *they* are waited for, a descriptor that is taken apart and obeyed.
# They say what we read in the manual, and no more; a Hopper GPU has the last word, and
# where there is one, this cell asks it.

# %%
from minibig.kernels.tensor_map import TensorMap

a, b = rng.standard_normal((2, 64, 64)).astype("float16")
on_hopper = device == "cuda" and attention.chip_of(backend.cupy()) == 90
if on_hopper or (device == "cpu" and not absent):
    x, y, c = (backend.to_device(x, device)
               for x in (a, b, np.zeros((64, 64), "float32")))  # fmt: skip
    shared = 2 * 128 * 64 * 2 + 2048
    maps = (TensorMap(m[None, None]) for m in (x, y))  # one sequence, one head
    one_tile["one_tile"]((1,), (128,), *maps, c, shared=shared)
    error = np.abs(backend.to_device(c, "cpu") - a.astype("float64") @ b.T).max()
    print(f"largest difference to A Bᵀ in float64: {error:.1e}")
    if on_hopper and error >= 1e-4:  # no GPU had run this when it was written
        print("NOT the product: this GPU reads the descriptor in another way")
    assert on_hopper or error < 1e-4
else:
    print("not here:", absent or "this GPU does not know these instructions")

# %% [markdown]
# The compiler agrees, too, for `sm_90a`. The `a` says that the code is for this
# architecture alone; without it, it is refused:

# %% tags=["nbval-ignore-output"]
for chip in ("sm_90a", "sm_90") if not nvrtc.missing() else ():
    try:
        print(chip, nvrtc.compile(one_tile.source, (), chip)[1]["one_tile"])
    except nvrtc.CompilerError as error:
        print(chip, "refused:", str(error).splitlines()[0].split("error   : ")[-1])

# %% [markdown]
# In a real kernel there are several stages, each with two barriers: `full`, which the
# copy turns, and `free`, which the warps turn that have read it. With these a block can
# divide its labour. One warp does nothing but start copies; its warpgroup hands most of
# its registers back (`setmaxnreg`). Two warpgroups compute, and take the registers.

# %% [markdown]
# ## Taking turns
#
# What is left is the softmax, and it is more than a trifle. For each score the products
# do $4 D$ operations, 512 at width 128, and the softmax one exponential. An H100 does
# 989 TFLOP/s of the first and 3.9 T/s of the second (16 a clock and SM), so the
# exponentials take, compared to the products,
#
# $$\frac{1 / 3.9}{512 / 989} = 0.50,$$
#
# half as long. One after the other, the tensor cores would stand still for a third of
# the time, and at width 64 for half of it. FlashAttention-3 lets two warpgroups take
# turns: while one computes its softmax, the other one has the tensor cores. And within
# a warpgroup the scores of the next tile are begun before the softmax of this one.


# %%
def turns(groups, tiles, product=2.0, softmax=1.0):
    """(group, begin, length, kind) where the tensor cores serve one group at a time."""
    bars, cores, ready = [], 0.0, [0.0] * groups
    for _ in range(tiles):
        for group in range(groups):
            begin = max(cores, ready[group])
            bars.append((group, begin, product, "products"))
            cores = begin + product
            bars.append((group, cores, softmax, "soft"))
            ready[group] = cores + softmax
    return bars


# %%
figure, panels = plt.subplots(2, 1, figsize=(8, 3.4), height_ratios=[1, 2], sharex=True,
                              layout="constrained")  # fmt: skip
colours = {"products": "#56B4E9", "soft": "#DDDDDD"}
for axes, groups in zip(panels, (1, 2), strict=True):
    bars = turns(groups, 4 if groups == 2 else 6)
    for group, begin, length, kind in bars:
        axes.barh(-group, length, left=begin, height=0.8, color=colours[kind],
                  edgecolor="white")  # fmt: skip
        axes.text(
            begin + length / 2, -group, kind, ha="center", va="center", fontsize=7
        )
    end = max(begin + length for _, begin, length, kind in bars if kind == "products")
    busy = sum(length for *_, length, kind in bars if kind == "products") / end
    axes.set_yticks([-g for g in range(groups)], [f"group {g}" for g in range(groups)])
    axes.set_title(f"tensor cores busy until the last product: {busy:.0%}", fontsize=10)
panels[1].set_xlabel("time (in units of one softmax of a tile, width 128)")
viz.show(
    figure,
    alt="Two timelines. Above, one warpgroup: products and softmax in turn, the tensor "
    "cores are busy for 71 percent of the time. Below, two warpgroups, one's softmax "
    "under the other's products: 100 percent.",
)

# %% [markdown]
# minibig's fifth rung,
# [`attention_hopper_forward.cu`](../minibig/kernels/attention_hopper_forward.cu), has
# all of this but the turns: a warp that fetches by TMA, two stages, and in each of two
# warpgroups the scores of tile $j$ and the weighted sum of tile $j - 1$ under way at
# once, with the softmax beside them. Its arithmetic is that of the rung below. On the
# emulator it must be asked for by name:

# %%
narrow = [x.astype("float16") for x in (q, k, v)]
if on_hopper or (device == "cpu" and not absent):
    try:
        moved = [backend.to_device(x, device) for x in narrow]
        out, _ = attention.attention(*moved, rung="hopper")
        error = difference(backend.to_device(out, "cpu"), truth)
        print(f"the rung for Hopper {error:.1e}")
        assert error < 1.5e-3
    except ValueError as refusal:  # of a GPU on which it disagreed: see below
        print(refusal)
for width in WIDTHS:
    source = read("attention_hopper_forward.cu")
    _, found = nvrtc.compile(source, ("bfloat16", width), "sm_90a")
    print(f"width {width}:", found["attention_hopper_forward"])

# %% [markdown]
# 168 registers a thread is what 65,536 allow for 384 threads. At run time the third
# warpgroup goes down to 24, and the other two up to 240.
#
# `explain` says which rung serves on a chip, and why no better one. (The chips are 7.5,
# a T4; 8.0, an A100; 9.0, an H200.) No GPU has run any of our kernels so far, and such
# a kernel is a promise; most of all this one, whose instructions are the newest. So the
# first time that a program would use this rung on a GPU, a process of its own computes
# three small problems with it and with the rung below, and if they disagree, it is
# refused ([`proof.py`](../minibig/kernels/proof.py)).

# %% tags=["nbval-ignore-output"]
zeros = np.zeros((1, 1, 4096, 128), "float16")
for chip in (75, 80, 90):
    print(chip / 10, attention.explain(zeros, zeros, zeros, chip=chip), sep=": ")
print("rungs, best first:", *(rung.name for rung in attention.LADDER))

# %% [markdown]
# ## The fraction of the peak, rung by rung
#
# Put together, the counts of this notebook say how much of a chip's peak each way of
# multiplying can reach *at most*, if shared memory and issue were all that counted:

# %%
ways = {
    "float32, no tensor cores": (128, 256),
    "mma, operands fetched each time": (128 * bounds["alone"],) * 2,
    "mma, this kernel's reuse": (128 * bounds["both"],) * 2,
    "wgmma, A in registers": (0, 8192),
}
peaks = {"A100": 2048, "H200": 4096}

# %%
figure, axes = plt.subplots(figsize=(7.8, 3.2), layout="constrained")
for offset, (chip, peak), colour in zip(
    (0.2, -0.2), peaks.items(), ("#56B4E9", "#0072B2"), strict=True
):
    shares = [min(1, rates[chip == "H200"] / peak) for rates in ways.values()]
    y = -np.arange(len(ways)) + offset
    axes.barh(y, shares, height=0.38, color=colour, label=chip)
    for share, where in zip(shares, y, strict=True):
        text = f"{share:.0%}" if share else "not there"
        axes.text(share + 0.01, where, text, va="center", fontsize=9)
axes.set_yticks(-np.arange(len(ways)), list(ways))
axes.set(
    xlim=(0, 1.12),
    xlabel="bound, as a share of the chip's peak (counted, not measured)",
)
axes.legend(loc="lower left", bbox_to_anchor=(0.62, 0.62))
viz.show(
    figure,
    alt="Upper bounds as a share of the 16-bit peak, counted, for A100 and H200. "
    "float32 without tensor cores 6 percent on both; mma with operands fetched each "
    "time 33 and 17; mma with this kernel's reuse 100 and 80; wgmma is missing on the "
    "A100, 100 on the H200.",
)

# %%
fed = ways["mma, this kernel's reuse"][1] / peaks["H200"]
_ = result("bound of mma on an H200, share of its peak, counted", fed, at_least=0.75)

# %% [markdown]
# A bound is no result. Copies, softmax and instructions that are no `mma` all come off
# it, and on Hopper `mma.sync` has a ceiling of its own at about two thirds, however it
# is fed. What the rungs reach is measured by
# [`benchmarks/gpu_attention.py`](../benchmarks/gpu_attention.py), beside PyTorch. The
# newest report, if one has been recorded:

# %% tags=["nbval-ignore-output"]
from minibig.exercises import recorded

try:
    recorded("gpu_attention", "bfloat16, head width 128, full")
except ValueError as reason:  # a report without that section
    print(reason)

# %% [markdown]
# ## Summary
#
# - 16-bit numbers multiply exactly in float32. Sums belong in float32: in float16 a sum
#   stops where half the step between neighbours is more than what is added: at 2,048
#   for products below 1.
# - `mma` is a warp's instruction; lane $4g + t$ holds pairs in rows $g$ and $g + 8$,
#   and two accumulators side by side are the next operand.
# - `ldmatrix` fetches for 32 lanes at once; the swizzle chunk ⊕ row keeps eight rows
#   in eight groups of banks.
# - Feeding decides: bytes from shared memory for each operation, copies that run ahead,
#   registers counted to the last.
# - Hopper's `wgmma` reads shared memory by a descriptor, TMA fills it by a tensor map,
#   and two warpgroups take turns.

# %% [markdown]
# ## Exercises
#
# Replace `raise NotImplementedError` by your code and run the cell. After
# `from minibig.exercises import hint`, `hint("18.owner")` gives a hint, and a stronger
# one next time.
#
# ### 1. Who holds it?
#
# The formulas above go from a lane to its numbers. Go back: given `row` and `column` of
# a number of $A$, $(16, 16)$, return its `(lane, register, half)`, three whole numbers;
# `half` is 0 for the lower half of the register.

# %%
from minibig.exercises import check
from minibig.exercises.cuda import run


def owner(row, column):
    """(lane, register, half) of A[row, column]."""
    ### BEGIN SOLUTION
    lane = row % 8 * 4 + column % 8 // 2
    return lane, row // 8 + 2 * (column // 8), column % 2
    ### END SOLUTION


check("18.owner", owner)

# %% [markdown]
# ### 2. Rounding to bfloat16
#
# NumPy has no bfloat16, but it can work on bits. Given `x`, an array of float32, return
# the bits of its bfloat16, an array of uint16: the upper half of `x`, rounded to
# nearest, ties to the even neighbour. Overflow becomes infinity, a NaN `0x7FFF`.
# `x.view("uint32")` are the bits of `x`.


# %%
def bfloat16_bits(x):
    """The bits of x, float32, as bfloat16: uint16, in x's shape."""
    ### BEGIN SOLUTION
    bits = x.view("uint32")
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FFF, nearest).astype("uint16")
    ### END SOLUTION


check("18.bfloat16", bfloat16_bits)

# %% [markdown]
# ### 3. A swizzle for every width
#
# A tile has 16 rows of `width` numbers of 16 bits, that is `width // 8` chunks, one row
# after the other. Return where a chunk lies, counted in chunks from the tile's start.
# The chunks of a *group* change places, by an exclusive or with a number $s$ that each
# row has; groups must divide the row, so they have 8 chunks where 64 divides `width`,
# else 4 where 32 does, else 2. With groups of 8, $s$ is the row modulo 8. With smaller
# ones the places repeat only after $w = 8 / \mathrm{group}$ rows, which do not meet in
# any bank: these share one $s$, the next $w$ rows have one more, and where $s$ would
# reach the group it begins again at 0. `row` and `chunk` are arrays or numbers. Try it
# with `clocks`.


# %%
def place(row, chunk, width):
    """Where chunk `chunk` of row `row` lies, in chunks; conflict-free down a column."""
    ### BEGIN SOLUTION
    group = 8 if width % 64 == 0 else 4 if width % 32 == 0 else 2
    return row * (width // 8) + (chunk ^ row // (8 // group) % group)
    ### END SOLUTION


check("18.swizzle", place)

# %% [markdown]
# ### 4. Reading as wgmma reads
#
# Given a `descriptor` with the 128-byte swizzle, return the byte address in shared
# memory of the number at `row` and `k` of a matrix of 16-bit numbers whose rows run
# along $k$; $0 \le k < 16$. Mind that the start may lie inside a row: the exclusive or
# is that of bits 4 to 6 of the *address* with its bits 7 to 9.


# %%
def address_of(descriptor, row, k):
    """The byte address of element (row, k)."""
    ### BEGIN SOLUTION
    start = (descriptor & 0x3FFF) << 4
    stride = (descriptor >> 32 & 0x3FFF) << 4
    address = start + row // 8 * stride + row % 8 * 128 + 2 * k
    return address ^ (address >> 7 & 7) << 4
    ### END SOLUTION


check("18.descriptor", address_of)

# %% [markdown]
# ### 5. A product of your own
#
# Write a kernel for one warp that multiplies $A$, $(16, K)$, by $B$, $(K, 8)$, both
# row by row in memory, $K$ a multiple of 16: `product(const float16* a, const float16*
# b, float* c, int K)`. No shared memory: fetch pairs of $A$ as one `unsigned`, put
# pairs of $B$ together from the bits of two rows. Return the text. It runs on the
# emulator, or on a GPU.


# %%
def product(a, b):
    """What your kernel makes of a (16, K) and b (K, 8)."""
    c = np.zeros((16, 8), "float32")
    return run(product_source, "product", (1,), (32,), a, b, c, a.shape[1])[2]


if absent:
    print(absent)


# %%
def product_source():
    """CUDA text with the kernel `product`."""
    ### BEGIN SOLUTION
    return r"""#include "ptx.cuh"
__global__ void product(const float16* a, const float16* b, float* c, int K) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  float sum[4] = {};
  for (int k = 0; k < K; k += 16, b += 16 * 8) {
    unsigned x[4], y[2];
    for (int r = 0; r < 4; r++)
      x[r] = *(const unsigned*)(a + (g + r % 2 * 8) * K + k + r / 2 * 8 + 2 * t);
    for (int r = 0; r < 2; r++) {
      const float16* pair = b + (8 * r + 2 * t) * 8 + g;
      y[r] = pair[0].bits | (unsigned)pair[8].bits << 16;
    }
    mma_m16n8k16<float16>(sum, x, y);
  }
  for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}"""
    ### END SOLUTION


check("18.product", product)

# %% [markdown]
# ### 6. An open problem
#
# `mma` has a sister for eight bits, `m16n8k32`, twice as fast again: a register of $A$
# holds four neighbours along $k$, $4t$ to $4t + 3$ of row $g$. Accumulators still lie
# in pairs, so $P$ is no longer an operand as it comes. Which permutation of the keys
# makes it one, if $V$'s rows are permuted alike? (The trick with the order of $k$
# above.) And what do eight bits do to the error table? There is no check;
# FlashAttention-3 has one answer.

# %% [markdown]
# ## Sources
#
# - The instructions, their fragments, layouts and descriptors: NVIDIA, *PTX ISA*, on
#   `mma`, `ldmatrix`, `cp.async`, `wgmma`, `mbarrier` and tensor maps; shared memory's
#   banks: NVIDIA, *CUDA C++ Programming Guide*.
# - FlashAttention-2, the loops of our kernel: Dao, 2023, arXiv 2307.08691.
# - FlashAttention-3, Hopper: Shah et al., 2024, arXiv 2407.08608.
# - Hopper measured instruction by instruction: Luo et al., arXiv 2402.13499 (2024) and
#   2501.12084 (2025).
# - Training in float16 with sums in float32: Micikevicius et al., 2017,
#   arXiv 1710.03740.
