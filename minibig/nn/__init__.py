"""Layers: Modules made of Parameters, named as torch.nn names them."""

from . import init
from .attention import MultiheadAttention
from .batch_norm import BatchNorm1d, BatchNorm2d
from .containers import ModuleList, Sequential
from .convolution import Conv2d
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
from .pooling import AvgPool2d, MaxPool2d
from .positions import (
    RotaryPositions,
    rotary,
    rotary_frequencies,
    sinusoidal_positions,
)
from .recurrent import LSTM, RNN
from .transformer import (
    ACTIVATIONS,
    FeedForward,
    SwiGLU,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
)
