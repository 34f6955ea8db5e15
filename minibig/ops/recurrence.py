"""Recurrent networks over a whole sequence, as one op: one layer, one direction.

What the inputs add to the gates is one product for all steps; then a step is one
product with the state before, for all gates, and backward through time is the same,
with one product for each weight at the end. Arrays lie time first, (T, B, …). Rows are
sorted by length, the longest first, so that the rows still running are a slice.
"""

import numpy as np

from .. import backend, threads
from ..backend import array_module, by_rows, total
from ..backend import matmul as product
from .elementwise import widen
from .scratch import scratch

SHARED = 1 << 15  # numbers in the gates of a step that are worth a second thread


def rnn(
    x, h0, weight_ih, weight_hh, bias_ih, bias_hh, *, nonlinearity="tanh", lengths=None,
    reverse=False,
):  # fmt: skip
    """h_t = tanh or relu (W_ih x_t + b_ih + W_hh h_(t-1) + b_hh): (every h, the last).

    x (B, T, C), h0 (B, H), weights (H, C) and (H, H), biases (H,) or None ->
    (B, T, H), (B, H). Row i has `lengths[i]` steps (NumPy): then h is 0, and its last
    one is that of its own last step. `reverse` goes from the last step to the first.
    backward: dz_t = dh_t · slope(h_t), dh_(t-1) = dz_t W_hh, dW_hh = Σ dz_tᵀ h_(t-1).
    """
    xp, rows = array_module(x, h0, weight_ih, weight_hh), _Rows(x, lengths)
    inputs, h = rows.time_first(x), rows.ordered(h0)
    w_ih, w_hh = widen(weight_ih), widen(weight_hh)
    turned_w_hh = xp.ascontiguousarray(w_hh.T)  # read at every step
    gates = _project(inputs, w_ih, bias_ih, bias_hh)  # (T, B, H)
    before, out = xp.zeros_like(gates), xp.zeros_like(gates)

    def forward_rows(gates, before, out, h, lengths):
        gates, before, out = map(_turned, (gates, before, out))
        for t, n in _steps(lengths, len(gates), reverse):
            before[t, :n] = h[:n]
            z = h[:n] @ turned_w_hh
            z += gates[t, :n]
            if nonlinearity == "tanh":
                xp.tanh(z, out=h[:n])
            else:
                xp.maximum(z, 0, out=h[:n])
            out[t, :n] = h[:n]

    def backward_rows(out, dout, dz, dh, lengths):
        out, dout, dz = map(_turned, (out, dout, dz))
        for t, n in reversed(_steps(lengths, len(out), reverse)):
            y, z = out[t, :n], dz[t, :n]
            xp.add(dh[:n], dout[t, :n], out=z)
            z *= 1 - y * y if nonlinearity == "tanh" else y > 0
            xp.matmul(z, w_hh, out=dh[:n])

    arrays = map(_turned, (gates, before, out))
    _by_shares(forward_rows, *arrays, h, rows.lengths)

    def backward(dout, dh):
        dout, dh, dz = rows.time_first(dout), rows.ordered(dh), xp.zeros_like(out)
        arrays = map(_turned, (out, dout, dz))
        _by_shares(backward_rows, *arrays, dh, rows.lengths)
        dx, *dweights = _weight_gradients(inputs, before, dz, w_ih)
        dbias = total(_flat(dz), 0)
        gradients = rows.batch_first(dx), rows.restored(dh), *dweights, dbias, dbias
        return _like(gradients, (x, h0, weight_ih, weight_hh, bias_ih, bias_hh))

    return _like((rows.batch_first(out), rows.restored(h)), (x, x)), backward


def lstm(
    x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, *, lengths=None, reverse=False
):
    """A cell c that forgets and takes in what its gates say: (every h, last h, last c).

    i, f, o = σ(W x_t + V h_(t-1) + b), g = tanh(…), c_t = f c_(t-1) + i g,
    h_t = o tanh(c_t): Hochreiter and Schmidhuber (Neural Computation 9, 1997), with the
    forget gate of Gers et al. (2000). x (B, T, C), h0 and c0 (B, H), weights (4 H, C)
    and (4 H, H), biases (4 H,) or None, the gates in the order i, f, g, o. `lengths`,
    `reverse` and backward as in `rnn`.
    """
    xp, rows = array_module(x, h0, c0, weight_ih, weight_hh), _Rows(x, lengths)
    inputs, h, c = rows.time_first(x), rows.ordered(h0), rows.ordered(c0)
    w_ih, w_hh, *biases = map(_halved, (weight_ih, weight_hh, bias_ih, bias_hh))
    turned_w_hh = xp.ascontiguousarray(w_hh.T)  # read at every step
    gates = _project(inputs, w_ih, *biases)  # (T, B, 4 H); then i, f, o, g
    before_h, before_c, tanh_c, out = xp.zeros(
        (4, *gates.shape[:2], h.shape[1]), h.dtype
    )

    def forward_rows(gates, before_h, before_c, tanh_c, out, h, c, lengths):
        arrays = map(_turned, (gates, before_h, before_c, tanh_c, out))
        gates, before_h, before_c, tanh_c, out = arrays
        with scratch(gates, gates.shape[1:]) as from_h, scratch(h, h.shape) as taken:
            for t, n in _steps(lengths, len(gates), reverse):
                before_h[t, :n], before_c[t, :n] = h[:n], c[:n]
                z = gates[t, :n]
                z += xp.matmul(h[:n], turned_w_hh, out=from_h[:n])
                xp.tanh(z, out=z)
                (i, f, o, g), squashed = _parts(z)
                squashed *= 0.5
                squashed += 0.5  # σ(2 z) = (1 + tanh(z)) / 2
                c[:n] *= f
                c[:n] += xp.multiply(i, g, out=taken[:n])
                xp.tanh(c[:n], out=tanh_c[t, :n])
                xp.multiply(o, tanh_c[t, :n], out=h[:n])
                out[t, :n] = h[:n]

    def backward_rows(gates, before_c, tanh_c, dout, dz, dh, dc, lengths):
        arrays = map(_turned, (gates, before_c, tanh_c, dout, dz))
        gates, before_c, tanh_c, dout, dz = arrays
        with scratch(gates, gates.shape[1:]) as slopes:
            for t, n in reversed(_steps(lengths, len(gates), reverse)):
                (i, f, o, g), _ = _parts(gates[t, :n])
                (di, df, do, dg), _ = _parts(dz[t, :n])
                slope, dh_t, dc_t = slopes[:n], dh[:n], dc[:n]
                _slopes(xp, gates[t, :n], slope)
                dh_t += dout[t, :n]
                xp.multiply(dh_t, tanh_c[t, :n], out=do)
                dh_t *= o
                dc_t += dh_t
                dh_t *= tanh_c[t, :n]
                dh_t *= tanh_c[t, :n]
                dc_t -= dh_t  # dc += dh o (1 - tanh²)
                xp.multiply(dc_t, g, out=di)
                xp.multiply(dc_t, before_c[t, :n], out=df)
                xp.multiply(dc_t, i, out=dg)
                dz[t, :n] *= slope
                dc_t *= f
                xp.matmul(dz[t, :n], w_hh, out=dh_t)

    arrays = map(_turned, (gates, before_h, before_c, tanh_c, out))
    _by_shares(forward_rows, *arrays, h, c, rows.lengths)

    def backward(dout, dh, dc):
        dout, dz = rows.time_first(dout), xp.zeros_like(gates)
        dh, dc = rows.ordered(dh), rows.ordered(dc)
        arrays = map(_turned, (gates, before_c, tanh_c, dout, dz))
        _by_shares(backward_rows, *arrays, dh, dc, rows.lengths)
        dx, *dweights = _weight_gradients(inputs, before_h, dz, w_ih)
        dbias = _unhalved(total(_flat(dz), 0))
        states = rows.restored(dh), rows.restored(dc)
        gradients = rows.batch_first(dx), *states, *map(_unhalved, dweights)
        wanted = x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh
        return _like((*gradients, dbias, dbias), wanted)

    results = rows.batch_first(out), rows.restored(h), rows.restored(c)
    return _like(results, (x, x, x)), backward


class _Rows:
    """The rows of a batch, sorted by length, and the way back."""

    def __init__(self, x, lengths):
        self.lengths, self.order = np.full(len(x), x.shape[1]), None
        if lengths is not None:
            order = np.argsort(-lengths, kind="stable")
            self.lengths = lengths[order]
            xp = array_module(x)
            self.order, self.back = xp.asarray(order), xp.asarray(np.argsort(order))

    def ordered(self, x):
        """A copy of x, sorted."""
        return widen(x).copy() if self.order is None else widen(x)[self.order]

    def restored(self, x):
        return x if self.order is None else x[self.back]

    def time_first(self, x):
        """(B, T, …) -> (T, B, …), sorted, contiguous."""
        x = widen(x) if self.order is None else widen(x)[self.order]
        return array_module(x).ascontiguousarray(_turned(x))

    def batch_first(self, x):
        """(T, B, …) -> (B, T, …), in the batch's own order."""
        return self.restored(_turned(x))


def _steps(lengths, count, reverse):
    """[(t, rows that have such a step)], in the order of the recurrence."""
    running = (lengths[:, None] > np.arange(count)).sum(0)
    steps = [(t, n) for t, n in enumerate(running.tolist()) if n]
    return steps[::-1] if reverse else steps


def _by_shares(function, first, *others):
    """`by_rows` with one block a thread, if a step is worth it."""
    parts = threads.get_num_threads() if len(first) * first.shape[2] >= SHARED else 1
    by_rows(function, first, *others, size=parts * backend.BLOCK)


def _project(inputs, weight, *biases):
    """What the inputs of all steps add to the gates: (T, B, C) -> (T, B, gates)."""
    gates = product(_flat(inputs), weight.T)
    for bias in biases:
        if bias is not None:
            gates += bias
    return gates.reshape(*inputs.shape[:2], len(weight))


def _weight_gradients(inputs, before, dz, weight):
    """(dx, dW_ih, dW_hh)."""
    flat = _flat(dz)
    dx = product(flat, weight).reshape(inputs.shape)
    return dx, product(flat.T, _flat(inputs)), product(flat.T, _flat(before))


def _halved(weight):
    """Gates i, f, g, o -> i, f, o, g, the sigmoids' halved: they become tanhs too."""
    if weight is None:
        return None
    i, f, g, o = _quarters(widen(weight))
    return array_module(weight).concatenate([i * 0.5, f * 0.5, o * 0.5, g])


def _unhalved(gradient):
    i, f, o, g = _quarters(gradient)
    return array_module(gradient).concatenate([i * 0.5, f * 0.5, g, o * 0.5])


def _quarters(x):
    n = len(x) // 4
    return x[:n], x[n : 2 * n], x[2 * n : 3 * n], x[3 * n :]


def _parts(z):
    """The four gates (B, H) of z (B, 4 H), and the first three as one, all views."""
    n = z.shape[1] // 4
    return [z[:, k * n : (k + 1) * n] for k in range(4)], z[:, : 3 * n]


def _slopes(xp, gates, out):
    """d gates / dz: 2 y (1 - y) of the sigmoids, whose z was halved, 1 - y² of g."""
    _, squashed = _parts(out)
    xp.multiply(gates, gates, out=out)
    n = squashed.shape[1]
    squashed -= gates[:, :n]
    squashed *= -2
    xp.subtract(1, out[:, n:], out=out[:, n:])


def _flat(x):
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def _turned(x):
    return x.swapaxes(0, 1)


def _like(results, wanted):
    """The results in the dtypes of what is wanted, None for None."""
    return tuple(
        None if like is None else y.astype(like.dtype, copy=False)
        for y, like in zip(results, wanted, strict=True)
    )
