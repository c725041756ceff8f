"""Random models of every family: other dimensions and switches than the named ones of families.py, from a seed."""

import random

from families import LLAMA3, deepseek, llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, yarn

KINDS = ["llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3-moe", "deepseek-v2", "deepseek-v3"]


def even(r, low, high):
    return 2 * r.randint(low // 2, high // 2)


def rope(r, original):
    """Of the GQA families, as rope_scaling or the newer rope_parameters."""
    scaling = r.choice([None, {"rope_type": "linear", "factor": 3.0}, {"type": "dynamic", "factor": 4.0}, dict(LLAMA3, original_max_position_embeddings=32),
                        yarn(r.choice([2.0, 5.5]), original), yarn(4.0, original, mscale=0.8, mscale_all_dim=0.5), yarn(4.0, original, attention_factor=1.3),
                        yarn(8.0, original, truncate=False)])
    theta = r.choice([10000.0, 500000.0, 1234.5])
    if r.random() < 0.5:
        return {"rope_theta": theta, "rope_scaling": scaling}
    scaling = dict(scaling or {"rope_type": "default"}, rope_theta=theta)
    scaling["rope_type"] = scaling.pop("type", None) or scaling["rope_type"]
    return {"rope_theta": "absent", "rope_scaling": "absent", "rope_parameters": scaling}


def gqa_dims(r):
    kv, group = r.choice([1, 2, 3, 5]), r.choice([1, 1, 2, 3, 4, 9])
    heads = kv * group
    hidden = heads * even(r, 4, 14) if heads < 20 else heads * 2
    dims = dict(kv=kv)
    if r.random() < 0.6:
        dims["head_dim"] = even(r, 6, 40)
    return (r.randint(70, 230), hidden, even(r, 30, 140), r.randint(2, 4), heads), dims


def attention_window(r, layers):
    return r.choice([{}, {"use_sliding_window": True, "sliding_window": r.randint(5, 60), "max_window_layers": r.randint(0, layers)}])


def common(r):
    return {"tie_word_embeddings": r.random() < 0.4, "rms_norm_eps": r.choice([1e-6, 1e-5, 3e-4])}


def random_deepseek(r, version):
    heads, experts, groups = r.choice([1, 2, 3, 5, 7, 12]), r.choice([6, 8, 12, 16]), r.choice([1, 2])
    layers, dense = r.randint(2, 4), r.randint(0, 2)
    kept = r.randint(1, groups)
    more = dict(common(r), n_routed_experts=experts, n_shared_experts=r.choice([1, 2]), n_group=groups,
                topk_group=kept, num_experts_per_tok=r.randint(1, min(4, kept * experts // groups)), moe_intermediate_size=even(r, 10, 50), first_k_dense_replace=dense,
                routed_scaling_factor=r.choice([1.0, 2.5, 16.0]), norm_topk_prob=version == 3 and r.random() < 0.5)  # V2's is false wherever it was published; transformers leaves it out
    if version == 2:
        more["topk_method"] = "group_limited_greedy" if groups > 1 else r.choice(["greedy", "group_limited_greedy"])
    else:
        more["num_nextn_predict_layers"] = r.choice([0, 1])
    original = r.choice([32, 64])
    more["rope_scaling"] = r.choice([None, yarn(4.0, original, mscale=1.0, mscale_all_dim=1.0), yarn(40.0, original, mscale=0.707, mscale_all_dim=0.707),
                                     yarn(3.0, original, mscale=0.5, mscale_all_dim=1.4)])
    more["rope_theta"] = r.choice([10000.0, 50000.0])
    dims = (r.randint(70, 200), heads * even(r, 4, 14), even(r, 30, 110), layers, heads, r.choice([None, even(r, 8, 60)]), even(r, 8, 70), even(r, 4, 40),
            even(r, 4, 30), even(r, 4, 40))
    if r.random() < 0.25:
        more["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
    return deepseek(version, *dims, **more)


def random_family(kind, seed):
    """(config, dtype, length of the prompt)"""
    r = random.Random(f"{kind} {seed}")
    length, dtype = r.randint(30, 300), r.choice(["BF16", "BF16", "F16", "F32"])
    if kind.startswith("deepseek"):
        c = random_deepseek(r, int(kind[-1]))
        return c, "FP8" if "quantization_config" in c else dtype, length
    dims, more = gqa_dims(r)
    more.update(common(r), **rope(r, r.choice([32, 64, 128])))
    if kind == "llama":
        c = llama(*dims, attention_bias=r.random() < 0.4, mlp_bias=r.random() < 0.4, **more)
    elif kind == "mistral":
        c = mistral(*dims, sliding_window=r.choice([None, r.randint(3, 90)]), **more)
    elif kind == "mixtral":
        experts = r.randint(2, 9)
        c = mixtral(*dims, experts=experts, top_k=r.randint(1, experts), sliding_window=r.choice([None, r.randint(3, 90)]),
                    **dict({"head_dim": 22}, **more))  # transformers' yarn wants one
    elif kind == "qwen2":
        more.pop("head_dim", None)
        c = qwen2(*dims, **attention_window(r, dims[3]), **more)
    elif kind == "qwen3":
        c = qwen3(*dims, attention_bias=r.random() < 0.5, **attention_window(r, dims[3]), **dict({"head_dim": 24}, **more))
    else:
        experts = r.randint(3, 11)
        c = qwen3_moe(*dims, num_experts=experts, num_experts_per_tok=r.randint(1, experts), moe_intermediate_size=even(r, 10, 50), norm_topk_prob=r.random() < 0.5,
                      decoder_sparse_step=r.choice([1, 2]), mlp_only_layers=r.choice([[], [0], [1]]), attention_bias=r.random() < 0.3, **attention_window(r, dims[3]),
                      **dict({"head_dim": 20}, **more))
    return c, dtype, length
