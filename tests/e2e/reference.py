"""An independent reference of the models that Shoal runs: NumPy in float64, written from the papers' formulas (Llama, Qwen,
Mistral; DeepSeek V2 and V3 with MLA in its expanded form, which the engine never uses). Slow and plain on purpose."""
import json
import math
import os

import numpy as np

BLOCK = 128  # rows and columns of FP8 that share a scale


def e4m3_values():
    """What each of the 256 bytes means: one sign, four exponent bits (bias 7), three of fraction, 127 and 255 no numbers."""
    b = np.arange(256)
    e, m = b >> 3 & 15, b & 7
    v = np.where(e == 0, m * 2.0 ** -9, (1 + m / 8) * 2.0 ** (e - 7.0))
    v = np.where(b & 127 == 127, np.nan, v)
    return np.where(b & 128, -v, v)


E4M3 = e4m3_values()


def e4m3(x):
    """The nearest byte of each value, |value| <= 448."""
    known = E4M3[:127]
    at = np.clip(np.searchsorted(known, np.abs(x)), 1, 126)
    at -= np.abs(x) - known[at - 1] < known[at] - np.abs(x)
    return (at + 128 * (x < 0)).astype(np.uint8)


def blown_up(scale, shape):
    """One scale per block, as one per element."""
    return np.repeat(np.repeat(scale, BLOCK, 0)[:shape[0]], BLOCK, 1)[:, :shape[1]]


def quantised(w):
    """(bytes, one scale per block) of a matrix; the blocks at the edges are smaller."""
    rows, cols = (-(-n // BLOCK) for n in w.shape)
    scale = np.array([[np.abs(w[i * BLOCK:(i + 1) * BLOCK, j * BLOCK:(j + 1) * BLOCK]).max() / 448 for j in range(cols)]
                      for i in range(rows)], np.float32)
    return e4m3(w / blown_up(scale, w.shape)), scale


def bf16(x):
    """Nearest bfloat16 of float values, as uint16 bit patterns."""
    u = np.asarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def read_tensors(folder):
    """All tensors of a folder as float64, by name."""
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as f:
            files = sorted(set(json.load(f)["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    out = {}
    for name in files:
        with open(os.path.join(folder, name), "rb") as f:
            raw = f.read()
        n = int.from_bytes(raw[:8], "little")
        for key, t in json.loads(raw[8:8 + n]).items():
            if key == "__metadata__":
                continue
            a, b = t["data_offsets"]
            data = raw[8 + n + a:8 + n + b]
            if t["dtype"] == "F8_E4M3":
                v = E4M3[np.frombuffer(data, np.uint8)]
            elif t["dtype"] == "BF16":
                v = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                v = np.frombuffer(data, {"F16": np.float16, "F32": np.float32}[t["dtype"]])
            out[key] = v.astype(np.float64).reshape(t["shape"])
    for key in [k for k in out if k.endswith("_scale_inv")]:
        w = key.removesuffix("_scale_inv")
        out[w] = out[w] * blown_up(out.pop(key), out[w].shape)
    return out


def write_tensors(path, tensors, dtype="BF16"):
    """tensors: name -> float array, written in one safetensors file. Bytes are written as FP8, float32 under FP8 as such."""
    header, blobs, at = {}, [], 0
    for name, v in tensors.items():
        kind = "F8_E4M3" if v.dtype == np.uint8 else "F32" if v.dtype == np.float32 else dtype
        data = bf16(v) if kind == "BF16" else np.asarray(v, {"F16": np.float16, "F32": np.float32, "F8_E4M3": np.uint8}[kind])
        blob = data.tobytes()
        header[name] = {"dtype": kind, "shape": list(np.shape(v)), "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def yarn_mscale(factor, m):
    return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1


def rope_frequencies(c, dim):
    """Angle per position of each pair, the factor on cos and sin, and the correction of the softmax scale."""
    s = dict(c.get("rope_scaling") or {})
    s.update(c.get("rope_parameters") or {})
    base = s.get("rope_theta", c.get("rope_theta", 10000.0))
    kind = s.get("rope_type", s.get("type", "default"))
    f = base ** (-np.arange(0, dim, 2) / dim)
    factor = s.get("factor", 1.0)
    if kind == "linear":
        return f / factor, 1.0, 1.0
    if kind == "llama3":
        lo, hi, orig = s["low_freq_factor"], s["high_freq_factor"], s["original_max_position_embeddings"]
        wave = 2 * math.pi / f
        blend = (orig / wave - lo) / (hi - lo)
        mid = (1 - blend) * f / factor + blend * f
        return np.where(wave < orig / hi, f, np.where(wave > orig / lo, f / factor, mid)), 1.0, 1.0
    if kind == "yarn":
        orig = s["original_max_position_embeddings"]

        def pair(rotations):
            return dim * math.log(orig / (rotations * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(pair(s.get("beta_fast", 32))), 0)
        high = min(math.ceil(pair(s.get("beta_slow", 1))), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / (high - low if high > low else 0.001), 0, 1)
        m, all_dim = s.get("mscale"), s.get("mscale_all_dim")
        if m and all_dim:
            on_angles = yarn_mscale(factor, m) / yarn_mscale(factor, all_dim)
        else:
            on_angles = s.get("attention_factor") or yarn_mscale(factor, 1)
        correction = yarn_mscale(factor, all_dim) ** 2 if all_dim else 1.0
        return f / factor * ramp + f * (1 - ramp), on_angles, correction
    return f, 1.0, 1.0


def rotate(x, freq, on_angles, interleaved):
    """x: [tokens, heads, dim]; the token's index is its position."""
    if 2 * len(freq) < x.shape[-1]:  # only the first elements of a head are rotated
        return np.concatenate([rotate(x[..., :2 * len(freq)], freq, on_angles, interleaved), x[..., 2 * len(freq):]], -1)
    angle = np.arange(x.shape[0])[:, None, None] * freq
    c, s = np.cos(angle) * on_angles, np.sin(angle) * on_angles
    half = x.shape[-1] // 2
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    out = np.empty_like(x)
    if interleaved:
        out[..., 0::2], out[..., 1::2] = a * c - b * s, b * c + a * s
    else:
        out[..., :half], out[..., half:] = a * c - b * s, b * c + a * s
    return out


def attend(q, k, v, scale, window=0):
    """q: [T, H, d], k: [T, H, d], v: [T, H, dv]; causal."""
    t = np.arange(q.shape[0])
    seen = t[None, :] <= t[:, None]
    if window:
        seen &= t[None, :] > t[:, None] - window
    s = np.einsum("qhd,khd->hqk", q, k) * scale
    return np.einsum("hqk,khd->qhd", softmax(np.where(seen, s, -np.inf)), v)


class Reference:
    def __init__(self, folder=None, config=None, tensors=None):
        """A folder's model, or one whose config and float64 tensors are given."""
        if folder is not None:
            with open(os.path.join(folder, "config.json")) as f:
                config = json.load(f)
            tensors = read_tensors(folder)
        self.c, self.w = config, tensors
        self.arch = self.c["architectures"][0]
        self.deepseek = self.arch.startswith("Deepseek")
        dim = self.c["qk_rope_head_dim"] if self.deepseek else int(self.head_dim() * self.c.get("partial_rotary_factor", 1))
        self.rope = rope_frequencies(self.c, dim)

    def head_dim(self):
        return self.c.get("head_dim") or self.c["hidden_size"] // self.c["num_attention_heads"]

    def linear(self, x, name):
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def norm(self, x, name, eps=None):
        return rms_norm(x, self.w[name + ".weight"], eps or self.c.get("rms_norm_eps", 1e-6))

    def gqa(self, x, p):
        c, t, d = self.c, x.shape[0], self.head_dim()
        heads, kv = c["num_attention_heads"], c.get("num_key_value_heads", c["num_attention_heads"])
        q = self.linear(x, p + "q_proj").reshape(t, heads, d)
        k = self.linear(x, p + "k_proj").reshape(t, kv, d)
        v = self.linear(x, p + "v_proj").reshape(t, kv, d)
        if self.arch.startswith("Qwen3"):
            q, k = self.norm(q, p + "q_norm"), self.norm(k, p + "k_norm")
        freq, on_angles, _ = self.rope
        q, k = rotate(q, freq, on_angles, False), rotate(k, freq, on_angles, False)
        k, v = np.repeat(k, heads // kv, 1), np.repeat(v, heads // kv, 1)
        window = (c.get("sliding_window") or 0) if self.arch.startswith("Mistral") else 0
        o = attend(q, k, v, d ** -0.5, window)  # YaRN's correction of the scale is DeepSeek's alone
        return self.linear(o.reshape(t, -1), p + "o_proj")

    def mla(self, x, p):
        c, t, heads = self.c, x.shape[0], self.c["num_attention_heads"]
        nope, rope, vd, lora = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"], c["kv_lora_rank"]
        if c.get("q_lora_rank"):
            q = self.linear(self.norm(self.linear(x, p + "q_a_proj"), p + "q_a_layernorm", 1e-6), p + "q_b_proj")
        else:
            q = self.linear(x, p + "q_proj")
        q = q.reshape(t, heads, nope + rope)
        kv = self.linear(x, p + "kv_a_proj_with_mqa")
        freq, on_angles, correction = self.rope
        inter = c.get("rope_interleave", True)
        kpe = rotate(kv[:, None, lora:], freq, on_angles, inter)
        qpe = rotate(q[..., nope:], freq, on_angles, inter)
        b = self.linear(self.norm(kv[:, :lora], p + "kv_a_layernorm", 1e-6), p + "kv_b_proj").reshape(t, heads, nope + vd)
        k = np.concatenate([b[..., :nope], np.broadcast_to(kpe, (t, heads, rope))], -1)
        o = attend(np.concatenate([q[..., :nope], qpe], -1), k, b[..., nope:], (nope + rope) ** -0.5 * correction)
        return self.linear(o.reshape(t, -1), p + "o_proj")

    def mlp(self, x, p):
        return self.linear(silu(self.linear(x, p + "gate_proj")) * self.linear(x, p + "up_proj"), p + "down_proj")

    def moe(self, x, p):
        c, v3 = self.c, self.arch == "DeepseekV3ForCausalLM"
        logits = x @ self.w[p + "gate.weight"].T
        n, k = c["n_routed_experts"], c["num_experts_per_tok"]
        scores = 1 / (1 + np.exp(-logits)) if v3 else softmax(logits)
        choice = scores + self.w[p + "gate.e_score_correction_bias"] if v3 else scores.copy()
        groups = c.get("n_group") or 1
        if groups > 1 and c.get("topk_method") != "greedy":
            g = choice.reshape(-1, groups, n // groups)
            gs = np.sort(g, -1)[..., -2:].sum(-1) if v3 else g.max(-1)
            drop = np.argsort(-gs, -1, kind="stable")[:, c["topk_group"]:]
            np.put_along_axis(g, drop[:, :, None], -np.inf, 1)
            choice = g.reshape(-1, n)
        top = np.argsort(-choice, -1, kind="stable")[:, :k]
        w = np.take_along_axis(scores, top, -1)
        normed = c.get("norm_topk_prob", v3) and (v3 or k > 1)
        if normed:
            w = w / (w.sum(-1, keepdims=True) + 1e-20)
        if v3 or not normed:
            w = w * c.get("routed_scaling_factor", 1.0)
        out = np.stack([sum(w[t, r] * self.mlp(x[t:t + 1], f"{p}experts.{top[t, r]}.")[0] for r in range(k))
                        for t in range(x.shape[0])])
        return out + self.mlp(x, p + "shared_experts.") if c.get("n_shared_experts") else out

    def logits(self, tokens, last=None):
        """[tokens, vocab], or only the last few rows of it."""
        c = self.c
        x = self.w["model.embed_tokens.weight"][tokens]
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = self.norm(x, p + "input_layernorm")
            x = x + (self.mla if self.deepseek else self.gqa)(h, p + "self_attn.")
            h = self.norm(x, p + "post_attention_layernorm")
            x = x + (self.moe if p + "mlp.gate.weight" in self.w else self.mlp)(h, p + "mlp.")
        head = "model.embed_tokens.weight" if c.get("tie_word_embeddings") else "lm_head.weight"
        return self.norm(x[-last:] if last else x, "model.norm") @ self.w[head].T
