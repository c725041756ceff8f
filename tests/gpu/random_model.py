#!/usr/bin/env python3
"""A model of a published shape with normal random weights in bf16, as a Hugging Face folder, made on the GPU: random_model.py SPEC DIR."""

import json
import os
import struct
import sys

import torch

SPECS = {
    "llama3-8b": dict(vocab=128256, hidden=4096, layers=32, heads=32, kv=8, head=128, inter=14336),
    "deepseek-v2-lite": dict(vocab=102400, hidden=2048, layers=27, heads=16, inter=10944, expert=1408, experts=64, shared=2, top=6,
                             kv_lora=512, nope=128, rope=64, v=128),
}


def llama(s):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": s["vocab"], "hidden_size": s["hidden"],
              "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"], "num_key_value_heads": s["kv"],
              "intermediate_size": s["inter"], "max_position_embeddings": 131072, "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
              "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16", "eos_token_id": 1, "bos_token_id": 0}
    yield "model.embed_tokens.weight", (s["vocab"], s["hidden"])
    for i in range(s["layers"]):
        p = f"model.layers.{i}."
        for name, n in (("q", s["heads"]), ("k", s["kv"]), ("v", s["kv"])):
            yield p + f"self_attn.{name}_proj.weight", (n * s["head"], s["hidden"])
        yield p + "self_attn.o_proj.weight", (s["hidden"], s["heads"] * s["head"])
        yield from mlp(p + "mlp.", s["inter"], s["hidden"])
        yield p + "input_layernorm.weight", (s["hidden"],)
        yield p + "post_attention_layernorm.weight", (s["hidden"],)
    yield "model.norm.weight", (s["hidden"],)
    yield "lm_head.weight", (s["vocab"], s["hidden"])
    yield "config", config


def mlp(p, inter, hidden):
    yield p + "gate_proj.weight", (inter, hidden)
    yield p + "up_proj.weight", (inter, hidden)
    yield p + "down_proj.weight", (hidden, inter)


def deepseek(s):
    config = {"architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "vocab_size": s["vocab"], "hidden_size": s["hidden"],
              "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"], "num_key_value_heads": s["heads"],
              "intermediate_size": s["inter"], "moe_intermediate_size": s["expert"], "n_routed_experts": s["experts"],
              "n_shared_experts": s["shared"], "num_experts_per_tok": s["top"], "first_k_dense_replace": 1, "moe_layer_freq": 1,
              "q_lora_rank": None, "kv_lora_rank": s["kv_lora"], "qk_nope_head_dim": s["nope"], "qk_rope_head_dim": s["rope"],
              "v_head_dim": s["v"], "n_group": 1, "topk_group": 1, "topk_method": "greedy", "scoring_func": "softmax",
              "norm_topk_prob": False, "routed_scaling_factor": 1.0, "max_position_embeddings": 32768, "rope_theta": 10000,
              "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False,
              "torch_dtype": "bfloat16", "eos_token_id": 1, "bos_token_id": 0}
    yield "model.embed_tokens.weight", (s["vocab"], s["hidden"])
    for i in range(s["layers"]):
        p = f"model.layers.{i}."
        yield p + "self_attn.q_proj.weight", (s["heads"] * (s["nope"] + s["rope"]), s["hidden"])
        yield p + "self_attn.kv_a_proj_with_mqa.weight", (s["kv_lora"] + s["rope"], s["hidden"])
        yield p + "self_attn.kv_a_layernorm.weight", (s["kv_lora"],)
        yield p + "self_attn.kv_b_proj.weight", (s["heads"] * (s["nope"] + s["v"]), s["kv_lora"])
        yield p + "self_attn.o_proj.weight", (s["hidden"], s["heads"] * s["v"])
        yield p + "input_layernorm.weight", (s["hidden"],)
        yield p + "post_attention_layernorm.weight", (s["hidden"],)
        if i == 0:
            yield from mlp(p + "mlp.", s["inter"], s["hidden"])
            continue
        yield p + "mlp.gate.weight", (s["experts"], s["hidden"])
        yield from mlp(p + "mlp.shared_experts.", s["shared"] * s["expert"], s["hidden"])
        for x in range(s["experts"]):
            yield from mlp(p + f"mlp.experts.{x}.", s["expert"], s["hidden"])
    yield "model.norm.weight", (s["hidden"],)
    yield "lm_head.weight", (s["vocab"], s["hidden"])
    yield "config", config


def main():
    spec, folder = SPECS[sys.argv[1]], sys.argv[2]
    os.makedirs(folder)
    tensors = dict(deepseek(spec) if "kv_lora" in spec else llama(spec))
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(tensors.pop("config"), f)
    head, at = {}, 0
    for name, shape in tensors.items():
        size = 2 * torch.Size(shape).numel()
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator("cuda").manual_seed(1)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for shape in tensors.values():
            x = torch.ones(shape, device="cuda") if len(shape) == 1 else torch.randn(shape, generator=generator, device="cuda") / shape[1] ** 0.5
            f.write(x.bfloat16().view(torch.uint8).cpu().numpy().tobytes())


main()
