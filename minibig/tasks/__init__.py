"""Named runs by family: data, model, loss and judgement, one file each."""

from .base import Preset, Task
from .dates import DatesPreset
from .digits import CNNPreset, DigitsPreset, MLPPreset, ViTPreset
from .language import CORPORA, GPTPreset, LanguagePreset, LlamaPreset, TextError
from .masked_language import BERTPreset
from .sentences import LSTMPreset
