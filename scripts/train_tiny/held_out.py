"""Held-out prompts of each task with their expected answers, as tokens; evaluate.py measures on them.

    python3 scripts/train_tiny/held_out.py --model deploy/local/model --prompts 100 > held_out.txt

A line: the task, how many tokens are the prompt, and the tokens of prompt and answer. For build/bench/quant_bench."""

import argparse
import random
from pathlib import Path

import tokenizer as tok
from chat import prompt_text
from data import encode
from world import TASKS, draw


def held_out_examples(rng, n):
    """n different ones of each task, or fewer where a task has no more; bare prompts, except that a third of them come with
    a system prompt or later in a chat."""
    out, seen = [], set()
    for i in range(len(TASKS) - 1):  # all but raw text, the last
        wanted = len(out) + n
        for _ in range(8 * n):
            example = draw(rng, held=True, task=i, bare=rng.random() < 0.67)
            text = prompt_text(example.messages, example.tools)
            if text not in seen:
                out.append(example)
            seen.add(text)
            if len(out) == wanted:
                break
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--prompts", type=int, default=100, help="per task")
    p.add_argument("--seed", type=int, default=77)
    o = p.parse_args()
    examples = held_out_examples(random.Random(f"{o.seed}/held out"), o.prompts)
    for ids, n_prompt, example in encode(tok.load(o.model), examples):
        print(example.task.replace(" ", "-"), n_prompt, *ids)


if __name__ == "__main__":
    main()
