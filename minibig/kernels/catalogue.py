"""Every .cu file, with its template arguments and the chips that they are meant for.

Tests compile all of it. sm_75 is Turing (T4, RTX 20), sm_80 Ampere (A100), sm_86 its
small sister (RTX 30; sm_89, RTX 40, runs the same code), sm_90 Hopper; sm_90a is Hopper
with instructions that no other chip has.
"""

from .problem import WIDTHS

ALL_CHIPS = ("sm_75", "sm_80", "sm_86", "sm_90")
AMPERE_ON = ("sm_80", "sm_86", "sm_90")
HOPPER = ("sm_90a",)

_NO_TEMPLATE = {(): ALL_CHIPS}
_KINDS = ("float", "float16", "bfloat16")
_FLASH = {(kind, width): ALL_CHIPS for kind in _KINDS for width in WIDTHS}
_MMA = {(kind, w): AMPERE_ON for kind in ("float16", "bfloat16") for w in WIDTHS}
_HOPPER = {(kind, w): HOPPER for kind in ("float16", "bfloat16") for w in WIDTHS}
_FUSED = {(kind,): ALL_CHIPS for kind in _KINDS}
_NORM = {(kind, centre): ALL_CHIPS for kind in _KINDS for centre in ("true", "false")}
_CAST = {
    pair: ALL_CHIPS
    for kind in _KINDS[1:]
    for pair in (("float", kind), (kind, "float"))
}

# file → {template arguments: chips}
CATALOGUE = {
    "attention_naive_forward.cu": _NO_TEMPLATE,
    "attention_naive_backward.cu": _NO_TEMPLATE,
    "attention_tiled_forward.cu": _NO_TEMPLATE,
    "attention_tiled_backward.cu": _NO_TEMPLATE,
    "attention_flash_forward.cu": _FLASH,
    "attention_flash_backward.cu": _FLASH,
    "attention_mma_forward.cu": _MMA,
    "attention_mma_backward.cu": _MMA,
    "attention_hopper_forward.cu": _HOPPER,
    "attention_hopper_backward.cu": _HOPPER,
    "dropout_mask.cu": _NO_TEMPLATE,
    "softmax_forward.cu": _FUSED,
    "softmax_backward.cu": _FUSED,
    "norm_forward.cu": _NORM,
    "norm_backward.cu": _NORM,
    "cross_entropy_forward.cu": _FUSED,
    "cross_entropy_backward.cu": _FUSED,
    "activation_forward.cu": _FUSED,
    "activation_backward.cu": _FUSED,
    "column_sums.cu": _FUSED,
    "embedding_backward.cu": _FUSED,
    "adam.cu": _NO_TEMPLATE,
    "cast.cu": _CAST,
    "gradient_norm.cu": _NO_TEMPLATE,
    "gradient_clip.cu": _NO_TEMPLATE,
}
