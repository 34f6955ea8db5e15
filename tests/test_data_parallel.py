"""Processes that share a batch give the gradient of the whole, and fail loudly."""

import multiprocessing
import os
import signal
import sys
import threading

import numpy as np
import pytest
from test_resume import Fresh, assert_same, loader

import minibig as mb
from minibig import nn, threads
from minibig.training import (
    DataParallel,
    HelperError,
    classification_loss,
    data_parallel,
    fit,
    next_token_loss,
    usable_processes,
)
from minibig.training.data_parallel import _parts

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(),
    reason="this system cannot copy a process",
)
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 11, (7, 5))
TARGETS = RNG.integers(0, 11, (7, 5))
TARGETS[0, 1:] = TARGETS[5] = -100  # the parts weigh differently


class Guesser(nn.Module):
    """Next-token logits from the token alone, with a parameter that nothing uses."""

    def __init__(self, dropout=0.0):
        self.embedding = nn.Embedding(11, 6)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6, 11)
        self.idle = nn.Linear(2, 2)

    def forward(self, ids):
        return self.head(self.dropout(self.embedding(ids)))


def gradients(model):
    return {
        name: None if p.grad is None else p.grad.numpy().copy()
        for name, p in model.named_parameters()
    }


@pytest.fixture
def model():
    mb.seed(0)
    return Guesser()


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_parts_of_a_batch_add_up_to_its_gradient(model, processes):
    loss = next_token_loss(model, IDS, TARGETS)
    loss.backward()
    expected = gradients(model)
    model.zero_grad()
    with DataParallel(model, next_token_loss, processes) as parallel:
        value = parallel.backward(IDS, TARGETS, factor=0.5)
        parallel.backward(IDS, TARGETS, factor=0.5)  # adds
    assert value == pytest.approx(loss.item(), rel=1e-6)
    for name, dx in gradients(model).items():
        if name.startswith("idle"):
            assert dx is None
        else:
            np.testing.assert_allclose(dx, expected[name], rtol=1e-5, atol=1e-7)


def test_helpers_see_each_update_of_the_weights(model):
    with DataParallel(model, next_token_loss) as parallel:
        before = parallel.backward(IDS, TARGETS)
        with mb.no_grad():
            for p in model.parameters():
                p.copy_(p.numpy() * 3)
        after = parallel.backward(IDS, TARGETS)
    assert after == pytest.approx(next_token_loss(model, IDS, TARGETS).item(), rel=1e-6)
    assert abs(after - before) > 0.1


def test_fewer_rows_than_processes_are_enough(model):
    with DataParallel(model, next_token_loss, 3) as parallel:
        value = parallel.backward(IDS[:1], TARGETS[:1])
    single = next_token_loss(model, IDS[:1], TARGETS[:1]).item()
    assert value == pytest.approx(single, rel=1e-6)


def test_parts_keep_every_row_and_this_process_has_the_fewest():
    parts = _parts([np.arange(7), np.arange(14).reshape(7, 2)], 3)
    assert [len(part[0]) for part in parts] == [2, 2, 3]
    np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), np.arange(7))


def test_processes_draw_different_dropout():
    mb.seed(0)
    model = Guesser(dropout=0.5)
    ids, targets = np.tile(IDS[1], (2, 1)), np.tile(TARGETS[1], (2, 1))
    masks = []

    def loss(model, ids, targets):
        kept = model.dropout(mb.ones(64))
        return next_token_loss(model, ids, targets) * 0 + kept.sum() * 0 + code(kept)

    def code(kept):  # the mask's first 20 elements as a number
        return float((kept.numpy()[:20] > 0) @ (1 << np.arange(20)))

    with DataParallel(model, loss) as parallel:
        state = mb.random.get_state()
        both = parallel.backward(ids, targets)
        mb.random.set_state(state)
        again = parallel.backward(ids, targets)
        mb.random.set_state(state)
        masks.append(parallel.add_gradient([ids[:1], targets[:1]], 1.0))
    assert both == again
    assert both != masks[0]  # the mean of two different masks' numbers


# ---- in the training loop -----------------------------------------------------------


def test_training_with_two_processes_resumes_bit_for_bit(tmp_path):
    whole = Fresh().fit(processes=2)
    first = Fresh().fit(tmp_path, steps=6, processes=2)
    assert len(first.history) == 6
    assert_same(Fresh().fit(tmp_path, processes=2), whole)


def test_training_with_two_processes_equals_one_up_to_rounding():
    runs = []
    for processes in (1, 2):
        run = Fresh("sgd")
        run.model.eval()
        for layer in run.model:
            layer.p = 0.0  # other processes would draw other masks
        runs.append(run.fit(processes=processes, accumulate=2))
    one, two = (run.history.loss for run in runs)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert len(multiprocessing.active_children()) == 0


def test_loss_that_is_not_finite_names_the_op():
    run = Fresh()
    with mb.no_grad():
        run.model[0].weight.copy_(run.model[0].weight.numpy() * np.inf)
    with pytest.raises(FloatingPointError, match="step 1: the loss is nan"):
        run.fit(processes=2)
    assert len(multiprocessing.active_children()) == 0


# ---- when something goes wrong ------------------------------------------------------


def test_error_in_a_helper_comes_with_its_traceback(model):
    parent = os.getpid()

    def loss(model, ids, targets):
        if os.getpid() != parent:
            raise KeyError("only there")
        return next_token_loss(model, ids, targets)

    with DataParallel(model, loss) as parallel:
        with pytest.raises(RuntimeError, match=r"(?s)helper.*KeyError: 'only there'"):
            parallel.backward(IDS, TARGETS)
        assert len(multiprocessing.active_children()) == 0


@pytest.mark.parametrize("when", ["before", "while"])
def test_helper_that_dies_is_an_error_and_no_endless_wait(model, when):
    parent = os.getpid()

    def loss(model, ids, targets):
        if os.getpid() != parent and when == "while":
            os.kill(os.getpid(), signal.SIGKILL)
        return next_token_loss(model, ids, targets)

    with DataParallel(model, loss) as parallel:
        if when == "before":
            process = parallel.helpers[0].process
            process.kill()
            process.join()
        with pytest.raises(RuntimeError, match="has ended, exit code -9: was memory"):
            parallel.backward(IDS, TARGETS)


def test_error_in_this_process_ends_the_helpers(model):
    def loss(model, ids, targets):
        return next_token_loss(model, ids + 100, targets)

    with DataParallel(model, loss) as parallel:
        with pytest.raises(IndexError):
            parallel.backward(IDS, TARGETS)
        assert multiprocessing.active_children() == []


def test_weights_go_back_to_the_arrays_where_they_lay(model):
    array, seen = model.head.weight.array, model.state_dict()
    with DataParallel(model, next_token_loss) as parallel:
        assert model.head.weight.array is not array
        with mb.no_grad():
            model.head.weight.copy_(model.head.weight.numpy() + 1)
    assert model.head.weight.array is array
    np.testing.assert_array_equal(seen["head.weight"], model.head.weight.numpy())
    parallel.close()  # a second time does nothing
    with pytest.raises(RuntimeError, match="it is closed"):
        parallel.backward(IDS, TARGETS)


def test_helpers_follow_modes_and_statistics():
    mb.seed(0)
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2)
    )
    x, y = RNG.normal(size=(8, 4)).astype("f"), np.arange(8) % 2
    with DataParallel(model, classification_loss) as parallel:
        for _ in range(3):  # the running statistics move on
            parallel.backward(x, y)
        model[1].eval()
        model[2].eval()
        found = parallel.backward(x, y)
        expected = classification_loss(model, mb.tensor(x), y).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_weights_that_moved_are_refused(model):
    with DataParallel(model, next_token_loss) as parallel:
        model.to("float64")
        with pytest.raises(RuntimeError, match=r"moved since it was made \(model.to\)"):
            parallel.backward(IDS, TARGETS)
    assert model.head.weight.array.dtype == "float64"


def test_failure_to_start_a_helper_leaves_nothing_behind(model, monkeypatch):
    array, made = model.head.weight.array, []

    class Second(data_parallel.Helper):
        def __init__(self, *arguments):
            made.append(1)
            if len(made) == 2:
                raise OSError("no more processes")
            super().__init__(*arguments)

    monkeypatch.setattr(data_parallel, "Helper", Second)
    with pytest.raises(HelperError, match=r"cannot be started \(no more processes\)"):
        DataParallel(model, next_token_loss, 3)
    assert len(multiprocessing.active_children()) == 0
    assert model.head.weight.array is array


def test_handler_of_sigterm_is_not_the_helpers(model, tmp_path):
    before = signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "ran").touch())
    try:
        with DataParallel(model, next_token_loss) as parallel:
            process = parallel.helpers[0].process
            process.terminate()
            process.join(10)
            assert process.exitcode == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("loss", [lambda m, x, y: 1.0, lambda m, x, y: m(x)])
def test_loss_of_a_wrong_kind_is_named_as_in_one_process(loss):
    for processes in (1, 2):
        run = Fresh()
        with pytest.raises((TypeError, ValueError), match=r"fit: (the )?loss"):
            fit(run.model, loader(), loss, run.optimizer, steps=1, processes=processes)


def test_limits_of_threads_that_train_side_by_side_do_not_mix():
    before = threads.get_num_threads()
    threads.set_num_threads(4)
    inside, leave = threading.Event(), threading.Event()

    def other():
        with threads.at_most(1):
            inside.set()
            leave.wait(10)

    worker = threading.Thread(target=other)
    worker.start()
    try:
        inside.wait(10)
        with threads.at_most(2):
            assert threads.get_num_threads() == 2
            leave.set()
            worker.join()
        assert threads.get_num_threads() == 4
    finally:
        leave.set()
        threads.set_num_threads(before)


def test_what_cannot_be_shared_is_refused(model):
    parallel = DataParallel(model, next_token_loss, 2)
    with pytest.raises(ValueError, match=r"first axis; here are \(7, 5\), \(6, 5\)"):
        parallel.backward(IDS, TARGETS[:6])
    parallel.close()
    parallel = DataParallel(model, next_token_loss, 2)
    model.head.weight.requires_grad = False
    with pytest.raises(RuntimeError, match="other parameters are frozen"):
        parallel.backward(IDS, TARGETS)
    parallel.close()


def test_number_of_processes_follows_the_machine(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for cores, processes in (("1", 1), ("3", 3), ("64", 4)):
        monkeypatch.setenv("MINIBIG_THREADS", cores)
        assert usable_processes() == processes
    assert usable_processes("cuda") == 1
    monkeypatch.setattr(sys, "platform", "darwin")
    assert usable_processes() == 1
