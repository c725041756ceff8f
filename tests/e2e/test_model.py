"""The trained model on the CPU engine: right answers, and streams that survive kill -9 token for token, over HTTP and ZeroMQ."""

import json
import os
import random
import subprocess

import pytest
from cluster import BIN, MODEL, SANITIZED, SLOW, Cluster, stream

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")
ROUNDS = 4 if SANITIZED else 20


def chat(text, **more):
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "logprobs": True, **more}


def tokens(s):
    """The identity of a stream: every token's text bytes and logprob, in order, with the reasoning."""
    return [(t["bytes"], t["logprob"]) for c in s["chunks"] if c["choices"] and c["choices"][0].get("logprobs")
            for t in c["choices"][0]["logprobs"]["content"]], s["reasoning"], s["text"]


def test_sums_are_right():
    with Cluster() as c:
        r = c.router("r1")
        c.tiny("w1", "north", [r])
        c.wait_ready(r, 1)
        wrong = []
        for _ in range(5 if SANITIZED else 40):
            a, b = random.randint(1, 99999), random.randint(1, 99999)
            text = stream(r, chat(f"What is {a} + {b}?", temperature=0), "/v1/chat/completions")["text"]
            if str(a + b) not in text:
                wrong.append((a, b, text))
        assert len(wrong) <= 1, wrong


def prompt():
    a = random.randint(1, 20)
    return f"Count from {a} to {a + random.randint(40, 60)}."


@pytest.mark.parametrize("temperature", [0, 1])
def test_http_streams_survive_kill_9(temperature):
    with Cluster() as c:
        r = c.router("r1")
        keeper = c.tiny("keeper", "north", [r], "--step-min-ms", "3")
        c.wait_ready(r, 1)
        for i in range(ROUNDS):
            victim = c.tiny(f"victim{i}", "north", [r], "--step-min-ms", "3")
            c.wait_ready(r, 2)
            body, k, killed = chat(prompt(), temperature=temperature), random.randint(1, 80), []

            def on_text(out):
                if len(out["chunks"]) > k and not killed:
                    killed.append(len(out["chunks"]))
                    victim.kill()

            for _ in range(40):
                before = keeper.metrics()["shoal_worker_decoded_tokens_total"]
                got = stream(r, body, "/v1/chat/completions", on_text=on_text, only=victim.name)
                if got:
                    break
            assert killed and got["done"], got
            assert got["shoal"]["replica"] == "keeper" and got["shoal"]["attempt"] == 2
            decoded = keeper.metrics()["shoal_worker_decoded_tokens_total"] - before
            want = stream(r, {**body, "seed": got["shoal"]["seed"], "stream_options": {"include_usage": True}}, "/v1/chat/completions")
            assert tokens(got) == tokens(want)
            n = want["usage"]["completion_tokens"]
            assert 0 < decoded < n and decoded >= n - killed[0] - 12, (decoded, n, killed)


def test_zmq_streams_survive_kill_9():
    with Cluster() as c:
        r = c.router("r1")
        c.tiny("keeper", "north", [r], "--step-min-ms", "3")
        c.wait_ready(r, 1)
        for i in range(ROUNDS):
            victim = c.tiny(f"victim{i}", "north", [r], "--step-min-ms", "3")
            c.wait_ready(r, 2)
            text, k = prompt(), random.randint(1, 80)
            temperature = i % 2
            for _ in range(40):
                got, killed = generate(r, text, temperature, None, lambda n, name: n >= k and name == victim.name, victim)
                if killed:
                    break
            assert killed and got["attempt"] == 2, got
            want, _ = generate(r, text, temperature, got["seed"], lambda n, name: False, None)
            assert got["tokens"] == want["tokens"] and got["text"] == want["text"]


def generate(r, text, temperature, seed, kill_when, victim):
    """shoal generate --json, a line an event."""
    args = [f"{BIN}/shoal", "generate", "--routers", r.zmq, "--model", "tiny", "--chat", "--json", "--temperature", str(temperature)]
    args += ["--seed", str(seed)] if seed is not None else []
    p = subprocess.Popen(args + [text], stdout=subprocess.PIPE, text=True)
    out, killed, replica = {"tokens": [], "text": ""}, False, None
    for line in p.stdout:
        event = json.loads(line)
        replica = event.get("replica", replica)
        if "tokens" in event:
            for t in event["tokens"]:
                out["tokens"].append(t["token"])
                out["text"] += t["text"]
        if not killed and victim and kill_when(len(out["tokens"]), replica):
            killed = True
            victim.kill()
        out.update({k: v for k, v in event.items() if k in ("attempt", "seed", "finish", "error")})
    assert p.wait(60 * SLOW) == 0, out
    return out, killed
