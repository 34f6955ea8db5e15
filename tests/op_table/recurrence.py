"""Records of the recurrent networks, one layer in one direction."""

import numpy

import minibig as mb
from minibig import functional as F

from .record import LAYOUTS, Record, Sample, refuses
from .samplers import normal

B, T, C, H = 3, 4, 2, 3


def _order(x, reverse):
    return range(x.shape[1])[::-1] if reverse else range(x.shape[1])


def _running(x, t, lengths):
    """1 for the rows that have a step t, 0 for the others: (B, 1)."""
    if lengths is None:
        return numpy.ones((len(x), 1))
    return (numpy.asarray(lengths)[:, None] > t) * 1.0


def _affine(np, x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    z = np.dot(x, weight_ih.T) + np.dot(h, weight_hh.T)
    for bias in (bias_ih, bias_hh):
        z = z if bias is None else z + bias
    return z


def _rnn(np, x, h, *parameters, nonlinearity="tanh", lengths=None, reverse=False):
    outputs = {}
    for t in _order(x, reverse):
        z = _affine(np, x[:, t], h, *parameters)
        new, m = np.tanh(z) if nonlinearity == "tanh" else np.maximum(z, 0), 1.0
        m = _running(x, t, lengths)
        h = m * new + (1 - m) * h
        outputs[t] = m * h
    return np.stack([outputs[t] for t in sorted(outputs)], axis=1), h


def _lstm(np, x, h, c, *parameters, lengths=None, reverse=False):
    outputs, n = {}, h.shape[1]
    for t in _order(x, reverse):
        z = _affine(np, x[:, t], h, *parameters)
        i, f, o = (1 / (1 + np.exp(-z[:, k * n : (k + 1) * n])) for k in (0, 1, 3))
        new_c = f * c + i * np.tanh(z[:, 2 * n : 3 * n])
        m = _running(x, t, lengths)
        h = m * (o * np.tanh(new_c)) + (1 - m) * h
        c = m * new_c + (1 - m) * c
        outputs[t] = m * h
    return np.stack([outputs[t] for t in sorted(outputs)], axis=1), h, c


def _in_torch(torch, kind, x, states, parameters, lengths, reverse, **settings):
    """PyTorch's layer with these weights; NotImplemented for lengths in reverse."""
    weight_ih, weight_hh, bias_ih, bias_hh = parameters
    if lengths is not None and (reverse or not len(x)):
        return NotImplemented  # both directions: test_recurrent.py
    layer = getattr(torch.nn, kind)(
        weight_ih.shape[1], weight_hh.shape[1], batch_first=True, dtype=x.dtype,
        bias=bias_ih is not None, **settings,
    )  # fmt: skip
    named = {"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh,
             "bias_ih_l0": bias_ih, "bias_hh_l0": bias_hh}  # fmt: skip
    named = {key: value for key, value in named.items() if value is not None}
    states = tuple(state[None] for state in states)
    states = states if kind == "LSTM" else states[0]
    x = x.flip(1) if reverse else x
    if lengths is not None:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        x = pack(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    y, last = torch.func.functional_call(layer, named, (x, states))
    if lengths is not None:
        pad = torch.nn.utils.rnn.pad_packed_sequence
        y = pad(y, batch_first=True, total_length=T)[0]
    last = last if kind == "LSTM" else (last,)
    return (y.flip(1) if reverse else y, *(state[0] for state in last))


def _rnn_in_torch(torch, x, h, *p, lengths=None, reverse=False, nonlinearity="tanh"):
    return _in_torch(
        torch, "RNN", x, (h,), p, lengths, reverse, nonlinearity=nonlinearity
    )


def _lstm_in_torch(torch, x, h, c, *p, lengths=None, reverse=False):
    return _in_torch(torch, "LSTM", x, (h, c), p, lengths, reverse)


def _samples(gates, states, *own):
    def samples(rng):
        inputs = {
            "plain": normal(rng, (B, T, C)),
            "transposed": normal(rng, (C, T, B)).T,
            "strided": normal(rng, (B, 2 * T, 2 * C))[:, ::2, 1::2],
            "negative stride": normal(rng, (B, T, C))[::-1, ::-1],
            "broadcast": numpy.broadcast_to(normal(rng, (1, T, C)), (B, T, C)),
            "one step": normal(rng, (B, 1, C)),
            "one row": normal(rng, (1, T, C)),
            "no row": normal(rng, (0, T, C)),
        }

        def sample(kind="plain", bias=True, **settings):
            x = inputs[kind]
            first = [normal(rng, (len(x), H)) for _ in range(states)]
            biases = [normal(rng, (gates * H,)) if bias else None for _ in range(2)]
            weights = normal(rng, (gates * H, C)), normal(rng, (gates * H, H))
            return Sample((x, *first, *weights, *biases), settings)

        return [
            *(sample(kind) for kind in inputs),
            sample(bias=False),
            sample(reverse=True),
            sample(lengths=[2, 4, 1]),
            sample(lengths=[4, 4, 4], bias=False),
            sample(lengths=[1, 2, 3], reverse=True),
            sample("strided", lengths=[3, 1, 3]),
            sample("no row", lengths=numpy.zeros(0, int).tolist() or None),
            *(sample(**settings) for settings in own),
        ]

    return samples


def _errors(name, gates, states):
    x, parameters = mb.ones(2, 3, C), (mb.ones(gates * H, C), mb.ones(gates * H, H))
    first = (mb.zeros(2, H),) * states

    def call(x=x, first=first, parameters=parameters, **settings):
        return lambda: getattr(F, name)(x, *first, *parameters, **settings)

    short = (mb.zeros(1, H),) * states
    return (
        refuses(TypeError, call(x=x.long()), name, "int64"),
        refuses(ValueError, call(x=mb.ones(2, C)), name, "(2, 2)", "step"),
        refuses(ValueError, call(x=mb.ones(2, 0, C)), name, "(2, 0, 2)", "step"),
        refuses(ValueError, call(x=mb.ones(2, 3, 5)), "weight_ih", "(2, 3, 5)"),
        refuses(ValueError, call(first=short), "h0 (1, 3)", "(2, 3)"),
        refuses(
            ValueError, call(parameters=(*parameters, mb.ones(1), mb.ones(1))),
            "bias_ih (1,)", f"({gates * H},)",
        ),
        refuses(ValueError, call(lengths=[1]), "lengths", "2 rows", "(1,)"),
        refuses(ValueError, call(lengths=[0, 3]), "lengths from 0", "1 to 3"),
        refuses(ValueError, call(lengths=[1, 4]), "to 4", "1 to 3"),
        refuses(ValueError, call(lengths=[1.0, 2.0]), "whole", "float"),
    )  # fmt: skip


SEQUENCES = LAYOUTS - {"0-d", "4-d"}
RECORDS = [
    Record(
        "recurrence.rnn", F.rnn, _rnn,
        _samples(1, 1, {"nonlinearity": "relu"},
                 {"nonlinearity": "relu", "lengths": [2, 3, 1]}),
        _rnn_in_torch,
        errors=(
            *_errors("rnn", 1, 1),
            refuses(
                ValueError,
                lambda: F.rnn(mb.ones(1, 1, 1), mb.ones(1, 1), mb.ones(1, 1),
                              mb.ones(1, 1), nonlinearity="gelu"),
                "tanh", "relu", "'gelu'",
            ),
        ),
        domain="sequences of at least one step", admits=SEQUENCES,
    ),
    Record(
        "recurrence.lstm", F.lstm, _lstm, _samples(4, 2), _lstm_in_torch,
        errors=_errors("lstm", 4, 2), domain="sequences of at least one step",
        admits=SEQUENCES,
    ),
]  # fmt: skip
