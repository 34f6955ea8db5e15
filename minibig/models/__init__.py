"""Models: one paper, one file."""

from .bert import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from .cnn import LeNet, LeNetConfig, ResNet, ResNetConfig
from .gpt import GPT, GPTConfig
from .llama import Llama, LlamaConfig, RopeScaling
from .lstm import LSTMClassifier, LSTMClassifierConfig
from .mlp import MLP, MLPConfig
from .transformer import Transformer, TransformerConfig
from .vit import ViT, ViTConfig
