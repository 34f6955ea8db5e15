"""A run that is stopped, killed or interrupted goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import minibig as mb
from minibig import data, nn, optim, safetensors
from minibig.training import (
    classification_loss,
    fit,
    latest,
    load_checkpoint,
    save_checkpoint,
)
from minibig.training.interrupt import Interrupt
from minibig.training.progress import Progress
from minibig.training.resume import OtherRunError

STEPS = 11
OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "sgd_momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def loader(rows=20, seed=0, batch_size=6, **settings):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    # 4 an epoch
    return data.ArrayBatches(x, y, batch_size=batch_size, seed=seed, **settings)


class Fresh:
    """All that a process would make anew, from the same seed."""

    def __init__(self, optimizer="adamw"):
        mb.seed(3)
        self.model = nn.Sequential(
            nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 2)
        )
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.schedule = optim.WarmupCosine(self.optimizer, 2, STEPS)

    def fit(self, folder=None, steps=STEPS, batches=None, **settings):
        self.history = fit(
            self.model, batches or loader(), classification_loss, self.optimizer,
            steps=steps, schedule=self.schedule, folder=folder,
            **{"clip_norm": 1.0, **settings},
        )  # fmt: skip
        return self

    def state(self):
        """Everything that a further step depends on, and what was recorded."""
        arrays = dict(self.model.state_dict())
        for index, entry in self.optimizer.state_dict()["state"].items():
            arrays |= {f"{index}.{name}": value for name, value in entry.items()}
        rows = [dict(r) for r in (*self.history.steps, *self.history.evaluations)]
        for row in rows:
            row.pop("seconds", None)
        return arrays, rows, self.schedule.state_dict(), mb.random.get_state()


def assert_same(one, other):
    (arrays, *rest), (expected, *others) = one.state(), other.state()
    assert rest == others
    assert arrays.keys() == expected.keys()
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name)


# ---- in one process -----------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stopped_after", [1, 6, 10])
def test_n_steps_equal_k_steps_and_the_rest(name, stopped_after, tmp_path):
    whole = Fresh(name).fit()
    first = Fresh(name).fit(tmp_path, steps=stopped_after)
    assert len(first.history) == stopped_after
    assert_same(Fresh(name).fit(tmp_path), whole)


def test_accumulated_steps_resume_too(tmp_path):
    whole = Fresh().fit(accumulate=3)
    Fresh().fit(tmp_path, steps=5, accumulate=3)
    assert_same(Fresh().fit(tmp_path, accumulate=3), whole)


def test_evaluations_and_best_weights_go_on(tmp_path):
    def evaluate(model):  # best at step 4, before the stop
        return {"loss": abs(len(seen.history.steps) - 4) if seen.history else 0.0}

    class Watch:
        history = None

        def __call__(self, run):
            self.history = run.history
            kept[run.step] = {n: a.copy() for n, a in run.model.state_dict().items()}

    results = []
    for stops in ((STEPS,), (6, STEPS)):
        for steps in stops:
            seen, kept = Watch(), {}
            folder = tmp_path / str(len(stops))
            run = Fresh().fit(
                folder, steps, evaluate=evaluate, evaluate_every=2, callbacks=[seen]
            )
        results.append(run)
    assert 4 not in kept  # the second process never was at the best step
    assert_same(results[1], results[0])
    assert [row["step"] for row in run.history.evaluations] == [2, 4, 6, 8, 10, 11]
    expected = Fresh().fit(tmp_path / "four", steps=4)
    for name, array in expected.model.state_dict().items():
        np.testing.assert_array_equal(run.model.state_dict()[name], array)


def test_run_that_is_over_is_not_trained_again(tmp_path, capsys):
    whole = Fresh().fit(tmp_path)
    again = Fresh().fit(tmp_path, callbacks=[lambda run: pytest.fail("it trained")])
    assert_same(again, whole)


def test_run_that_stopped_early_stays_stopped_until_given_more_patience(tmp_path):
    values = iter([1, 2, 3, 4, 5, 6, 7, 8, 9])
    settings = {"evaluate": lambda model: {"loss": next(values)}, "evaluate_every": 1}
    assert len(Fresh().fit(tmp_path, patience=2, **settings).history) == 3
    assert len(Fresh().fit(tmp_path, patience=2, **settings).history) == 3
    assert len(Fresh().fit(tmp_path, patience=4, **settings).history) == 5


def test_checkpoints_come_when_due(tmp_path):
    seen = []
    Fresh().fit(
        tmp_path, steps=8, save_every=3,
        callbacks=[lambda run: seen.append(sorted(os.listdir(tmp_path)))],
    )  # fmt: skip
    three, six, eight = (f"checkpoint-{n:08d}.safetensors" for n in (3, 6, 8))
    assert seen[:6] == [[], [], [], [three], [three], [three]]
    assert sorted(os.listdir(tmp_path)) == [six, eight]


def test_long_history_needs_no_longer_header(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "_MAX_HEADER", 5000)
    whole = Fresh().fit(steps=150)
    Fresh().fit(tmp_path, steps=100)
    assert_same(Fresh().fit(tmp_path, steps=150), whole)


def test_checkpoint_says_what_it_belongs_to(tmp_path):
    Fresh().fit(tmp_path, steps=2, info={"lr": 0.01, "betas": (0.9, np.float64(0.95))})
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.step == 2
    assert checkpoint.info["run"] == {"lr": 0.01, "betas": [0.9, 0.95]}
    assert checkpoint.info["versions"]["minibig"] == mb.__version__
    assert "model.0.weight" in checkpoint.arrays


def test_other_processes_or_threads_than_before_are_told(tmp_path, capsys):
    before = mb.get_num_threads()
    try:
        for steps, threads in ((2, 2), (4, 2), (6, 1)):
            mb.set_num_threads(threads)
            Fresh().fit(tmp_path, steps=steps)
    finally:
        mb.set_num_threads(before)
    first, second = capsys.readouterr().out.split("going on from")[1:]
    assert "it had" not in first
    told = "it had processes=1 and 2 threads, and has processes=1 and 1 threads now"
    assert told in second


# ---- Ctrl-C -------------------------------------------------------------------------


def interrupt_at(step, times=1):
    def callback(run):
        for _ in range(times if run.step == step else 0):
            signal.raise_signal(signal.SIGINT)

    return callback


def test_interrupt_saves_says_how_to_go_on_and_the_rest_is_the_same(tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 6 of 11"):
        Fresh().fit(tmp_path, callbacks=[interrupt_at(6)])
    assert signal.getsignal(signal.SIGINT) is before
    assert latest(tmp_path).name == "checkpoint-00000006.safetensors"
    said = capsys.readouterr().out
    assert f"saved in {tmp_path}: run the same again and it goes on there" in said
    resumed = Fresh().fit(tmp_path)
    assert f"going on from step 6 of {tmp_path}" in capsys.readouterr().out
    assert_same(resumed, Fresh().fit())


def test_interrupt_without_a_folder_only_stops(capsys):
    with pytest.raises(KeyboardInterrupt):
        Fresh().fit(callbacks=[interrupt_at(2)])
    said = capsys.readouterr().out
    assert "stopped after step 2 of 11" in said and "saved" not in said


def test_second_interrupt_acts_at_once(tmp_path):
    after = []
    with pytest.raises(KeyboardInterrupt):
        Fresh().fit(
            tmp_path, save_every=5, callbacks=[interrupt_at(2, times=2), after.append]
        )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(after) == 1 and latest(tmp_path) is None


def test_interrupt_that_nobody_asks_for_acts_at_the_end():
    seen = []
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        seen.append(interrupt.asked)
    assert seen == [True]


def test_interrupt_after_the_last_step_is_not_lost(tmp_path, monkeypatch):
    close = Progress.close

    def close_and_interrupt(self):
        signal.raise_signal(signal.SIGINT)
        close(self)

    monkeypatch.setattr(Progress, "close", close_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        Fresh().fit(tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert latest(tmp_path).name == "checkpoint-00000011.safetensors"


def test_job_that_ignores_interrupts_goes_on_ignoring_them():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert len(Fresh().fit(callbacks=[interrupt_at(2)]).history) == STEPS
    except KeyboardInterrupt:  # which would end all tests
        pytest.fail("it was stopped")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


# ---- killed -------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_resume import Fresh

def kill(run):
    if run.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

Fresh().fit(sys.argv[2], save_every=2, callbacks=[kill])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on Windows")
def test_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    tests = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(tests)
    command = [sys.executable, "-c", PROGRAM, tests, str(tmp_path), "7"]
    killed = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": root})
    assert killed.returncode == -signal.SIGKILL
    assert latest(tmp_path).name == "checkpoint-00000006.safetensors"
    assert_same(Fresh().fit(tmp_path, save_every=2), Fresh().fit())


# ---- refusals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"batches": loader(rows=21)}, r"the data \(hash\) was"),
        ({"batches": loader(batch_size=5)}, "the batch size was 6 there and is 5"),
        ({"batches": loader(seed=1)}, "the loader's seed was 0 there and is 1"),
        ({"batches": loader(shuffle=False)}, "the loader's shuffle was True there"),
        ({"batches": loader(drop_last=True)}, "batches in an epoch was 4 there and is"),
        ({"accumulate": 2}, "accumulate was 1 there and is 2"),
        ({"clip_norm": 0.5}, "clip_norm was 1.0 there and is 0.5"),
        ({"info": {"lr": 0.02}}, "lr was 0.01 there and is 0.02"),
        ({"info": {}}, "lr was 0.01 there and is None"),
        ({"info": {"lr": 0.01, "width": 3}}, "width was None there and is 3"),
    ],
)
def test_checkpoint_of_another_run_is_refused(changes, fact, tmp_path):
    settings = {"info": {"lr": 0.01}}
    Fresh().fit(tmp_path, steps=3, **settings)
    fresh = Fresh()
    before = {n: a.copy() for n, a in fresh.model.state_dict().items()}
    with pytest.raises(ValueError, match=f"belongs to another run: .*{fact}"):
        fresh.fit(tmp_path, **{**settings, **changes})
    for name, array in fresh.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_run_that_an_earlier_version_wrote_is_refused_for_that(tmp_path):
    Fresh().fit(tmp_path, steps=3)
    checkpoint = load_checkpoint(latest(tmp_path))
    del checkpoint.arrays["history.steps"]
    save_checkpoint(tmp_path, 4, checkpoint.arrays, checkpoint.info)
    with pytest.raises(OtherRunError, match="written by an earlier minibig: give"):
        Fresh().fit(tmp_path)


def test_checkpoint_that_fit_did_not_write_is_refused(tmp_path):
    save_checkpoint(tmp_path, 3, {"model.weight": np.ones(2)}, {"notes": "mine"})
    with pytest.raises(ValueError, match=r"no checkpoint of fit: give another folder"):
        Fresh().fit(tmp_path)


def test_other_optimizer_or_model_is_refused(tmp_path):
    Fresh("adam").fit(tmp_path, steps=3)
    with pytest.raises(
        ValueError, match="the optimizer was 'Adam' there and is 'AdamW'"
    ):
        Fresh("adamw").fit(tmp_path)
    fresh = Fresh("adam")
    fresh.model[3] = nn.Linear(16, 3)
    with pytest.raises(OtherRunError, match=r"3.weight is \(2, 16\), not \(3, 16\)"):
        fresh.fit(tmp_path)


def test_refused_optimizer_leaves_the_weights_as_they_were(tmp_path):
    Fresh().fit(tmp_path, steps=3)
    fresh = Fresh()
    before = {n: a.copy() for n, a in fresh.model.state_dict().items()}
    first, *others = fresh.model.parameters()
    fresh.optimizer = optim.AdamW([{"params": [first]}, {"params": others}])
    fresh.schedule = optim.WarmupCosine(fresh.optimizer, 2, STEPS)
    with pytest.raises(OtherRunError, match=r"safetensors belongs to .*\[1, 3\]"):
        fresh.fit(tmp_path)
    for name, array in fresh.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_resume_false_refuses_a_folder_in_use(tmp_path):
    Fresh().fit(tmp_path, steps=3)
    with pytest.raises(FileExistsError, match="holds the checkpoint of another run"):
        Fresh().fit(tmp_path, resume=False)
    Fresh().fit(tmp_path / "new", steps=3, resume=False)


def test_info_that_cannot_be_kept_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(TypeError, match=r"info\['array'\] is of type ndarray"):
        Fresh().fit(
            tmp_path, info={"array": np.zeros(2)},
            callbacks=[lambda run: pytest.fail("it trained")],
        )  # fmt: skip
