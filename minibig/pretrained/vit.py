"""ViT's published weights, with or without a classifier."""

from ..models import ViT, ViTConfig
from .names import Weight, linear
from .settings import PUBLISHED, label_settings

TYPES = ("vit",)
ARCHITECTURES = {ViT: "ViTForImageClassification"}
TIED = {}


def config_of(settings):
    """Our config from theirs; ValueError where theirs asks for what ours lacks.

    Dropout of attention weights is as that of the rest.
    """
    settings.demand("qkv_bias", True)
    return settings.make(
        ViTConfig,
        image_size=settings.get("image_size", 224),
        patch_size=settings.get("patch_size", 16),
        n_classes=settings.classes(),
        n_layer=settings.get("num_hidden_layers", 12),
        n_head=settings.get("num_attention_heads", 12),
        n_embd=settings.get("hidden_size", 768),
        dim_feedforward=settings.get("intermediate_size", 3072),
        n_channels=settings.get("num_channels", 3),
        dropout=settings.get("hidden_dropout_prob", 0.0),
        activation=settings.activation("hidden_act", "gelu"),
        layer_norm_eps=settings.get("layer_norm_eps", 1e-12),
    )


def least(config):
    """How many numbers the matrices of such a model hold, all but its smallest part."""
    c = config
    patches = (c.image_size // c.patch_size) ** 2 + c.n_channels * c.patch_size**2
    layer = 4 * c.n_embd + 2 * c.dim_feedforward
    return c.n_embd * (patches + c.n_classes + c.n_layer * layer)


def settings_of(model):
    """Their config from our model's."""
    c = model.config
    return label_settings(c.n_classes) | {
        "attention_probs_dropout_prob": c.dropout,
        "hidden_act": PUBLISHED[c.activation],
        "hidden_dropout_prob": c.dropout,
        "hidden_size": c.n_embd,
        "image_size": c.image_size,
        "intermediate_size": c.dim_feedforward,
        "layer_norm_eps": c.layer_norm_eps,
        "num_attention_heads": c.n_head,
        "num_channels": c.n_channels,
        "num_hidden_layers": c.n_layer,
        "patch_size": c.patch_size,
        "qkv_bias": True,
    }


def make(cls, config, found):
    """The model that the found weights go into."""
    return cls(config)


def tidy_rules(cls):
    """Rewrites of names, and patterns of names to pass over."""
    return [(r"^vit\.", "")], [r"pooler\..*"]


def prefix_of(model):
    """A function from plain names to those that `transformers` writes."""
    return lambda name: name if name.startswith("classifier.") else f"vit.{name}"


def weights_of(model):
    """Every weight of ours and its published name."""
    c = model.config
    patch = (c.n_embd, c.n_channels, c.patch_size, c.patch_size)
    projection = "embeddings.patch_embeddings.projection"
    weights = [
        Weight("class_token", ("embeddings.cls_token",)),
        Weight("position_embedding", ("embeddings.position_embeddings",)),
        Weight("patch_embedding.weight", (f"{projection}.weight",), shape=patch),
        Weight("patch_embedding.bias", (f"{projection}.bias",)),
        *linear("norm", "layernorm"),
        *linear("classifier", "classifier"),
    ]
    for i in range(c.n_layer):
        ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
        heads = f"{theirs}.attention.attention"
        three = [f"{heads}.{name}" for name in ("query", "key", "value")]
        weights += [
            *linear(f"{ours}.self_attn.in_proj", *three),
            *linear(f"{ours}.self_attn.out_proj", f"{theirs}.attention.output.dense"),
            *linear(f"{ours}.norm1", f"{theirs}.layernorm_before"),
            *linear(f"{ours}.norm2", f"{theirs}.layernorm_after"),
            *linear(f"{ours}.feed_forward.linear1", f"{theirs}.intermediate.dense"),
            *linear(f"{ours}.feed_forward.linear2", f"{theirs}.output.dense"),
        ]
    return weights
