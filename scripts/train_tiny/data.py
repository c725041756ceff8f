"""Batches: examples of the world as tokens, laid end to end, made by processes of their own while the GPU trains. Every
batch is a function of (seed, its number), and no batch is used twice."""

import random
import re
from collections import deque
from multiprocessing import get_context

import numpy as np

import tokenizer as tok
from chat import answer_text, prompt_text
from config import CONFIG
from world import draw

EXAMPLE_TOKENS_MAX = 2560
TOKENS_PER_EXAMPLE_MIN = 64  # on average; bounds the number of examples in a batch
WEIGHT_UNITS = 100  # weights travel as uint8 hundredths


def encode(tokenizer, examples):
    """[(ids, how many of them are the prompt, example)]"""
    plain = {"add_special_tokens": False}
    prompts = tokenizer.encode_batch_fast([prompt(e) for e in examples], **plain)
    answers = tokenizer.encode_batch_fast([answer(e) for e in examples], **plain)
    return [(p.ids + a.ids, len(p.ids), e) for p, a, e in zip(prompts, answers, examples)]


def prompt(example):
    return tok.BOS if example.task == "raw" else prompt_text(example.messages, example.tools)


def answer(example):
    return example.answer if example.task == "raw" else answer_text(example)


def lay(encoded, n_tokens):
    """Lays what fits end to end and pads: ids, positions, weights [n_tokens] and where each example starts."""
    ids = np.full(n_tokens, CONFIG["eos_token_id"], np.int16)
    weights = np.zeros(n_tokens, np.uint8)
    starts, at = [0], 0
    for tokens, n_prompt, example in encoded:
        end = at + len(tokens)
        if end > n_tokens or len(tokens) > EXAMPLE_TOKENS_MAX:
            continue
        ids[at:end] = tokens
        weights[at + 1 : at + n_prompt] = round(example.prompt_weight * WEIGHT_UNITS)
        weights[at + n_prompt : end] = WEIGHT_UNITS
        starts.append(end)
        at = end
    while at < n_tokens:
        at = min(at + EXAMPLE_TOKENS_MAX, n_tokens)
        starts.append(at)
    lengths = np.diff(starts)
    positions = np.arange(n_tokens) - np.repeat(starts[:-1], lengths)
    return ids, positions.astype(np.int16), weights, np.array(starts, np.int32)


_tokenizer = None


def _start(folder):
    global _tokenizer
    _tokenizer = tok.load(folder)


def _make(seed, number, n_tokens):
    rng = random.Random(f"{seed}/{number}")
    encoded, have = [], 0
    while have < n_tokens:
        more = encode(_tokenizer, [draw(rng) for _ in range(128)])
        encoded += more
        have += sum(len(e[0]) for e in more)
    ids, positions, weights, starts = lay(encoded, n_tokens)
    empty = n_tokens // TOKENS_PER_EXAMPLE_MIN + 1 - len(starts)  # one shape for all batches
    assert empty >= 0, "examples are shorter than expected"
    return ids, positions, weights, np.pad(starts, (0, empty), constant_values=n_tokens)


class Batches:
    """Iterates for ever; close() ends the processes."""

    def __init__(self, tokenizer_folder, seed, n_tokens, processes, ahead=4):
        self.pool = get_context("spawn").Pool(processes, _start, (str(tokenizer_folder),))
        self.seed, self.n_tokens, self.number = seed, n_tokens, 0
        self.waiting = deque()
        for _ in range(processes * ahead):
            self._order()

    def _order(self):
        self.waiting.append(self.pool.apply_async(_make, (self.seed, self.number, self.n_tokens)))
        self.number += 1

    def __iter__(self):
        return self

    def __next__(self):
        self._order()
        return self.waiting.popleft().get()

    def close(self):
        self.pool.terminate()
        self.pool.join()


def sample_texts(seed, n):
    """Plain text of the world, to train the tokenizer on."""
    rng = random.Random(f"{seed}/tokenizer")
    for _ in range(n):
        example = draw(rng, bare=True)
        yield from re.split(r"<｜[^｜]*｜>|</?think>", prompt(example) + answer(example))
