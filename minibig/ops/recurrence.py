"""Recurrent networks over a whole sequence, as one op: one layer, one direction.

In an RNN what the inputs add is one product for all steps, and then a step is one
product with the state before. In an LSTM a step is one product of the input and the
state, joined, for all gates, which lie one behind the other, each in one piece. Back
through time it is the same, with one product for each weight at the end. Arrays lie
time first, (T, B, …). Rows are sorted by length, the longest first, so that the rows
still running are a slice.
"""

import numpy as np

from .. import backend, threads
from ..backend import array_module, by_rows
from ..backend import matmul as product
from .elementwise import widen
from .narrow import by_panels, panels
from .reduction import over_rows
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
    _by_shares(forward_rows, gates[0].size, *arrays, h, rows.lengths)

    def backward(dout, dh):
        dout, dh, dz = rows.time_first(dout), rows.ordered(dh), xp.zeros_like(out)
        arrays = map(_turned, (out, dout, dz))
        _by_shares(backward_rows, gates[0].size, *arrays, dh, rows.lengths)
        dx, *dweights = _weight_gradients(inputs, before, dz, w_ih)
        dbias = over_rows(_flat(dz))
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
    h, c = rows.ordered(h0), rows.ordered(c0)
    width, hidden = x.shape[2], h.shape[1]
    seen = _joined_inputs(xp, rows.time_first(x), hidden)  # (T, B, C + H + 1)
    weight = _joined_weights(xp, weight_ih, weight_hh, bias_ih, bias_hh)
    halved = xp.asarray([0.5, 0.5, 0.5, 1], h.dtype).reshape(4, 1, 1)
    forward_panels = panels((weight * halved).swapaxes(1, 2))
    shape = len(seen), *h.shape
    gates = xp.zeros((shape[0], 4, *h.shape), h.dtype)  # o, i, f, g at each step
    before_c, tanh_c = xp.zeros((2, *shape), h.dtype)
    out = xp.zeros(shape, h.dtype)

    def forward_rows(seen, gates, before_c, tanh_c, out, h, c, lengths):
        seen, before_c, tanh_c, out = map(_turned, (seen, before_c, tanh_c, out))
        gates = gates.transpose(1, 2, 0, 3)
        with scratch(h, h.shape) as taken:
            for t, n in _steps(lengths, len(seen), reverse):
                h_t, c_t = h[:n], c[:n]
                seen[t, :n, width:-1], before_c[t, :n] = h_t, c_t
                z = by_panels(seen[t, :n], forward_panels, gates[t, :, :n])
                xp.tanh(z, out=z)
                sigmoids, (o, i, f, g) = z[:3], z
                sigmoids *= 0.5
                sigmoids += 0.5  # σ(2 z) = (1 + tanh(z)) / 2
                c_t *= f
                c_t += xp.multiply(i, g, out=taken[:n])
                xp.tanh(c_t, out=tanh_c[t, :n])
                xp.multiply(o, tanh_c[t, :n], out=h_t)
                out[t, :n] = h_t

    def backward_rows(gates, before_c, tanh_c, dout, dz, dx, dh, dc, lengths):
        before_c, tanh_c, dout, dx = map(_turned, (before_c, tanh_c, dout, dx))
        gates, dz = gates.transpose(2, 1, 0, 3), dz.transpose(1, 2, 0, 3)
        _slopes(xp, gates, before_c, tanh_c, dz)
        for row, length in enumerate(lengths):
            dz[:, length:, row] = 0
        with scratch(tanh_c, tanh_c.shape) as slope:  # of h by c, o (1 - tanh²)
            xp.multiply(tanh_c, tanh_c, out=slope)
            xp.subtract(1, slope, out=slope)
            slope *= gates[0]
            for t, n in reversed(_steps(lengths, len(dout), reverse)):
                z, dh_t, dc_t = dz[:, t, :n], dh[:n], dc[:n]
                by_h, by_c = z[0], z[1:]
                dh_t += dout[t, :n]
                by_h *= dh_t
                dh_t *= slope[t, :n]
                dc_t += dh_t
                by_c *= dc_t
                dc_t *= gates[2, t, :n]
                dseen = by_panels(z, backward_panels).sum(0)
                dx[t, :n], dh[:n] = dseen[:, :width], dseen[:, width:]

    count, by_batch = gates[0].size, gates.transpose(2, 0, 1, 3)
    arrays = *map(_turned, (before_c, tanh_c, out)), h, c, rows.lengths
    _by_shares(forward_rows, count, _turned(seen), by_batch, *arrays)
    backward_panels = panels(weight[..., :-1])

    def backward(dout, dh, dc):
        dout, dh, dc = rows.time_first(dout), rows.ordered(dh), rows.ordered(dc)
        dz = xp.empty((4, *shape), h.dtype)
        dx = xp.zeros((*shape[:2], width), h.dtype)
        arrays = *map(_turned, (before_c, tanh_c, dout)), dz.transpose(2, 0, 1, 3)
        arrays = by_batch, *arrays, _turned(dx), dh, dc, rows.lengths
        _by_shares(backward_rows, count, *arrays)
        turned = dz.reshape(4, -1, hidden).swapaxes(1, 2)  # (4, H, T · B)
        dweight = xp.roll(product(turned, _flat(seen)[None]), -1, 0)
        dweight = dweight.reshape(4 * hidden, -1)
        dw_ih, dw_hh, dbias = xp.split(dweight, [width, width + hidden], 1)
        states = rows.restored(dh), rows.restored(dc)
        dbias = dbias[:, 0]
        gradients = rows.batch_first(dx), *states, dw_ih, dw_hh, dbias, dbias
        wanted = x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh
        return _like(gradients, wanted)

    results = rows.batch_first(out), rows.restored(h), rows.restored(c)
    return _like(results, (x, x, x)), backward


def _joined_inputs(xp, inputs, hidden):
    """(T, B, C + H + 1): x, a place for the state before, 1 for the bias."""
    seen = xp.zeros((*inputs.shape[:2], inputs.shape[2] + hidden + 1), inputs.dtype)
    seen[..., : inputs.shape[2]] = inputs
    seen[..., -1] = 1
    return seen


def _joined_weights(xp, weight_ih, weight_hh, *biases):
    """(4, H, C + H + 1), by which `_joined_inputs` give all gates, o, i, f, g."""
    weight_ih, weight_hh = widen(weight_ih), widen(weight_hh)
    bias = xp.zeros((len(weight_hh), 1), weight_hh.dtype)
    for given in biases:
        if given is not None:
            bias += given[:, None]
    joined = xp.concatenate([weight_ih, weight_hh, bias], 1)
    return xp.roll(joined.reshape(4, -1, joined.shape[1]), 1, 0)


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


def _by_shares(function, count, *arrays):
    """`by_rows` with one block a thread, if `count` numbers a step are worth it."""
    parts = threads.get_num_threads() if count >= SHARED else 1
    by_rows(function, *arrays, size=parts * backend.BLOCK)


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


def _slopes(xp, gates, before_c, tanh_c, out):
    """dh / dz of the gate o, dc / dz of i, f and g, in `out` (4, T, B, H)."""
    _, i, _, g = gates
    xp.multiply(gates, gates, out=out)
    xp.subtract(gates[:3], out[:3], out=out[:3])  # y - y² of the sigmoids
    xp.subtract(1, out[3], out=out[3])  # 1 - y² of tanh
    for slope, factor in zip(out, (tanh_c, g, before_c, i), strict=True):
        slope *= factor


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
