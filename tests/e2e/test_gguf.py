"""GGUF files written by PyPI's gguf: every type of weights against its dequantised values in NumPy, the architectures' differences,
SentencePiece-style vocabularies against their definition, and what a file must not say."""

import importlib.util
import json
import os
import random
import subprocess

import numpy as np
import pytest
from gguf_model import File
from reference import Reference
from text_tools import SHOAL_MODEL, decode, encode

if importlib.util.find_spec("gguf") is None:
    assert not os.environ.get("CI"), "PyPI's gguf is missing: tests/requirements-models.txt was not installed"
    pytest.skip("SKIPPED LOUDLY: PyPI's gguf is not there; ./scripts/test installs it where there is a network", allow_module_level=True)
import gguf

BOUND = 2e-3
VOCAB = 96
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]


def blocks(rng, kind, rows, cols):
    """Random weights of this type, as bytes [rows, bytes of a row]; about as large as 1 / sqrt(cols)."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    if elements == 1:
        w = rng.standard_normal((rows, cols)) / cols ** 0.5
        return gguf.quantize(w.astype(np.float32), kind)
    raw = rng.integers(0, 256, (rows, cols // elements, size), dtype=np.uint8)
    scale = {8: 1 / 127, 16: 1 / 15}.get(elements, 1 / 8) / cols ** 0.5
    places = {"Q6_K": [208], "Q8_0": [0]}.get(kind.name, [0, 2] if kind.name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else [0])
    scale /= {"Q8_0": 16, "Q4_K": 32, "Q5_K": 64, "Q6_K": 1024}.get(kind.name, 1)
    for at in places:
        raw[..., at:at + 2] = (rng.uniform(0.5, 1, raw.shape[:2]) * scale * (-8 if at == 2 and "K" not in kind.name else 1)
                               ).astype(np.float16)[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


def byte_tokens(n):
    return [chr(33 + i) for i in range(90)] + ["ab", "cd", "<|end|>", "abcd", "\u0120", "x1"][: n - 90]


def write(path, arch="llama", kind="F32", seed=1, more=None, rope_freqs=None, head_dim=16):
    rng = np.random.default_rng(seed)
    kind = gguf.GGMLQuantizationType[kind]
    d, heads, kv, inter, layers = 256, 4, 2, 256, 2
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(layers)
    w.add_context_length(256)
    w.add_embedding_length(d)
    w.add_feed_forward_length(inter)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(byte_tokens(VOCAB))
    w.add_token_types([3 if t == "<|end|>" else 1 for t in byte_tokens(VOCAB)])
    w.add_token_merges(["a b", "c d", "ab cd"])
    w.add_eos_token_id(92)
    for key, value in (more or {}).items():
        w.add_string(key, value)

    def matrix(name, rows, cols):
        small = cols % gguf.GGML_QUANT_SIZES[kind][0] != 0
        k = gguf.GGMLQuantizationType.Q8_0 if small else kind
        w.add_tensor(name + ".weight", blocks(rng, k, rows, cols), raw_dtype=k)

    def vector(name, n, base=1.0):
        w.add_tensor(name, (base + 0.2 * rng.standard_normal(n)).astype(np.float32))

    matrix("token_embd", VOCAB, d)
    if rope_freqs is not None:
        w.add_tensor("rope_freqs.weight", np.asarray(rope_freqs, np.float32))
    for i in range(layers):
        p = f"blk.{i}."
        vector(p + "attn_norm.weight", d)
        for name, n in (("attn_q", heads * head_dim), ("attn_k", kv * head_dim), ("attn_v", kv * head_dim)):
            matrix(p + name, n, d)
            if arch == "qwen2":
                vector(p + name + ".bias", n, 0.0)
        if arch == "qwen3":
            vector(p + "attn_q_norm.weight", head_dim)
            vector(p + "attn_k_norm.weight", head_dim)
        matrix(p + "attn_output", d, heads * head_dim)
        vector(p + "ffn_norm.weight", d)
        for name, rows, cols in (("ffn_gate", inter, d), ("ffn_up", inter, d), ("ffn_down", d, inter)):
            matrix(p + name, rows, cols)
    vector("output_norm.weight", d)
    if arch != "llama":
        matrix("output", VOCAB, d)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return str(path)


def run(path, *tokens):
    return subprocess.run([SHOAL_MODEL, "logits", "--model", path, "--tokens", ",".join(map(str, tokens)), "--top", str(VOCAB)],
                          capture_output=True, text=True, timeout=120)


def check(path, **config):
    file = File(path)
    tokens = [int(x) for x in np.random.default_rng(3).integers(0, VOCAB, 24)]
    want = Reference(config={**file.config(), **config}, tensors=file.tensors()).logits(tokens)[-1]
    done = run(path, *tokens)
    assert done.returncode == 0, done.stderr
    got = np.empty(VOCAB)
    for i, x in json.loads(done.stdout)["next_top"]:
        got[i] = x
    assert np.abs(got - want).max() <= BOUND * np.abs(want).max()


@pytest.mark.parametrize("kind", TYPES)
def test_weights_of_every_type_are_what_the_reference_makes_of_them(kind, tmp_path):
    check(write(tmp_path / "m.gguf", kind=kind))


@pytest.mark.parametrize("arch", ["qwen2", "qwen3"])
def test_other_architectures(arch, tmp_path):
    check(write(tmp_path / "m.gguf", arch, "F16"))


def test_the_rope_of_llama_3_is_recovered_from_its_divisors(tmp_path):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    f = 10000.0 ** (-np.arange(0, 64, 2) / 64)
    wave = 2 * np.pi / f
    blend = np.clip((8192 / wave - 1) / 3, 0, 1)
    divisors = 1 / ((1 - blend) / 8 + blend)
    check(write(tmp_path / "m.gguf", rope_freqs=divisors, head_dim=64), rope_scaling=scaling)
    done = run(write(tmp_path / "other.gguf", rope_freqs=divisors ** 1.1, head_dim=64), 1)
    assert done.returncode == 2 and "rope_freqs.weight is not of the kind of Llama 3" in done.stderr


def test_what_a_file_must_not_say_is_refused_in_a_sentence(tmp_path):
    cases = (("gpt-neox", {}, "\"gpt-neox\" is not supported"), ("llama", {"llama.rope.scaling.type": "longrope"}, "longrope"))
    for arch, more, sentence in cases:
        done = run(write(tmp_path / f"{arch}.gguf", arch, more=more), 1)
        assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    not_one = tmp_path / "x.gguf"
    not_one.write_bytes(b"PK\x03\x04" + b"x" * 100)
    assert "this is not a GGUF file" in run(str(not_one), 1).stderr


def merge_by_score(text, scores):
    """SentencePiece's BPE as defined: always the neighbours whose joined piece scores best, leftmost of equals."""
    parts = list("\u2581" + text.replace(" ", "\u2581"))
    while True:
        best = max(((scores[a + b], -i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in scores), default=None)
        if best is None:
            return parts
        i = -best[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]


def test_sentencepiece_vocabularies_merge_by_score(tmp_path):
    rng = random.Random(5)
    singles = ["\u2581"] + list("abcdefgh\u00e9\u4e2d")
    pieces = {p: None for p in singles}
    for _ in range(150):  # joined from what is there, so that every one can be reached
        pieces.setdefault("".join(rng.choices(list(pieces), k=2))[:8])
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + list(pieces)
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))]
    w = gguf.GGUFWriter(tmp_path / "spm.gguf", "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(pieces))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_tensor("t", np.zeros(4, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    path, ids, known = str(tmp_path / "spm.gguf"), {t: i for i, t in enumerate(tokens)}, dict(zip(tokens[259:], scores[259:]))
    texts = ["".join(rng.choice("abcdefgh  \u00e9\u4e2dz\U0001f600") for _ in range(rng.randrange(1, 60))) for _ in range(300)]
    for text, got in zip(texts, encode(path, texts)):
        want = []
        for part in merge_by_score(text, known):
            want += [ids[part]] if part in ids else [ids[f"<0x{b:02X}>"] for b in part.encode()]
        assert got == want, text
    assert decode(path, encode(path, texts)) == texts
    assert encode(path, ["ab"], "--special")[0][0] == 1
