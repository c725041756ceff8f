"""One example of the world, and its text as chat_template.jinja would render it (evaluate.py compares the two)."""

import json
from dataclasses import dataclass, field

from tokenizer import (
    ASSISTANT,
    BOS,
    CALL,
    CALL_SEP,
    CALLS,
    END_CALL,
    END_CALLS,
    END_OUTPUT,
    END_OUTPUTS,
    END_THINK,
    EOS,
    OUTPUT,
    OUTPUTS,
    THINK,
    USER,
)


@dataclass
class Example:
    task: str
    messages: list  # OpenAI's; the last is a user's or a tool's
    answer: str  # what follows </think>
    key: str  # examples with equal keys are on the same side of the split into trained and held out
    think: str = ""  # whole lines, or nothing
    tools: list = field(default_factory=list)
    prompt_weight: float = 0.05  # of the prompt's tokens in the loss; the answer's count 1


def call_text(calls):
    """calls: [(name, arguments as a dict)]"""
    each = (f"{CALL}function{CALL_SEP}{n}\n```json\n{json.dumps(a, ensure_ascii=False)}\n```{END_CALL}" for n, a in calls)
    return CALLS + "\n".join(each) + END_CALLS


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def assistant_calls(calls):
    made = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in calls]
    return {"role": "assistant", "content": "", "tool_calls": made}


def tool(text):
    return {"role": "tool", "content": text}


def system_text(messages, tools):
    parts = [m["content"] for m in messages if m["role"] == "system"]
    if tools:
        lines = ["## Tools"]
        for t in tools:
            f = t["function"]
            lines.append("### " + f["name"])
            if f.get("description"):
                lines.append("Description: " + f["description"])
            if f.get("parameters"):
                lines.append("Parameters: " + json.dumps(f["parameters"], ensure_ascii=False))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def prompt_text(messages, tools):
    """The prompt, up to where the answer begins."""
    out = [BOS, system_text(messages, tools)]
    for i, m in enumerate(messages):
        if m["role"] == "user":
            out += [USER, m["content"]]
        elif m["role"] == "assistant":
            out += [ASSISTANT, m["content"]]
            if m.get("tool_calls"):
                out.append(call_text([(c["function"]["name"], c["function"]["arguments"]) for c in m["tool_calls"]]))
            out.append(EOS)
        elif m["role"] == "tool":
            first = i == 0 or messages[i - 1]["role"] != "tool"
            last = i + 1 == len(messages) or messages[i + 1]["role"] != "tool"
            out += [OUTPUTS if first else "", OUTPUT, m["content"], END_OUTPUT, END_OUTPUTS if last else ""]
    return "".join(out) + ASSISTANT + THINK + "\n"


def answer_text(example):
    return example.think + END_THINK + example.answer + EOS
