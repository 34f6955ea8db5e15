"""CUDA kernels: .cu files that a learner can read, and what launches and checks them.

**Two machines, one text.** A `.cu` file is compiled by CuPy for a GPU. The same text,
unchanged, is built by a C++ compiler for the CPU, where `emulator` runs its threads one
at a time: slow, but every learner has that machine, and it notices what a GPU does not
(wrong addresses, barriers that some threads miss, races). The arrays decide:

    module = kernels.load("attention_flash_forward.cu", "float", 64)
    module["attention_flash_forward"](grid, block, q, k, …, shared=bytes)

CuPy arrays go to the GPU, NumPy arrays to the emulator. `Module(parse(name, text))`
does so for any text, a notebook's for example. Before a launch the arguments are held
against the kernel's own parameter list: dtype, contiguity, device, range.

**Three checks without a GPU.** `nvrtc` compiles every kernel with every template
argument for every chip of `catalogue`, and reads registers and spills off the
compiler's report. The emulator's results are held against the plain-array op. And
CuPy's side of a launch runs over the tests' stand-in for CuPy.

**Attention is a ladder**, each rung with a forward and a backward file whose headers
say what it computes, one thread's job, and which rung it improves on:

| rung | idea | reads |
|---|---|---|
| naive | the formula, three kernels | float32, any width |
| tiled | products through shared memory, in tiles (`tile.cuh`) | float32, any width |
| flash | one kernel, online softmax, no array of scores | 32 and 16 bits, five widths |
| mma | its products on tensor cores (`mma.cuh`), copies ahead | 16 bits, five widths |
| hopper | products and copies at once (`wgmma.cuh`, `tma.cuh`) | 16 bits, five widths |

A rung is an object with a `name` and four methods; `attention.LADDER` lists them, best
first:

    refusal(problem, chip) -> why it cannot, or None
    readable(x) -> x, copied where it does not lie as the rung reads it
    forward(problem, q, k, v, mask) -> (out, saved)
    backward(problem, q, k, v, mask, out, saved, dout) -> (dq, dk, dv)

`attention.choose` takes the first rung without a refusal; `attention.explain` says
which that is, and why no better one. hopper is for compute capability 9.0 alone. No GPU
has run it yet: the first time that one is to, it must agree there with mma (`proof`, in
a process of its own), else it refuses. On the emulator it runs where it is named.

**Beyond attention** a kernel takes the place of several launches, or of memory traffic;
ops and optimizers ask for it where arrays lie on a GPU, and go on with array code where
it answers None (float64, another axis). Sums have a fixed order: the same bits each
time. All take 32 and 16 bits, but `parameters`: float32, and 16 bits to cast.

| module | does | shared header |
|---|---|---|
| `softmax`, `norm`, `cross_entropy` | rows, forward and backward | `rows.cuh` |
| `activation` | gelu, exact and by tanh, silu; of x + bias too | `activation.cuh` |
| `columns` | sums over rows: a bias's gradient, `norm`'s too | `columns.cuh` |
| `embedding` | gradients of what ids picked, by runs of equal ids | |
| `dropout` | the mask, NumPy's bits | |
| `parameters` | Adam, casts, norm and clipping of all gradients | `parameters.cuh` |

**The rules for a `.cu` file.** All its kernels take the same template arguments, or
none. It includes headers of this folder alone; number types and PTX are in `ptx.cuh`, a
function of a line each, with its twin in plain C++ in `emulator/ptx.h`; what Hopper
alone knows is in `wgmma.cuh` and `tma.cuh`, with twins likewise. Dynamic shared memory
is declared with `DYNAMIC_SHARED`. Parameters are pointers and numbers of the types in
`kernel.DTYPES`. A new one goes through five places: the file, whose header says what
the others' headers say; a launcher, which `arrays` and `rows` help to write; a row in
`catalogue`, with the chips that it is meant for; its registers, in the tests'
`kernel_bounds`; and a test against a reference, as in `test_kernels_fused`.
"""

from . import attention
from .catalogue import CATALOGUE
from .kernel import Kernel, Module, load
from .source import parse, read
