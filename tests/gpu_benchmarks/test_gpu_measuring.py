"""The benchmarks for a GPU: what they count and report, and, over the stand-in for CuPy
and the emulator, that they run as they are written."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import strict_module
from benchmark_scripts import (
    CEILINGS,
    FOLDER,
    SCRIPTS,
    SMALL,
    Case,
    gpu,
    gpu_attention,
    gpu_attention_report,
    gpu_train,
    gpu_train_report,
)

from minibig import kernels, models
from minibig.ops.attention import scaled_dot_product_attention

# ---- what is counted -----------------------------------------------------------------


def test_operations_are_those_of_the_papers():
    """arXiv 2307.08691, section 4.1."""
    case = Case(128, 2048, False)
    assert case.shape == (8, 16, 2048, 128)
    assert case.flops("forward") == 4 * 8 * 16 * 2048**2 * 128
    assert case.flops("backward") == 2.5 * case.flops("forward")
    causal = Case(128, 2048, True)
    assert causal.flops("both") == 3.5 * case.flops("forward") / 2


def test_all_shapes_have_the_same_tokens_and_width():
    found = gpu_attention_report.cases()
    assert len({case.key for case in found}) == 6 * 2 * 2
    for batch, heads, length, width in (case.shape for case in found):
        assert batch * length == 16384 and heads * width == 2048
    assert {case.length for case in found} == {512 << i for i in range(6)}
    assert len(gpu_attention_report.cases(quick=True)) < len(found)
    assert {case.key for case in gpu_attention_report.GOALS} <= {c.key for c in found}


def test_operations_of_gpt2_are_those_that_llm_c_counts():
    n = gpu_train_report.parameters_of(gpu_train_report.GPT2)
    flops = gpu_train_report.flops_a_token(n, gpu_train_report.GPT2)
    assert n == 124_475_904 and flops == pytest.approx(803.5e6, rel=1e-3)
    small = {"vocab_size": 50, "context_length": 8, "n_layer": 3, "n_head": 2,
             "n_embd": 16}  # fmt: skip
    model = models.GPT(models.GPTConfig(**small))
    counted = sum(p.numel() for p in model.parameters())
    assert gpu_train_report.parameters_of(small) == counted


@pytest.mark.parametrize("causal", [False, True])
def test_reference_is_attention_and_its_gradient(causal):
    q, k, v, dout = np.random.default_rng(0).standard_normal((4, 1, 37, 32))
    out, backward = scaled_dot_product_attention(q, k, v, is_causal=causal)
    expected = out, *backward(dout)[:3]
    arrays = (x[0].astype("float32") for x in (q, k, v, dout))
    found = gpu_attention.reference(*arrays, causal, block=16)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs[0], rtol=1e-4, atol=1e-5)
        assert ours.dtype == "float64"
    assert gpu_attention.error(found[0] * 1.01, found[0]) == pytest.approx(0.01, 1e-3)


def test_every_rung_is_measured_in_every_dtype_that_it_reads(cuda):
    found, refused = gpu_attention.ways("bfloat16", 90, torch=True)
    names = [rung.name for rung in kernels.attention.LADDER]
    assert [way for way, dtype in found if dtype == "float32" and way in names] == [
        name for name in names if name not in ("hopper", "mma")
    ]
    assert ("flash", "bfloat16") in found and ("naive", "bfloat16") not in found
    assert ("PyTorch, flash", "bfloat16") in found
    assert ("PyTorch, flash", "float32") not in found
    assert any("naive bfloat16: reads float32" in line for line in refused)
    found, refused = gpu_attention.ways("float16", 75, torch=False)
    assert not any("PyTorch" in way for way, _ in found)
    assert any(line.startswith("PyTorch: not installed") for line in refused)


# ---- they run ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_a_gpu_they_say_so_in_a_sentence(name):
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("This benchmark needs a GPU: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("way", ["flash", "naive"])
def test_a_rung_is_timed_and_held_against_float64(cuda, way):
    keys = [(32, 8, False), (32, 16, True)]
    sizes = {"tokens": 16, "model_width": 32, "flush": 64}
    rows = [*gpu_attention.measure(way, "float32", keys, 60, 0, **sizes)]
    assert [row["key"] for row in rows] == keys
    for row in json.loads(json.dumps(rows)):
        assert row["ms"] == {"forward": 1.0, "backward": 1.0, "both": 1.0}
        assert 0 < max(row["errors"]) < 1e-6 and row["by"] == way


def test_what_fails_or_has_no_time_is_left_out_with_its_reason(cuda):
    sizes = {"tokens": 16, "model_width": 48, "flush": 64}
    (row,) = gpu_attention.measure("flash", "float32", [(24, 8, False)], 60, 0, **sizes)
    assert row["left_out"].startswith("ValueError") and "24" in row["left_out"]
    (row,) = gpu_attention.measure("flash", "float32", [(24, 8, False)], -1, 0, **sizes)
    assert row["left_out"] == "no time was left"


def test_clock_takes_the_median_of_as_many_calls_as_fit(cuda, monkeypatch):
    spans, calls = iter([9.0, 5.0, 1.0, 2.0, 6.0]), []
    monkeypatch.setattr(cuda.cuda, "get_elapsed_time", lambda a, b: next(spans))
    clock = gpu.Clock(flush=64)
    assert clock.milliseconds(lambda: calls.append(1), seconds=0.04) == (3.5, 4)
    assert len(calls) == 1 + 1 + 4
    monkeypatch.setattr(cuda.cuda, "get_elapsed_time", lambda a, b: 2000.0)
    assert clock.milliseconds(lambda: None, seconds=1) == (2000.0, 1)


def test_ceilings_are_rates(cuda, monkeypatch):
    monkeypatch.setattr(gpu, "has_torch", lambda: False)
    found = gpu.ceilings(["float32"], side=100, flush=4000)
    assert found["products"] == {"float32": {"CuPy": pytest.approx(2e-3)}}
    assert found["copy"] == pytest.approx(8e-6)  # 4,000 bytes read, 4,000 written
    assert gpu.peak(CEILINGS, "bfloat16") == 800


def test_ceilings_say_what_was_multiplied_and_copied(cuda, monkeypatch):
    copied = []
    monkeypatch.setattr(gpu, "_products", lambda *_: {})
    monkeypatch.setattr(cuda, "copyto", lambda to, x: copied.append(x), raising=False)
    gpu.ceilings(["float32"], side=4, flush=64)
    assert copied and all((x == 1).all() for x in copied)
    line = gpu.ceiling_lines(CEILINGS)
    assert "product of random matrices" in line and "copy of ones" in line


@pytest.mark.parametrize("part", [4, 2])
def test_minibigs_steps_are_timed(cuda, part):
    (row,) = gpu_train.measure("minibig", "fp32", SMALL, 4, part, 4, 60)
    assert row["ms"] == [1.0] * 3 and row["gb"] == 3 and row["part"] == part
    assert 2 < row["loss"] < 4


def test_steps_end_when_the_time_is_over(cuda):
    (row,) = gpu_train.measure("minibig", "fp32", SMALL, 2, 2, 1000, -1)
    assert len(row["ms"]) == gpu_train_report.WARM + 2


@pytest.mark.oracle
def test_pytorchs_steps_are_timed_and_learn_alike(cuda, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(FOLDER)
    autocast, scaler = torch.autocast, torch.amp.GradScaler
    on_cpu, pinned = {"cuda": "cpu"}, []
    move = torch.Tensor.to

    def pin(self):
        pinned.append(self.data_ptr())
        return self

    def to(self, *device, non_blocking=False, **settings):
        if device[:1] != ("cuda",):
            return move(self, *device, non_blocking=non_blocking, **settings)
        assert non_blocking and self.data_ptr() == pinned[-1]
        return self

    for owner, name, value in (
        (torch.Tensor, "pin_memory", pin),
        (torch.Tensor, "to", to),
        (torch.nn.Module, "cuda", lambda self: self),
        (torch, "autocast", lambda device, *a, **k: autocast(on_cpu[device], *a, **k)),
        (torch.amp, "GradScaler", lambda device, **k: scaler(on_cpu[device], **k)),
        (torch.cuda, "max_memory_reserved", lambda: 5 * 10**9),
    ):
        monkeypatch.setattr(owner, name, value)
    losses = []
    for library, precision in (("minibig", "fp32"), ("PyTorch", "fp32"),
                               ("PyTorch", "bf16")):  # fmt: skip
        (row,) = gpu_train.measure(library, precision, SMALL, 4, 2, 6, 60)
        losses.append(row["loss"])
    assert row["gb"] == 5 and len(row["ms"]) == 5 and pinned
    np.testing.assert_allclose(losses[1:], losses[0], rtol=0.05)


@pytest.mark.oracle
def test_pytorchs_attention_is_timed_on_the_same_numbers(cuda, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs PyTorch")

    def from_dlpack(x):
        return torch.from_numpy(x._hidden.copy())

    monkeypatch.setattr(torch, "from_dlpack", from_dlpack)
    back = lambda x: strict_module.wrap(x.numpy())  # noqa: E731
    monkeypatch.setattr(cuda, "from_dlpack", back, raising=False)
    keys, sizes = [(32, 8, True)], {"tokens": 16, "model_width": 32, "flush": 64}
    for way in gpu_attention_report.THEIRS:
        (row,) = gpu_attention.measure(way, "float32", keys, 60, 0, **sizes)
        assert row["ms"]["both"] == 1 and 0 < max(row["errors"]) < 1e-6
        assert "ScaledDotProduct" in row["by"]


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # others' do not matter
def test_attention_is_measured_on_a_real_gpu():
    about = next(gpu_attention.job("machine", side=512))
    assert about["machine"] and min(about["ceilings"]["products"]["float32"].values())
    sizes = {"tokens": 256, "model_width": 128, "flush": 1 << 20}
    found, _ = gpu_attention.ways(about["sixteen"], about["chip"], about["torch"])
    for way, dtype in found:
        (row,) = gpu_attention.measure(way, dtype, [(64, 128, True)], 60, 0, **sizes)
        assert "ms" in row, (way, dtype, row)
        assert gpu_attention_report.right(row, gpu_attention_report.BOUNDS[dtype]), way
        assert min(row["ms"].values()) > 0


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # others' do not matter
def test_training_is_measured_on_a_real_gpu(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    config = {**SMALL, "n_embd": 64}
    for way in gpu_train.ways(gpu.sixteen_bits(), gpu.has_torch()):
        if way[0] != "PyTorch compiled":  # its compiler would take a minute
            (row,) = gpu_train.measure(*way, config, 4, 2, 5, 60)
            assert min(row["ms"]) > 0 and row["gb"] > 0 and row["loss"] < 5


def test_what_a_process_found_before_its_end_is_kept(tmp_path):
    script = tmp_path / "script.py"
    begin = "print('{\"a\": 1}', flush=True); print('not a row {', flush=True);"
    ends = ("import os; os._exit(3)", "its process ended with code 3"), (
        "import time; time.sleep(60)", "stopped after 1 s")  # fmt: skip
    for end, why in ends:
        script.write_text(begin + end)
        assert gpu.in_own_process(script, {}, 1) == ([{"a": 1}], why)
    text = "import json, sys; print(sys.argv[2])"
    script.write_text(text)
    assert gpu.in_own_process(script, {"failed": "x"}, 20) == ([], "x")
    assert gpu.in_own_process(script, {"b": 2}, 20) == ([{"b": 2}], None)


def test_an_error_is_told_and_ends_the_process(capsys):
    def rows():
        yield {"a": 1}
        raise MemoryError("Out of memory\nallocating")

    with pytest.raises(SystemExit):
        gpu.serve(rows())
    lines = capsys.readouterr().out.splitlines()
    assert lines == ['{"a": 1}', '{"failed": "MemoryError: Out of memory"}']
