"""What a run shows while it trains, and what it recorded."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from test_fit import batches, metric, run

from minibig.training import History
from minibig.training.progress import _watched


def test_without_a_terminal_a_line_an_evaluation_is_all(capfd):
    _, history = run(steps=4, evaluate=batches(), evaluate_every=2)
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == "" and len(lines) == 2
    losses = history.loss[2:]
    held_out = history.evaluations[1]["loss"]
    assert lines[1].startswith(
        f"step 4/4  train {sum(losses) / 2:.4f}  held out: loss {held_out:.4f}"
    )
    run(steps=4)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    run(steps=4, evaluate=batches(), evaluate_every=2)
    out, err = capsys.readouterr()
    assert "4/4" in err and "loss=" in err and "held out" in out + err
    monkeypatch.setenv("TQDM_DISABLE", "1")
    run(steps=2)
    assert capsys.readouterr().err == ""


def test_a_notebook_counts_as_watched(monkeypatch):
    shell = SimpleNamespace(kernel=object())
    module = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert _watched()
    shell = None
    assert not _watched()


def test_history_gives_columns_and_shows_itself():
    _, history = run(steps=3, evaluate=metric([2, 1]), evaluate_every=2)
    assert history.column("grad_norm")[0] == [1, 2, 3]
    assert history.column("loss") == ([2, 3], [2, 1])
    assert history.names() == ["grad_norm", "loss", "lr", "seconds"]
    loss = history.loss[-1]
    assert repr(history) == (
        f"History(3 steps, loss {loss:.4f}, last evaluation: loss 1.0000)"
    )
    assert repr(History()) == "History(no steps)" and len(History()) == 0
    with pytest.raises(KeyError, match="no 'accuracy' was recorded"):
        history.column("accuracy")


def recorded(losses, evaluations=()):
    steps = [{"step": i, "loss": x} for i, x in enumerate(losses, 1)]
    return History(steps, [{"step": i, "loss": x} for i, x in evaluations])


def test_plot_draws_training_evaluations_and_floor(tmp_path):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    losses = 2 + rng.random(200)
    figure = recorded(losses, [(100, 2.4), (200, 2.3)]).plot(title="run", floor=1.9)
    (axes,) = figure.axes
    raw, smooth, dots, floor = axes.lines
    np.testing.assert_array_equal(raw.get_ydata(), losses)
    assert np.std(smooth.get_ydata()) < np.std(losses) / 1.8
    assert smooth.get_ydata()[100] == pytest.approx(losses[98:103].mean())
    assert dots.get_xydata().tolist() == [[100, 2.4], [200, 2.3]]
    assert (dots.get_marker(), dots.get_linestyle()) == ("o", "None")
    assert floor.get_linestyle() == "--" and set(floor.get_ydata()) == {1.9}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats)")
    assert axes.get_title() == "run" and axes.get_yscale() == "linear"
    figure.savefig(tmp_path / "run.png")
    wide = recorded([8.0, 3.0, 1.0]).plot()
    assert wide.axes[0].get_yscale() == "log" and len(wide.axes[0].lines) == 1
    assert recorded([0.5, -0.1]).plot().axes[0].get_yscale() == "linear"
