"""n > 1: the answers to one request are streams of their own, and every one of them survives what a single one does.

SHOAL_KILLS: how often workers and routers are killed (scripts/soak: 20)."""

import json
import os
import random

import openai
from cluster import Cluster, sse, wait_for
from test_router_death import FAST, JSON, Events, revive, two_routers

KILLS = int(os.environ.get("SHOAL_KILLS", "2"))


def ask(prompt, tokens, n, **more):
    return {"model": "mock", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 1, "n": n, **more}


def texts_of(body, router):
    status, _, answer = router.json("POST", "/v1/completions", body)
    assert status == 200, answer
    choices = answer["choices"]
    assert [c["index"] for c in choices] == list(range(body["n"]))
    return [c["text"] for c in choices]


class Choices(Events):
    """As Events, with a text and a finish reason for each choice."""

    def __init__(self, body):
        super().__init__(body)
        self.texts, self.reasons = [""] * body["n"], [None] * body["n"]

    def _take(self, data):
        super()._take(data)
        for choice in ([] if self.done or self.error else self.events[-1]["choices"]):
            assert self.reasons[choice["index"]] is None, "text behind a choice's end"
            self.texts[choice["index"]] += choice["text"]
            self.reasons[choice["index"]] = choice["finish_reason"]


def killer(victim, at):
    killed = []

    def look(e):
        if sum(map(len, e.texts)) >= at and not killed:
            killed.append(True)
            victim.kill()
            victim.wait()

    return look


def test_each_choice_is_drawn_for_itself_and_both_forms_say_the_same():
    with Cluster(timers=FAST) as c:
        r = c.router("r1")
        c.mock("w0", "north", [r])
        c.wait_ready(r, 1)
        body = ask("several", 20, n=4, seed=7)
        texts = texts_of(body, r)
        assert len(set(texts)) == 4 and all(len(t) == 20 for t in texts)
        streamed = Choices({**body, "stream_options": {"include_usage": True}}).read(r)
        assert streamed.done and streamed.texts == texts and streamed.reasons == ["length"] * 4
        assert streamed.usage["completion_tokens"] == 80 and streamed.usage["prompt_tokens"] > 0
        assert texts_of({**body, "n": 2}, r) == texts[:2], "a choice depends on how many there are"
        assert len(set(texts_of({**body, "temperature": 0}, r))) == 1
        client = openai.OpenAI(base_url=f"http://{r.http}/v1", api_key="-", max_retries=0)
        chat = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "hi"}], n=3, seed=1, max_tokens=9)
        assert [x.index for x in chat.choices] == [0, 1, 2] and len({x.message.content for x in chat.choices}) == 3
        wait_for(lambda: r.metrics()["shoal_router_sessions"] == 0, "all sessions ended")


def test_a_killed_worker_costs_no_choice_a_token():
    with Cluster(timers=FAST) as c:
        r = c.router("r1")
        workers = [c.mock(f"w{i}", "north", [r], "--mock-decode-ms", "8") for i in range(2)]
        c.wait_ready(r, 2)
        for i in range(KILLS):
            body = ask(f"killed {i}", 60, n=3, seed=90 + i)
            calm = texts_of(body, r)
            e = Choices(body).read(r, killer(workers[i % 2], random.randint(1, 150)))
            assert e.done and e.texts == calm, (i, e.error)
            workers[i % 2] = c.mock(f"w{i}-again", "north", [r], "--mock-decode-ms", "8")
            c.wait_ready(r, 2)


def test_a_killed_router_costs_no_choice_a_token():
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c)
        for i in range(KILLS):
            body = ask(f"router {i}", 60, n=3, seed=30 + i, stream_options={"include_usage": True})
            calm = texts_of({**body, "stream_options": None}, r2)
            e = Choices(body).read(r1, killer(r1, random.randint(1, 150)))
            assert not e.done
            other = Choices({**body, "n": 2})
            other.last = e.last
            assert other.read(r2).status == 400, "the answer to another request"
            e.read(r2)
            assert e.done and e.texts == calm and e.usage["completion_tokens"] == 180, (i, e.status, e.error)
            r1 = revive(c, r1)
            c.wait_ready(r1, 2)


def test_an_idempotent_repeat_has_the_same_answers_and_another_n_is_another_request():
    with Cluster(timers=FAST) as c:
        r = c.router("r1")
        c.mock("w0", "north", [r])
        c.wait_ready(r, 1)
        key = {"Idempotency-Key": "k1", **JSON}
        body = ask("again", 15, n=2)
        first, second = (r.json("POST", "/v1/completions", body, key)[2] for _ in range(2))
        assert [x["text"] for x in first["choices"]] == [x["text"] for x in second["choices"]]
        status, _, refused = r.json("POST", "/v1/completions", {**body, "n": 3}, key)
        assert status == 422 and "error" in refused, refused


def test_a_choice_that_is_refused_refuses_all_and_leaves_nothing():
    with Cluster(timers=FAST, queue=2) as c:
        r = c.router("r1")
        c.mock("w0", "north", [r], "--max-seqs", "1", "--mock-decode-ms", "20")
        c.wait_ready(r, 1)
        status, _, refused = r.json("POST", "/v1/completions", ask("many", 100, n=32))
        assert status in (429, 503) and "error" in refused, refused
        wait_for(lambda: r.metrics()["shoal_router_sessions"] == 0, "all sessions ended")


def test_a_disconnect_cancels_every_choice():
    with Cluster(timers=FAST) as c:
        r = c.router("r1")
        w = c.mock("w0", "north", [r], "--mock-decode-ms", "20")
        c.wait_ready(r, 1)
        connection = r.connect()
        connection.request("POST", "/v1/completions", json.dumps({**ask("gone", 2000, n=4), "stream": True}), JSON)
        events = sse(connection.getresponse())
        next(iter(events))
        connection.close()
        wait_for(lambda: r.metrics()["shoal_router_sessions"] == 0, "all sessions ended")
        wait_for(lambda: w.metrics()["shoal_worker_sequences_running"] == 0, "all sequences ended")
