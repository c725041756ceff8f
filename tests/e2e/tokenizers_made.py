"""Small tokenizers of every kind that Shoal reads, trained here on a little text with the `tokenizers` library."""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
            "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CORPUS = ["The quick brown fox jumps over the lazy dog's back, doesn't it? They'll see; we've been there, I'm sure.\n",
          "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Ça va déjà? Où est l'été?\n",
          "for (int i = 0; i < 1024; i++) {\n\tprintf(\"%d %s\\n\", i, names[i]);\n}\n    return NULL;\n",
          "你好，世界！深度求索是一家人工智能公司。今日はいい天気ですね。カタカナも。\n", "Привет, мир! Как дела? Съешь ещё этих мягких французских булок.\n",
          "مرحبا بالعالم  שלום עולם  नमस्ते दुनिया  สวัสดีชาวโลก  안녕하세요 세계\n", "1 12 123 1234 12345 3.14159 2024-01-31 0xFF ½ ² Ⅷ ٣٤٥ १२\n",
          "🙂 🙃 👩‍👩‍👧 🇩🇪 ❤️ ✓ → ∑ € £ ¥ © « » “quoted” – — …\n", "   indented\t\ttabs \r\n windows line \u00a0nbsp\u3000ideographic\n\n\n"] * 4


def byte_level(pre, normalizer=None, ignore_merges=False, size=700, decoder=None, add_prefix_space=False):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.Sequence(pre + [pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=False)])
    t.decoder = decoder or decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def isolated(*patterns):
    return [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]


def specials(t):
    t.add_special_tokens([AddedToken("<|bos|>", normalized=False), AddedToken("<|eos|>", normalized=False)])
    t.add_tokens([AddedToken("<|User|>"), AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False),
                  AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True, normalized=False),
                  AddedToken("word", single_word=True), AddedToken("<|User|>x", normalized=False)])
    return t


def sentencepiece(metaspace=False, fuse_unk=True, byte_fallback=True):
    """Llama 2's kind: characters, a mark for spaces, bytes where a character is not known."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=byte_fallback))
    if metaspace:
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        if not byte_fallback:
            t.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    else:
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    latin = [c for line in CORPUS for c in line if ord(c) < 0x250]  # other scripts go through bytes
    t.train_from_iterator(["".join(c if ord(c) < 0x250 else " " for c in line) for line in CORPUS],
                          trainers.BpeTrainer(vocab_size=900, show_progress=False, special_tokens=first, initial_alphabet=sorted(set(latin)),
                                              max_token_length=12))
    spec = json.loads(t.to_str())
    spec["added_tokens"] = [a for a in spec["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(spec))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return t


def with_array_merges(t):
    spec = json.loads(t.to_str())
    spec["model"]["merges"] = [m if isinstance(m, list) else m.split(" ") for m in spec["model"]["merges"]]
    return Tokenizer.from_str(json.dumps(spec)), spec


def with_string_merges(t):
    spec = json.loads(t.to_str())
    spec["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in spec["model"]["merges"]]
    return spec


def gpt2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=600, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.post_processor = processors.RobertaProcessing(("a", t.token_to_id("a")), ("b", t.token_to_id("b")))
    return t


def falcon():
    """ByteLevel in the middle: what follows works on its characters."""
    t = byte_level([pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
                    pre_tokenizers.Digits(individual_digits=False)] + isolated("[0-9][0-9][0-9]"))
    spec = json.loads(t.to_str())
    del spec["pre_tokenizer"]["pretokenizers"][-1]
    return Tokenizer.from_str(json.dumps(spec))


def all_kinds():
    """name -> function that makes the tokenizer"""
    kinds = {
        "deepseek": lambda: specials(byte_level(isolated(*DEEPSEEK))),
        "llama3": lambda: specials(byte_level(isolated(LLAMA3), ignore_merges=True)),
        "qwen2": lambda: specials(byte_level(isolated(QWEN2), normalizers.NFC())),
        "gpt4o": lambda: specials(byte_level(isolated(GPT4O))),
        "llama2": lambda: specials(sentencepiece()),
        "mistral": lambda: specials(sentencepiece(metaspace=True)),
        "no_bytes": lambda: sentencepiece(metaspace=True, byte_fallback=False, fuse_unk=False),
        "fused_unknown": lambda: sentencepiece(byte_fallback=False),
        "gpt2": gpt2,
        "falcon": falcon,
        "smollm2": lambda: specials(byte_level([pre_tokenizers.Digits(individual_digits=True),
                                                pre_tokenizers.ByteLevel(add_prefix_space=False)])),
        "words": lambda: byte_level([pre_tokenizers.Whitespace()], size=400),
        "space_split": lambda: byte_level([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.CharDelimiterSplit("o")], size=400),
        "metaspace_split": lambda: byte_level([pre_tokenizers.Metaspace(prepend_scheme="always", split=True)], size=400),
    }
    for how in ["removed", "merged_with_previous", "merged_with_next", "contiguous", "isolated"]:
        for invert in (False, True):
            kinds[f"split_{how}_{invert}"] = lambda how=how, invert=invert: byte_level(
                [pre_tokenizers.Split(Regex(r"[\s.,]|a+"), how, invert=invert)], size=400)
        kinds[f"string_{how}"] = lambda how=how: byte_level([pre_tokenizers.Split("e.", how), pre_tokenizers.Punctuation(how)], size=400)
    forms = {"nfd": normalizers.NFD(), "nfkc": normalizers.NFKC(), "nfkd": normalizers.NFKD(), "lower": normalizers.Lowercase(),
             "strip": normalizers.Strip(), "accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
             "nmt": normalizers.Nmt(), "replace": normalizers.Replace(Regex(r"\s+|[^\w\s]"), "-"),
             "many": normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("e", "é"), normalizers.Prepend("x ")])}
    for name, form in forms.items():
        kinds["normalizer_" + name] = lambda form=form: specials(byte_level(isolated(r"\s+", r"\w+"), form, size=400))
    return kinds
