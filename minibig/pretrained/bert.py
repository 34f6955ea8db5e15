"""BERT's published weights, for the encoder and each of its heads."""

from ..models import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from .names import Weight, linear, only
from .settings import PUBLISHED, label_settings

TYPES = ("bert",)
ARCHITECTURES = {
    BERT: "BertModel",
    BERTForMaskedLM: "BertForMaskedLM",
    BERTForSequenceClassification: "BertForSequenceClassification",
    BERTForTokenClassification: "BertForTokenClassification",
}
TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
GUESSING, CLASSES, POOLER = r"cls\.predictions\..*", r"classifier\..*", r"pooler\..*"
# What a folder may hold beside the weights that a class is made of.
PASSED_OVER = {
    BERT: (GUESSING, CLASSES),
    BERTForMaskedLM: (CLASSES, POOLER),
    BERTForSequenceClassification: (GUESSING,),
    BERTForTokenClassification: (GUESSING, POOLER),
}


def config_of(settings):
    """Our config from theirs; ValueError where theirs asks for what ours lacks.

    Dropout of attention weights is as that of the rest.
    """
    settings.demand("position_embedding_type", "absolute")
    settings.demand("is_decoder", False)
    settings.demand("add_cross_attention", False)
    return settings.make(
        BERTConfig,
        vocab_size=settings.get("vocab_size", 30522),
        context_length=settings.get("max_position_embeddings", 512),
        n_layer=settings.get("num_hidden_layers", 12),
        n_head=settings.get("num_attention_heads", 12),
        n_embd=settings.get("hidden_size", 768),
        dim_feedforward=settings.get("intermediate_size", 3072),
        n_types=settings.get("type_vocab_size", 2),
        n_classes=settings.classes(),
        dropout=settings.get("hidden_dropout_prob", 0.1),
        activation=settings.activation("hidden_act", "gelu"),
        layer_norm_eps=settings.get("layer_norm_eps", 1e-12),
        tied=settings.get("tie_word_embeddings", True),
    )


def least(config):
    """How many numbers the matrices of such a model hold, all but its smallest part."""
    c = config
    rows = c.vocab_size + c.context_length + c.n_types + c.n_classes
    return c.n_embd * (rows + c.n_layer * (4 * c.n_embd + 2 * c.dim_feedforward))


def settings_of(model):
    """Their config from our model's."""
    c = model.config
    return label_settings(c.n_classes) | {
        "attention_probs_dropout_prob": c.dropout,
        "hidden_act": PUBLISHED[c.activation],
        "hidden_dropout_prob": c.dropout,
        "hidden_size": c.n_embd,
        "intermediate_size": c.dim_feedforward,
        "layer_norm_eps": c.layer_norm_eps,
        "max_position_embeddings": c.context_length,
        "num_attention_heads": c.n_head,
        "num_hidden_layers": c.n_layer,
        "tie_word_embeddings": c.tied,
        "type_vocab_size": c.n_types,
        "vocab_size": c.vocab_size,
    }


def make(cls, config, found):
    """The model that the found weights go into; an encoder may come without pooler."""
    if issubclass(cls, BERT):
        return cls(config, pooler=any(name.startswith("pooler.") for name in found))
    return cls(config)


def tidy_rules(cls):
    """Rewrites of names, and patterns of names to pass over."""
    rules = [
        (r"^bert\.", ""),
        (r"LayerNorm\.gamma$", "LayerNorm.weight"),
        (r"LayerNorm\.beta$", "LayerNorm.bias"),
    ]
    buffers = (
        r"embeddings\.(position_ids|token_type_ids)",
        r"cls\.seq_relationship\..*",
    )
    return rules, (*buffers, *PASSED_OVER[cls])


def prefix_of(model):
    """A function from plain names to those that `transformers` writes."""
    heads = ("cls.", "classifier.")
    bare = isinstance(model, BERT)
    return lambda name: name if bare or name.startswith(heads) else f"bert.{name}"


def weights_of(model):
    """Every weight of ours and its published name."""
    bare = isinstance(model, BERT)
    encoder = model if bare else model.bert
    weights = encoder_weights(model.config, encoder.pooler, "" if bare else "bert.")
    if isinstance(model, BERTForMaskedLM):
        guess = "cls.predictions"
        weights += [
            *linear("dense", f"{guess}.transform.dense"),
            *linear("norm", f"{guess}.transform.LayerNorm"),
            Weight("bias", (f"{guess}.bias",)),
        ]
        if not model.config.tied:  # then theirs has two biases, of which this one acts
            weights.append(only("output", f"{guess}.decoder"))
            weights.append(Weight("bias", (f"{guess}.decoder.bias",)))
    elif not bare:
        weights += linear("classifier", "classifier")
    return weights


def encoder_weights(config, pooler, prefix):
    """Those of the encoder; our names begin with `prefix`."""
    weights = [
        only(f"{prefix}token_embedding", "embeddings.word_embeddings"),
        only(f"{prefix}position_embedding", "embeddings.position_embeddings"),
        only(f"{prefix}type_embedding", "embeddings.token_type_embeddings"),
        *linear(f"{prefix}norm", "embeddings.LayerNorm"),
    ]
    for i in range(config.n_layer):
        ours, theirs = f"{prefix}blocks.{i}", f"encoder.layer.{i}"
        three = [
            f"{theirs}.attention.self.{name}" for name in ("query", "key", "value")
        ]
        weights += [
            *linear(f"{ours}.self_attn.in_proj", *three),
            *linear(f"{ours}.self_attn.out_proj", f"{theirs}.attention.output.dense"),
            *linear(f"{ours}.norm1", f"{theirs}.attention.output.LayerNorm"),
            *linear(f"{ours}.feed_forward.linear1", f"{theirs}.intermediate.dense"),
            *linear(f"{ours}.feed_forward.linear2", f"{theirs}.output.dense"),
            *linear(f"{ours}.norm2", f"{theirs}.output.LayerNorm"),
        ]
    return weights + list(linear(f"{prefix}pooler", "pooler.dense")) * bool(pooler)
