"""The record of rotary positions."""

import numpy

import minibig as mb
from minibig.nn import rotary, rotary_frequencies

from .neural import VECTORS
from .record import Record, Sample, refuses
from .samplers import layouts, normal


def _samples(rng):
    found = [x for x in layouts(rng).values() if x.ndim > 1 and x.shape[-1] % 2 == 0]
    found += [
        normal(rng, (2, 3, 4, 6)).swapaxes(1, 2),
        normal(rng, (0, 4)),
        normal(rng, (2, 0, 2)),
        normal(rng, (5, 6))[::-1, ::-1],
        normal(rng, (4, 6))[::2, ::3],
        normal(rng, (1, 1, 2)),
        normal(rng, (3, 8)),
        normal(rng, (2, 70, 2)),
        numpy.broadcast_to(normal(rng, (3, 1, 4)), (3, 2, 4)),
    ]
    return [
        Sample((x,), {"frequencies": rotary_frequencies(x.shape[-1]), "offset": i % 3})
        for i, x in enumerate(found)
    ]


def _rotary(np, x, frequencies, offset=0):
    half = x.shape[-1] // 2
    places = numpy.arange(offset, offset + x.shape[-2])[:, None]
    angles = places * numpy.array(frequencies)
    left, right = x[..., :half], x[..., half:]
    cos, sin = numpy.cos(angles), numpy.sin(angles)
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def _torch_rotary(torch, x, frequencies, offset=0):
    half = x.shape[-1] // 2
    places = torch.arange(offset, offset + x.shape[-2], dtype=torch.float64)
    angles = places[:, None] * torch.tensor(frequencies, dtype=torch.float64)
    turns = torch.polar(torch.ones_like(angles), angles)
    points = torch.complex(x[..., :half].double(), x[..., half:].double()) * turns
    return torch.cat([points.real, points.imag], -1).to(x.dtype)


ROTARY = Record(
    "nn.rotary", rotary, _rotary, _samples, _torch_rotary,
    errors=(
        refuses(TypeError, lambda: rotary(mb.arange(4), (1.0,)), "rotary", "int64"),
        refuses(
            ValueError, lambda: rotary(mb.ones(2, 4), (1.0,)), "(2, 4)", "rows of 2"
        ),
        refuses(ValueError, lambda: rotary(mb.ones(2), (1.0,)), "(2,)"),
        refuses(ValueError, lambda: rotary_frequencies(5), "even", "5"),
        refuses(ValueError, lambda: rotary_frequencies(4, 0), "base", "0"),
    ),
    domain="matrices of an even width", admits=VECTORS - {"1-d"},
)  # fmt: skip

RECORDS = [ROTARY]
