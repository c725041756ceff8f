"""Random weights under the names and in the shapes of the published checkpoints, and their files."""

import torch
from safetensors.torch import save_file

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "FP8": torch.bfloat16}
BLOCK = 128  # of FP8's scales


def mlp(out, p, hidden, inter, bias=False, names=("gate_proj", "up_proj", "down_proj")):
    for name, shape in zip(names, ((inter, hidden), (inter, hidden), (hidden, inter))):
        out[f"{p}{name}.weight"] = shape
        if bias:
            out[f"{p}{name}.bias"] = shape[:1]


def gqa_attention(out, a, c, kind):
    d, heads = c["hidden_size"], c["num_attention_heads"]
    kv, hd = c.get("num_key_value_heads", heads), c.get("head_dim", d // heads)
    for name, shape in (("q", (heads * hd, d)), ("k", (kv * hd, d)), ("v", (kv * hd, d)), ("o", (d, heads * hd))):
        out[f"{a}{name}_proj.weight"] = shape
        if c.get("attention_bias") or (kind == "Qwen2ForCausalLM" and name != "o"):
            out[f"{a}{name}_proj.bias"] = shape[:1]
    if kind.startswith("Qwen3"):
        out[a + "q_norm.weight"] = out[a + "k_norm.weight"] = (hd,)


def mla_attention(out, a, c):
    d, heads, rope, lora = c["hidden_size"], c["num_attention_heads"], c["qk_rope_head_dim"], c["kv_lora_rank"]
    q, r = heads * (c["qk_nope_head_dim"] + rope), c["q_lora_rank"]
    if r:
        out.update({a + "q_a_proj.weight": (r, d), a + "q_a_layernorm.weight": (r,), a + "q_b_proj.weight": (q, r)})
    else:
        out[a + "q_proj.weight"] = (q, d)
    out.update({a + "kv_a_proj_with_mqa.weight": (lora + rope, d), a + "kv_a_layernorm.weight": (lora,),
                a + "kv_b_proj.weight": (heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), lora),
                a + "o_proj.weight": (d, heads * c["v_head_dim"])})


def feed_forward(out, p, c, kind, layer):
    d = c["hidden_size"]
    if kind == "MixtralForCausalLM":
        out[p + "block_sparse_moe.gate.weight"] = (c["num_local_experts"], d)
        for x in range(c["num_local_experts"]):
            mlp(out, f"{p}block_sparse_moe.experts.{x}.", d, c["intermediate_size"], names=("w1", "w3", "w2"))
        return
    experts = c.get("num_experts", 0) if kind == "Qwen3MoeForCausalLM" else c.get("n_routed_experts", 0)
    dense = layer < c.get("first_k_dense_replace", 0) or layer in c.get("mlp_only_layers", []) or (layer + 1) % c.get("decoder_sparse_step", 1)
    if not experts or dense:
        mlp(out, p + "mlp.", d, c["intermediate_size"], c.get("mlp_bias", False))
        return
    out[p + "mlp.gate.weight"] = (experts, d)
    if kind == "DeepseekV3ForCausalLM":
        out[p + "mlp.gate.e_score_correction_bias"] = (experts,)
    for x in range(experts):
        mlp(out, f"{p}mlp.experts.{x}.", d, c["moe_intermediate_size"])
    if c.get("n_shared_experts"):
        mlp(out, p + "mlp.shared_experts.", d, c["moe_intermediate_size"] * c["n_shared_experts"])


def shapes(c):
    """name -> shape of every tensor in the file; the second value names those that only the file has (multi-token prediction)."""
    kind, d = c["architectures"][0], c["hidden_size"]
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.norm.weight": (d,)}
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (c["vocab_size"], d)
    n, extra = c["num_hidden_layers"], c.get("num_nextn_predict_layers", 0)
    for i in range(n + extra):
        p = f"model.layers.{i}."
        out[p + "input_layernorm.weight"] = out[p + "post_attention_layernorm.weight"] = (d,)
        mla_attention(out, p + "self_attn.", c) if "kv_lora_rank" in c else gqa_attention(out, p + "self_attn.", c, kind)
        feed_forward(out, p, c, kind, i)
        if i >= n:
            out.update({p + "embed_tokens.weight": (c["vocab_size"], d), p + "enorm.weight": (d,), p + "hnorm.weight": (d,),
                        p + "eh_proj.weight": (d, 2 * d), p + "shared_head.norm.weight": (d,), p + "shared_head.head.weight": (c["vocab_size"], d)})
    return out, {name for name in out if any(name.startswith(f"model.layers.{i}.") for i in range(n, n + extra))}


def random_weights(c, generator):
    """Scaled so that every part of a layer counts and the logits have spread."""
    def value(name, shape):
        x = torch.randn(shape, generator=generator)
        if "norm" in name:
            return 1 + 0.2 * x
        if "kv_a_proj" in name or "q_a_proj" in name:
            return x * (0.02 if c["rms_norm_eps"] > 1e-5 else 1.5) / shape[1] ** 0.5  # small: there the norm's epsilon shows
        if len(shape) == 1:
            return 0.1 * x
        return x * ((0.3 if c["tie_word_embeddings"] else 1) if "embed" in name else 1.5 / shape[1] ** 0.5)

    return {name: value(name, shape) for name, shape in shapes(c)[0].items()}


def is_fp8(name, w):
    return w.dim() == 2 and not any(part in name for part in ("embed_tokens", "lm_head", "mlp.gate.", "eh_proj", "shared_head"))


def to_fp8(w):
    """(e4m3 values, scales of 128 x 128 blocks, and what both mean as fp32)"""
    rows, cols = (-(-n // BLOCK) for n in w.shape)
    scale = torch.empty(rows, cols)
    q, back = torch.empty(w.shape, dtype=torch.float8_e4m3fn), torch.empty_like(w)
    for i in range(rows):
        for j in range(cols):
            at = (slice(i * BLOCK, (i + 1) * BLOCK), slice(j * BLOCK, (j + 1) * BLOCK))
            scale[i, j] = w[at].abs().max() / 448
            q[at] = (w[at] / scale[i, j]).to(torch.float8_e4m3fn)
            back[at] = q[at].float() * scale[i, j]
    return q, scale, back


def rounded_activations(x):
    """What a vector's elements become for a product with an FP8 matrix: e4m3, every 128 of them with a scale, greatest / 448."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % BLOCK))
    groups = padded.reshape(*padded.shape[:-1], -1, BLOCK)
    scale = (groups.abs().amax(-1, keepdim=True) / 448).clamp_min(1e-30)
    values = (groups / scale).float().to(torch.float8_e4m3fn).to(x.dtype)
    return (values * scale).reshape(padded.shape)[..., :x.shape[-1]]


def stored(weights, dtype):
    """(the checkpoint's tensors, the same values in fp32 by the model's names)"""
    file, exact = {}, {}
    for name, w in weights.items():
        if dtype == "FP8" and is_fp8(name, w):
            file[name], file[name.replace(".weight", ".weight_scale_inv")], exact[name] = to_fp8(w)
        else:
            file[name] = w if "e_score_correction_bias" in name else w.to(DTYPES[dtype])
            exact[name] = file[name].float()
    return file, exact


def write(path, tensors):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"format": "pt"})
