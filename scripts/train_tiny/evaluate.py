"""Measures a model's folder on held-out prompts, checks it against transformers, writes the fixture of the engine's tests.

    python3 scripts/train_tiny/evaluate.py --model deploy/local/model --fixture tests/fixtures/tiny_logits.json

An answer counts as exact when greedy decoding gives every token of it, thinking and end included. That is measured in one
pass per prompt: greedy decoding gives the expected text exactly if each of its tokens is the likeliest after those before.
"""

import argparse
import json
import random
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import export
import tokenizer as tok
from chat import prompt_text, user
from data import EXAMPLE_TOKENS_MAX, encode, lay
from held_out import held_out_examples
from model import Spans
from world import draw

PACK_TOKENS = 4096
PROMPTS = {
    "a sum": "What is 1234 + 777?",
    "a difference": "What is 50321 - 8467?",
    "a count": "Count from 1 to 60.",
    "a later count": "count from 37 to 112",
    "a list to sort": "Sort these numbers: 9, 2, 5, 31, 14, 8, 77, 3, 42",
    "small talk": "Who are you?",
    "a date": "What date is 40 days after March 25?",
}
GREEDY_TOKENS = 48


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--prompts", type=int, default=500, help="held-out prompts per task")
    p.add_argument("--seed", type=int, default=77)
    p.add_argument(
        "--fixture", type=Path, help="file to write: tokens, logits and greedy continuations by transformers in fp32"
    )
    p.add_argument("--report", type=Path, help="file to write: the measured numbers as JSON")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p.parse_args()


def packs(encoded):
    """Cuts the examples into groups that fit PACK_TOKENS."""
    group, size = [], 0
    for e in sorted(encoded, key=lambda e: len(e[0])):
        if len(e[0]) > EXAMPLE_TOKENS_MAX:
            continue
        if size + len(e[0]) > PACK_TOKENS:
            yield group
            group, size = [], 0
        group.append(e)
        size += len(e[0])
    yield group


@torch.no_grad()
def measure(model, encoded, device):
    """Per example (example, exact?, log-probability of the answer at temperature 1, MTP's hits, MTP's tries)."""
    for group in packs(encoded):
        ids, positions, _, starts = lay(group, PACK_TOKENS)
        ids, positions = (torch.from_numpy(x.astype(np.int64)).to(device) for x in (ids, positions))
        spans = Spans(torch.from_numpy(starts).to(device), EXAMPLE_TOKENS_MAX)
        hidden = model.hidden(ids, positions, spans)
        logits = model.head(hidden).float()
        hit = (logits[:-1].argmax(-1) == ids[1:]).cpu()
        logprob = torch.log_softmax(logits[:-1], -1).gather(1, ids[1:, None])[:, 0].double().cpu()
        ahead = (model.ahead(hidden, ids, positions, spans)[:-2].argmax(-1) == ids[2:]).cpu()
        at = 0
        for tokens, n_prompt, example in group:
            answer, end = slice(at + n_prompt - 1, at + len(tokens) - 1), at + len(tokens)
            second = ahead[at + n_prompt - 1 : end - 2]
            yield example, bool(hit[answer].all()), float(logprob[answer].sum()), int(second.sum()), len(second)
            at = end


def tasks_table(model, tokenizer, o):
    rng = random.Random(f"{o.seed}/held out")
    rows, misses = defaultdict(list), []
    for example, *numbers in measure(model, encode(tokenizer, held_out_examples(rng, o.prompts)), o.device):
        rows[example.task].append(numbers)
        if not numbers[0]:
            misses.append(example)
    table = {}
    for task, found in sorted(rows.items()):
        exact, logprob, hits, tries = (np.array(x, float) for x in zip(*found))
        table[task] = {
            "prompts": len(found),
            "exact": round(exact.mean(), 4),
            "exact_at_temperature_1": round(float(np.exp(logprob).mean()), 4),
            "mtp_accepted": round(hits.sum() / tries.sum(), 4),
        }
        print(f"{task:12} " + "  ".join(f"{k} {v}" for k, v in table[task].items()), flush=True)
    for example in misses[:20]:
        print("missed:", example.task, repr(example.messages[-1]["content"][-200:]), "->", repr(example.answer[:100]))
    return table


def showpieces(model, tokenizer, device):
    """Counts that strangers are shown: all of 1 to n, in three wordings; the least sure of them at temperature 1."""
    from chat import Example

    ways = ("Count from 1 to {}.", "count from 1 to {}", "Count to {}.")
    made = []
    for n in [*range(2, 121), 150, 200]:
        text = ", ".join(map(str, range(1, n + 1)))
        made += [Example("count", [user(w.format(n))], text, "") for w in ways]
    found = list(measure(model, encode(tokenizer, made), device))
    exact = sum(f[1] for f in found)
    worst = min(found, key=lambda f: f[2])
    to_60 = min(np.exp(f[2]) for f in found if f[0].answer.endswith(" 60"))
    out = {
        "counts": len(found),
        "exact": exact,
        "least_sure": round(float(np.exp(worst[2])), 5),
        "to_60": round(float(to_60), 5),
    }
    print("counts from 1:", out, "least sure:", worst[0].messages[-1]["content"], flush=True)
    return out


def reference(folder, device):
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").to(device).eval()


@torch.no_grad()
def greedy(theirs, ids, device, n, eos):
    """Without a cache: slow and plain. (ids, smallest distance between the two likeliest of all steps)"""
    ids, made, margin = list(ids), [], float("inf")
    while len(made) < n and eos not in made:
        top = theirs(torch.tensor([ids], device=device)).logits[0, -1].topk(2)
        made.append(top.indices[0].item())
        margin = min(margin, (top.values[0] - top.values[1]).item())
        ids.append(made[-1])
    return made, margin


@torch.no_grad()
def compare(model, tokenizer, theirs, o):
    """The fixture's cases; checks on the way that transformers computes what we trained."""
    cases, worst = [], 0.0
    eos = model.config["eos_token_id"]
    for name, text in PROMPTS.items():
        ids = tokenizer.encode(prompt_text([user(text)], []), add_special_tokens=False).ids
        made, margin = greedy(theirs, ids, o.device, GREEDY_TOKENS, eos)
        whole = torch.tensor(ids + made, device=o.device)
        spans = Spans(torch.tensor([0, len(whole)], dtype=torch.int32, device=o.device), len(whole))
        ours = model(whole, torch.arange(len(whole), device=o.device), spans)
        logits = theirs(whole[None]).logits[0]
        worst = max(worst, ((ours - logits).abs().max() / logits.abs().max()).item())
        agree = torch.equal(ours.argmax(-1), logits.argmax(-1))
        top = logits[len(ids) - 1].topk(10)
        pairs = [[i, round(v, 6)] for i, v in zip(top.indices.tolist(), top.values.tolist())]
        case = {"name": name, "prompt": text, "tokens": ids, "next_top": pairs}
        case |= {"max_abs_logit": round(logits[len(ids) - 1].abs().max().item(), 6), "greedy": made}
        cases.append(
            case | {"greedy_margin_min": round(margin, 4), "greedy_text": tokenizer.decode(made, skip_special_tokens=False)}
        )
        print(
            f"{name}: {case['tokens'][-3:]}… -> {cases[-1]['greedy_text']!r} margin {margin:.2f} argmax equal {agree}",
            flush=True,
        )
    print(f"against transformers: max|Δ|/max|logit| = {worst:.2e}", flush=True)
    if worst > 1e-3:
        sys.exit("evaluate: transformers' logits differ from ours")
    return cases, worst


def check_template(tokenizer, folder):
    """Our prompts are what transformers' tokenizer and the Jinja template make of the same messages."""
    from transformers import AutoTokenizer

    theirs, rng = AutoTokenizer.from_pretrained(folder), random.Random(5)
    for _ in range(300):
        e = draw(rng)
        if e.task == "raw":
            continue
        text = prompt_text(e.messages, e.tools)
        tools = e.tools or None
        other = theirs.apply_chat_template(e.messages, tools=tools, add_generation_prompt=True, tokenize=False)
        assert other == text, f"the template gives {other!r}, not {text!r}"
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert theirs(text, add_special_tokens=False).input_ids == ids, f"transformers' tokenizer differs for {text!r}"
    print("template and tokenizer agree with transformers on 300 prompts", flush=True)


def main():
    o = options()
    torch.backends.cuda.matmul.allow_tf32 = False
    tokenizer = tok.load(o.model)
    model = export.load(o.model).to(o.device).eval()
    check_template(tokenizer, o.model)
    report = {"tasks": tasks_table(model, tokenizer, o), "counts_from_1": showpieces(model, tokenizer, o.device)}
    theirs = reference(o.model, o.device)
    cases, report["transformers_difference"] = compare(model, tokenizer, theirs, o)
    if o.fixture:
        about = (
            "By transformers in fp32 from the bf16 weights of deploy/local/model. next_top: [token, logit] after the prompt."
        )
        lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
        head = json.dumps({"about": about, "dtype": "float32"}, ensure_ascii=False)[:-1]
        o.fixture.write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    if o.report:
        o.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
