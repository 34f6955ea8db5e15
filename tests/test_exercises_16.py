"""The exercises of notebook 16, as kernels; and that its kernels suit every GPU."""

import ast
from pathlib import Path

import numpy as np
import pytest

from minibig.exercises import check
from minibig.exercises.course import nb16, nb16_occupancy
from minibig.exercises.cuda import run
from minibig.kernels import emulator, nvrtc, parse

needs_compiler = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)
needs_nvrtc = pytest.mark.skipif(
    nvrtc.missing() is not None, reason=str(nvrtc.missing())
)
SOURCE = Path(__file__).parent.parent / "course" / "16_first_kernels.py"


def texts():
    """The kernels' texts by their names in the notebook, exercises as functions."""
    names = {}
    for node in ast.parse(SOURCE.read_text("utf-8")).body:
        value = getattr(node, "value", None)
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_source"):
            value = node.body[0].value
            names[node.name] = joined(value, names)
        elif isinstance(node, ast.Assign) and isinstance(
            value, (ast.BinOp, ast.Constant)
        ):
            text = joined(value, names)
            if isinstance(text, str):
                names[node.targets[0].id] = text
    return names


def joined(node, names):
    """A constant, a name known by now, or a sum of those; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = joined(node.left, names), joined(node.right, names)
        return "".join(parts) if all(isinstance(p, str) for p in parts) else None
    return None


TEXTS = texts()
KERNELS = [name for name, text in TEXTS.items() if "__global__" in text]


def test_all_kernels_of_the_notebook_are_found():
    assert len(KERNELS) >= 14
    assert {"ADD", "FUSED", "LAYER_NORM", "axpy_source", "rms_norm_source"} <= {
        *KERNELS
    }


@needs_nvrtc
@pytest.mark.parametrize("name", KERNELS)
def test_kernel_compiles_for_gpus_without_spills(name):
    source = parse("notebook.cu", TEXTS[name])
    for chip in ("sm_75", "sm_90"):
        _, found = nvrtc.compile(source, (33,) * len(source.template), chip)
        assert not any(kernel.spilled or kernel.stack for kernel in found.values())


# ---- mistakes, made in CUDA ---------------------------------------------------------


def axpy(text):
    return lambda a, x, y: run(lambda: text, "axpy", (2,), (64,), a, x, y, len(x))[1]


def scan(text):
    return lambda x: run(
        lambda: text, "scan", (len(x),), (32,), x, np.full_like(x, np.nan)
    )[1]


def rms_norm(text):
    def function(x, weight, eps):
        rows, width = x.shape
        arguments = x, weight, np.zeros_like(x), width, eps
        return run(
            lambda: text, "rms_norm", (rows,), (128,), *arguments, shared=4 * width
        )[2]

    return function


STRIDE, LANE = "i += threads", "if (lane >= step) "
PLANTED = [
    (axpy, STRIDE, "i += blockDim.x", 2),
    (axpy, "i < n", "i <= n", 4),
    (scan, LANE, "", 0),
    (scan, "float lower =", "float lower = lane < step ? 0 :", 5),
    (rms_norm, "blockIdx.x * width", "0 * width", 5),
    (rms_norm, "block_sum(sum)", "sum", 6),
]  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("make", [axpy, scan, rms_norm])
def test_solution_as_a_kernel_passes(make, capsys):
    assert check(f"16.{make.__name__}", make(TEXTS[f"{make.__name__}_source"])) is True
    assert "cases pass" in capsys.readouterr().out


@needs_compiler
@pytest.mark.parametrize(("make", "right", "wrong", "number"), PLANTED)
def test_mistake_as_a_kernel_gets_its_hint(make, right, wrong, number, capsys):
    text = TEXTS[f"{make.__name__}_source"]
    assert right in text.split("__global__")[1]
    exercise = getattr(nb16, make.__name__)
    assert check(exercise.name, make(text.replace(right, wrong))) is False
    assert f"Likely: {exercise.mistakes[number].hint}" in capsys.readouterr().out


@needs_compiler
def test_unguarded_kernel_gets_its_hint_and_the_address(capsys):
    text = """__global__ void axpy(float a, const float* x, float* y, int n) {
      const int i = blockIdx.x * blockDim.x + threadIdx.x;
      y[i] += a * x[i];
    }"""
    assert check("16.axpy", axpy(text)) is False
    printed = capsys.readouterr().out
    assert f"Likely: {nb16.axpy.mistakes[1].hint}" in printed
    assert "thread" in printed and "outside" in printed


def test_stub_inside_a_launch_is_not_attempted_yet(capsys):
    def stub():
        raise NotImplementedError("your turn")

    def launched(x):
        return run(stub, "scan", (1,), (32,), x, x)

    assert check("16.scan", launched) is False
    assert "not attempted yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("block", "warps"),
    [
        ((256, 40, 0), 48),  # 4 · (16,384 // 1,280) warps: 6 blocks of 8
        ((64, 40, 0), 48),  # and not the 50 of 65,536 // 2,560 blocks of 2
        ((64, 24, 7000), 56),  # 233,472 // 8,064 blocks of 2
        ((96, 72, 0), 27),
        ((160, 48, 0), 40),
        ((32, 255, 0), 8),
        ((1024, 64, 0), 32),
        ((256, 32, 240_000), 0),
    ],
)
def test_occupancy_is_that_of_nvidias_calculator(block, warps):
    """Expected: cuda_occupancy.h of CUDA 13.0, for compute capability 9.0."""
    assert nb16_occupancy.occupancy.solution(*block) == warps


def test_rms_norm_is_the_librarys():
    from minibig import functional as F
    from minibig import tensor

    for case in nb16.rms_norm.cases:
        x, weight, eps = case.make()
        theirs = F.rms_norm(tensor(x), (x.shape[1],), tensor(weight), eps=eps)
        ours = nb16.rms_norm.solution(x, weight, eps)
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
