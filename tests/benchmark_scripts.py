"""What the tests of the benchmarks for a GPU share: the scripts, a machine."""

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(os, "environ", dict(os.environ))  # they set threads for themselves
    patch.syspath_prepend(FOLDER)
    import gpu
    import gpu_attention
    import gpu_attention_report
    import gpu_train
    import gpu_train_report
    from gpu_attention_report import Case

__all__ = [
    "ABOUT", "CEILINGS", "FOLDER", "SCRIPTS", "SMALL", "Case", "gpu", "gpu_attention",
    "gpu_attention_report", "gpu_train", "gpu_train_report",
]  # fmt: skip

SCRIPTS = "gpu_attention.py", "gpu_train.py"
CEILINGS = {"products": {"bfloat16": {"CuPy": 700.0, "PyTorch": 800.0},
                         "float16": {"CuPy": 750.0}, "float32": {"CuPy": 50.0}},
            "copy": 4.3}  # fmt: skip
ABOUT = {"machine": "A chip, driver 1.2", "sixteen": "bfloat16", "chip": 90,
         "torch": True, "ceilings": CEILINGS}  # fmt: skip
SMALL = {"vocab_size": 32, "context_length": 8, "n_layer": 1, "n_head": 1,
         "n_embd": 32}  # fmt: skip
