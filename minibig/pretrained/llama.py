"""Llama's published weights: Llama 1 to 3.2, TinyLlama and others built alike."""

from ..models import Llama, LlamaConfig, RopeScaling
from .names import only

TYPES = ("llama",)
ARCHITECTURES = {Llama: "LlamaForCausalLM"}
TIED = {"lm_head.weight": "embed_tokens.weight"}


def config_of(settings):
    """Our config from theirs; ValueError where theirs asks for what ours lacks."""
    settings.demand("hidden_act", "silu")
    settings.demand("attention_bias", False)
    settings.demand("mlp_bias", False)
    settings.demand("sliding_window", None)
    base, scaling = _rope(settings)
    return settings.make(
        LlamaConfig,
        vocab_size=settings.get("vocab_size", 32000),
        context_length=settings.get("max_position_embeddings", 2048),
        n_layer=settings.get("num_hidden_layers", 32),
        n_head=settings.get("num_attention_heads", 32),
        n_embd=settings.get("hidden_size", 4096),
        dim_feedforward=settings.get("intermediate_size", 11008),
        n_kv_head=settings.get("num_key_value_heads"),
        head_width=settings.get("head_dim"),
        rope_base=base,
        rope_scaling=scaling,
        norm_eps=settings.get("rms_norm_eps", 1e-6),
        tied=settings.get("tie_word_embeddings", False),
    )


def _rope(settings):
    """Base and RopeScaling, which newer configs keep together and older ones apart."""
    rope = settings.part("rope_parameters") or settings.part("rope_scaling")
    base = rope.get("rope_theta", float(settings.get("rope_theta", 10000.0)))
    rope.demand("partial_rotary_factor", None, 1.0)
    kind = "rope_type" if rope.get("rope_type") else "type"
    rope.demand(kind, "default", "llama3")
    if rope.get(kind) != "llama3":
        return base, None
    return base, rope.make(
        RopeScaling,
        factor=rope.need("factor"),
        original_context=rope.need("original_max_position_embeddings"),
        low=rope.need("low_freq_factor"),
        high=rope.need("high_freq_factor"),
    )


def least(config):
    """How many numbers the matrices of such a model hold, all but its smallest part."""
    c = config
    heads = 2 * (c.n_head + c.n_kv_head) * c.head_width
    rows = c.vocab_size * (1 if c.tied else 2)
    return c.n_embd * (rows + c.n_layer * (heads + 3 * c.dim_feedforward))


def settings_of(model):
    """Their config from our model's."""
    c = model.config
    rope = {"rope_type": "default", "rope_theta": c.rope_base}
    if c.rope_scaling is not None:
        scaling = c.rope_scaling
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "high_freq_factor": scaling.high,
            "low_freq_factor": scaling.low,
            "original_max_position_embeddings": scaling.original_context,
        }
    return {
        "attention_bias": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "head_dim": c.head_width,
        "hidden_act": "silu",
        "hidden_size": c.n_embd,
        "intermediate_size": c.dim_feedforward,
        "max_position_embeddings": c.context_length,
        "mlp_bias": False,
        "num_attention_heads": c.n_head,
        "num_hidden_layers": c.n_layer,
        "num_key_value_heads": c.n_kv_head,
        "rms_norm_eps": c.norm_eps,
        "rope_parameters": rope,
        # Where versions of `transformers` before 5 look for the same:
        "rope_theta": c.rope_base,
        "rope_scaling": None if c.rope_scaling is None else rope,
        "tie_word_embeddings": c.tied,
        "vocab_size": c.vocab_size,
    }


def make(cls, config, found):
    """The model that the found weights go into."""
    return cls(config)


def tidy_rules(cls):
    """Rewrites of names, and patterns of names to pass over."""
    return [(r"^model\.", "")], [r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"]


def prefix_of(model):
    """A function from plain names to those that `transformers` writes."""
    return lambda name: name if name.startswith("lm_head") else f"model.{name}"


def weights_of(model):
    """Every weight of ours and its published name."""
    weights = [only("token_embedding", "embed_tokens"), only("norm", "norm")]
    for i in range(model.config.n_layer):
        weights += [
            only(f"blocks.{i}.{ours}", f"layers.{i}.{theirs}")
            for ours, theirs in (
                ("attention_norm", "input_layernorm"),
                ("attention.q_proj", "self_attn.q_proj"),
                ("attention.k_proj", "self_attn.k_proj"),
                ("attention.v_proj", "self_attn.v_proj"),
                ("attention.out_proj", "self_attn.o_proj"),
                ("feed_forward_norm", "post_attention_layernorm"),
                ("feed_forward.gate", "mlp.gate_proj"),
                ("feed_forward.linear1", "mlp.up_proj"),
                ("feed_forward.linear2", "mlp.down_proj"),
            )
        ]
    return weights if model.config.tied else [*weights, only("output", "lm_head")]
