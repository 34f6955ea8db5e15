"""GPT-2's published weights: matrices are (in, out), as its Conv1D layers had them."""

from ..models import GPT, GPTConfig
from .names import Weight, linear, only
from .settings import PUBLISHED

TYPES = ("gpt2",)
ARCHITECTURES = {GPT: "GPT2LMHeadModel"}
TIED = {"lm_head.weight": "wte.weight"}


def config_of(settings):
    """Our config from theirs; ValueError where theirs asks for what ours lacks.

    Of their three kinds of dropout ours is the one in the residual stream.
    """
    settings.demand("scale_attn_weights", True)
    settings.demand("scale_attn_by_inverse_layer_idx", False)
    settings.demand("add_cross_attention", False)
    width = settings.get("n_embd", 768)
    settings.demand("n_inner", None, 4 * width)
    return settings.make(
        GPTConfig,
        vocab_size=settings.get("vocab_size", 50257),
        context_length=settings.get("n_positions", settings.get("n_ctx", 1024)),
        n_layer=settings.get("n_layer", 12),
        n_head=settings.get("n_head", 12),
        n_embd=width,
        dropout=settings.get("resid_pdrop", 0.1),
        activation=settings.activation("activation_function", "gelu_new"),
        layer_norm_eps=settings.get("layer_norm_epsilon", 1e-5),
        tied=settings.get("tie_word_embeddings", True),
    )


def least(config):
    """How many numbers the matrices of such a model hold, all but its smallest part."""
    c = config
    rows = c.vocab_size * (1 if c.tied else 2) + c.context_length
    return rows * c.n_embd + c.n_layer * 12 * c.n_embd**2


def settings_of(model):
    """Their config from our model's."""
    c = model.config
    dropout = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), c.dropout)
    return dropout | {
        "activation_function": PUBLISHED[c.activation],
        "bos_token_id": None,
        "eos_token_id": None,
        "layer_norm_epsilon": c.layer_norm_eps,
        "n_embd": c.n_embd,
        "n_head": c.n_head,
        "n_layer": c.n_layer,
        "n_positions": c.context_length,
        "tie_word_embeddings": c.tied,
        "vocab_size": c.vocab_size,
    }


def make(cls, config, found):
    """The model that the found weights go into."""
    return cls(config)


def tidy_rules(cls):
    """Rewrites of names, and patterns of names to pass over (masks kept as buffers)."""
    return [(r"^transformer\.", "")], [r"h\.\d+\.attn\.(bias|masked_bias)"]


def prefix_of(model):
    """A function from plain names to those that `transformers` writes."""
    return lambda name: name if name.startswith("lm_head") else f"transformer.{name}"


def weights_of(model):
    """Every weight of ours and its published name. Theirs always have biases."""
    c = model.config
    weights = [
        only("token_embedding", "wte"),
        only("position_embedding", "wpe"),
        *linear("norm", "ln_f"),
    ]
    for i in range(c.n_layer):
        ours, theirs = f"blocks.{i}", f"h.{i}"
        weights += [
            *linear(f"{ours}.norm1", f"{theirs}.ln_1"),
            *linear(f"{ours}.norm2", f"{theirs}.ln_2"),
        ]
        for name, published in (
            ("self_attn.in_proj", "attn.c_attn"),
            ("self_attn.out_proj", "attn.c_proj"),
            ("feed_forward.linear1", "mlp.c_fc"),
            ("feed_forward.linear2", "mlp.c_proj"),
        ):
            weights += linear(
                f"{ours}.{name}", f"{theirs}.{published}", transposed=True
            )
    return (
        weights if c.tied else [*weights, Weight("output.weight", ("lm_head.weight",))]
    )
