"""The training loop: steps, accumulation, evaluation, stopping, divergence."""

import math
import threading

import numpy as np
import pytest

import minibig as mb
from minibig import data, nn, optim
from minibig import functional as F
from minibig.data.loader import Loader
from minibig.training import (
    Evaluation,
    accuracy,
    classification_loss,
    fit,
    next_token_loss,
    regression_loss,
)


def arrays(rows=20, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


def batches(batch_size=8, rows=20, seed=0, **settings):
    return data.ArrayBatches(*arrays(rows, seed), batch_size=batch_size, **settings)


def classifier():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def run(model=None, loader=None, loss=classification_loss, lr=0.5, **settings):
    """(model, history) of a short training by plain SGD."""
    model = model or classifier()
    optimizer = optim.SGD(model.parameters(), lr=lr)
    settings = {"steps": 6, **settings}
    return model, fit(model, loader or batches(), loss, optimizer, **settings)


def weights(model):
    return {name: array.copy() for name, array in model.state_dict().items()}


# ---- steps --------------------------------------------------------------------------


def test_steps_are_those_of_a_plain_loop():
    mb.seed(1)
    model, history = run(steps=7, clip_norm=0.3)
    mb.seed(1)
    other, loader, rows = classifier(), batches(), []
    optimizer = optim.SGD(other.parameters(), lr=0.5)
    for step in range(7):
        inputs, labels = loader.batch(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(other(mb.tensor(inputs)), labels)
        loss.backward()
        norm = optim.clip_grad_norm_(other.parameters(), 0.3).item()
        optimizer.step()
        rows.append((step + 1, loss.item(), 0.5, norm))
    for name, array in weights(other).items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    names = ("step", "loss", "lr", "grad_norm")
    assert [tuple(row[name] for name in names) for row in history.steps] == rows
    seconds = history.column("seconds")[1]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_schedule_steps_once_a_step_and_its_rate_is_recorded():
    model = classifier()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    schedule = optim.StepLR(optimizer, 2, 0.5)
    history = fit(model, batches(), classification_loss, optimizer, steps=5,
                  schedule=schedule)  # fmt: skip
    assert history.column("lr") == ([1, 2, 3, 4, 5], [1, 1, 0.5, 0.5, 0.25])


def test_model_trains_in_training_mode():
    seen = []

    def loss(model, inputs, labels):
        seen.append(model.training)
        return classification_loss(model, inputs, labels)

    run(classifier().eval(), loss=loss, steps=2, evaluate=batches(), evaluate_every=1)
    assert seen.count(False) == 6 and seen[0] and seen[4]


def test_it_trains_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(run(steps=3)[1]))
    thread.start()
    thread.join()
    assert len(found[0]) == 3


class Texts(Loader):
    """Rows of ids with a growing number of targets that count: 0, 3, 6, 9."""

    drop_last = shuffle = False

    def __init__(self, counts=(0, 3, 6, 9)):
        super().__init__(batch_size=2)
        self.counts, self._count = counts, 2 * len(counts)
        rng = np.random.default_rng(4)
        self.inputs = rng.integers(0, 5, (len(counts), 2, 5))
        self.targets = rng.integers(0, 5, (len(counts), 2, 5))
        for targets, count in zip(self.targets, counts, strict=True):
            targets.reshape(-1)[count:] = -100
        self._data = self.inputs, self.targets

    def batch(self, step):
        return self.inputs[step % len(self)], self.targets[step % len(self)]


@pytest.mark.parametrize("counts", [(5, 5, 5), (1, 10, 4), (0, 3, 9)])
def test_accumulated_gradient_is_that_of_one_large_batch(counts):
    loader = Texts(counts)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5)).to("float64")
    before = weights(model)
    history = run(model, loader, next_token_loss, 1.0, steps=1, accumulate=3)[1]
    step = {name: before[name] - array for name, array in weights(model).items()}
    model.load_state_dict(before)
    model.zero_grad()
    whole = next_token_loss(
        model, mb.tensor(np.concatenate(loader.inputs)), np.concatenate(loader.targets)
    )
    whole.backward()
    assert history.loss[0] == pytest.approx(whole.item(), abs=1e-12)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(step[name], parameter.grad.numpy(), atol=1e-12)
    norm = math.sqrt(sum((d**2).sum() for d in step.values()))
    assert history.steps[0]["grad_norm"] == pytest.approx(norm)


def test_accumulation_goes_on_through_the_batches():
    seen = []

    def loss(model, inputs, labels):
        seen.append(inputs.numpy().copy())
        return classification_loss(model, inputs, labels)

    loader = batches()
    run(loader=loader, loss=loss, steps=2, accumulate=2)
    for step, inputs in enumerate(seen):
        np.testing.assert_array_equal(inputs, loader.batch(step)[0])
    assert len(seen) == 4


# ---- evaluation ---------------------------------------------------------------------


def metric(values, name="loss"):
    """An evaluation that answers the given values, one after the other."""
    values = iter(values)
    return lambda model: {name: next(values)}


def test_evaluation_is_the_mean_over_the_whole_loader():
    model, loader = classifier(), batches()
    found = Evaluation(loader, classification_loss, {"accuracy": accuracy})(model)
    x, labels = arrays()
    with mb.no_grad():
        logits = model(mb.tensor(x))
    expected = F.cross_entropy(logits, labels).item()
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert found["accuracy"] == (logits.numpy().argmax(1) == labels).mean()
    model[0].eval()
    Evaluation(loader, classification_loss)(model)
    assert model.training and not model[0].training


def test_evaluation_weighs_batches_by_their_targets():
    model, loader = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5)), Texts((2, 10))
    with mb.no_grad():
        losses = [next_token_loss(model, *map(mb.tensor, b)).item() for b in loader]
    found = Evaluation(loader, next_token_loss)(model)["loss"]
    assert found == pytest.approx((2 * losses[0] + 10 * losses[1]) / 12, rel=1e-6)


def test_regression_takes_columns_and_rows():
    model, x = nn.Linear(4, 1), mb.randn(6, 4)
    y = mb.randn(6)
    expected = ((model(x).numpy()[:, 0] - y.numpy()) ** 2).mean()
    assert regression_loss(model, x, y).item() == pytest.approx(expected, rel=1e-5)


def test_evaluations_come_when_due_and_at_the_end():
    _, history = run(steps=7, evaluate=metric([5, 4, 3, 2]), evaluate_every=3)
    assert history.evaluations == [
        {"step": 3, "loss": 5}, {"step": 6, "loss": 4}, {"step": 7, "loss": 3}
    ]  # fmt: skip
    _, history = run(steps=20, evaluate=metric(range(20)))
    assert history.column("loss")[0] == list(range(2, 21, 2))


def test_model_has_the_best_weights_when_training_is_over():
    kept = {}
    model, _ = run(
        evaluate=metric([3, 1, 2, 1, float("nan"), 4]), evaluate_every=1,
        callbacks=[lambda run: kept.update({run.step: weights(run.model)})],
    )  # fmt: skip
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, kept[2][name])  # the first of equals
        assert not np.array_equal(array, kept[6][name])


def test_nan_is_never_the_best():
    bests = []
    run(
        steps=4, evaluate=metric([float("nan"), 2, float("nan"), 3]), evaluate_every=1,
        callbacks=[lambda run: bests.append(run.best)],
    )  # fmt: skip
    assert bests == [None, None, {"step": 2, "loss": 2}, {"step": 2, "loss": 2}]


def test_patience_ends_training_early(capsys):
    evaluate = metric([5, 3, 4, 3, 3.5, 1], "error")
    _, history = run(
        steps=60, evaluate=evaluate, evaluate_every=2, monitor="error", patience=3
    )
    assert len(history) == 10 and len(history.evaluations) == 5
    assert (
        "no better error than that of step 4 in 3 evaluations"
        in capsys.readouterr().out
    )


def test_callbacks_see_the_run_and_can_stop_it():
    seen = []

    def callback(run):
        seen.append(
            (run.step, run.history.loss[-1], run.optimizer.param_groups[0]["lr"])
        )
        if run.step == 4:
            run.stop()

    _, history = run(steps=50, callbacks=[callback], evaluate=metric([1, 2]))
    assert [step for step, *_ in seen] == [1, 2, 3, 4]
    assert [loss for _, loss, _ in seen] == history.loss
    assert history.evaluations == [{"step": 4, "loss": 1}]


# ---- divergence ---------------------------------------------------------------------


def planted(at, spoil):
    """The classification loss, spoilt in its `at`-th step."""
    calls = iter(range(1, 100))

    def loss(model, inputs, labels):
        good = classification_loss(model, inputs, labels)
        return spoil(good) if next(calls) >= at else good

    return loss


def test_infinite_loss_names_step_and_op():
    with pytest.raises(FloatingPointError) as error:
        run(loss=planted(3, lambda loss: loss - (loss * 0).log()))
    for fact in ("step 3: the loss is inf", "`log` made the first NaN or infinity"):
        assert fact in str(error.value)
    assert "test_fit.py, line" in str(error.value)


def test_nan_loss_names_step_and_op():
    def spoil(loss):
        return loss + (loss * 1e30 * 1e30).exp() * 0

    with pytest.raises(FloatingPointError, match="step 2: the loss is nan: `"):
        run(loss=planted(2, spoil))


def test_damaged_weights_are_told_from_ops():
    model = classifier()
    with mb.no_grad():
        model[0].bias[0] = math.nan
    with pytest.raises(FloatingPointError, match=r"step 1.*a weight is not finite"):
        run(model)


def test_a_number_of_the_losss_own_is_told_from_weights():
    """With batch norm, whose count of batches has no axes."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))

    def loss(model, inputs, labels):
        return classification_loss(model, inputs, labels) * math.nan

    with pytest.raises(FloatingPointError, match="the model or the loss brings along"):
        run(model, loss=loss)


def test_gradient_that_is_not_finite_names_the_parameter_and_changes_nothing():
    model = classifier()
    before = weights(model)

    def loss(model, inputs, labels):
        root = (model[2].bias * 0).sqrt().sum()  # its gradient is 0 / 0
        return classification_loss(model, inputs, labels) + root

    with pytest.raises(FloatingPointError) as error:
        run(model, loss=loss)
    for fact in ("step 1: the loss is finite", "gradient of 2.bias is not"):
        assert fact in str(error.value)
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_divergence_draws_the_same_dropout_again():
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 2))
    seen = []

    def loss(model, inputs, labels):
        logits = model(inputs)
        seen.append(logits.tolist())
        return F.cross_entropy(logits, labels) * math.inf

    with pytest.raises(FloatingPointError, match="step 1"):
        run(model, loss=loss)
    assert len(seen) == 2 and seen[0] == seen[1]


# ---- mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be .*not 0"),
        ({"steps": 1.5}, ValueError, "steps must be .*not 1.5"),
        ({"accumulate": True}, TypeError, "accumulate must be .*not True"),
        ({"evaluate_every": 0}, ValueError, "evaluate_every must be .*not 0"),
        ({"patience": -1}, ValueError, "patience must be .*not -1"),
        ({"patience": 2}, ValueError, "give `evaluate` too"),
        ({"clip_norm": 0}, ValueError, "clip_norm must be .*0 excluded.*not 0"),
        ({"evaluate": metric([1] * 9), "monitor": "f1"}, ValueError, "'f1' .*'loss'"),
        ({"loss": lambda *batch: 0.5}, TypeError, "returned float, not a Tensor"),
        ({"loss": lambda *batch: None}, TypeError, "returned NoneType"),
        ({"loss": lambda m, x, y: m(x)}, ValueError, r"one element.*\(8, 2\)"),
    ],
)
def test_mistake_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        run(**settings)


def test_optimizer_of_another_model_is_refused():
    optimizer = optim.SGD(classifier().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="holds no parameter of this model"):
        fit(classifier(), batches(), classification_loss, optimizer, steps=1)
