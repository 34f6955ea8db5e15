"""Layers: Modules made of Parameters, named as torch.nn names them."""

from . import init
from .attention import MultiheadAttention
from .containers import ModuleList, Sequential
from .layers import (
    GELU,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    ReLU,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from .module import Buffer, Module, Parameter, evaluating
from .transformer import FeedForward, TransformerDecoderLayer, TransformerEncoderLayer
