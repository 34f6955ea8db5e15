"""Writes blocks.npz: what PyTorch computes in attention, norms and Transformer layers.

    python -m tests.references.make_blocks

The cases stand here once, for this script and for the tests: inputs and parameters are
drawn from a seed, only outputs and gradients are stored, all in float64. The stored
numbers were made with PyTorch 2.13 on the CPU. Parameters bear minibig's names.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("blocks.npz")
B, T, S, C, H, INNER, V = 2, 5, 4, 8, 2, 12, 11  # INNER: width of the feed-forward net

# name: settings of scaled_dot_product_attention
ATTENTION = {
    "attention": {},
    "attention_causal": {"is_causal": True},
    "attention_boolean": {"mask": "boolean"},
    "attention_float": {"mask": "float"},
    "attention_scale": {"scale": 0.3},
}
NORMS = {"layer_norm": (C,), "layer_norm_two_axes": (T, C)}
# name: settings of the layer; pre-norm layers are causal, post-norm ones see padding
_PRE = {"norm_first": True, "activation": "gelu"}
_POST = {"norm_first": False, "activation": "relu"}
LAYERS = {
    "encoder_post_norm": _POST,
    "encoder_pre_norm": _PRE,
    "decoder_post_norm": _POST,
    "decoder_pre_norm": _PRE,
}
GPT = ("gpt",)
NAMES = (*ATTENTION, *NORMS, *LAYERS, *GPT)

_ATTENTION = {
    "in_proj.weight": (3 * C, C), "in_proj.bias": (3 * C,),
    "out_proj.weight": (C, C), "out_proj.bias": (C,),
}  # fmt: skip


def _layer(attentions, inner):
    """Names and shapes of a layer with these kinds of attention."""
    shapes = {f"{a}.{k}": s for a in attentions for k, s in _ATTENTION.items()}
    for n in range(1, len(attentions) + 2):
        shapes |= {f"norm{n}.weight": (C,), f"norm{n}.bias": (C,)}
    return shapes | {
        "feed_forward.linear1.weight": (inner, C),
        "feed_forward.linear1.bias": (inner,),
        "feed_forward.linear2.weight": (C, inner),
        "feed_forward.linear2.bias": (C,),
    }


def shapes_of(name):
    """{name: shape} of all float inputs and parameters of a case."""
    if name in ATTENTION:
        return {"q": (B, H, T, 3), "k": (B, H, S, 3), "v": (B, H, S, 4)}
    if name in NORMS:
        return {"x": (B, T, C), "weight": NORMS[name], "bias": NORMS[name]}
    if name.startswith("encoder"):
        return {"x": (B, T, C)} | _layer(["self_attn"], INNER)
    if name.startswith("decoder"):
        inputs = {"x": (B, T, C), "memory": (B, S, C)}
        return inputs | _layer(["self_attn", "cross_attn"], INNER)
    block = _layer(["self_attn"], 4 * C).items()
    outer = {
        "token_embedding.weight": (V, C), "position_embedding.weight": (T, C),
        "norm.weight": (C,), "norm.bias": (C,),
    }  # fmt: skip
    return outer | {
        f"blocks.{i}.{key}": shape for i in range(2) for key, shape in block
    }


def draws(name):
    """(float inputs and parameters, masks and ids), each by name."""
    rng = np.random.default_rng([7, NAMES.index(name)])
    floats = {
        key: rng.normal(size=shape) * (1 if key in ("x", "memory", *"qkv") else 0.4)
        for key, shape in shapes_of(name).items()
    }
    allowed = rng.random((T, S)) < 0.6
    allowed[:, 0] = True
    others = {
        "boolean": allowed,
        "float": np.where(allowed, rng.normal(size=(T, S)), -math.inf),
        "padding": np.arange(T) < np.array([[T], [3]]),  # True: a token
        "memory_padding": np.arange(S) < np.array([[2], [S]]),
        "ids": rng.integers(0, V, (B, T)),
    }
    return floats, others


def upstream_of(shape):
    return np.asarray(np.random.default_rng(8).uniform(-1, 1, shape))


# ---- the same in PyTorch ------------------------------------------------------------

_THEIR_NAMES = (
    ("in_proj.", "in_proj_"),
    ("cross_attn.", "multihead_attn."),
    ("feed_forward.", ""),
)


def _their_name(name):
    for ours, theirs in _THEIR_NAMES:
        name = name.replace(ours, theirs)
    return name


def _their_layer(torch, kind, settings, parameters, inner=INNER):
    """A PyTorch layer as a function of its inputs, computed with `parameters`."""
    layer = getattr(torch.nn, f"Transformer{kind.title()}Layer")(
        C, H, inner, dropout=0.0, batch_first=True, dtype=torch.float64, **settings
    )
    named = {_their_name(key): value for key, value in parameters.items()}
    return lambda *inputs, **masks: torch.func.functional_call(
        layer, named, inputs, masks
    )


def _ahead(torch):
    """True where PyTorch's layers must not look: at later tokens."""
    return torch.ones(T, T, dtype=torch.bool).triu(1)


def _their_blocks(torch, name, floats, others):
    x, memory = floats.pop("x"), floats.pop("memory", None)
    kind, settings = name.split("_")[0], LAYERS[name]
    call = _their_layer(torch, kind, settings, floats)
    causal, padded = _ahead(torch), ~others["padding"]
    seen = "src" if kind == "encoder" else "tgt"
    masks = {f"{seen}_mask": causal} if settings["norm_first"] else {}
    if not masks:
        masks[f"{seen}_key_padding_mask"] = padded
    if kind == "encoder":
        return call(x, **masks)
    masks["memory_key_padding_mask"] = ~others["memory_padding"]
    return call(x, memory, **masks)


def _their_gpt(torch, floats, others):
    functional = torch.nn.functional
    gelu = partial(functional.gelu, approximate="tanh")
    tokens = floats["token_embedding.weight"]
    x = tokens[others["ids"]] + floats["position_embedding.weight"]
    for i in range(2):
        own = f"blocks.{i}."
        parameters = {
            key.removeprefix(own): value
            for key, value in floats.items()
            if key.startswith(own)
        }
        settings = {"norm_first": True, "activation": gelu}
        block = _their_layer(torch, "encoder", settings, parameters, 4 * C)
        x = block(x, src_mask=_ahead(torch))
    x = functional.layer_norm(x, (C,), floats["norm.weight"], floats["norm.bias"])
    return x @ tokens.T


def torch_run(name):
    """{"output": …, "d<name>": gradient, …}, as float64 arrays, from PyTorch."""
    import torch

    floats, others = draws(name)
    leaves = {key: torch.tensor(x, requires_grad=True) for key, x in floats.items()}
    others = {key: torch.tensor(x) for key, x in others.items()}
    given = dict(leaves)
    if name in ATTENTION:
        settings = dict(ATTENTION[name])
        mask = others.get(settings.pop("mask", None))
        attend = torch.nn.functional.scaled_dot_product_attention
        y = attend(given["q"], given["k"], given["v"], mask, **settings)
    elif name in NORMS:
        norm = torch.nn.functional.layer_norm
        y = norm(given["x"], NORMS[name], given["weight"], given["bias"])
    elif name in LAYERS:
        y = _their_blocks(torch, name, given, others)
    else:
        y = _their_gpt(torch, given, others)
    y.backward(torch.tensor(upstream_of(y.shape)))
    found = {f"d{key}": x.grad.numpy() for key, x in leaves.items()}
    return {"output": y.detach().numpy()} | found


def main():
    stored = {
        f"{name}/{key}": value
        for name in NAMES
        for key, value in torch_run(name).items()
    }
    np.savez_compressed(PATH, **stored)


if __name__ == "__main__":
    main()
