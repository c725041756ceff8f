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


def test_tokens_can_be_allowed_and_banned():
    with Cluster() as c:
        r = c.router("r1")
        c.tiny("w1", "north", [r])
        c.wait_ready(r, 1)
        out = subprocess.run([f"{BIN}/shoal-model", "tokenize", "--model", MODEL], input='{"text": "7"}\n{"text": "8"}\n', capture_output=True, text=True)
        seven, eight = (json.loads(line)["ids"][-1] for line in out.stdout.splitlines())
        body = {"model": "tiny", "prompt": "1 + 2 =", "temperature": 2, "seed": 3, "max_tokens": 40, "ignore_eos": True}
        said = lambda **more: stream(r, {**body, **more}, "/v1/completions")["text"]
        assert said(allowed_token_ids=[seven, seven]) == "7" * 40
        assert set(said(allowed_token_ids=[seven, eight], typical_p=1, logit_bias={str(eight): 0.5})) <= {"7", "8"}
        assert said(allowed_token_ids=[seven, eight], banned_token_ids=[seven]) == "8" * 40
        assert "7" not in said(banned_token_ids=[seven], typical_p=0.9)


def prompt():
    a = random.randint(1, 20)
    return f"Count from {a} to {a + random.randint(40, 60)}."


class Pair:
    """Two workers behind a router; whichever serves is killed, the other goes on, and a new one takes the place."""

    def __init__(self, cluster, router):
        self.c, self.r, self.made = cluster, router, 0
        self.workers = [self.new(), self.new()]
        cluster.wait_ready(router, 2)

    def new(self):
        self.made += 1
        return self.c.tiny(f"w{self.made}", "north", [self.r], "--step-min-ms", "3")

    def split(self, name):
        """(the worker of that name, the other)"""
        a, b = self.workers
        return (a, b) if a.name == name else (b, a)

    def replace(self, dead):
        self.workers = [w for w in self.workers if w is not dead] + [self.new()]
        self.c.wait_ready(self.r, 2)


@pytest.mark.parametrize("temperature", [0, 1])
def test_http_streams_survive_kill_9(temperature):
    with Cluster() as c:
        r = c.router("r1")
        pair = Pair(c, r)
        for _ in range(ROUNDS):
            body, k, killed = chat(prompt(), temperature=temperature), random.randint(1, 80), []
            wait_for(lambda: r.metrics()["shoal_router_sessions"] == 0, "the router is at rest")
            before, records = {w.name: decoded(w) for w in pair.workers}, r.metrics()["shoal_router_tokens_total"]

            def on_text(out):
                if len(out["chunks"]) > k and not killed:
                    killed.append(out["headers"]["X-Shoal-Replica"])
                    pair.split(killed[0])[0].kill()

            got = stream(r, body, "/v1/chat/completions", on_text=on_text)
            assert killed and got["done"], got
            victim, keeper = pair.split(killed[0])
            assert got["shoal"]["replica"] == keeper.name and got["shoal"]["attempt"] == 2
            missing, records = decoded(keeper) - before[keeper.name], r.metrics()["shoal_router_tokens_total"] - records
            want = stream(r, {**body, "seed": got["shoal"]["seed"], "stream_options": {"include_usage": True}}, "/v1/chat/completions")
            assert tokens(got) == tokens(want)
            n = want["usage"]["completion_tokens"]
            # The router took n records, none twice, and `missing` of them are the keeper's: the victim's are the others.
            assert records == n and 0 < missing <= n - k, (records, missing, n, k)
            pair.replace(victim)


def test_zmq_streams_survive_kill_9():
    with Cluster() as c:
        r = c.router("r1")
        pair = Pair(c, r)
        for i in range(ROUNDS):
            text, temperature, k = prompt(), i % 2, random.randint(1, 80)
            wait_for(lambda: r.metrics()["shoal_router_sessions"] == 0, "the router is at rest")
            before, records = {w.name: decoded(w) for w in pair.workers}, r.metrics()["shoal_router_tokens_total"]
            p = generate(r, text, temperature)
            victim = wait_for(lambda: next((w for w in pair.workers if decoded(w) > before[w.name]), None), "somebody serves it", every=0.001)
            keeper = pair.split(victim.name)[1]
            wait_for(lambda: decoded(victim) - before[victim.name] >= k, "the victim has made k tokens", every=0.001)
            victim.kill()
            got = finish(p)
            missing, records = decoded(keeper) - before[keeper.name], r.metrics()["shoal_router_tokens_total"] - records
            assert got["attempt"] == 2 and got["replica"] == keeper.name, got
            want = finish(generate(r, text, temperature, got["seed"]))
            assert got["tokens"] == want["tokens"] and got["text"] == want["text"] and got["reasoning"] == want["reasoning"]
            n = len(want["tokens"])
            # A token that the victim had made but not sent any more is the keeper's again: hence k - 2.
            assert records == n and 0 < missing <= n - k + 2, (records, missing, n, k)
            pair.replace(victim)


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
