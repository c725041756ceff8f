"""Ids and texts equal to the reference library's on nasty random texts, for four tokenizers and for pipelines put together at random.
SHOAL_TOKENIZER_TEXTS says how many texts each of the four gets (scripts/soak tokenizers: 100 000), SHOAL_SEED from where."""

import json
import os
import random
import subprocess

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import gguf_model
import nasty_texts
import text_tools
import tokenizers_made

TEXTS = int(os.environ.get("SHOAL_TOKENIZER_TEXTS", "1500"))
SEED = os.environ.get("SHOAL_SEED", "1")
ARCHIVE = os.path.join(text_tools.ROOT, "..", "shared", "data", "tokenizers", "deepseek_v3.tar.xz")
BATCH = 2500


def corpus():
    lines = list(tokenizers_made.CORPUS) + [" ".join(nasty_texts.WORDS)] * 3
    for folder in ("worker/text", "docs", "common/base"):
        for name in sorted(os.listdir(os.path.join(text_tools.ROOT, folder))):
            if name.endswith((".c", ".h", ".md")):
                with open(os.path.join(text_tools.ROOT, folder, name), encoding="utf-8") as f:
                    lines += f.read().splitlines(keepends=True)
    return lines


def flagged(t):
    """Added tokens with every flag, some of them parts of others."""
    t.add_special_tokens([AddedToken("<|bos|>", normalized=False), AddedToken("<|eos|>", normalized=False), AddedToken("<|eos|>>", normalized=False),
                          AddedToken("<|pad|>", normalized=True)])
    t.add_tokens([AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True, normalized=False), AddedToken("<both>", lstrip=True, rstrip=True),
                  AddedToken("word", single_word=True), AddedToken("wordy", single_word=True, normalized=False), AddedToken("<think>", normalized=False),
                  AddedToken("<|User|>"), AddedToken("é", normalized=True, single_word=True), AddedToken("ﬁx", normalized=True), AddedToken("  ", normalized=False),
                  AddedToken("\n\n\n", rstrip=True, normalized=False)])
    return t


def sentencepiece():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    t.train_from_iterator(["".join(c if ord(c) < 0x250 else " " for c in line) for line in corpus()],
                          trainers.BpeTrainer(vocab_size=3000, show_progress=False, special_tokens=first, max_token_length=14))
    spec = json.loads(t.to_str())
    spec["added_tokens"] = [a for a in spec["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(spec))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return flagged(t)


def metaspace():
    spec = json.loads(sentencepiece().to_str())
    spec["normalizer"] = {"type": "NFKC"}
    spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    spec["model"]["fuse_unk"] = False
    return Tokenizer.from_str(json.dumps(spec))


def llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(tokenizers_made.LLAMA3), "isolated"), pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=4000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    spec = json.loads(t.to_str())  # ignore_merges shows where a word is in the vocabulary and merging doesn't reach it
    rng = random.Random(0)
    spec["model"]["merges"] = [m for m in spec["model"]["merges"] if rng.random() < 0.9]
    t = flagged(Tokenizer.from_str(json.dumps(spec)))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                            processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", t.token_to_id("<|bos|>"))])])
    return t


def deepseek(folder):
    if not os.path.exists(ARCHIVE):
        pytest.skip("SKIPPED LOUDLY: the DeepSeek-V3 tokenizer is not beside the project")
    subprocess.run(["tar", "xf", ARCHIVE, "-C", str(folder)], check=True)
    folder = os.path.join(folder, "deepseek_v3")
    return Tokenizer.from_file(os.path.join(folder, "tokenizer.json")), folder


def smollm2():
    path = gguf_model.smollm2_path()
    if path is None:
        assert not os.environ.get("CI"), "SmolLM2 is missing: tests/requirements-models.txt was not installed"
        pytest.skip("SKIPPED LOUDLY: SmolLM2 is not there; ./scripts/test installs it where there is a network")
    return gguf_model.File(path).tokenizer(), path


def four(name, folder):
    """(reference, folder or file for shoal-model)"""
    if name == "deepseek_v3":
        return deepseek(folder)
    if name == "smollm2":
        return smollm2()
    t = {"sentencepiece": sentencepiece, "metaspace": metaspace, "llama3": llama3}[name]()
    return t, text_tools.write_folder(folder, t.to_str())


def reference_ids(reference, text, special):
    """None where the reference panics, as it does for some normalizers over some texts."""
    try:
        return reference.encode(text, add_special_tokens=special).ids
    except BaseException as e:
        if type(e).__name__ != "PanicException":
            raise
        return None


def differences(reference, folder, texts, special=False):
    try:
        expected = [e.ids for e in reference.encode_batch(texts, add_special_tokens=special)]
    except BaseException as e:
        if type(e).__name__ != "PanicException":
            raise
        expected = [reference_ids(reference, t, special) for t in texts]
        texts = [t for t, e in zip(texts, expected) if e is not None]
        expected = [e for e in expected if e is not None]
    got = text_tools.encode(folder, texts, *(["--special"] if special else []))
    wrong = [(t, e, g) for t, e, g in zip(texts, expected, got) if e != g]
    return expected, sorted(wrong, key=lambda w: len(w[0]))


def decode_differences(reference, folder, ids, skip):
    expected = [reference.decode(i, skip_special_tokens=skip) for i in ids]
    got = text_tools.decode(folder, ids, *(["--skip-special"] if skip else []))
    return sorted([(i, e, g) for i, e, g in zip(ids, expected, got) if e != g], key=lambda w: len(w[0]))


def check(reference, folder, texts, special, rng):
    ids, wrong = differences(reference, folder, texts, special)
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, shortest: {wrong[:3]!r}"
    size = reference.get_vocab_size()
    made = [[rng.randrange(size) for _ in range(rng.randint(0, 12))] for _ in range(len(texts) // 4)]
    for skip in (False, True):
        wrong = decode_differences(reference, folder, ids[:len(ids) // 2] + made, skip)
        assert not wrong, f"{len(wrong)} decoded differ, shortest: {wrong[:3]!r}"


@pytest.mark.parametrize("name", ["deepseek_v3", "smollm2", "sentencepiece", "metaspace", "llama3"])
def test_nasty_texts_have_the_ids_of_the_reference(name, tmp_path):
    reference, folder = four(name, tmp_path)
    added = [a.content for a in reference.get_added_tokens_decoder().values()]
    source = nasty_texts.Texts(f"{name} {SEED}", added + ["<|User|>", "</s>"])
    done = 0
    while done < TEXTS:
        texts = source.many(min(BATCH, TEXTS - done))
        # Where the post-processor adds nothing, BOS is what the configuration says, which the reference doesn't see.
        check(reference, folder, texts, name in ("sentencepiece", "metaspace", "llama3") and done // BATCH % 2 == 1, source.rng)
        done += len(texts)
    print(f"\n{name}: {done} texts, ids and decoded texts equal to the reference's", flush=True)


PATTERNS = [r"\s+", r"\w+|[^\w\s]+", r"\d", r"\p{L}+", r"[aeiou]", r" ?\p{Lu}\p{Ll}*", r"\p{P}", r"(?i)the|of", r"[^\r\n]+", r"\b", r"(?=[A-Z])", r"\s+(?!\S)|\s+",
            r"[一-龥぀-ゟ゠-ヿ]+", r"\p{N}{1,3}", r"'s|'t", r".", r"(?:ab)+|c*", r"[\p{Han}&&[^一]]+", r"[^\s\p{L}\p{N}]+", r"\p{M}+", r"(\w)\1", r"$|^"]
EMPTY = [r"\b", r"(?=[A-Z])", r"(?:ab)+|c*", r"$|^"]  # they match nothing: what the reference makes of them when replacing is an accident
STRINGS = [" ", "e", "  ", "ab", ".", "é", "▁", "\n", "the"]
BEHAVIOURS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]


def random_normalizer(rng):
    return rng.choice([
        normalizers.NFC, normalizers.NFD, normalizers.NFKC, normalizers.NFKD, normalizers.Lowercase, normalizers.StripAccents, normalizers.Nmt,
        lambda: normalizers.Strip(rng.random() < 0.7, rng.random() < 0.7), lambda: normalizers.Prepend(rng.choice(["▁", " ", "xé"])),
        lambda: normalizers.Replace(rng.choice(STRINGS), rng.choice(["", "▁", " ", "é", "--"])),
        lambda: normalizers.Replace(Regex(rng.choice([p for p in PATTERNS if p not in EMPTY])), rng.choice(["", "▁", " ", "x"]))])()


def random_step(rng):
    return rng.choice([
        lambda: pre_tokenizers.Split(Regex(rng.choice(PATTERNS)), rng.choice(BEHAVIOURS), invert=rng.random() < 0.3),
        lambda: pre_tokenizers.Split(rng.choice(STRINGS), rng.choice(BEHAVIOURS), invert=rng.random() < 0.3),
        lambda: pre_tokenizers.Digits(individual_digits=rng.random() < 0.5), lambda: pre_tokenizers.Punctuation(rng.choice(BEHAVIOURS)),
        pre_tokenizers.Whitespace, pre_tokenizers.WhitespaceSplit, lambda: pre_tokenizers.CharDelimiterSplit(rng.choice("-e \u00e9")),
        lambda: pre_tokenizers.Metaspace(rng.choice("▁_"), rng.choice(["always", "first", "never"]), rng.random() < 0.5)])()


def random_pipeline(rng):
    """A tokenizer with a normalizer and a pre-tokenizer of up to three steps each, over bytes or over characters."""
    bytes_last = rng.random() < 0.6
    t = Tokenizer(models.BPE(**({} if bytes_last else {"unk_token": "<unk>", "fuse_unk": rng.random() < 0.5, "byte_fallback": rng.random() < 0.5})))
    steps = [random_step(rng) for _ in range(rng.randint(0, 3))]
    marks = [s for s in steps if isinstance(s, pre_tokenizers.Metaspace)]
    steps = [s for s in steps if s not in marks[1:]]  # what comes first behind another one's mark is an accident of the reference
    if bytes_last:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.3, use_regex=rng.random() < 0.5))
    if steps:
        t.pre_tokenizer = pre_tokenizers.Sequence(steps)
    first = [] if bytes_last else ["<unk>"] + [f"<0x{i:02X}>" for i in range(256)]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if bytes_last else [chr(c) for c in range(32, 127)]
    lines = tokenizers_made.CORPUS if bytes_last else ["".join(c if ord(c) < 0x250 else "" for c in line) for line in tokenizers_made.CORPUS]
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=600, show_progress=False, special_tokens=first, initial_alphabet=alphabet, max_token_length=16))
    spec = json.loads(t.to_str())
    spec["added_tokens"] = [a for a in spec["added_tokens"] if not a["content"].startswith("<0x")]
    spec["model"]["ignore_merges"] = rng.random() < 0.3
    t = Tokenizer.from_str(json.dumps(spec))
    forms = [random_normalizer(rng) for _ in range(rng.choice([0, 0, 1, 2, 3]))]
    if forms:
        t.normalizer = normalizers.Sequence(forms) if len(forms) > 1 else forms[0]
    t.decoder = decoders.ByteLevel() if bytes_last else decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return flagged(t) if rng.random() < 0.7 else t


PIPELINES = int(os.environ.get("SHOAL_TOKENIZER_PIPELINES", "25"))


def test_pipelines_put_together_at_random_have_the_ids_of_the_reference(tmp_path):
    for i in range(PIPELINES):
        rng = random.Random(f"pipeline {SEED} {i}")
        reference = random_pipeline(rng)
        folder = text_tools.write_folder(tmp_path / str(i), reference.to_str())
        texts = nasty_texts.Texts(f"{SEED} {i}", [a.content for a in reference.get_added_tokens_decoder().values()]).many(150)
        spec = json.loads(reference.to_str())
        try:
            check(reference, folder, texts, False, rng)
        except AssertionError as e:
            if "is the same as another when normalised" in str(e):
                continue  # refused: which of two such tokens the reference finds is an accident
            raise AssertionError(f"pipeline {i}: {json.dumps({k: spec[k] for k in ('normalizer', 'pre_tokenizer')}, ensure_ascii=False)}: {e}") from None
