"""The exercises of notebook 07: an LSTM's step, padding, back through time."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 07.lstm_step -------------------------------------------------------------------


def _step_inputs(batch, width, size, scale=1.0):
    def make():
        rng = np.random.default_rng(batch + 10 * width + 100 * size)
        shapes = (batch, width), (batch, size), (batch, size)
        weights = (4 * size, width), (4 * size, size), (4 * size,)
        return tuple(scale * rng.normal(size=shape) for shape in (*shapes, *weights))

    return make


def _one_unit():
    """Gates i, f, g, o of 0.5, 0.9, tanh 1, 0.5, and a cell of 2, all from the bias."""
    bias = np.array([0.0, np.log(9), 1.0, 0.0])
    cell = np.array([[2.0]])
    return np.zeros((1, 1)), np.zeros((1, 1)), cell, *np.zeros((2, 4, 1)), bias


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def _gates(x, h, W, U, b):
    return np.split(x @ W.T + h @ U.T + b, 4, axis=1)


def _lstm_step(x, h, c, W, U, b):
    i, f, g, o = _gates(x, h, W, U, b)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _in_another_order(x, h, c, W, U, b):
    i, f, o, g = _gates(x, h, W, U, b)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gates_exchanged(x, h, c, W, U, b):
    i, f, g, o = _gates(x, h, W, U, b)
    c = _sigmoid(i) * c + _sigmoid(f) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _sigmoid_of_the_news(x, h, c, W, U, b):
    i, f, g, o = _gates(x, h, W, U, b)
    c = _sigmoid(f) * c + _sigmoid(i) * _sigmoid(g)
    return _sigmoid(o) * np.tanh(c), c


def _cell_as_it_is(x, h, c, W, U, b):
    i, f, g, o = _gates(x, h, W, U, b)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * c, c


def _old_cell_shown(x, h, c, W, U, b):
    o = _gates(x, h, W, U, b)[3]
    return _sigmoid(o) * np.tanh(c), _lstm_step(x, h, c, W, U, b)[1]


lstm_step = Exercise(
    name="07.lstm_step",
    task="Return the new state h and the new cell c of an LSTM, (B, H) each.",
    solution=_lstm_step,
    cases=(
        Case("one unit, by hand", _one_unit),
        Case("two units", _step_inputs(1, 3, 2)),
        Case("a batch", _step_inputs(5, 4, 3)),
        Case("small numbers", _step_inputs(2, 2, 2, 0.01), "edge"),
        Case("gates wide open", _step_inputs(3, 2, 4, 5.0), "edge"),
    ),
    mistakes=(
        Mistake(
            _in_another_order,
            "the gates stand in the order i, f, g, o: the news is the third part.",
        ),
        Mistake(
            _gates_exchanged,
            "the forget gate belongs to the old cell, the input gate to the news.",
        ),
        Mistake(
            _sigmoid_of_the_news,
            "the news g is a tanh, between -1 and 1; only gates are sigmoids.",
        ),
        Mistake(
            _cell_as_it_is,
            "h shows the tanh of the cell, not the cell itself.",
        ),
        Mistake(
            _old_cell_shown,
            "h shows the new cell: compute c first.",
        ),
        Mistake(
            lambda x, h, c, W, U, b: _lstm_step(x, h, c, W, 0 * U, b),
            "the old state h plays no part: add h @ U.T.",
        ),
        Mistake(
            lambda x, h, c, W, U, b: _lstm_step(x, h, c, W, U, 0 * b),
            "the bias is missing.",
        ),
    ),
    hints=(
        "One matrix product for the input, one for the old state, and a bias: that is "
        "(B, 4 H). Then cut it in four.",
        "i, f, g, o = np.split(x @ W.T + h @ U.T + b, 4, axis=1); i, f and o go "
        "through a sigmoid, g through a tanh.",
        "c = f * c + i * g, and then h = o * tanh(c).",
    ),
)

# ---- 07.mean_state ------------------------------------------------------------------


def _padded_states(lengths, longest, size):
    """States that go on beyond a row's end, as those of a careless network do."""

    def make():
        states = np.random.default_rng(longest).normal(
            1.0, 1.0, (len(lengths), longest, size)
        )
        return states, np.array(lengths)

    return make


def _mean_state(states, lengths):
    inside = np.arange(states.shape[1]) < lengths[:, None]
    return (states * inside[:, :, None]).sum(1) / lengths[:, None]


def _one_too_many(states, lengths):
    more = np.minimum(lengths + 1, states.shape[1])
    return _mean_state(states, more)


mean_state = Exercise(
    name="07.mean_state",
    task="Return the mean over each row's own states, without its padding.",
    solution=_mean_state,
    cases=(
        Case("two rows", _padded_states([2, 3], 4, 2)),
        Case("four rows", _padded_states([1, 4, 2, 5], 5, 3)),
        Case("long rows", _padded_states([7, 12], 12, 4)),
        Case("one word each", _padded_states([1, 1, 1], 3, 2), "edge"),
        Case("no padding", _padded_states([3, 3], 3, 2), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda states, lengths: states.mean(1),
            "the padding is counted too: add up each row's first length states only.",
        ),
        Mistake(
            lambda states, lengths: (
                _mean_state(states, lengths) * lengths[:, None] / states.shape[1]
            ),
            "divide by the row's own length, not by T.",
        ),
        Mistake(
            lambda states, lengths: states.sum(1) / lengths[:, None],
            "the sum runs over the padding as well, where states may be anything.",
        ),
        Mistake(
            _one_too_many,
            "one state too many: a row of length n has the places 0 to n - 1.",
        ),
        Mistake(
            lambda states, lengths: _mean_state(states, lengths) * lengths[:, None],
            "this is the sum: divide it by the length.",
        ),
        Mistake(
            lambda states, lengths: states[np.arange(len(states)), lengths - 1],
            "this is each row's last state, not the mean of all.",
        ),
    ),
    hints=(
        "First find which places are a row's own: a table (B, T) of true and false.",
        "np.arange(T) < lengths[:, None] is that table.",
        "Multiply the states by the table[:, :, None], add up over axis 1, and divide "
        "by lengths[:, None].",
    ),
)

# ---- 07.recurrent_gradient ----------------------------------------------------------


def _states(batch, length, size, only_last=False):
    def make():
        rng = np.random.default_rng(batch + 10 * length + 100 * size)
        h = np.tanh(rng.normal(size=(batch, length + 1, size)))
        h[:, 0] = 0
        dy = rng.normal(size=(batch, length, size))
        if only_last:
            dy[:, :-1] = 0
        return h, dy, rng.normal(size=(size, size))

    return make


def _three_steps():
    h = np.array([0, np.tanh(1), 0, 0])
    h[2] = np.tanh(0.5 * h[1])
    h[3] = np.tanh(0.5 * h[2])
    return (
        h.reshape(1, 4, 1),
        np.array([0.0, 0, 1]).reshape(1, 3, 1),
        np.full((1, 1), 0.5),
    )


def _recurrent_gradient(h, dy, U, slope=lambda h: 1 - h**2, carried=1, shift=0):
    dU, da = np.zeros_like(U), np.zeros_like(h[:, 0])
    for t in reversed(range(dy.shape[1])):
        da = (dy[:, t] + carried * da @ U) * slope(h[:, t + 1])
        dU += da.T @ h[:, t + shift]
    return dU


recurrent_gradient = Exercise(
    name="07.recurrent_gradient",
    task="Return dU (H, H), the gradient of the recurrent weights.",
    solution=_recurrent_gradient,
    cases=(
        Case("one unit, by hand", _three_steps, "gradient"),
        Case("two units", _states(1, 3, 2), "gradient"),
        Case("a batch", _states(4, 5, 3), "gradient"),
        Case("the loss is the last state", _states(2, 6, 3, only_last=True)),
        Case("two steps", _states(2, 2, 2), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda h, dy, U: _recurrent_gradient(h, dy, U, carried=0),
            "nothing comes back through time: h_t also acts through h_(t+1), so add "
            "da_(t+1) @ U to dy_t.",
        ),
        Mistake(
            lambda h, dy, U: _recurrent_gradient(h, dy, U, slope=np.ones_like),
            "the slope of the tanh is missing: da = dh · (1 - h²).",
        ),
        Mistake(
            lambda h, dy, U: _recurrent_gradient(h, dy, U, shift=1),
            "U is multiplied with the state before, h[:, t], not the one it makes.",
        ),
        Mistake(
            lambda h, dy, U: _recurrent_gradient(h, dy, U.T),
            "on the way back the rows meet U itself: da @ U, not da @ U.T.",
        ),
        Mistake(
            lambda h, dy, U: _recurrent_gradient(h, dy, U).T,
            "the result is transposed: row j of dU belongs to unit j of the new state.",
        ),
        Mistake(
            lambda h, dy, U: _recurrent_gradient(h, dy, U) / dy.shape[1],
            "the steps are added up, not averaged: each one used the weight.",
        ),
        Mistake(
            lambda h, dy, U: _recurrent_gradient(h, dy, U) / len(h),
            "the rows of a batch are added up, not averaged: the mean is in dy.",
        ),
    ),
    hints=(
        "Begin at the last step and go back. What reaches h_t? What comes from "
        "outside, and what h_(t+1) hands down.",
        "da = (dy[:, t] + da @ U) * (1 - h[:, t + 1] ** 2), with da = 0 before the "
        "first turn of the loop.",
        "Each turn adds da.T @ h[:, t] to dU.",
    ),
)

# ---- 07.reversed_rows ---------------------------------------------------------------


def _rows(lengths, longest):
    def make():
        rng = np.random.default_rng(longest)
        ids = rng.integers(1, 100, (len(lengths), longest))
        ids[np.arange(longest) >= np.array(lengths)[:, None]] = 0
        return ids, np.array(lengths)

    return make


def _reversed_rows(ids, lengths):
    ids = ids.copy()
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    return ids


def _rolled_too_far(ids, lengths):
    ids = ids.copy()
    for row, length in zip(ids, lengths, strict=True):
        row[: length + 1] = row[: length + 1][::-1].copy()
    return ids


reversed_rows = Exercise(
    name="07.reversed_rows",
    task="Return ids (B, T) with each row's own words reversed and its padding kept.",
    solution=_reversed_rows,
    cases=(
        Case("two rows", _rows([3, 2], 4)),
        Case("four rows", _rows([5, 1, 4, 2], 6)),
        Case("long rows", _rows([9, 11, 6], 12)),
        Case("one word", _rows([1, 3], 3), "edge"),
        Case("no padding", _rows([4, 4], 4), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda ids, lengths: ids[:, ::-1],
            "the padding has come to the front: reverse each row's own words only.",
        ),
        Mistake(
            _rolled_too_far,
            "one place too many: the word at place n - 1 comes first, not the padding "
            "behind it.",
        ),
        Mistake(
            lambda ids, lengths: ids[::-1],
            "the rows have changed places; it is the words that are to be reversed.",
        ),
        Mistake(
            lambda ids, lengths: ids.copy(),
            "nothing is reversed: slices of a row are views, so copy before you write.",
        ),
    ),
    hints=(
        "A loop over the rows will do: row[:length] is what to reverse.",
        "Copy ids first, and copy the slice too: it is a view of what you write into.",
        "Without a loop: place t of a row of length n comes from n - 1 - t where that "
        "is not negative, else from t; np.take_along_axis(ids, places, axis=1).",
    ),
)
