"""Training runs that have a name: the same numbers for notebooks and command line.

A preset says what is read, how large the model is and how it is trained, in the fields
of its family's class (`tasks/`); `recipes.train` carries it out.
"""

from .tasks import (
    BERTPreset,
    CNNPreset,
    DatesPreset,
    GPTPreset,
    LlamaPreset,
    LSTMPreset,
    MLPPreset,
    ViTPreset,
)

PRESETS = {
    "demo": GPTPreset(
        about="one minute: the Python documentation in byte-level BPE pieces",
        corpus="documentation", tokenizer="bpe", vocab_size=1024, context_length=64,
        n_layer=4, n_head=4, n_embd=128, batch_size=12, steps=700, lr=3e-3, min_lr=3e-4,
        warmup=50, prompt="The",
    ),
    "nanogpt-cpu": GPTPreset(
        about="nanoGPT's small CPU recipe, in characters; made for --text FILE",
        corpus="documentation", tokenizer="char", vocab_size=None, context_length=64,
        n_layer=4, n_head=4, n_embd=128, batch_size=12, steps=2000, lr=1e-3,
        min_lr=1e-4, warmup=100,
    ),
    "gpt": GPTPreset(
        about="little stories whose best possible loss is known exactly",
        corpus="tales", tokenizer="word", vocab_size=None, context_length=75, n_layer=3,
        n_head=4, n_embd=96, batch_size=16, steps=800, lr=3e-3, min_lr=7.5e-5,
        warmup=50, weight_decay=0.01, init_std=0.06, prompt="",
    ),
    "llama": LlamaPreset(
        about="the same stories, by what changed in language models since GPT-2",
        corpus="tales", tokenizer="word", vocab_size=None, context_length=75, n_layer=3,
        n_head=4, n_kv_head=2, n_embd=96, dim_feedforward=288, batch_size=16,
        steps=800, lr=3e-3, min_lr=7.5e-5, warmup=50, weight_decay=0.01,
        init_std=0.06, prompt="",
    ),
    "transformer": DatesPreset(
        about="dates in eight languages, made into ISO dates",
        n_layer=2, n_head=4, n_embd=64, dim_feedforward=256, batch_size=64, steps=1200,
        lr=3e-3, min_lr=6e-5, warmup=100,
    ),
    "bert": BERTPreset(
        about="words left out of the Python documentation and docstrings",
        vocab_size=2800, context_length=64, n_layer=3, n_head=4, n_embd=128,
        dim_feedforward=512, batch_size=32, steps=200, lr=2e-3, min_lr=2e-5, warmup=100,
        weight_decay=0.01,
    ),
    "lstm": LSTMPreset(
        about="sentences of docstrings: real, or their words shuffled?",
        n_embd=64, hidden_size=64, dropout=0.3, batch_size=64, steps=2000, lr=3e-3,
        min_lr=3e-5, warmup=100, weight_decay=0.01,
    ),
    "mlp": MLPPreset(
        about="handwritten digits, read by 512 hidden units",
        hidden=(512,), dropout=0.3, batch_size=32, steps=2500, lr=3e-3, min_lr=1e-5,
        warmup=50, weight_decay=0.01, label_smoothing=0.1, degrees=10, shift=0.7,
        scale=0.1,
    ),
    "cnn": CNNPreset(
        about="handwritten digits, read by a LeNet",
        kernel_size=3, widths=(32, 64), hidden=(120, 84), dropout=0.3, batch_size=32,
        steps=1500, lr=2e-3, min_lr=1e-5, warmup=50, weight_decay=0.01,
        label_smoothing=0.1, degrees=10, shift=0.7, scale=0.1,
    ),
    "vit": ViTPreset(
        about="handwritten digits, read patch by patch by a Transformer",
        patch_size=2, n_layer=3, n_head=6, n_embd=48, dim_feedforward=96,
        batch_size=32, steps=1500, lr=3e-3, min_lr=1e-5, warmup=100, beta2=0.99,
        weight_decay=0.05, degrees=10, shift=0.7, scale=0.1,
    ),
}  # fmt: skip
