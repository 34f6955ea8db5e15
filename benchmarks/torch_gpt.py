"""The same GPT in PyTorch: the rival of the benchmarks and the twin of the recipes.

Written as its users write it: nn.Linear, nn.LayerNorm, the fused attention, tanh-GELU,
one joined projection for queries, keys and values, tied embeddings.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Pre-norm attention and feed-forward net."""

    def __init__(self, c):
        super().__init__()
        self.heads = c.n_head
        self.norm1 = nn.LayerNorm(c.n_embd, bias=c.bias)
        self.in_proj = nn.Linear(c.n_embd, 3 * c.n_embd, bias=c.bias)
        self.out_proj = nn.Linear(c.n_embd, c.n_embd, bias=c.bias)
        self.norm2 = nn.LayerNorm(c.n_embd, bias=c.bias)
        self.linear1 = nn.Linear(c.n_embd, 4 * c.n_embd, bias=c.bias)
        self.linear2 = nn.Linear(4 * c.n_embd, c.n_embd, bias=c.bias)

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.in_proj(self.norm1(x)).split(width, 2)
        shape = (batch, length, self.heads, width // self.heads)
        q, k, v = (part.view(shape).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out_proj(y.transpose(1, 2).reshape(batch, length, width))
        hidden = F.gelu(self.linear1(self.norm2(x)), approximate="tanh")
        return x + self.linear2(hidden)


class TorchGPT(nn.Module):
    """As `minibig.models.GPT`, from the same GPTConfig, started alike."""

    def __init__(self, config):
        super().__init__()
        c = config
        self.tokens = nn.Embedding(c.vocab_size, c.n_embd)
        self.places = nn.Embedding(c.context_length, c.n_embd)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.norm = nn.LayerNorm(c.n_embd, bias=c.bias)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                into_stream = name.endswith(("out_proj.weight", "linear2.weight"))
                shrink = math.sqrt(2 * c.n_layer) if into_stream else 1.0
                nn.init.normal_(p, std=0.02 / shrink)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids):
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.tokens(ids) + self.places(places)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def loss_of(model, inputs, targets):
    """Cross-entropy in nats a token; targets of -100 do not count."""
    logits = model(inputs)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def make_optimizer(model, lr, beta2, weight_decay):
    """AdamW that decays matrices alone."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, beta2))
