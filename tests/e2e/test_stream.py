"""One router, mock workers: streams over HTTP, and a worker killed in the middle of them."""

import json
import random
import signal

import pytest
from cluster import Cluster, sse, stream, wait_for

PACED = ("--mock-decode-ms", "8")


def ask(prompt, n, **more):
    return {"model": "mock", "prompt": prompt, "max_tokens": n, "ignore_eos": True, "temperature": 0, **more}


def test_a_stream_and_a_body_say_the_same():
    with Cluster() as c:
        r = c.router("r1")
        c.mock("w1", "north", [r])
        c.wait_ready(r, 1)
        s = stream(r, ask("hello", 40, stream_options={"include_usage": True}))
        assert s["done"] and s["finish"] == "length" and len(s["text"]) == 40
        assert s["usage"] == {**s["usage"], "prompt_tokens": 5, "completion_tokens": 40, "total_tokens": 45}
        assert s["chunks"][-1]["choices"] == []
        status, head, body = r.json("POST", "/v1/completions", ask("hello", 40))
        assert status == 200 and body["choices"][0]["text"] == s["text"]
        assert body["usage"]["completion_tokens"] == 40 and body["shoal"]["replica"] == "w1"
        assert head["X-Shoal-Replica"] == "w1" and len(head["X-Request-Id"]) == 32


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_killed_worker_costs_a_pause_and_no_token(temperature):
    """kill -9 of the serving worker after a random token: the stream equals the undisturbed one and the other worker decodes what is missing."""
    with Cluster() as c:
        r = c.router("r1")
        workers = {f"w{i}": c.mock(f"w{i}", "north", [r], *PACED) for i in range(2)}
        c.wait_ready(r, 2)
        for i in range(6):
            n = random.randint(30, 80)
            k = random.randint(1, n - 10)
            body = ask(f"story {i}", n, temperature=temperature, seed=1000 + i)
            want = stream(r, body)["text"]
            assert len(want) == n
            before = {name: w.metrics()["shoal_worker_decoded_tokens_total"] for name, w in workers.items()}
            killed = []

            def on_text(out):
                if len(out["text"]) >= k and not killed:
                    killed.append(out["headers"]["X-Shoal-Replica"])
                    workers[killed[0]].kill()

            got = stream(r, body, on_text=on_text)
            assert got["text"] == want and got["done"] and got["finish"] == "length", got
            keeper = next(name for name in workers if name != killed[0])
            assert got["shoal"]["replica"] == keeper and got["shoal"]["attempt"] == 2
            decoded = workers[keeper].metrics()["shoal_worker_decoded_tokens_total"] - before[keeper]
            assert 0 < decoded <= n - k, (decoded, n, k)
            del workers[killed[0]]
            workers[f"w{i + 2}"] = c.mock(f"w{i + 2}", "north", [r], *PACED)
            c.wait_ready(r, 2)


def test_a_request_without_a_seed_is_the_same_after_a_kill():
    """The router gives the seed before the first attempt and names it: the same request with it, undisturbed, says the same."""
    with Cluster() as c:
        r = c.router("r1")
        first = c.mock("first", "north", [r], *PACED)
        c.wait_ready(r, 1)
        killed = []

        def on_text(out):
            if len(out["text"]) >= 20 and not killed:
                c.mock("second", "north", [r], *PACED)
                c.wait_ready(r, 2)
                killed.append(len(out["text"]))
                first.kill()

        got = stream(r, ask("no seed", 400, temperature=1), on_text=on_text)
        assert got["done"] and len(got["text"]) == 400 and got["shoal"]["attempt"] == 2
        assert stream(r, ask("no seed", 400, temperature=1, seed=got["shoal"]["seed"]))["text"] == got["text"]


def test_a_request_that_kills_its_workers_is_refused_after_two():
    with Cluster(timers={"keepalive": "10m"}) as c:  # a sanitizer's crash takes its time, and a kept-alive answer has its status already
        r = c.router("r1")
        workers = [c.mock(f"w{i}", "north", [r], *PACED) for i in range(3)]
        for w in workers:
            w.may_crash = True
        c.wait_ready(r, 3)
        status, _, body = r.json("POST", "/v1/completions", ask("please <crash> now", 10))
        assert status == 500 and body["error"]["code"] == "request_killed_workers", body
        wait_for(lambda: sum(w.alive() for w in workers) == 1, "two workers died")
        assert stream(r, ask("still here", 20))["done"]


def test_a_disconnect_cancels_at_the_worker_within_a_step():
    with Cluster() as c:
        r = c.router("r1")
        w = c.mock("w1", "north", [r], *PACED)
        c.wait_ready(r, 1)
        for streamed in (True, False):
            conn = r.connect()
            conn.request("POST", "/v1/completions", json.dumps(ask("long", 20000, stream=streamed)), {"Content-Type": "application/json"})
            wait_for(lambda: w.metrics()["shoal_worker_sequences_running"] == 1, "it runs")
            conn.sock.shutdown(2)
            conn.close()
            wait_for(lambda: w.metrics()["shoal_worker_sequences_running"] == 0, "it was cancelled", 5)
        m = w.metrics()
        wait_for(lambda: w.metrics()["shoal_worker_kv_blocks_free"] == m["shoal_worker_kv_blocks"], "all blocks are free again")
        wait_for(lambda: r.metrics()["shoal_router_sessions"] == 0, "no session is left")


def test_keepalives_and_headers_come_while_a_long_prompt_is_computed():
    with Cluster(timers={"keepalive": "300ms", "accept_wait": "300ms"}) as c:
        r = c.router("r1")
        c.mock("w1", "north", [r], "--mock-prefill", "400")
        c.wait_ready(r, 1)
        s = stream(r, ask("x" * 900, 5))
        assert s["done"] and s["keepalives"] >= 2, s


def test_a_frozen_worker_is_left_behind_and_may_come_back():
    with Cluster() as c:
        r = c.router("r1")
        frozen = c.mock("frozen", "north", [r], *PACED)
        c.wait_ready(r, 1)
        want = stream(r, ask("freeze", 200, seed=3))["text"]
        state = []

        def on_text(out):
            if len(out["text"]) >= 50 and not state:
                c.mock("other", "north", [r], *PACED)
                c.wait_ready(r, 2)
                state.append(len(out["text"]))
                frozen.kill(signal.SIGSTOP)

        got = stream(r, ask("freeze", 200, seed=3), on_text=on_text)
        assert got["text"] == want and got["done"] and got["shoal"]["replica"] == "other"
        frozen.kill(signal.SIGCONT)
        wait_for(lambda: r.metrics()["shoal_router_replicas_ready"] == 2, "the thawed worker serves again", 30)
        assert stream(r, ask("freeze", 200, seed=3))["text"] == want


def test_a_slow_reader_holds_up_nobody_and_gets_everything():
    with Cluster() as c:
        r = c.router("r1")
        c.mock("w1", "north", [r], "--mock-decode-ms", "0.2")
        c.wait_ready(r, 1)
        slow = r.connect()
        slow.request("POST", "/v1/completions", json.dumps(ask("slow", 20000, stream=True)), {"Content-Type": "application/json"})
        response = slow.getresponse()
        for i in range(5):
            assert stream(r, ask(f"fast {i}", 50))["done"]
        text, done = "", False
        for data in sse(response):
            if data == "[DONE]":
                done = True
                break
            text += "" if data == ":" else (json.loads(data)["choices"][0].get("text") or "")
        assert done and len(text) == 20000


def test_the_router_answers_why_it_is_not_ready():
    with Cluster() as c:
        r = c.router("r1")
        status, _, text = r.request("GET", "/readyz")
        assert status == 503 and b"0 of 0 replicas" in text, text
        assert r.request("GET", "/livez")[0] == 200
        c.mock("w1", "north", [r])
        c.wait_ready(r, 1)
        assert r.request("GET", "/readyz")[0] == 200
        assert r.request("HEAD", "/health")[0] == 200


def test_drain_finishes_what_runs_and_exits_with_0():
    with Cluster() as c:
        r = c.router("r1")
        w = c.mock("w1", "north", [r], *PACED)
        c.wait_ready(r, 1)
        started = []

        def on_text(out):
            if len(out["text"]) > 10 and not started:
                started.append(1)
                w.kill(signal.SIGTERM)

        assert stream(r, ask("drain", 100), on_text=on_text)["done"]
        assert w.wait(40) == 0
        r.kill(signal.SIGTERM)
        assert r.wait(20) == 0
