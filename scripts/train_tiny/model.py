"""DeepSeek-V3's architecture in plain PyTorch, made for training a very small one fast.

A batch is one flat stream of T tokens: examples of any length laid end to end, each seeing only itself. So there are no
rows, no padding inside a batch and one shape for torch.compile. Every expert is computed for every token and multiplied by
its gate (zero for those not chosen): at this size that is faster than gathering. Parameter names are those of the published
checkpoints, but for the experts, which are stacked here (export.py takes them apart).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def yarn_mscale(factor, mscale):
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def yarn_frequencies(c):
    """Rotary frequencies after YaRN (arXiv 2309.00071): high ones kept, low ones divided by the factor, a ramp between."""
    dim, base, s = c["qk_rope_head_dim"], c["rope_theta"], c["rope_scaling"]
    freq = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)

    def turns_dim(turns):  # the (fractional) dimension that makes this many turns over the original context
        return dim * math.log(s["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(turns_dim(s["beta_fast"])), 0)
    high = min(math.ceil(turns_dim(s["beta_slow"])), dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float64) - low) / max(high - low, 0.001)).clamp(0, 1)
    return (freq / s["factor"] * ramp + freq * (1 - ramp)).float()


def rope_tables(c, device=None):
    """cos and sin, [max_position, rope/2]. The factor on both is 1 where mscale equals mscale_all_dim."""
    s = c["rope_scaling"]
    angle = torch.outer(torch.arange(c["max_position_embeddings"], dtype=torch.float32), yarn_frequencies(c))
    scale = yarn_mscale(s["factor"], s["mscale"]) / yarn_mscale(s["factor"], s["mscale_all_dim"])
    return (angle.cos() * scale).to(device), (angle.sin() * scale).to(device)


def rotate(x, cos, sin):
    """Rotates the pairs (0,1), (2,3), … of the last dimension: x [T, heads, rope], cos and sin [T, rope/2]."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


class Spans:
    """Where the examples of a flat batch begin: starts [n + 1] int32, starts[0] = 0, starts[n] = T; repeats allowed."""

    def __init__(self, starts, longest):
        self.starts, self.longest = starts, longest


def attend(q, k, v, spans, scale):
    """q and k [T, heads, qk], v [T, heads, value] → [T, heads, value]. Flash attention where it runs, else one by one."""
    if q.is_cuda and q.dtype == torch.bfloat16:
        from torch.nn.attention.varlen import varlen_attn

        wide = F.pad(v, (0, q.shape[-1] - v.shape[-1]))  # the kernel wants one width
        out = varlen_attn(
            q, k, wide, spans.starts, spans.starts, spans.longest, spans.longest, scale=scale, window_size=(-1, 0)
        )
        return out[..., : v.shape[-1]]
    starts, out = spans.starts.tolist(), []
    for a, b in zip(starts, starts[1:]):
        if a == b:
            continue
        one = (x[a:b].transpose(0, 1)[None] for x in (q, k, v))
        out.append(F.scaled_dot_product_attention(*one, is_causal=True, scale=scale)[0].transpose(0, 1))
    return torch.cat(out)


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def linear(n_in, n_out, residual_layers=0):
    """Weights of variance 1/n_in; those that write to the residual stream are smaller the more of them there are."""
    m = nn.Linear(n_in, n_out, bias=False)
    nn.init.normal_(m.weight, std=n_in**-0.5 / (math.sqrt(2 * residual_layers) if residual_layers else 1))
    return m


class Attention(nn.Module):
    """Multi-head latent attention in its expanded form."""

    def __init__(self, c):
        super().__init__()
        self.heads, self.rank = c["num_attention_heads"], c["kv_lora_rank"]
        self.nope, self.rope, self.value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        d, eps = c["hidden_size"], c["rms_norm_eps"]
        self.q_a_proj = linear(d, c["q_lora_rank"])
        self.q_a_layernorm = RMSNorm(c["q_lora_rank"], eps)
        self.q_b_proj = linear(c["q_lora_rank"], self.heads * (self.nope + self.rope))
        self.kv_a_proj_with_mqa = linear(d, self.rank + self.rope)
        self.kv_a_layernorm = RMSNorm(self.rank, eps)
        self.kv_b_proj = linear(self.rank, self.heads * (self.nope + self.value))
        self.o_proj = linear(self.heads * self.value, d, c["num_hidden_layers"])
        m = yarn_mscale(c["rope_scaling"]["factor"], c["rope_scaling"]["mscale_all_dim"])
        self.scale = (self.nope + self.rope) ** -0.5 * m * m

    def forward(self, x, cos, sin, spans):
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).unflatten(-1, (self.heads, -1))
        q_nope, q_rope = q.split((self.nope, self.rope), dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split((self.rank, self.rope), dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (self.heads, -1))
        k_nope, v = kv.split((self.nope, self.value), dim=-1)
        k_rope = rotate(k_rope[:, None], cos, sin).to(v.dtype).expand(-1, self.heads, -1)
        q = torch.cat((q_nope, rotate(q_rope, cos, sin).to(v.dtype)), dim=-1)
        k = torch.cat((k_nope, k_rope), dim=-1)
        return self.o_proj(attend(q, k, v, spans, self.scale).flatten(-2))


class MLP(nn.Module):
    def __init__(self, c, inner):
        super().__init__()
        self.gate_proj = linear(c["hidden_size"], inner)
        self.up_proj = linear(c["hidden_size"], inner)
        self.down_proj = linear(inner, c["hidden_size"], c["num_hidden_layers"])

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Gate(nn.Module):
    """Sigmoid scores; a bias, which only chooses, keeps the experts evenly used (noaux_tc, arXiv 2412.19437 §2.1.2)."""

    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c["n_routed_experts"], c["hidden_size"]) * c["hidden_size"] ** -0.5)
        self.register_buffer("e_score_correction_bias", torch.zeros(c["n_routed_experts"]))
        self.groups, self.keep_groups = c["n_group"], c["topk_group"]
        self.k, self.factor = c["num_experts_per_tok"], c["routed_scaling_factor"]

    def forward(self, x):
        """→ the weight of every expert for every token [T, E], zero where not chosen."""
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.weight.float()).sigmoid()
        with torch.no_grad():
            choice = (scores + self.e_score_correction_bias).unflatten(-1, (self.groups, -1))
            kept = choice.topk(2, dim=-1).values.sum(-1).topk(self.keep_groups, dim=-1).indices
            allowed = torch.zeros_like(choice[..., 0]).scatter(-1, kept, 1.0).bool()
            choice = choice.masked_fill(~allowed[..., None], float("-inf")).flatten(-2)
            chosen = torch.zeros_like(scores).scatter(-1, choice.topk(self.k, dim=-1).indices, 1.0)
        weights = scores * chosen
        return weights / (weights.sum(-1, keepdim=True) + 1e-20) * self.factor


class MoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        n, d, inner = c["n_routed_experts"], c["hidden_size"], c["moe_intermediate_size"]
        self.gate = Gate(c)
        self.gate_up = nn.Parameter(torch.randn(n, 2 * inner, d) * d**-0.5)
        self.down = nn.Parameter(torch.randn(n, d, inner) * (inner * 2 * c["num_hidden_layers"]) ** -0.5)
        self.shared_experts = MLP(c, inner * c["n_shared_experts"])
        self.load = None  # tokens per expert in the latest forward

    def forward(self, x):
        weights = self.gate(x)
        self.load = (weights.detach() > 0).sum(0).float()
        gate, up = F.linear(x, self.gate_up.flatten(0, 1)).unflatten(-1, (self.gate_up.shape[0], -1)).chunk(2, dim=-1)
        inner = F.silu(gate) * up * weights[..., None].to(gate.dtype)
        routed = F.linear(inner.flatten(-2), self.down.transpose(0, 1).flatten(1))
        return routed + self.shared_experts(x)


class Layer(nn.Module):
    def __init__(self, c, index):
        super().__init__()
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        dense = index < c["first_k_dense_replace"] or index % c["moe_layer_freq"] != 0
        self.mlp = MLP(c, c["intermediate_size"]) if dense else MoE(c)

    def forward(self, x, cos, sin, spans):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, spans)
        return x + self.mlp(self.post_attention_layernorm(x))


class SharedHead(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])


class NextN(Layer):
    """The multi-token-prediction layer: from the main model's output at i (after its last norm) and token i + 1 it makes
    token i + 2."""

    def __init__(self, c):
        super().__init__(c, c["num_hidden_layers"])
        self.enorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.hnorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.eh_proj = linear(2 * c["hidden_size"], c["hidden_size"])
        self.shared_head = SharedHead(c)

    def forward(self, hidden, embedded_next, cos, sin, spans):
        x = self.eh_proj(torch.cat((self.enorm(embedded_next), self.hnorm(hidden)), dim=-1))
        return self.shared_head.norm(super().forward(x, cos, sin, spans))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        nn.init.normal_(self.embed_tokens.weight, std=c["hidden_size"] ** -0.5)
        self.layers = nn.ModuleList(Layer(c, i) for i in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        nn.init.normal_(self.lm_head.weight, std=c["initializer_range"])
        self.nextn = NextN(c)
        cos, sin = rope_tables(c)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def hidden(self, ids, positions, spans):
        cos, sin = self.cos[positions], self.sin[positions]
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin, spans)
        return self.norm(x)

    def forward(self, ids, positions, spans):
        """ids and positions [T] → logits [T, vocabulary]."""
        return self.head(self.hidden(ids, positions, spans))

    def head(self, hidden):
        with torch.autocast(hidden.device.type, enabled=False):  # certainty near 1 needs finer logits than bf16
            return self.lm_head(hidden.float())

    def ahead(self, hidden, ids, positions, spans):
        """hidden, of which the logits are of the next token → the MTP layer's logits of the token after it."""
        cos, sin = self.cos[positions], self.sin[positions]
        return self.head(self.nextn(hidden, self.embed_tokens(ids.roll(-1)), cos, sin, spans))

    def losses(self, ids, positions, weights, starts, longest):
        """Weighted cross-entropy of the next token, and of the one after it from the MTP layer; and the experts' loads, a
        row per MoE layer. weights [T] belong to the tokens as targets; where an example begins they are 0."""
        spans = Spans(starts, longest)
        hidden = self.hidden(ids, positions, spans)
        main = weighted_loss(self.head(hidden), ids, weights, 1)
        second = weights * (positions > 1)  # predicted from two tokens before: that must be the same example
        ahead = weighted_loss(self.ahead(hidden, ids, positions, spans), ids, second, 2)
        return main, ahead, torch.stack([m.load for m in self.moes()])

    def moes(self):
        return [m for m in self.modules() if isinstance(m, MoE)]


def weighted_loss(logits, ids, weights, shift):
    """Position i predicts token i + shift."""
    weights = weights[shift:]
    each = F.cross_entropy(logits[:-shift].float(), ids[shift:], reduction="none")
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)
