"""The trained model on the CPU engine: right answers, and streams that survive kill -9 token for token, over HTTP and ZeroMQ."""

import json
import os
import random
import subprocess

import pytest
from cluster import BIN, MODEL, SANITIZED, SLOW, Cluster, stream, wait_for

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

            for _ in range(40):  # until the router happens to choose the victim
                wait_for(lambda: r.metrics()["shoal_router_sessions"] == 0, "the router is at rest")
                before, records = decoded(keeper), r.metrics()["shoal_router_tokens_total"]
                got = stream(r, body, "/v1/chat/completions", on_text=on_text, only=victim.name)
                if got:
                    break
            assert killed and got["done"], got
            assert got["shoal"]["replica"] == "keeper" and got["shoal"]["attempt"] == 2
            missing, records = decoded(keeper) - before, r.metrics()["shoal_router_tokens_total"] - records
            want = stream(r, {**body, "seed": got["shoal"]["seed"], "stream_options": {"include_usage": True}}, "/v1/chat/completions")
            assert tokens(got) == tokens(want)
            n = want["usage"]["completion_tokens"]
            # The router took n records, none twice, and `missing` of them are the keeper's: the victim's are the others.
            assert records == n and 0 < missing <= n - k, (records, missing, n, k)


def test_zmq_streams_survive_kill_9():
    with Cluster() as c:
        r = c.router("r1")
        keeper = c.tiny("keeper", "north", [r], "--step-min-ms", "3")
        c.wait_ready(r, 1)
        for i in range(ROUNDS):
            victim = c.tiny(f"victim{i}", "north", [r], "--step-min-ms", "3")
            c.wait_ready(r, 2)
            text, temperature, k = prompt(), i % 2, random.randint(1, 80)
            for _ in range(40):  # until the router happens to choose the victim
                before = keeper.metrics()["shoal_worker_decoded_tokens_total"]
                p = generate(r, text, temperature)
                served = wait_for(lambda: decoded(victim) > 0 or decoded(keeper) > before, "somebody serves it") and decoded(victim) > 0
                if served:
                    break
                p.communicate(timeout=60 * SLOW)
            wait_for(lambda: decoded(victim) >= k, "the victim has made k tokens", every=0.001)
            victim.kill()
            got = finish(p)
            missing = keeper.metrics()["shoal_worker_decoded_tokens_total"] - before
            assert got["attempt"] == 2 and got["replica"] == "keeper", got
            want = finish(generate(r, text, temperature, got["seed"]))
            assert got["tokens"] == want["tokens"] and got["text"] == want["text"] and got["reasoning"] == want["reasoning"]
            assert 0 < missing <= len(want["tokens"]) - k, (missing, len(want["tokens"]), k)


def decoded(worker):
    return worker.metrics()["shoal_worker_decoded_tokens_total"]


def generate(r, text, temperature, seed=None):
    args = [f"{BIN}/shoal", "generate", "--routers", r.zmq, "--model", "tiny", "--chat", "--json", "--temperature", str(temperature)]
    args += ["--seed", str(seed)] if seed is not None else []
    return subprocess.Popen(args + [text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(p):
    out, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0, (out, err)
    return json.loads(out)
