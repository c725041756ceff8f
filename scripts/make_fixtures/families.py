"""The little models: every family's config.json as its authors publish it, with small dimensions that are not round."""

COMMON = {"hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16", "use_cache": True}


def gqa(kind, model_type, vocab, hidden, inter, layers, heads, kv=None, head_dim=None, **more):
    c = dict(COMMON, architectures=[kind], model_type=model_type, vocab_size=vocab, hidden_size=hidden, intermediate_size=inter,
             num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=512, rms_norm_eps=1e-6, rope_theta=10000.0,
             tie_word_embeddings=False, rope_scaling=None)
    if kv is not None:
        c["num_key_value_heads"] = kv
    if head_dim is not None:
        c["head_dim"] = head_dim
    c.update(more)
    return {k: v for k, v in c.items() if v != "absent"}


def llama(*dims, **more):
    return gqa("LlamaForCausalLM", "llama", *dims, **more)


def mistral(*dims, **more):
    return gqa("MistralForCausalLM", "mistral", *dims, **more)


def mixtral(*dims, experts, top_k, **more):
    return gqa("MixtralForCausalLM", "mixtral", *dims, num_local_experts=experts, num_experts_per_tok=top_k, output_router_logits=False,
               router_aux_loss_coef=0.02, **more)


def qwen2(*dims, **more):
    return gqa("Qwen2ForCausalLM", "qwen2", *dims, **dict({"use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 2}, **more))


def qwen3(*dims, **more):
    return gqa("Qwen3ForCausalLM", "qwen3", *dims, **dict({"use_sliding_window": False, "sliding_window": None, "attention_bias": False}, **more))


def qwen3_moe(*dims, **more):
    return gqa("Qwen3MoeForCausalLM", "qwen3_moe", *dims, **dict({"attention_bias": False, "use_sliding_window": False, "decoder_sparse_step": 1,
                                                                  "mlp_only_layers": []}, **more))


def deepseek(version, vocab, hidden, inter, layers, heads, q_lora, kv_lora, nope, rope, v, **more):
    c = gqa(f"DeepseekV{version}ForCausalLM", f"deepseek_v{version}", vocab, hidden, inter, layers, heads, kv=heads, q_lora_rank=q_lora,
            kv_lora_rank=kv_lora, qk_nope_head_dim=nope, qk_rope_head_dim=rope, v_head_dim=v, attention_bias=False, ep_size=1, moe_layer_freq=1,
            aux_loss_alpha=0.001, seq_aux=True, pretraining_tp=1)
    c.update({"topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": False, "n_group": 1, "topk_group": 1} if version == 2 else
             {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True, "num_nextn_predict_layers": 0})
    c.update(more)
    return c


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def yarn(factor, original, **more):
    return dict({"type": "yarn", "factor": factor, "original_max_position_embeddings": original, "beta_fast": 32, "beta_slow": 1}, **more)


# name: (config, dtype, length of the prompt)
FAMILIES = {
    "llama2": (llama(131, 60, 94, 3, 5, torch_dtype="float16"), "F16", 45),
    "llama2-gqa": (llama(107, 48, 62, 2, 6, kv=2, rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True,
                         rope_scaling={"type": "linear", "factor": 2.5}), "F32", 61),
    "llama2-dynamic": (llama(139, 66, 102, 2, 3, kv=1, rope_scaling={"type": "dynamic", "factor": 2.0}), "BF16", 270),
    "llama3": (llama(151, 56, 98, 3, 7, kv=1, head_dim=10, rms_norm_eps=1e-5, rope_theta=500000.0, rope_scaling=LLAMA3,
                     eos_token_id=[2, 8, 9]), "BF16", 301),
    "llama3-tied": (llama(157, 72, 90, 2, 4, kv=2, head_dim=22, tie_word_embeddings=True, rope_theta="absent", rope_scaling="absent",
                          rope_parameters=dict(LLAMA3, factor=32.0, rope_theta=500000.0)), "BF16", 90),
    "llama-yarn": (llama(113, 64, 86, 2, 4, kv=4, rope_scaling=yarn(4.0, 128, mscale=1.0, mscale_all_dim=0.6)), "BF16", 150),
    "deepseek-llm-7b": (llama(137, 68, 106, 3, 2, kv=2, rms_norm_eps=1e-6), "BF16", 52),
    "deepseek-llm-67b": (llama(133, 64, 114, 2, 8, kv=1, head_dim=14), "BF16", 47),
    "mistral": (mistral(149, 62, 100, 3, 6, kv=3, head_dim=14, rms_norm_eps=1e-5, sliding_window=37), "BF16", 300),
    "mistral-full": (mistral(121, 54, 118, 2, 4, kv=2, head_dim=22, rope_theta=1000000.0, sliding_window=None, rope_scaling="absent"), "BF16", 66),
    "mixtral": (mixtral(131, 50, 62, 2, 6, kv=2, head_dim=12, experts=5, top_k=2, rms_norm_eps=1e-5, rope_theta=1000000.0,
                        sliding_window=None), "BF16", 55),
    "mixtral-window": (mixtral(117, 42, 46, 2, 3, kv=1, head_dim=16, experts=7, top_k=3, rms_norm_eps=1e-5, sliding_window=19), "BF16", 120),
    "qwen2": (qwen2(153, 60, 112, 3, 6, kv=2, tie_word_embeddings=True, rope_theta=1000000.0), "BF16", 70),
    "qwen2-window": (qwen2(129, 56, 92, 4, 4, kv=2, use_sliding_window=True, sliding_window=29, max_window_layers=2), "BF16", 280),
    "qwen2.5-yarn": (qwen2(143, 56, 86, 2, 4, kv=1, rope_theta=1000000.0, max_position_embeddings=64, rope_scaling=yarn(4.0, 64)), "BF16", 200),
    "r1-distill-qwen": (qwen2(135, 70, 84, 2, 5, kv=5, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=3), "BF16", 40),
    "qwen3": (qwen3(147, 58, 104, 3, 6, kv=2, head_dim=16, tie_word_embeddings=True, rope_theta=1000000.0), "BF16", 75),
    "qwen3-bias": (qwen3(125, 66, 88, 2, 5, kv=1, head_dim=20, attention_bias=True, rope_theta="absent", rope_scaling="absent",
                         rope_parameters={"rope_type": "default", "rope_theta": 5000.0}), "BF16", 58),
    "qwen3-moe": (qwen3_moe(141, 54, 98, 3, 4, kv=2, head_dim=18, moe_intermediate_size=26, num_experts=9, num_experts_per_tok=3,
                            norm_topk_prob=True, mlp_only_layers=[1], rope_theta=1000000.0), "BF16", 62),
    "qwen3-moe-sparse": (qwen3_moe(119, 50, 90, 4, 6, kv=2, head_dim=10, moe_intermediate_size=34, num_experts=6, num_experts_per_tok=2,
                                   norm_topk_prob=False, decoder_sparse_step=2), "BF16", 48),
    "deepseek-v2-lite": (deepseek(2, 145, 60, 94, 3, 5, None, 26, 14, 10, 18, n_routed_experts=9, n_shared_experts=2, num_experts_per_tok=3,
                                  moe_intermediate_size=22, first_k_dense_replace=1, routed_scaling_factor=1.0,
                                  rope_scaling=yarn(4.0, 128, mscale=0.707, mscale_all_dim=0.707)), "BF16", 280),
    "deepseek-v2": (deepseek(2, 123, 66, 90, 3, 6, 34, 30, 18, 6, 10, n_routed_experts=12, n_shared_experts=1, num_experts_per_tok=3,
                             moe_intermediate_size=14, first_k_dense_replace=1, routed_scaling_factor=3.0, topk_method="group_limited_greedy",
                             n_group=4, topk_group=2, rope_scaling=yarn(4.0, 64, mscale=1.0, mscale_all_dim=1.0)), "BF16", 130),
    "deepseek-v3": (deepseek(3, 121, 66, 82, 3, 4, 38, 22, 12, 8, 20, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3,
                             moe_intermediate_size=14, first_k_dense_replace=1, routed_scaling_factor=2.5, n_group=4, topk_group=2,
                             num_nextn_predict_layers=1, rope_scaling=yarn(4.0, 128, mscale=1.0, mscale_all_dim=1.0)), "BF16", 310),
    "deepseek-v3-mscale": (deepseek(3, 111, 46, 70, 2, 7, None, 34, 16, 12, 8, n_routed_experts=10, n_shared_experts=2, num_experts_per_tok=3,
                                    moe_intermediate_size=14, first_k_dense_replace=0, routed_scaling_factor=1.7, n_group=2, topk_group=1,
                                    rms_norm_eps=1e-4, rope_scaling=yarn(3.0, 64, mscale=0.6, mscale_all_dim=1.2)), "BF16", 140),
    "deepseek-v3-fp8": (deepseek(3, 115, 150, 134, 2, 3, 130, 132, 40, 10, 44, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2,
                                 moe_intermediate_size=60, first_k_dense_replace=1, routed_scaling_factor=2.5, n_group=2, topk_group=1,
                                 quantization_config={"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                                                      "weight_block_size": [128, 128]}), "FP8", 50),
    "deepseek-v2-f32": (deepseek(2, 109, 60, 78, 2, 3, 30, 22, 14, 6, 12, n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2,
                                 moe_intermediate_size=18, first_k_dense_replace=1, routed_scaling_factor=2.0,
                                 torch_dtype="float32", rope_scaling=yarn(4.0, 64, mscale=0.707, mscale_all_dim=0.707)), "F32", 270),
    "deepseek-v3-f32": (deepseek(3, 107, 50, 74, 2, 5, None, 38, 10, 8, 22, n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=3,
                                 moe_intermediate_size=16, first_k_dense_replace=1, routed_scaling_factor=2.5, norm_topk_prob=False, n_group=2,
                                 topk_group=2, torch_dtype="float32"), "F32", 90),
}
