"""The op table: a Record for each public differentiable function of minibig.

Whoever adds an op adds its record, in the file named after the module (operators:
arithmetic). `tests/test_ops.py` holds every record against differences, and
`tests/test_oracles.py` against HIPS autograd and PyTorch; `tests/test_op_table.py` sees
that none is missing.
"""

from . import (
    arithmetic,
    images,
    indexing,
    layers,
    losses,
    neural,
    positions,
    recurrence,
    reductions,
    shaping,
)
from .record import Record, Sample, is_float, kinds, leaf, several

RECORDS = [
    *arithmetic.RECORDS,
    *reductions.RECORDS,
    *shaping.RECORDS,
    *indexing.RECORDS,
    *neural.RECORDS,
    *layers.RECORDS,
    *losses.RECORDS,
    *positions.RECORDS,
    *images.RECORDS,
    *recurrence.RECORDS,
]
