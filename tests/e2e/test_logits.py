"""shoal-model against the reference on random small models of every supported kind, and against bad input."""
import json
import os
import subprocess

import numpy as np
import pytest

from reference import BLOCK, Reference, quantised, read_tensors, write_tensors

SHOAL_MODEL = os.path.join(os.environ.get("SHOAL_BUILD", "build"), "bin", "shoal-model")
BOUND = 2e-3  # of max |difference| / max |logit|


def run(*args):
    return subprocess.run([SHOAL_MODEL, *args], capture_output=True, text=True, timeout=60)


def pick(rng, *choices):
    return choices[rng.integers(len(choices))]


def random_config(kind, rng):
    even = lambda lo, hi: int(rng.integers(lo // 2, hi // 2 + 1)) * 2
    c = {"vocab_size": int(rng.integers(50, 400)), "hidden_size": even(32, 160), "num_hidden_layers": int(rng.integers(1, 4)),
         "max_position_embeddings": 512, "rms_norm_eps": pick(rng, 1e-6, 1e-5), "rope_theta": pick(rng, 10000, 500000.0),
         "intermediate_size": even(32, 200), "tie_word_embeddings": bool(rng.integers(2)), "eos_token_id": pick(rng, 1, [1, 2])}
    heads = int(rng.integers(1, 13))
    c["num_attention_heads"] = heads
    yarn = {"factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 32, "beta_slow": 1}
    if kind.startswith("Deepseek"):
        experts = 4 * int(rng.integers(2, 6))
        c.update(q_lora_rank=pick(rng, None, even(16, 64)), kv_lora_rank=even(8, 80), qk_nope_head_dim=even(8, 40),
                 qk_rope_head_dim=even(4, 24), v_head_dim=even(6, 40), n_routed_experts=experts, n_shared_experts=pick(rng, None, 1, 2),
                 num_experts_per_tok=int(rng.integers(1, 5)), moe_intermediate_size=even(16, 60), n_group=4, topk_group=2,
                 first_k_dense_replace=int(rng.integers(0, 2)), moe_layer_freq=1, routed_scaling_factor=pick(rng, 1.0, 2.5))
        v3 = kind.startswith("DeepseekV3")
        c.update(norm_topk_prob=v3, scoring_func="sigmoid" if v3 else "softmax",
                 topk_method="noaux_tc" if v3 else pick(rng, "greedy", "group_limited_greedy"))
        c["num_experts_per_tok"] = min(c["num_experts_per_tok"], experts // 2)
        c["rope_scaling"] = pick(rng, None, dict(yarn, type="yarn", mscale=1.0, mscale_all_dim=1.0),
                                 dict(yarn, type="yarn", mscale=0.707, mscale_all_dim=0.707))
    else:
        c["num_key_value_heads"] = pick(rng, *[k for k in range(1, heads + 1) if heads % k == 0])
        c["head_dim"] = even(4, 48)
        c["rope_scaling"] = pick(rng, None, {"type": "linear", "factor": 2.0}, dict(yarn, rope_type="yarn"),
                                 {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 64})
        if rng.integers(4) == 0:
            c["head_dim"], c["partial_rotary_factor"] = 4 * (c["head_dim"] // 4 + 1), 0.5
        if kind.startswith("Mistral"):
            c["sliding_window"] = int(rng.integers(5, 200))
        if kind.startswith("Llama"):
            c.update(attention_bias=bool(rng.integers(2)), mlp_bias=bool(rng.integers(2)))
        if rng.integers(2):  # the newer way of saying the same
            c["rope_parameters"] = dict(c.pop("rope_scaling") or {"rope_type": "default"}, rope_theta=c.pop("rope_theta"))
    c["architectures"] = [kind]
    return c


def shapes(c):
    d, kind = c["hidden_size"], c["architectures"][0]
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.norm.weight": (d,)}
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (c["vocab_size"], d)

    def mlp(p, inter, bias):
        for name, shape in (("gate_proj", (inter, d)), ("up_proj", (inter, d)), ("down_proj", (d, inter))):
            out[p + name + ".weight"] = shape
            if bias:
                out[p + name + ".bias"] = shape[:1]

    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        a, h = p + "self_attn.", c["num_attention_heads"]
        out[p + "input_layernorm.weight"] = out[p + "post_attention_layernorm.weight"] = (d,)
        if kind.startswith("Deepseek"):
            q, lora, rope = h * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"]), c["kv_lora_rank"], c["qk_rope_head_dim"]
            if c["q_lora_rank"]:
                r = c["q_lora_rank"]
                out.update({a + "q_a_proj.weight": (r, d), a + "q_a_layernorm.weight": (r,), a + "q_b_proj.weight": (q, r)})
            else:
                out[a + "q_proj.weight"] = (q, d)
            out.update({a + "kv_a_proj_with_mqa.weight": (lora + rope, d), a + "kv_a_layernorm.weight": (lora,),
                        a + "kv_b_proj.weight": (h * (c["qk_nope_head_dim"] + c["v_head_dim"]), lora),
                        a + "o_proj.weight": (d, h * c["v_head_dim"])})
            if i >= c["first_k_dense_replace"]:
                out[p + "mlp.gate.weight"] = (c["n_routed_experts"], d)
                if kind.startswith("DeepseekV3"):
                    out[p + "mlp.gate.e_score_correction_bias"] = (c["n_routed_experts"],)
                for x in range(c["n_routed_experts"]):
                    mlp(f"{p}mlp.experts.{x}.", c["moe_intermediate_size"], False)
                if c["n_shared_experts"]:
                    mlp(p + "mlp.shared_experts.", c["moe_intermediate_size"] * c["n_shared_experts"], False)
                continue
        else:
            hd, kv = c["head_dim"], c["num_key_value_heads"]
            for name, n in (("q_proj", h * hd), ("k_proj", kv * hd), ("v_proj", kv * hd)):
                out[a + name + ".weight"] = (n, d)
                if kind.startswith("Qwen2") or c.get("attention_bias"):
                    out[a + name + ".bias"] = (n,)
            out[a + "o_proj.weight"] = (d, h * hd)
            if c.get("attention_bias"):
                out[a + "o_proj.bias"] = (d,)
            if kind.startswith("Qwen3"):
                out[a + "q_norm.weight"] = out[a + "k_norm.weight"] = (hd,)
        mlp(p + "mlp.", c["intermediate_size"], c.get("mlp_bias", False))
    return out


def write_model(folder, c, rng, dtype):
    def value(name, shape):
        if "norm" in name:
            return 1 + 0.2 * rng.standard_normal(shape)
        if len(shape) == 1:
            return 0.1 * rng.standard_normal(shape)
        return rng.standard_normal(shape) * (1 if "embed" in name else 1.5 / shape[1] ** 0.5)

    tensors = {name: value(name, shape) for name, shape in shapes(c).items()}
    if dtype == "FP8":
        dtype, plain = "BF16", ("embed_tokens", "lm_head", "mlp.gate.")
        for name in [n for n in tensors if tensors[n].ndim == 2 and not any(p in n for p in plain)]:
            tensors[name], tensors[name + "_scale_inv"] = quantised(tensors[name])
        c["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(c, f)
    names = list(tensors)
    cut = len(names) // 2
    if rng.integers(2):
        write_tensors(os.path.join(folder, "model.safetensors"), tensors, dtype)
        return
    weight_map = {}
    for file, part in (("model-00001-of-00002.safetensors", names[:cut]), ("model-00002-of-00002.safetensors", names[cut:])):
        write_tensors(os.path.join(folder, file), {n: tensors[n] for n in part}, dtype)
        weight_map.update({n: file for n in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": weight_map}, f)


def compare(folder, rng):
    ref = Reference(folder)
    vocab = ref.c["vocab_size"]
    worst = 0.0
    for n in (1, 17, 400):
        tokens = rng.integers(0, vocab, n)
        want = ref.logits(tokens)[-1]
        r = run("logits", "--model", folder, "--tokens", ",".join(map(str, tokens)), "--top", str(vocab))
        assert r.returncode == 0, r.stderr
        top = json.loads(r.stdout)["next_top"]
        got = np.empty(vocab)
        got[[t[0] for t in top]] = [t[1] for t in top]
        size = np.abs(want).max()
        error = np.abs(got - want).max() / size
        worst = max(worst, error)
        assert error <= BOUND, f"{ref.arch} {ref.c}: {n} tokens: relative error {error:.2e}"
        order = np.argsort(-want)
        clear = want[order[:5]] - want[order[1:6]] > 2 * BOUND * size
        for place in range(5):
            if clear[:place + 1].all():
                assert top[place][0] == order[place], (ref.arch, place, top[:5], order[:5])
    return worst


KINDS = ["DeepseekV3ForCausalLM"] * 6 + ["DeepseekV2ForCausalLM"] * 4 + ["LlamaForCausalLM"] * 6
KINDS += ["MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"] * 2


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_logits_agree_with_the_reference(seed, tmp_path):
    rng = np.random.default_rng(seed)
    write_model(tmp_path, random_config(KINDS[seed], rng), rng, "BF16" if seed % 4 else pick(rng, "F32", "F16"))
    error = compare(str(tmp_path), rng)
    print(f"{KINDS[seed]}: relative error {error:.1e}")


@pytest.mark.parametrize("seed", range(3))
def test_fp8_in_blocks_is_what_its_scales_say(seed, tmp_path):
    rng = np.random.default_rng(100 + seed)
    c = random_config("DeepseekV3ForCausalLM" if seed < 2 else "LlamaForCausalLM", rng)
    c["hidden_size"] += 128  # so that there are blocks of all widths
    c["intermediate_size"] += 2 * int(rng.integers(0, 100))
    write_model(tmp_path, c, rng, "FP8")
    error = compare(str(tmp_path), rng)
    print(f"{c['architectures'][0]} in FP8: relative error {error:.1e}")


def test_fp8_stays_bytes_and_has_the_bits_of_the_values_that_it_means(tmp_path):
    rng = np.random.default_rng(103)
    c = random_config("DeepseekV3ForCausalLM", rng)
    c.update(hidden_size=300, intermediate_size=262, moe_intermediate_size=140)
    packed, plain = tmp_path / "fp8", tmp_path / "f32"
    packed.mkdir(), plain.mkdir()
    write_model(packed, c, rng, "FP8")
    bytes_of = lambda name: shapes(c)[name][1:] and not any(part in name for part in ("embed_tokens", "lm_head", "mlp.gate."))
    values = {name: w.astype(np.float32) if bytes_of(name) else w for name, w in read_tensors(str(packed)).items()}  # rounded once
    write_tensors(str(plain / "model.safetensors"), values)
    (plain / "config.json").write_text(json.dumps({k: v for k, v in c.items() if k != "quantization_config"}))
    tokens = ",".join(map(str, rng.integers(0, c["vocab_size"], 70)))
    ask = lambda folder, *more: run("logits", "--model", str(folder), "--tokens", tokens, "--top", "1000", *more).stdout
    assert ask(packed) == ask(plain) != ""
    assert ask(packed, "--chunk", "1") == ask(plain)
    assert ask(packed, "--numeric", "w8a8") not in ("", ask(plain)) and ask(packed, "--numeric", "w8a8") == ask(packed, "--numeric", "w8a8", "--chunk", "3")
    taken = [json.loads(run("inspect", "--model", str(folder), "--json").stdout)["memory"]["weights_bytes"] for folder in (packed, plain)]
    assert taken[0] < 0.6 * taken[1], taken  # embedding and head are bf16
    refused("FP8 checkpoints", "logits", "--model", str(plain), "--tokens", "1", "--numeric", "w8a8")
    refused("--numeric takes", "logits", "--model", str(plain), "--tokens", "1", "--numeric", "fp4")


def test_logits_after_every_token_are_those_of_each_prompt(tmp_path):
    rng = np.random.default_rng(12)
    c = random_config("DeepseekV2ForCausalLM", rng)
    write_model(tmp_path, c, rng, "BF16")
    tokens = rng.integers(0, c["vocab_size"], 150)
    ids = lambda n: ",".join(map(str, tokens[:n]))
    every = run("logits", "--model", str(tmp_path), "--tokens", ids(150), "--top", str(c["vocab_size"]), "--all")
    assert every.returncode == 0, every.stderr
    lines, want = [json.loads(line) for line in every.stdout.splitlines()], Reference(str(tmp_path)).logits(tokens)
    assert [line["position"] for line in lines] == list(range(150))
    for line, exact in zip(lines, want):
        for token, logit in line["next_top"]:
            assert abs(logit - exact[token]) <= BOUND * np.abs(exact).max()
    one = run("logits", "--model", str(tmp_path), "--tokens", ids(101), "--top", str(c["vocab_size"]))
    assert json.loads(one.stdout)["next_top"] == lines[100]["next_top"]


def test_no_instruction_set_changes_a_bit(tmp_path):
    rng = np.random.default_rng(11)
    ran = set()
    for i, (kind, dtype) in enumerate((("DeepseekV2ForCausalLM", "BF16"), ("LlamaForCausalLM", "F16"), ("DeepseekV3ForCausalLM", "FP8"))):
        folder = tmp_path / str(i)
        folder.mkdir()
        c = random_config(kind, rng)
        write_model(folder, c, rng, dtype)
        tokens = ",".join(map(str, rng.integers(0, c["vocab_size"], 90)))
        for quant in ((), ("--quant", "int8"), ("--quant", "int4")):
            results = set()
            for isa in ("best", "generic", "avx2", "avx512", "avx512-bf16"):
                r = run("logits", "--model", str(folder), "--tokens", tokens, "--top", "1000", "--isa", isa, *quant)
                if r.returncode != 0:
                    assert isa.startswith("avx") and "this processor lacks" in r.stderr, r.stderr
                    continue
                results.add(r.stdout)
                ran.add(isa)
            assert len(results) == 1, (kind, quant)
    assert {"best", "generic"} <= ran
    refused("--isa takes", "logits", "--model", str(folder), "--tokens", "1", "--isa", "sse")


def test_inspect_counts_parameters_bytes_and_memory(tmp_path):
    rng = np.random.default_rng(7)
    c = random_config("DeepseekV3ForCausalLM", rng)
    write_model(tmp_path, c, rng, "FP8")
    r = run("inspect", "--model", str(tmp_path), "--context", "100", "--sequences", "3", "--json")
    assert r.returncode == 0, r.stderr
    got, sizes = json.loads(r.stdout), {n: int(np.prod(s)) for n, s in shapes(c).items()}
    assert got["parameters"] == sum(sizes.values()) and got["architecture"] == "DeepseekV3ForCausalLM"
    plain = sum(n for name, n in sizes.items() if len(shapes(c)[name]) == 1 or any(p in name for p in ("embed", "lm_head", "mlp.gate.")))
    assert got["dtypes"]["F8_E4M3"]["bytes"] == sum(sizes.values()) - plain
    assert got["dtypes"]["BF16"]["bytes"] == 2 * plain
    memory = got["memory"]
    assert memory["kv_bytes"] == 300 * memory["kv_bytes_per_token"] and memory["needed_bytes"] > memory["kv_bytes"] + memory["weights_bytes"]
    text = run("inspect", "--model", str(tmp_path))
    assert text.returncode == 0 and "latent attention" in text.stdout and "F8_E4M3" in text.stdout
    refused("config.json is missing", "inspect", "--model", str(tmp_path / "none"))
    refused("a context of", "inspect", "--model", str(tmp_path), "--context", "100000")


def test_a_terminal_sees_how_far_loading_is(tmp_path):
    rng = np.random.default_rng(8)
    write_model(tmp_path, random_config("LlamaForCausalLM", rng), rng, "BF16")
    try:
        ours, theirs = os.openpty()
    except OSError as e:
        pytest.skip(f"SKIPPED LOUDLY: there are no pseudo-terminals here ({e})")
    p = subprocess.Popen([SHOAL_MODEL, "logits", "--model", str(tmp_path), "--tokens", "1"], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert p.wait(60) == 0
    assert b"loading [####" in os.read(ours, 65536)
    os.close(ours)
    assert run("logits", "--model", str(tmp_path), "--tokens", "1").stderr == ""


def test_generate_takes_the_likeliest_token_each_time(tmp_path):
    rng = np.random.default_rng(5)
    c = random_config("DeepseekV3ForCausalLM", rng)
    write_model(tmp_path, c, rng, "BF16")
    ref, tokens = Reference(str(tmp_path)), [3, 1, 4]
    args = ("generate", "--model", str(tmp_path), "--tokens", "3,1,4", "--max-tokens", "20")
    r = run(*args, "--ignore-eos")
    assert r.returncode == 0, r.stderr
    got = json.loads(r.stdout)
    assert len(got["tokens"]) == len(got["logprobs"]) == 20
    for token, logprob in zip(got["tokens"], got["logprobs"]):
        want = ref.logits(np.array(tokens))[-1]
        total = want.max() + np.log(np.exp(want - want.max()).sum())
        assert want.max() - want[token] <= 2 * BOUND * np.abs(want).max()
        assert abs(logprob - (want[token] - total)) <= 2 * BOUND * np.abs(want).max()
        tokens.append(token)
    with open(tmp_path / "generation_config.json", "w") as f:
        json.dump({"eos_token_id": got["tokens"][6]}, f)
    assert json.loads(run(*args).stdout)["tokens"] == got["tokens"][:got["tokens"].index(got["tokens"][6]) + 1]


def refused(why, *args):
    r = run(*args)
    assert r.returncode == 2, (why, r.returncode, r.stdout, r.stderr)
    lines = r.stderr.strip().split("\n")
    assert len(lines) == 1 and why in lines[0], (why, r.stderr)


def test_bad_input_gets_one_sentence(tmp_path):
    rng = np.random.default_rng(0)
    folder = str(tmp_path)
    c = random_config("LlamaForCausalLM", rng)
    write_model(folder, c, np.random.default_rng(1), "BF16")
    path = os.path.join(folder, "config.json")
    logits = ("logits", "--model", folder, "--tokens")
    assert run(*logits, "1").returncode == 0
    refused("outside the vocabulary", *logits, str(c["vocab_size"]))
    refused("token ids with commas", *logits, "1,,2")
    refused("token ids with commas", *logits, "")
    refused("the context holds 512", *logits, ",".join(["1"] * 513))
    refused("config.json is missing", "logits", "--model", folder + "/none", "--tokens", "1")
    refused("no device", *logits, "1", "--device", "abacus")
    for change, why in (({"architectures": ["FooForCausalLM"]}, "FooForCausalLM"), ({"hidden_size": -1}, "hidden_size"),
                        ({"hidden_size": c["hidden_size"] + 2}, "of the wrong shape"), ({"num_hidden_layers": 9}, "missing"),
                        ({"rope_scaling": {"type": "magic"}}, "magic"), ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "longrope"), ({"rope_scaling": 3}, "rope_scaling"),
                        ({"quantization_config": {"bits": 4}}, "quantised"), ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "by gptq"),
                        ({"quantization_config": {"quant_method": "awq"}}, "by awq"),
                        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "by bitsandbytes"),
                        ({"quantization_config": {"quant_method": "fp8"}}, "weight_block_size"),
                        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 0]}}, "weight_block_size"), ({"hidden_act": "relu"}, "relu"),
                        ({"eos_token_id": 10 ** 6}, "eos_token_id")):
        with open(path, "w") as f:
            json.dump(dict(c, **change), f)
        refused(why, *logits, "1")
    with open(path, "w") as f:
        f.write(json.dumps(c)[:-5])
    refused("config.json", *logits, "1")
    with open(path, "w") as f:
        json.dump(c, f)
    file = sorted(n for n in os.listdir(folder) if n.endswith(".safetensors"))[-1]
    file = os.path.join(folder, file)
    with open(file, "rb") as f:
        raw = f.read()
    for broken, why in ((raw[:-10], "cut off"), (raw[:4], "cut off"), (raw + b"x", "after its last tensor"), (b"", "empty"),
                        (raw[:8] + b"}" + raw[9:], "JSON"), (b"\xff" * 8 + raw[8:], "cut off")):
        with open(file, "wb") as f:
            f.write(broken)
        refused(why, *logits, "1")



ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TRAINED = os.path.join(ROOT, "deploy", "local", "model")
ORACLE = os.path.join(ROOT, "tests", "fixtures", "tiny_logits.json")


@pytest.mark.skipif(not os.path.exists(ORACLE), reason="no trained model")
def test_the_trained_model_agrees_with_transformers():
    with open(ORACLE) as f:
        cases = json.load(f)["cases"]
    worst = 0.0
    for case in cases:
        tokens, bound = ",".join(map(str, case["tokens"])), BOUND * case["max_abs_logit"]
        r = run("logits", "--model", TRAINED, "--tokens", tokens, "--top", "1000000")
        assert r.returncode == 0, r.stderr
        top = json.loads(r.stdout)["next_top"]
        got = dict(map(tuple, top))
        for token, logit in case["next_top"]:
            worst = max(worst, abs(got[token] - logit) / case["max_abs_logit"])
            assert abs(got[token] - logit) <= bound, (case["name"], token, got[token], logit)
        want = case["next_top"]
        for place in range(5):
            if want[place][1] - want[place + 1][1] <= 2 * bound:
                break
            assert top[place][0] == want[place][0], (case["name"], place)
        n = str(len(case["greedy"]))
        r = run("generate", "--model", TRAINED, "--tokens", tokens, "--max-tokens", n, "--ignore-eos")
        assert json.loads(r.stdout)["tokens"] == case["greedy"], case["name"]
    print(f"worst relative error {worst:.1e}")
