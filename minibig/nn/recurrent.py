"""Recurrent networks as layers. Taught by notebook 07."""

import math

from .. import checks
from .. import functional as F
from ..creation import zeros
from ..recurrence import checked_lengths
from ..shaping import cat, stack
from ..tensor import Tensor
from . import init
from .module import Module, Parameter


class _Recurrent(Module):
    """Layers and directions of a recurrent network; subclasses say what a cell does."""

    gates = 1  # rows of the weights for each hidden unit

    def __init__(
        self, input_size, hidden_size, num_layers=1, bias=True, dropout=0.0,
        bidirectional=False,
    ):  # fmt: skip
        self.input_size = checks.whole("input_size", input_size, 1)
        self.hidden_size = checks.whole("hidden_size", hidden_size, 1)
        self.num_layers = checks.whole("num_layers", num_layers, 1)
        self.dropout = checks.probability("dropout", dropout)
        self.bias = checks.switch("bias", bias)
        self.bidirectional = checks.switch("bidirectional", bidirectional)
        self.directions = ("", "_reverse") if bidirectional else ("",)
        bound = 1 / math.sqrt(hidden_size)
        for suffix, width in self._suffixes():
            for name, shape in self._shapes(width).items():
                parameter = Parameter(zeros(*shape))
                init.uniform_(parameter, -bound, bound)
                setattr(self, f"{name}_{suffix}", parameter)

    def _suffixes(self):
        """("l0", input width), ("l0_reverse", …), ("l1", …), …: PyTorch's names."""
        for i in range(self.num_layers):
            inner = len(self.directions) * self.hidden_size
            for direction in self.directions:
                yield f"l{i}{direction}", inner if i else self.input_size

    def _shapes(self, width):
        rows = self.gates * self.hidden_size
        shapes = {"weight_ih": (rows, width), "weight_hh": (rows, self.hidden_size)}
        return shapes | ({"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {})

    def _run(self, x, states, lengths):
        """(output, each of the states at the end as (layers · directions, B, H))."""
        name = type(self).__name__
        if checks.kind(f"{name}: input", x, Tensor).ndim != 3 or (
            x.shape[2] != self.input_size
        ):
            raise ValueError(
                f"{name} takes (batch, length, {self.input_size}), not {x.shape}"
            )
        lengths = checked_lengths(name, lengths, x)
        states = [self._first(state, x) for state in states]
        last = []
        for i in range(self.num_layers):
            x = F.dropout(x, self.dropout, self.training) if i else x
            outputs = []
            for direction in self.directions:
                first = [state[len(last)] for state in states]
                y, *final = self._cell(
                    x, first, f"l{i}{direction}", lengths=lengths,
                    reverse=bool(direction),
                )  # fmt: skip
                outputs.append(y)
                last.append(final)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, dim=2)
        return x, [stack(list(state)) for state in zip(*last, strict=True)]

    def _first(self, state, x):
        """The state before the first step: zeros unless given."""
        shape = self.num_layers * len(self.directions), len(x), self.hidden_size
        if state is None:
            return zeros(*shape, dtype=x.dtype, device=x.device)
        if checks.kind("the first state", state, Tensor).shape != shape:
            raise ValueError(
                f"{type(self).__name__}: the first state {state.shape} should be "
                f"{shape}, (layers · directions, batch, hidden_size)"
            )
        return state

    def _parameters(self, suffix):
        names = self._shapes(1)
        return [getattr(self, f"{name}_{suffix}") for name in names]

    def extra_repr(self):
        said = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        return said + (", bidirectional=True" if self.bidirectional else "")


class RNN(_Recurrent):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), layer upon layer (Elman 1990).

    `nonlinearity` is "tanh" or "relu", `dropout` stands between the layers. Weights are
    named and started as PyTorch's, evenly in ±1/√hidden_size. Batch first.
    """

    def __init__(
        self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True,
        dropout=0.0, bidirectional=False,
    ):  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, dropout, bidirectional
        )
        words = ("tanh", "relu")
        self.nonlinearity = checks.choice("nonlinearity", nonlinearity, words)

    def forward(self, x, h_0=None, lengths=None):
        """x (B, T, C) -> output (B, T, H or 2 H), h_n (layers · directions, B, H).

        `lengths` (B,): how many steps each row has; then the output is 0, and h_n
        is the state at the row's own last step. (PyTorch packs sequences instead.)
        """
        output, (h_n,) = self._run(x, (h_0,), lengths)
        return output, h_n

    def _cell(self, x, states, suffix, **settings):
        return F.rnn(
            x, *states, *self._parameters(suffix), nonlinearity=self.nonlinearity,
            **settings,
        )  # fmt: skip


class LSTM(_Recurrent):
    """Long short-term memory, layer upon layer (Hochreiter and Schmidhuber 1997).

    `dropout` stands between the layers. Weights are named and started as PyTorch's,
    evenly in ±1/√hidden_size, gates in the order input, forget, cell, output. Batch
    first.
    """

    gates = 4

    def forward(self, x, hx=None, lengths=None):
        """x (B, T, C) -> output (B, T, H or 2 H), (h_n, c_n).

        `hx`: the states (h_0, c_0) before the first step, each as h_n and c_n, (layers
        · directions, B, H). `lengths` as for RNN.
        """
        states = (None, None) if hx is None else hx
        if not isinstance(states, (tuple, list)) or len(states) != 2:
            raise TypeError("LSTM: the first state is a pair (h_0, c_0) of Tensors")
        output, last = self._run(x, states, lengths)
        return output, tuple(last)

    def _cell(self, x, states, suffix, **settings):
        return F.lstm(x, *states, *self._parameters(suffix), **settings)
