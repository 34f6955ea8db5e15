"""What a run refuses, or says of itself, in a sentence."""

import math
import os

import numpy as np
import pytest
from test_fit import run
from test_precision import Line, rows, trained
from test_resume import Fresh

import minibig as mb
from minibig import data, nn, optim
from minibig import functional as F
from minibig.training import classification_loss, fit, latest


@pytest.mark.parametrize("inside", ["", "more"])
def test_impossible_folder_is_refused_before_the_first_step(inside, tmp_path):
    path = tmp_path / "taken"
    path.write_text("a file")
    before = [lambda run: pytest.fail("it trained")]
    with pytest.raises(OSError, match=r"^fit: .*taken.* cannot be the folder of a run"):
        run(folder=path / inside, callbacks=before)
    assert path.read_text() == "a file"


@pytest.mark.parametrize("folder", ["", 0, 3, b"runs"])
def test_folder_that_is_no_path_is_refused(folder):
    with pytest.raises((TypeError, ValueError), match=r"^fit: folder"):
        run(folder=folder)


def test_folder_that_takes_no_file_is_refused_before_the_first_step(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    before = [lambda run: pytest.fail("it trained")]
    with pytest.raises(PermissionError, match=r"^fit: .*\(Permission denied\): give"):
        run(folder=tmp_path, callbacks=before)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (3.0, r"evaluate must return a dict of numbers, .* not 3\.0"),
        (None, "evaluate must return a dict of numbers, .* not None"),
        ({"loss": "low"}, "'loss' is 'low'"),
        ({"loss": 1.0, "map": np.ones(3)}, r"'map' is ndarray of \(3,\)"),
    ],
)
def test_evaluation_that_is_no_dict_of_numbers_is_named(results, message):
    with pytest.raises(TypeError, match=message):
        run(evaluate=lambda model: results)


@pytest.mark.parametrize("one", [mb.tensor(1.5), np.float32(1.5), np.array(1.5)])
def test_evaluation_may_give_any_number_and_a_checkpoint_keeps_it(one, tmp_path):
    _, history = run(evaluate=lambda model: {"loss": one}, folder=tmp_path, steps=1)
    assert history.evaluations == [{"step": 1, "loss": 1.5}]
    assert type(history.evaluations[0]["loss"]) is float and latest(tmp_path)


def test_nan_in_info_is_the_same_nan_when_the_run_goes_on(tmp_path):
    settings = {"b": math.nan, "a": [1, math.inf]}
    Fresh().fit(tmp_path, steps=2, info=settings)
    Fresh().fit(tmp_path, steps=3, info=dict(reversed(settings.items())))
    with pytest.raises(ValueError, match="b was nan there and is 1 here"):
        Fresh().fit(tmp_path, info=settings | {"b": 1})


def test_numbers_of_another_type_are_the_same_run(tmp_path):
    Fresh().fit(tmp_path, steps=2, clip_norm=1, info={"a": 1})
    Fresh().fit(tmp_path, steps=3, clip_norm=np.float32(1), info={"a": 1.0})


def test_loss_that_no_op_spoils_twice_blames_no_weight():
    losses = iter([math.nan])

    def loss(model, inputs, labels):
        return classification_loss(model, inputs, labels) * next(losses, 1.0)

    with pytest.raises(FloatingPointError, match="is nan: weights and batch are fin"):
        run(loss=loss)


def test_float16_trains_on_batches_of_one_array():
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4))
    history = fit(
        model, data.ArrayBatches(x, batch_size=10), lambda m, x: F.mse_loss(m(x), x),
        optim.SGD(model.parameters(), lr=0.1), steps=20, precision="fp16",
    )  # fmt: skip
    assert history.loss[-1] < history.loss[0]


def test_weight_too_large_for_float16_is_told_from_one_that_is_damaged():
    with pytest.raises(FloatingPointError, match=r"in float16: above 65,504"):
        trained(Line(1e5), rows(1.0), 1)
    with pytest.raises(FloatingPointError, match=r"not finite already$"):
        trained(Line(math.inf), rows(1.0), 1, precision="fp32")
