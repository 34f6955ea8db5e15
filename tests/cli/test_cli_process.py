"""`python -m minibig` in a process of its own, and `bench`."""

import multiprocessing
import os
import sys

import pytest
from command_line import in_python, run

import minibig


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = in_python("-m", "minibig", "train", "--list", cwd=tmp_path, stdout=pipe)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
@pytest.mark.parametrize("command", [("train", "--preset", "demo"), ("demo",)])
def test_training_that_its_reader_has_left_exits_as_unfinished(tmp_path, command):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:  # -u: the first line meets the closed pipe
        done = in_python("-u", "-m", "minibig", *command, cwd=tmp_path, stdout=pipe)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_process_without_standard_output_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # as pythonw has it
    assert run("train", "--list") == 0


def test_python_m_minibig_answers(tmp_path):
    done = in_python("-m", "minibig", "--version", cwd=tmp_path)
    assert done.stdout == f"minibig {minibig.__version__}\n" and done.returncode == 0
    done = in_python("-m", "minibig", "train", "--text", "no.txt", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_the_command_line_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, minibig.cli as cli; cli.make_parser(); "
        "print([m for m in ('scipy', 'tqdm', 'torch', 'minibig.recipes', "
        "'minibig.doctor') if m in sys.modules])"
    )
    assert in_python("-c", code, cwd=tmp_path).stdout == "[]\n"


@pytest.fixture
def small_bench(monkeypatch):
    """minibig.bench with next to nothing to compute, and without PyTorch."""
    from minibig import bench

    monkeypatch.setattr(bench, "SECONDS", 0)
    monkeypatch.setattr(bench, "SIDE", 8)
    monkeypatch.setattr(bench, "ELEMENTS", 64)
    monkeypatch.setattr(bench, "ATTENTION", (1, 2, 8, 4))
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "usable_processes", lambda: 1)
    return bench


def test_bench_prints_a_row_for_each_task(capsys, small_bench):
    threads = minibig.get_num_threads()
    assert run("bench") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "1 thread" in lines[0] and "PyTorch" not in lines[0]
    assert all(float(line.split()[-1].replace(",", "")) >= 0 for line in lines[1:])
    assert minibig.get_num_threads() == threads


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(),
    reason="this system cannot copy a process",
)
def test_bench_measures_training_by_as_many_processes_as_train_takes(
    capsys, small_bench, monkeypatch
):
    monkeypatch.setattr(small_bench, "usable_processes", lambda: 2)
    assert run("bench") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    task = "GPT training, thousand tokens/s, as `train` does it here, by 2 processes: "
    assert float(last.removeprefix(task).replace(",", "")) > 0
    assert multiprocessing.active_children() == []


@pytest.mark.oracle
def test_bench_gives_pytorch_the_same_tasks_and_the_same_model(small_bench):
    torch = pytest.importorskip("torch")
    ours, theirs = small_bench.ours(1), small_bench.theirs(1)
    assert [task for task, _ in ours] == [task for task, _ in theirs]
    _, parameters = small_bench._torch_gpt(torch)
    model = small_bench.GPT(small_bench.CONFIG)
    assert sum(p.numel() for p in parameters) == model.num_parameters()
