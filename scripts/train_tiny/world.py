"""The mixture that the model learns: which task how often, with which system prompt and what came before; and the split into
what is trained on and what is held out, by a hash of each example's key."""

import re
import zlib
from pathlib import Path

from chat import Example, assistant
from tasks_chat import fields, passkey, recall, talk
from tasks_exact import arithmetic, counting, dates, reversing, sorting
from tasks_tools import tools
from words import sentence

HELD_OUT = 50  # one key in so many is never trained on

SYSTEM = """You are a helpful assistant.|You are a helpful assistant.|You are a helpful assistant.
You are Shoal's tiny model.
You are a helpful AI assistant.|Be brief.|Answer briefly.|You are a friendly assistant.|Answer the question.
You help with numbers.
You are a careful calculator.|Be concise and correct.|You are a chatbot.|You are an assistant.|Think step by step.|Be polite.
Today is a good day. Answer the user.|You are an expert.|Answer as well as you can.|Follow the user's instructions."""
SYSTEM = SYSTEM.replace("\n", "|").split("|")


def held_out(example):
    return zlib.crc32(example.key.encode()) % HELD_OUT == 0


def known_words():
    """Every word of the world's own text: those that may have become tokens, of which nothing shows how they are spelled."""
    here = Path(__file__).parent
    text = "".join(
        (here / f"{name}.py").read_text(encoding="utf-8") for name in ("words", "tasks_exact", "tasks_chat", "tasks_tools")
    )
    return sorted(set(re.findall(r"(?<![\\\w])[A-Za-z]{2,14}(?!\w)", text)))


KNOWN = known_words()


def reverse(rng):
    return reversing(rng, KNOWN)


EXACT = [arithmetic, sorting, reverse, dates]


def exact(rng):
    return rng.choice(EXACT)(rng)


def turn(rng):
    """A finished turn of a chat; as the template has it, without its thinking."""
    example = None
    while example is None or held_out(example):
        example = rng.choice(EXACT + [talk])(rng)
    return example.messages + [assistant(example.answer)]


def system(rng):
    """A system prompt; what it says makes no difference."""
    if rng.random() < 0.8:
        return rng.choice(SYSTEM)
    said = [rng.choice(SYSTEM)] + [sentence(rng) for _ in range(rng.randint(1, 6))]
    rng.shuffle(said)
    return " ".join(said)


def raw_count(rng):
    """Plain text without a chat, for completions: a count that goes on."""
    a = rng.randint(0, 100) if rng.random() < 0.5 else 1
    return Example("raw", [], ", ".join(map(str, range(a, a + rng.randint(20, 60)))), "raw")


# (task, share of the examples, may it come later in a chat?)
MIXTURE = [
    (arithmetic, 0.26, True),
    (counting, 0.11, True),
    (sorting, 0.12, True),
    (reverse, 0.11, True),
    (dates, 0.12, True),
    (talk, 0.07, True),
    (lambda rng: recall(rng, turn), 0.07, False),
    (passkey, 0.045, True),
    (fields, 0.06, True),
    (lambda rng: tools(rng, exact), 0.05, True),
    (raw_count, 0.005, False),
]
TASKS, SHARES, LATER = zip(*MIXTURE)


def draw(rng, held=False, task=None, bare=False):
    """An example of the mixture (or of one task of it, by its number) that is trained on, or that is held out. bare: with no
    system prompt of its own and nothing said before."""
    while True:
        i = rng.choices(range(len(TASKS)), SHARES)[0] if task is None else task
        example = TASKS[i](rng)
        if held_out(example) != held or (held and example.task == "raw"):
            continue
        if example.task == "raw" or bare:
            return example
        has_system = example.messages[0]["role"] == "system"
        if LATER[i] and not has_system and rng.random() < 0.18:
            before = []
            for _ in range(rng.randint(1, 4)):
                before += turn(rng)
            example.messages = before + example.messages
        if not has_system and rng.random() < 0.4:
            example.messages = [{"role": "system", "content": system(rng)}] + example.messages
        return example
