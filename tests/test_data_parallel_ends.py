"""How processes that share a batch end: by a kill, in pools, with a sentence."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import ROOT, refused

import minibig as mb
from minibig import nn, recipes
from minibig.training import (
    DataParallel,
    HelperError,
    classification_loss,
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
        [True] if row else []
    )


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


def test_helper_that_ended_is_one_sentence_on_the_command_line(
    capsys, monkeypatch, tmp_path
):
    def train(*arguments, **settings):
        raise HelperError("a helper process has ended, exit code -9: was memory short?")

    monkeypatch.setattr(recipes, "train", train)
    said = refused(capsys, "train", "--preset", "mlp", "--folder", tmp_path / "new")
    assert "a helper process has ended, exit code -9" in said
