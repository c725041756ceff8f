"""Byte-level BPE as DeepSeek-V3 has it, but small: its splits (with digits one by one), its special tokens, their ids in its
order: beginning, end and padding first, then bytes and merges, then the marks of chats, thinking and tools."""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from config import CONFIG, VOCAB_SIZE

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT, THINK, END_THINK = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"
CALLS, END_CALLS = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, CALL_SEP, END_CALL = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
OUTPUTS, END_OUTPUTS = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
OUTPUT, END_OUTPUT = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
SPECIAL = (BOS, EOS, PAD)
MARKS = (
    USER,
    ASSISTANT,
    THINK,
    END_THINK,
    CALLS,
    END_CALLS,
    CALL,
    END_CALL,
    OUTPUTS,
    END_OUTPUTS,
    OUTPUT,
    END_OUTPUT,
    CALL_SEP,
)

WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def train(texts):
    """texts: an iterable of plain text without special tokens."""
    tokenizer = Tokenizer(models.BPE())
    splits = [Regex(r"\p{N}"), Regex(r"[一-龥぀-ゟ゠-ヿ]+"), Regex(WORDS)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(s, "isolated") for s in splits]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(MARKS),
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in MARKS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS}:0 $A:0", pair=f"{BOS}:0 $A:0 {BOS}:1 $B:1", special_tokens=[(BOS, CONFIG["bos_token_id"])]
    )
    assert tokenizer.get_vocab_size() == VOCAB_SIZE, "the text has too little variety for the vocabulary"
    assert [tokenizer.token_to_id(t) for t in SPECIAL] == [0, 1, 2]
    return tokenizer


def save(tokenizer, folder):
    def added(content):
        flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        return {"__type": "AddedToken", "content": content} | flags

    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": added(BOS),
        "clean_up_tokenization_spaces": False,
        "eos_token": added(EOS),
        "legacy": True,
        "model_max_length": CONFIG["max_position_embeddings"],
        "pad_token": added(PAD),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
        "chat_template": TEMPLATE.read_text(encoding="utf-8").rstrip("\n"),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def load(folder):
    return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
