"""How processes that share a batch end: by a kill, in pools, with a sentence."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from command_line import ROOT, refused
from test_resume import Fresh

import minibig as mb
from minibig import nn, recipes
from minibig.training import (
    DataParallel,
    HelperError,
    classification_loss,
    latest,
    usable_processes,
)

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(),
    reason="this system cannot copy a process",
)
X, LABELS = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])

TRAINS_FOR_EVER = """
import numpy as np
from minibig import nn
from minibig.training import DataParallel, classification_loss
with DataParallel(nn.Linear(3, 2), classification_loss) as parallel:
    print(parallel.helpers[0].process.pid, flush=True)
    while True:
        parallel.backward(np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]))
"""


def is_running(pid):
    """Whether a process lives; a zombie, whose parent has not asked, does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_helpers_end_without_a_word_when_their_parent_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", TRAINS_FOR_EVER], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as parent:  # fmt: skip
        helper = int(parent.stdout.readline())
        assert is_running(helper)
        parent.send_signal(signal.SIGKILL)
        assert parent.stderr.read() == b""  # ends when the helper has closed it too
    for _ in range(200):
        if not is_running(helper):
            return
        time.sleep(0.05)
    raise AssertionError("the helper goes on after its parent's end")


# ---- Ctrl-C -------------------------------------------------------------------------


@pytest.fixture
def interrupted_start(monkeypatch):
    """Every process that starts meets a Ctrl-C."""
    base = multiprocessing.process.BaseProcess
    start = base.start

    def start_and_interrupt(self):
        start(self)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(base, "start", start_and_interrupt)


def test_interrupt_while_a_helper_starts_leaves_none(interrupted_start):
    model = nn.Linear(3, 2)
    array = model.weight.array
    with pytest.raises(KeyboardInterrupt):
        DataParallel(model, classification_loss)
    assert multiprocessing.active_children() == []
    assert model.weight.array is array


def test_run_that_is_interrupted_while_helpers_start_saves(interrupted_start, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped after step 1 of 11, saved"):
        Fresh().fit(tmp_path, processes=2)
    assert latest(tmp_path).name == "checkpoint-00000001.safetensors"
    assert multiprocessing.active_children() == []


def test_closing_twice_ends_what_an_interrupt_has_left(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    model = nn.Linear(3, 2)
    array = model.weight.array
    with DataParallel(model, classification_loss) as parallel:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(type(parallel.helpers[0]), "close", interrupt)
            parallel.close()
        assert model.weight.array is array
    assert multiprocessing.active_children() == []


def test_helper_that_is_stopped_ends_too():
    parallel = DataParallel(nn.Linear(3, 2), classification_loss)
    pid = parallel.helpers[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    closing = threading.Thread(target=parallel.close, daemon=True)
    closing.start()
    closing.join(10)
    try:
        assert not closing.is_alive()
    finally:
        parallel.helpers[0].process.kill()


# ---- where there can be none --------------------------------------------------------


def in_a_pool(_):
    try:
        DataParallel(nn.Linear(3, 2), classification_loss)
    except ValueError as error:
        return usable_processes(), str(error)
    return usable_processes(), "made"


def test_worker_of_a_pool_takes_one_process_and_is_told_so():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        processes, said = pool.apply(in_a_pool, (0,))
    assert processes == 1
    assert "a worker of a pool may start no processes: processes=1" in said


@pytest.mark.parametrize("row", [0, 3])  # this process's part, and the helper's
def test_mistake_in_a_batch_is_the_same_error_in_every_process(row):
    labels = LABELS.copy()
    labels[row] = 9
    with (
        DataParallel(nn.Linear(3, 2), classification_loss) as parallel,
        pytest.raises(IndexError, match="9") as caught,
    ):
        parallel.backward(X, labels)
    notes = getattr(caught.value, "__notes__", [])
    assert ["a helper process failed:\nTraceback" in note for note in notes] == (
        [True, False] if row else [False]
    )
    assert notes[-1] == "the processes shared the batch's rows: 2, 2"


@pytest.mark.parametrize("factor", [np.float32(0.5), np.float64(0.5), np.int64(2), 2])
def test_factor_may_be_a_number_of_numpys(factor):
    mb.seed(0)
    model = nn.Linear(3, 2)
    (classification_loss(model, mb.tensor(X), LABELS) * float(factor)).backward()
    expected = model.weight.grad.numpy().copy()
    model.zero_grad()
    with DataParallel(model, classification_loss) as parallel:
        parallel.backward(X, LABELS, factor=factor)
    np.testing.assert_allclose(model.weight.grad.numpy(), expected, rtol=1e-6)


def test_one_process_needs_no_copy(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(ValueError, match=r"cannot copy a process .*processes=1"):
        DataParallel(nn.Linear(3, 2), classification_loss)
    with DataParallel(nn.Linear(3, 2), classification_loss, 1) as parallel:
        assert parallel.backward(X, LABELS) > 0


def test_processes_on_a_gpu_are_refused_before_anything_is_loaded(strict, tmp_path):
    Fresh().fit(tmp_path, steps=2)
    run = Fresh()
    run.model.to("cuda")
    before = run.model[0].weight.numpy().copy()
    with pytest.raises(
        ValueError, match=r"^fit: the model is on a GPU, which takes a batch whole"
    ):
        run.fit(tmp_path, processes=2)
    np.testing.assert_array_equal(run.model[0].weight.numpy(), before)


def test_processes_on_a_gpu_are_one_sentence_on_the_command_line(strict, capsys):
    said = refused(
        capsys, "train", "--preset", "mlp", "--processes", 2, "--device", "cuda"
    )
    assert "--processes: the model is on a GPU" in said


def test_helper_that_ended_is_one_sentence_on_the_command_line(
    capsys, monkeypatch, tmp_path
):
    def train(*arguments, **settings):
        raise HelperError("a helper process has ended, exit code -9: was memory short?")

    monkeypatch.setattr(recipes, "train", train)
    said = refused(capsys, "train", "--preset", "mlp", "--folder", tmp_path / "new")
    assert "a helper process has ended, exit code -9" in said
