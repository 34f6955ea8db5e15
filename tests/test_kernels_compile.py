"""Every kernel, with every template argument, compiled by NVRTC for every chip.

No GPU is needed for that. The compiler's report says what a kernel takes of a
multiprocessor; `kernel_bounds.py` holds it.
"""

import itertools

import numpy as np
import pytest
from kernel_bounds import BOUNDS

from minibig.kernels import attention, attention_flash, nvrtc, parse, problem, read
from minibig.kernels.catalogue import CATALOGUE
from minibig.kernels.source import FOLDER

pytestmark = pytest.mark.skipif(
    nvrtc.missing() is not None, reason=str(nvrtc.missing())
)
INSTANCES = [
    (file, template, chip)
    for file, instances in CATALOGUE.items()
    for template, chips in instances.items()
    for chip in chips
]


def label(value):
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("file, template, chip", INSTANCES, ids=label)
def test_kernel_compiles_within_bounds_and_without_spills(file, template, chip):
    code, found = nvrtc.compile(read(file), template, chip)
    assert code[:4] == b"\x7fELF"
    expressions = read(file).expressions(*template)
    assert found.keys() == expressions.keys()
    for kernel, needs in found.items():
        assert (needs.spilled, needs.stack) == (0, 0), kernel
        if nvrtc.version() != (13, 0):
            continue  # the bounds are of the version that the tests' extra pins
        registers, shared = BOUNDS[expressions[kernel]]
        assert needs.registers <= registers, kernel
        assert needs.shared <= shared, kernel


def test_every_file_and_kernel_stands_in_the_tables():
    assert {path.name for path in FOLDER.glob("*.cu")} == set(CATALOGUE)
    expressions = {
        expression
        for file, instances in CATALOGUE.items()
        for template in instances
        for expression in read(file).expressions(*template).values()
    }
    assert expressions == set(BOUNDS)


@pytest.mark.parametrize("chip", [75, 80, 86, 90])
def test_every_instance_that_a_rung_may_launch_stands_in_the_catalogue(chip):
    dtypes = {"float32": ("float",), "float16": ("float16", "bfloat16")}
    for dtype, width, scale in itertools.product(dtypes, problem.WIDTHS, (1.0, -1.0)):
        q = np.zeros((1, 1, 2, width), dtype)
        p = problem.problem(q, q, q, None, False, 0, scale)
        for rung in attention.LADDER:
            if rung.name not in ("flash", "mma") or rung.refusal(p, chip):
                continue
            instances = CATALOGUE[f"attention_{rung.name}_forward.cu"]
            for kind in dtypes[dtype]:
                assert f"sm_{chip}" in instances[kind, width], (rung.name, kind, width)


def test_headers_say_what_a_reader_must_know():
    for file in CATALOGUE:
        header = (FOLDER / file).read_text("utf-8").split("#include")[0]
        for word in ("Shapes", "Thread", "Grid", "Moves", "FLOPs", "Source"):
            assert f"\n// {word} " in header, f"{file} does not say: {word}"


def test_shared_memory_of_every_width_fits_turing(monkeypatch):
    asked = []

    class Recorder(dict):
        def __getitem__(self, name):
            return lambda *arguments, shared=0: asked.append(shared)

    monkeypatch.setattr(attention_flash, "load", lambda *_: Recorder())
    for width in problem.WIDTHS:
        q = problem.np.zeros((1, 1, 2, width), "float32")
        p = problem.problem(q, q, q, None, False, 0, None)
        out, lse = attention_flash.Flash().forward(p, q, q, q, None)
        attention_flash.Flash().backward(p, q, q, q, None, out, lse, out)
    assert len(asked) == 4 * len(problem.WIDTHS) and max(asked) <= 64 << 10


def test_the_compilers_message_names_file_and_line():
    broken = parse("broken.cu", "\n__global__ void f(float* x) { x[0] = y; }\n")
    with pytest.raises(nvrtc.CompilerError, match=r"broken.cu\(2\): error.*\"y\""):
        nvrtc.compile(broken, (), "sm_80")


@pytest.mark.parametrize("file, right, wrong, code", [
    ("attention_hopper_forward.cu", "__launch_bounds__(384, 1) ", "", "C7508"),
    ("attention_hopper_backward.cu", "    wgmma_wait<1>();  // for dP\n", "", "C75"),
])  # fmt: skip
def test_a_kernel_that_the_assembler_slows_down_is_an_error(file, right, wrong, code):
    """Registers that stay as they were; a sum that reads what no wait was for."""
    text = read(file).text
    assert right in text
    slow = parse(file, text.replace(right, wrong))
    with pytest.raises(nvrtc.CompilerError, match=code):
        nvrtc.compile(slow, ("bfloat16", 64), "sm_90a")


def test_a_warning_of_the_compiler_is_an_error():
    text = "__global__ void f(float* x) { int unused = 1; x[0] = 2; }"
    with pytest.raises(nvrtc.CompilerError, match="unused"):
        nvrtc.compile(parse("unused.cu", text), (), "sm_80")


def test_spills_and_shared_memory_are_read_off_the_report():
    text = """
__global__ void __launch_bounds__(1024, 2) f(float* x) {
  __shared__ float shared[96];
  float a[64];
  for (int i = 0; i < 64; i++) a[i] = x[i * 7];
  shared[threadIdx.x % 96] = a[3];
  __syncthreads();
  for (int j = 0; j < 64; j++)
    for (int i = 0; i < 64; i++) a[i] = a[i] * a[(i * 5 + 3) % 64] + shared[j];
  for (int i = 0; i < 64; i++) x[i * 9] = a[i];
}
"""
    _, found = nvrtc.compile(parse("spills.cu", text), (), "sm_80")
    assert found["f"].registers <= 32 and found["f"].shared == 384
    assert found["f"].spilled > 0 and found["f"].stack > 0


def test_without_nvrtc_the_answer_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nvrtc, "_library", lambda: None)
    assert "pip install nvidia-cuda-nvrtc" in nvrtc.missing()
    with pytest.raises(nvrtc.CompilerError, match="pip install nvidia-cuda-nvrtc"):
        nvrtc.compile(read("attention_naive_forward.cu"))
