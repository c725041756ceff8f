"""Token ids and texts equal to the reference library's, over every code point and random mixes, for every kind of tokenizer."""

import json
import os
import random

import pytest
from tokenizers import Tokenizer

import text_tools
import tokenizers_made

ARCHIVE = os.path.join(text_tools.ROOT, "..", "shared", "data", "tokenizers", "deepseek_v3.tar.xz")
POOLS = [
    [chr(c) for c in range(32, 127)], list("0123456789²½Ⅷ٣१"), list(" \t\n\r\u00a0\u3000\u2003\u0085\u180e\x0b\x1c"),
    list("的一是不了在人有我他这个们中来上大为和国"), list("あいうえおカキクケコ゛ゝ"), list("абвгдеёжзийАБВГ"), list("éèêëüöäßñçøåÉÇ"),
    list("\u0301\u0308\u0327\u093e\u0e31\u200d\ufe0f"), list("🙂🙃👩🇩🇪❤✓→∑€£"), list("안녕하세요"), list("مرحباשלום"),
    list("“”‘’–—…«»、。！？（）"), ["'s", "'RE", "'ll", "'ſ", "don't", "I'LL"],
    ["<|bos|>", "<|eos|>", "<|User|>", "<|User|>x", "<think>", "</think>", "<left>", "<right>", "word", "words", "<s>", "</s>", "<unk>", "<0x41>",
     "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<｜tool▁sep｜>", "<｜User"],
    ["for (int i", "return NULL;", "\treturn x", "    if", "::", "==>", "\\n", "{}", "[[0]]", "/*", "*/", "http://a.b/c?d=e"],
    [chr(c) for c in (0x1C89, 0x10D40, 0x1CC00, 0x323AF, 0x31350, 0x2FFC, 0x1E4F0, 0x11F50, 0xE000, 0x10FFFF, 0, 1, 0x7F, 0xFFFD, 0xFEFF)],
]


def random_texts(seed, n):
    rng = random.Random(seed)
    for _ in range(n):
        pools = rng.sample(POOLS, rng.randint(1, 4))
        text = "".join(rng.choice(rng.choice(pools)) * (rng.randint(1, 20) if rng.random() < 0.05 else 1)
                       for _ in range(rng.choice([1, 3, 8, 20, 60])))
        yield text


def all_code_points(separator, form):
    """Every code point in its form, a hundred to a text, with a token that ends all words between. Of the planes that hold nothing or are
    for private use, every 97th."""
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and (c < 0x34000 or c >> 8 == 0xE00 or c % 97 == 0)]
    return [separator.join(form.replace("c", c) for c in points[i:i + 100]) for i in range(0, len(points), 100)]


def compare(reference, folder, texts, add_special=False):
    expected = [e.ids for e in reference.encode_batch(texts, add_special_tokens=add_special)]
    got = text_tools.encode(folder, texts, *(["--special"] if add_special else []))
    wrong = [(t, e, g) for t, e, g in zip(texts, expected, got) if e != g]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, first: {wrong[:3]!r}"
    return expected


def compare_decoding(reference, folder, ids):
    for skip in (False, True):
        expected = [reference.decode(i, skip_special_tokens=skip) for i in ids]
        got = text_tools.decode(folder, ids, *(["--skip-special"] if skip else []))
        wrong = [(i, e, g) for i, e, g in zip(ids, expected, got) if e != g]
        assert not wrong, f"{len(wrong)} of {len(ids)} differ, first: {wrong[:3]!r}"


@pytest.fixture(scope="session")
def deepseek(tmp_path_factory):
    if not os.path.exists(ARCHIVE):
        pytest.skip("SKIPPED LOUDLY: the DeepSeek-V3 tokenizer is not beside the project")
    folder = tmp_path_factory.mktemp("deepseek")
    os.system(f"tar xf '{ARCHIVE}' -C '{folder}'")
    folder = os.path.join(folder, "deepseek_v3")
    return Tokenizer.from_file(os.path.join(folder, "tokenizer.json")), folder


class Made(dict):
    """kind -> (reference, folder), made when first asked for"""

    def __init__(self, factory):
        super().__init__()
        self.factory = factory

    def __missing__(self, kind):
        t = tokenizers_made.all_kinds()[kind]()
        self[kind] = t, str(text_tools.write_folder(self.factory.mktemp(kind), t.to_str()))
        return self[kind]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return Made(tmp_path_factory)


KINDS = sorted(tokenizers_made.all_kinds())


def test_deepseek_v3_encodes_every_code_point_alone_and_between_letters(deepseek):
    for form in ("c", "acb 1c\n", " cc"):
        compare(*deepseek, all_code_points("<｜User｜>", form))


def test_deepseek_v3_encodes_random_texts(deepseek):
    texts = list(random_texts(1, 10000))
    ids = compare(*deepseek, texts)
    compare_decoding(*deepseek, ids[:3000])


def test_deepseek_v3_decodes_random_ids(deepseek):
    rng = random.Random(2)
    size = deepseek[0].get_vocab_size()
    compare_decoding(*deepseek, [[rng.randrange(size + 500) for _ in range(rng.randint(1, 30))] for _ in range(3000)])
    compare_decoding(*deepseek, [[i] for i in range(size)])


def test_deepseek_v3_encodes_long_runs(deepseek):
    texts = [c * n for c in ["a", " ", "\n", "你", "!", "1", "\t ", "é", "ab", "<｜User", "🙂", "\u0301"] for n in (100, 1000, 20000)]
    compare(*deepseek, texts)


def test_deepseek_v3_encodes_files_of_this_project(deepseek):
    texts = []
    for folder in ("worker/text", "common/base", "tests/e2e"):
        for name in sorted(os.listdir(os.path.join(text_tools.ROOT, folder))):
            path = os.path.join(text_tools.ROOT, folder, name)
            if name.endswith((".c", ".h", ".py")):
                with open(path, encoding="utf-8") as f:
                    texts.append(f.read())
    compare(*deepseek, texts)


def test_the_local_model_encodes_and_decodes_as_the_reference():
    folder = os.path.join(text_tools.ROOT, "deploy", "local", "model")
    if not os.path.exists(os.path.join(folder, "tokenizer.json")):
        pytest.skip("there is no local model")
    reference = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    texts = list(random_texts(7, 2000))
    ids = compare(reference, folder, texts)
    compare(reference, folder, texts[:300], add_special=True)
    compare_decoding(reference, folder, ids)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_encodes_and_decodes_as_the_reference(made, kind):
    texts = list(random_texts(kind, 1200)) + ["", " ", "a", "  a", "\n"] + tokenizers_made.CORPUS[:9]
    ids = compare(*made[kind], texts)
    compare(*made[kind], texts[:300], add_special=True)
    compare_decoding(*made[kind], ids)
    rng = random.Random(kind)
    size = made[kind][0].get_vocab_size()
    compare_decoding(*made[kind], [[rng.randrange(size + 3) for _ in range(rng.randint(1, 12))] for _ in range(800)])


@pytest.mark.parametrize("kind", ["llama3", "qwen2", "gpt4o", "smollm2", "normalizer_replace", "normalizer_lower", "llama2", "normalizer_nfkd",
                                  "normalizer_accents", "string_contiguous", "words"])
def test_every_code_point_is_split_as_the_reference_does(made, kind):
    for form in {"normalizer_nfkd": ["a\u0334c\u0301c\u0345 c"], "qwen2": ["a\u0334c\u0301c\u0345 c"]}.get(kind, ["acb c1"]):
        compare(*made[kind], all_code_points("<|bos|>", form))


def test_merges_may_be_strings_or_pairs(made, tmp_path):
    reference, _ = made["deepseek"]
    texts = list(random_texts(3, 500))
    compare(reference, text_tools.write_folder(tmp_path / "pairs", tokenizers_made.with_array_merges(reference)[1]), texts)
    compare(reference, text_tools.write_folder(tmp_path / "strings", tokenizers_made.with_string_merges(reference)), texts)


def test_prefix_and_suffix_of_subwords(tmp_path):
    vocab = {c: i for i, c in enumerate(["a", "b", "c", "##a", "##b", "##c", "a</w>", "b</w>", "c</w>", "##a</w>", "##b</w>", "##c</w>",
                                         "ab", "abc</w>", "ab</w>", "##bc</w>", "<u>"])}
    merges = [["a", "##b"], ["ab", "##c</w>"], ["##b", "##c</w>"], ["a", "##b</w>"]]
    spec = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
            "decoder": None, "model": {"type": "BPE", "unk_token": "<u>", "continuing_subword_prefix": "##",
                                       "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges}}
    reference = Tokenizer.from_str(json.dumps(spec))
    rng = random.Random(4)
    compare(reference, text_tools.write_folder(tmp_path, spec), ["".join(rng.choice("abcd ") for _ in range(12)) for _ in range(500)])


def test_text_that_is_not_utf8_is_repaired(made):
    folder = made["deepseek"][1]
    import subprocess
    # A lone surrogate can't be written in JSON for jansson; a bad byte in the line is a bad line, and the next one is served.
    done = subprocess.run([text_tools.SHOAL_MODEL, "tokenize", "--model", folder], input=b'{"text":"\xff"}\n{"text":"a"}\n',
                          capture_output=True, timeout=60)
    lines = done.stdout.decode().split("\n")
    assert "error" in json.loads(lines[0]) and json.loads(lines[1])["ids"] and done.returncode == 2


def test_unknown_parts_are_refused_by_name(made, tmp_path):
    import subprocess
    base = json.loads(made["deepseek"][0].to_str())
    changes = [("normalizer", {"type": "Precompiled", "precompiled_charsmap": ""}, "Precompiled"),
               ("pre_tokenizer", {"type": "UnicodeScripts"}, "UnicodeScripts"), ("decoder", {"type": "CTC"}, "CTC"),
               ("post_processor", {"type": "Strange"}, "Strange"), ("model", {"type": "Unigram", "vocab": []}, "Unigram"),
               ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}, "regular expression")]
    for i, (key, value, word) in enumerate(changes):
        folder = text_tools.write_folder(tmp_path / str(i), {**base, key: value})
        done = subprocess.run([text_tools.SHOAL_MODEL, "tokenize", "--model", str(folder)], input=b"", capture_output=True, timeout=60)
        assert done.returncode == 2 and word in done.stderr.decode() and done.stderr.decode().count("\n") == 1, done.stderr
