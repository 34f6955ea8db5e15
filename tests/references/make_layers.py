"""Writes layers.npz: what PyTorch computes in layers for images and sequences.

    python -m tests.references.make_layers

As make_blocks.py: the cases stand here once, inputs and parameters are drawn from a
seed, and outputs, gradients and buffers are stored, in float64, from PyTorch 2.13 on
the CPU. Layers, settings and parameters have the same names in minibig.
"""

from pathlib import Path

import numpy as np

from .make_blocks import upstream_of

PATH = Path(__file__).with_name("layers.npz")
LENGTHS = np.array([3, 5, 1])
_IMAGES, _ROWS = (2, 4, 6, 5), (3, 5, 4)

# name: (layer, arguments, settings, shape of the input)
CASES = {
    "conv": ("Conv2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, _IMAGES),
    "conv_dilated": (
        "Conv2d", (4, 3, (2, 3)), {"dilation": 2, "bias": False}, _IMAGES),
    "max_pool": ("MaxPool2d", (3,), {"stride": 2, "padding": 1}, _IMAGES),
    "avg_pool": (
        "AvgPool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False},
        _IMAGES),
    "batch_norm_rows": ("BatchNorm1d", (4,), {}, (6, 4)),
    "batch_norm_signals": ("BatchNorm1d", (5,), {"momentum": None}, _ROWS),
    "batch_norm_images": ("BatchNorm2d", (4,), {"momentum": 0.3}, _IMAGES),
    "rnn": ("RNN", (4, 3), {"bidirectional": True}, _ROWS),
    "rnn_relu": ("RNN", (4, 3, 2), {"nonlinearity": "relu", "bias": False}, _ROWS),
    "lstm": ("LSTM", (4, 3), {}, _ROWS),
    "lstm_deep": ("LSTM", (4, 3, 2), {"bidirectional": True}, _ROWS),
}  # fmt: skip


def is_recurrent(name):
    return CASES[name][0] in ("RNN", "LSTM")


def draws(name, layer):
    """(input, {name: array} of the layer's parameters, first states or none)."""
    rng = np.random.default_rng([9, list(CASES).index(name)])
    x = rng.normal(size=CASES[name][3])
    parameters = {
        key: 0.5 * rng.normal(size=tuple(p.shape))
        for key, p in layer.named_parameters()
    }
    states = []
    if is_recurrent(name):
        layers = layer.num_layers * (2 if layer.bidirectional else 1)
        shape = layers, len(x), layer.hidden_size
        states = [rng.normal(size=shape) for _ in range(1 + (CASES[name][0] == "LSTM"))]
    return x, parameters, states


def torch_run(name):
    """{"output": …, "dx": …, "d<name>": …, "<buffer>": …} from PyTorch, as arrays.

    Recurrent layers see rows of LENGTHS; batch norm runs twice, then in evaluation.
    """
    import torch

    kind, arguments, settings, _ = CASES[name]
    batch_first = {"batch_first": True} if is_recurrent(name) else {}
    layer = getattr(torch.nn, kind)(*arguments, **settings, **batch_first).double()
    x, parameters, states = draws(name, layer)
    layer.load_state_dict(
        {key: torch.tensor(p) for key, p in parameters.items()}, strict=False
    )
    x = torch.tensor(x, requires_grad=True)
    states = [torch.tensor(state, requires_grad=True) for state in states]
    if is_recurrent(name):
        outputs = _packed(torch, layer, x, states)
    else:
        outputs = [layer(x)]
        if "Norm" in kind:
            outputs += [layer(2 * x + 1), layer.eval()(x)]
    sum((y * torch.tensor(upstream_of(y.shape))).sum() for y in outputs).backward()
    found = {f"output{i}": y.detach().numpy() for i, y in enumerate(outputs)}
    found |= {f"dstate{i}": state.grad.numpy() for i, state in enumerate(states)}
    found |= {f"d{key}": p.grad.numpy() for key, p in layer.named_parameters()}
    found |= {key: buffer.numpy() for key, buffer in layer.named_buffers()}
    return found | {"dx": x.grad.numpy()}


def _packed(torch, layer, x, states):
    """(output, each last state) of rows of LENGTHS."""
    tools = torch.nn.utils.rnn
    packed = tools.pack_padded_sequence(
        x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    y, last = layer(packed, tuple(states) if len(states) > 1 else states[0])
    y, _ = tools.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
    return [y, *(last if len(states) > 1 else (last,))]


def main():
    stored = {
        f"{name}/{key}": value
        for name in CASES
        for key, value in torch_run(name).items()
    }
    np.savez_compressed(PATH, **stored)


if __name__ == "__main__":
    main()
