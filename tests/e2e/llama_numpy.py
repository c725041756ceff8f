"""Llama in NumPy and float64, as plain as it can be: the reference of SmolLM2's logits. It shares nothing with Shoal, and is itself held
to what transformers answered (tests/fixtures/smollm2.json, made by scripts/make_fixtures/smollm2.py)."""

import numpy as np


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def rotated(x, theta):
    """x: [tokens, heads, dim], rotated by its position: element i goes with i + dim/2."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None, None] * theta ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


def attention(x, w, p, c):
    t, heads, kv = len(x), c["num_attention_heads"], c["num_key_value_heads"]
    dim = c["head_dim"] or c["hidden_size"] // heads
    q = rotated((x @ w[p + "q_proj.weight"].T).reshape(t, heads, dim), c["rope_theta"])
    k = rotated((x @ w[p + "k_proj.weight"].T).reshape(t, kv, dim), c["rope_theta"])
    v = (x @ w[p + "v_proj.weight"].T).reshape(t, kv, dim)
    out = np.empty((t, heads, dim))
    for h in range(heads):
        g = h * kv // heads
        s = np.where(np.tri(t, dtype=bool), q[:, h] @ k[:, g].T / np.sqrt(dim), -np.inf)
        e = np.exp(s - s.max(-1, keepdims=True))
        out[:, h] = e / e.sum(-1, keepdims=True) @ v[:, g]
    return out.reshape(t, -1) @ w[p + "o_proj.weight"].T


def mlp(x, w, p):
    gate = x @ w[p + "gate_proj.weight"].T
    return (gate / (1 + np.exp(-gate)) * (x @ w[p + "up_proj.weight"].T)) @ w[p + "down_proj.weight"].T


def logits(c, w, tokens):
    """c: config.json's values, w: name -> float64. [tokens, vocab]."""
    x, eps = w["model.embed_tokens.weight"][tokens], c["rms_norm_eps"]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        x = x + attention(rms_norm(x, w[p + "input_layernorm.weight"], eps), w, p + "self_attn.", c)
        x = x + mlp(rms_norm(x, w[p + "post_attention_layernorm.weight"], eps), w, p + "mlp.")
    head = "model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"
    return rms_norm(x, w["model.norm.weight"], eps) @ w[head].T
