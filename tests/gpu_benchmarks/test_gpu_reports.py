"""What the benchmarks for a GPU report, and whole runs of them over the stand-in."""

import inspect
import json
import math
import types
from pathlib import Path

import pytest
from benchmark_scripts import (
    ABOUT,
    CEILINGS,
    FOLDER,
    SMALL,
    Case,
    gpu,
    gpu_attention,
    gpu_attention_report,
    gpu_train,
    gpu_train_report,
)


def attention_row(case, milliseconds, errors=(4e-3, 5e-3), by="mma"):
    ms = {name: milliseconds * f for name, f in gpu_attention_report.FACTORS.items()}
    return {"key": list(case.key), "ms": ms, "errors": errors, "by": by}


def attention_results():
    """mma is half as fast as PyTorch's default at 8k, and wrong at 4k."""
    mma, default = ("mma", "bfloat16"), ("PyTorch, default", "bfloat16")
    late = ("tiled", "float32")
    results = gpu_attention_report.Results(ABOUT, ["naive: no"], [mma, default, late])
    goals = gpu_attention_report.GOALS
    keys = [list(case.key) for case in goals]
    rows = [
        attention_row(goals[0], 4.0),
        attention_row(goals[1], 1.0, (1e-3, math.nan)),
    ]
    results.take(mma, keys, rows, None)
    results.take(default, keys, [attention_row(goals[0], 2.0, by="Cudnn")], "it died")
    return results


def test_report_begins_with_the_machine_and_what_did_not_run(tmp_path):
    path = gpu.report_path(tmp_path / "new", "gpu_attention")
    gpu_attention_report.write(path, attention_results())
    text = path.read_text("utf-8")
    begin = text.splitlines()[:12]
    assert begin[0] == f"# Attention on a GPU, {path.stem[-10:]}"
    assert begin[2] == "A chip, driver 1.2."
    assert begin[6:10] == [
        "- naive: no",
        "- mma bfloat16: WRONG, errors over 0.02: D 128, T 4096, causal",
        "- PyTorch, default bfloat16: it died: D 128, T 4096, causal",
        "- tiled float32: the minutes were over",
    ]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert f"]({path.stem}.png)" in text


def test_report_gives_rates_shares_and_ratios(tmp_path):
    path = tmp_path / "report.md"
    gpu_attention_report.write(path, attention_results(), picture=False)
    lines = path.read_text("utf-8").splitlines()
    # 4 · 16384 · 8192 · 2048 operations in 4 ms: 275 TFLOP/s, a third of 800
    row = "| 8192 | mma | 275 | 275 | 275 | 34%, 34% | 4, 10, 14 | 4.0e-03, 5.0e-03 |"
    assert row in lines
    assert (
        "| mma | PyTorch, default | forward | 0.50 | – | 0 of 1 | 0.50 to 0.50 |"
        in lines
    )
    assert any(line.startswith("| 4096 | mma **wrong** |") for line in lines)
    assert "PyTorch, default, bfloat16, was computed by: Cudnn." in lines


def test_report_of_training_gives_tokens_shares_and_ratios(tmp_path):
    ours, theirs = ("minibig", "bf16"), ("PyTorch", "bf16")
    todo = gpu_train.ways("bfloat16", torch=True)
    assert todo[:2] == [ours, theirs] and ("PyTorch compiled", "bf16") in todo
    assert gpu_train.ways("float16", torch=False) == [("minibig", "fp16"),
                                                      ("minibig", "fp32")]  # fmt: skip
    results = gpu_train_report.Results(ABOUT, gpu_train_report.GPT2, 64, todo)
    row = {"loss": 9.5, "gb": 40.04, "part": 32, "ms": [900.0, 900.0, *[200.0] * 17]}
    results.take(ours, row, None)
    results.take(theirs, {**row, "ms": [100.0] * 19}, None)
    results.take(todo[2], None, "OutOfMemoryError: no")
    path = tmp_path / "report.md"
    gpu_train_report.write(path, results)
    lines = path.read_text("utf-8").splitlines()
    # 65,536 tokens in 0.2 s, 803 MFLOP each: 263 TFLOP/s, of 800
    expected = (
        "| minibig, bf16 | 327,680 | 200.0 | 0.50 | 33% | 40.0 | 32 | 20 | 9.500 |"
    )
    assert expected in lines
    assert "- minibig, fp32: OutOfMemoryError: no" in lines[:12]
    assert "- PyTorch, fp32: the minutes were over" in lines[:12]
    assert path.with_suffix(".png").stat().st_size > 1000


@pytest.mark.parametrize("script", [gpu_attention, gpu_train])
def test_whole_run_goes_from_machine_to_report(cuda, monkeypatch, tmp_path, script):
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda i: {"name": b"A chip", "totalGlobalMem": 8 * 10**9},
        runtimeGetVersion=lambda: 13000,
    )
    jobs = []

    def answer(name, job, seconds):
        jobs.append(job)
        settings = {key: job[key] for key in job if key != "kind"}
        if job["kind"] == "machine":
            rows = script.job(**job)
        elif "keys" in job:
            errors = (1e-4, 1e-4)
            rows = [attention_row(Case(*key), 1.0, errors) for key in job["keys"]]
        else:
            rows = [{"ms": [9.0] * 7, "loss": 9.0, "gb": 1.0, "part": job["part"]}]
        if settings:
            inspect.signature(script.measure).bind(**settings)
        return json.loads(json.dumps([*rows])), None

    monkeypatch.setattr(cuda, "__version__", "14.2", raising=False)
    monkeypatch.setattr(cuda.cuda, "runtime", runtime, raising=False)
    monkeypatch.setattr(gpu, "ceilings", lambda dtypes, side: CEILINGS)
    monkeypatch.setattr(gpu, "has_torch", lambda: False)
    monkeypatch.setattr(gpu, "driver", lambda: "1.2")
    monkeypatch.setattr(script, "in_own_process", answer)
    path = script.run(script.parse(["--quick", "--folder", str(tmp_path)]))
    text = path.read_text("utf-8")
    assert (
        "A chip, compute capability 7.5, 8 GB, driver 1.2; CUDA 13.0, CuPy 14" in text
    )
    assert "- PyTorch: not installed" in text and "the minutes were over" not in text
    assert len(jobs) > 2 and all(0 < job["seconds"] < 420 for job in jobs[1:])
    known = "naive" if script is gpu_attention else "minibig, fp16"
    with pytest.raises(SystemExit, match=r"--ways names none, but here are: .*minibig|"
                       r"--ways names none, but here are: .*naive"):  # fmt: skip
        script.run(script.parse(["--ways", known, "none", "--folder", str(tmp_path)]))


def test_a_crash_after_the_last_row_is_told():
    key, way = Case(64, 512, False).key, ("mma", "bfloat16")
    results = gpu_attention_report.Results(ABOUT, [], [way])
    results.take(way, [key], [attention_row(Case(*key), 1.0)], "code -11")
    assert results.not_run == ["mma bfloat16: after its last row: code -11"]
    train = gpu_train_report.Results(ABOUT, gpu_train_report.GPT2, 8, [])
    row = {"ms": [9.0] * 7, "loss": 9.0, "gb": 1.0, "part": 8}
    train.take(("PyTorch", "bf16"), row, "code -11")
    assert train.not_run == ["PyTorch, bf16: after its last step: code -11"]


def test_a_loss_that_is_no_number_is_no_result():
    results = gpu_train_report.Results(ABOUT, gpu_train_report.GPT2, 8, [])
    row = {"ms": [9.0] * 7, "loss": math.nan, "gb": 1.0, "part": 8}
    results.take(("PyTorch", "bf16"), row, None)
    assert results.not_run == ["PyTorch, bf16: WRONG, the loss is nan"]
    assert results.rows == {}


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    parts = []

    def answer(script, job, seconds):
        parts.append(job["part"])
        assert job["steps"] == 3  # of float32 half as many
        return ([{"ms": []}], None) if job["part"] == 16 else ([], "CUDA out of memory")

    monkeypatch.setattr(gpu_train, "in_own_process", answer)
    settings = {"config": SMALL, "batch": 64, "steps": 6}
    assert gpu_train.measured(("minibig", "fp32"), settings, math.inf)[1] is None
    assert parts == [64, 32, 16]
    assert gpu_train.measured(("minibig", "fp32"), settings, 0) == (
        None,
        "no time was left",
    )


@pytest.mark.parametrize("module", [gpu_attention, gpu_train])
def test_settings_have_defaults_within_eight_minutes(module):
    options = module.parse([])
    assert options.minutes < 8 and options.folder == FOLDER / "results"
    quick = module.parse(["--quick", "--minutes", "2", "--folder", "x"])
    assert quick.quick and quick.minutes == 2 and quick.folder == Path("x")


def test_a_wrong_address_is_no_lack_of_memory(monkeypatch):
    end = "cudaErrorIllegalAddress: an illegal memory access was encountered"
    calls = []
    answer = lambda *job: calls.append(job) or ([], end)  # noqa: E731
    monkeypatch.setattr(gpu_train, "in_own_process", answer)
    settings = {"config": SMALL, "batch": 64, "steps": 6}
    assert gpu_train.measured(("minibig", "bf16"), settings, math.inf) == (None, end)
    assert len(calls) == 1


def test_what_was_not_asked_for_is_said(monkeypatch):
    options = gpu_attention.parse(["--quick", "--ways", "mma"])
    monkeypatch.setattr(gpu, "chip", lambda: 90)
    monkeypatch.setattr(gpu, "sixteen_bits", lambda: "float16")
    lines = gpu.unmeasured(options, {"a": "mma", "b": "flash"}, ["a"])
    assert lines[0] == "flash: not asked for" and "--quick" in lines[1]
    assert "ml_dtypes" in lines[2]
