"""Routers killed (-9) in the middle of streams. Whoever the client is, the text is that of the undisturbed run, and nothing comes twice.

SHOAL_KILLS: how often each (scripts/soak: 20)."""

import http.client
import json
import os
import random
import subprocess
import threading

import openai
from cluster import BIN, SLOW, Cluster, Process, Router, sse, stream, wait_for

KILLS = int(os.environ.get("SHOAL_KILLS", "2"))
PACED = ("--mock-decode-ms", "8")
FAST = {"leave": "0ms"}
JSON = {"Content-Type": "application/json"}


def ask(prompt, n, **more):
    return {"model": "mock", "prompt": prompt, "max_tokens": n, "ignore_eos": True, "temperature": 1, **more}


class Events:
    """One streamed answer as a client that keeps the ids of events: read() takes events until the connection ends; again() goes on."""

    def __init__(self, body, path="/v1/completions"):
        self.body, self.path = json.dumps({**body, "stream": True}), path
        self.text, self.last, self.events, self.done, self.error, self.ids = "", None, [], False, None, set()
        self.finish, self.usage, self.status, self.headers = None, None, 0, {}

    def read(self, router, on_event=None, headers=None):
        extra = dict(headers or {})
        if self.last:
            extra["Last-Event-ID"] = self.last
        c = router.connect()
        try:
            c.request("POST", self.path, self.body, {**JSON, **extra})
            r = c.getresponse()
            self.status, self.headers = r.status, dict(r.getheaders())
            if r.status != 200:
                self.error = json.loads(r.read())["error"]
                return self
            self._events(r, on_event)
        except (http.client.HTTPException, ConnectionError, TimeoutError):
            pass
        finally:
            c.close()
        return self

    def _events(self, r, on_event):
        data, event_id = None, None
        for raw in r:
            if not raw.endswith(b"\n"):
                return  # torn
            line = raw.decode().rstrip("\n")
            if line.startswith("data: "):
                data = line[6:]
            elif line.startswith("id: "):
                event_id = line[4:]
            elif line == "" and data is not None:
                self.last = event_id or self.last
                assert event_id not in self.ids or event_id is None, "an event came twice"
                self.ids.add(event_id)
                self._take(data)
                data, event_id = None, None
                if on_event:
                    on_event(self)
                if self.done:
                    return

    def _take(self, data):
        self.done = data == "[DONE]"
        if self.done:
            return
        chunk = json.loads(data)
        if "error" in chunk:
            self.error = chunk["error"]
            return
        self.events.append(chunk)
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            delta = choice.get("delta", choice)
            self.text += delta.get("content") or delta.get("text") or ""
            self.finish = choice.get("finish_reason") or self.finish


def two_routers(c, workers=2, *args):
    routers = [c.router("r1"), c.router("r2")]
    for i in range(workers):
        c.mock(f"w{i}", "north", routers, *(args or PACED))
    for r in routers:
        c.wait_ready(r, workers)
    return routers


def revive(c, dead):
    """The same router as a new process, at the same addresses."""
    r = c.router(dead.name, dead.region, zmq=dead.zmq, http=dead.http)
    c.processes.remove(dead)
    return r


def kill_at(router, n):
    """For on_event: kills the router when the client has n characters."""
    killed = []

    def look(e):
        if len(e.text) >= n and not killed:
            killed.append(len(e.text))
            router.kill()
            router.wait()

    return look


def test_last_event_id_goes_on_at_the_other_router():
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c)
        for i in range(KILLS):
            n = random.randint(60, 120)
            body = ask(f"story {i}", n, stream_options={"include_usage": True})
            e = Events({**body, "seed": 500 + i} if i % 2 else body).read(r1, kill_at(r1, random.randint(1, n - 20)))
            assert not e.done and 0 < len(e.text) < n, (i, e.text)
            had = len(e.text)
            first = e.events[0]
            e.read(r2)
            assert e.done and e.finish == "length" and len(e.text) == n, (i, e.status, e.error, e.text)
            seed = e.events[-2]["shoal"]["seed"]
            assert e.text == stream(r2, {**body, "seed": seed})["text"]
            assert e.usage["completion_tokens"] == n
            assert {x["id"] for x in e.events} == {first["id"]} and {x["created"] for x in e.events} == {first["created"]}
            assert int(e.headers["X-Shoal-Resumed-From"]) == had
            assert r2.metrics()["shoal_router_attached_total"] >= i + 1, "it was not found but made anew"
            if i + 1 < KILLS:
                r1 = revive(c, r1)
                c.wait_ready(r1, 2)


def test_every_event_is_a_place_to_go_on_from():
    """A finished answer, taken up behind each of its events: chat with its role, reasoning and tail, completions, with usage and without."""
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c)
        chat = {"model": "mock", "messages": [{"role": "user", "content": "tell"}], "max_tokens": 12, "ignore_eos": True, "seed": 3}
        for path, body in (("/v1/chat/completions", chat), ("/v1/completions", ask("tell", 12, seed=4, stream_options={"include_usage": True}))):
            whole, seen = Events(body, path), []
            whole.read(r1, lambda e: seen.append((e.last, len(e.events))))
            assert whole.done
            for last, n in seen:
                rest = Events(body, path)
                rest.last = last
                rest.read(r2 if n % 2 else r1)
                assert rest.done and rest.error is None, rest.error
                assert [x["choices"] for x in merged(whole.events[:n] + rest.events)] == [x["choices"] for x in merged(whole.events)], n


def merged(events):
    """Neighbouring text chunks as one: how records fall into chunks depends on time."""
    out = []
    for e in (json.loads(json.dumps(x)) for x in events):
        c, p = (e["choices"] or [{}])[0], (out[-1]["choices"] or [{}])[0] if out else {}
        plain = c.get("finish_reason", 0) is None and p.get("finish_reason", 0) is None
        if plain and "text" in c and "text" in p:
            p["text"] += c["text"]
        elif plain and c.get("delta", {}).keys() == {"content"} and p.get("delta", {}).keys() == {"content"}:
            p["delta"]["content"] += c["delta"]["content"]
        else:
            out.append(e)
    return out


def test_ids_that_are_not_the_clients_are_refused():
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c, 1)
        body = ask("mine", 20, seed=1)
        e = Events(body).read(r1)
        good = e.last
        for bad, status in (("x", 400), ("", 400), (good[:-2], 403), (good[:40] + ("A" if good[40] != "A" else "B") + good[41:], 403)):
            e.last = None
            assert e.read(r2, headers={"Last-Event-ID": bad}).status == status, bad
            assert e.error["param"] == "Last-Event-ID"
        for other in (ask("another", 20, seed=1), ask("mine", 20, seed=2), ask("mine", 21, seed=1)):
            f = Events(other)
            f.last = good
            assert f.read(r2).status == 400 and "same body" in f.error["message"], f.error
        unstreamed = r1.json("POST", "/v1/completions", body, {**JSON, "Last-Event-ID": good})
        assert unstreamed[0] == 400
        assert r2.metrics()["shoal_router_sessions"] == 0


def test_without_the_workers_log_it_is_made_anew_and_without_its_fingerprint_it_is_lost():
    with Cluster(timers=FAST) as c:
        r1, r2 = c.router("r1"), c.router("r2")
        w1 = c.mock("w1", "north", [r1, r2], *PACED)
        c.wait_ready(r1, 1)
        body = ask("both die", 80)
        e = Events(body).read(r1, kill_at(r1, 30))
        w1.kill()
        w2 = c.mock("w2", "north", [r2], *PACED)
        c.wait_ready(r2, 1)
        e.read(r2)
        assert e.done and len(e.text) == 80
        assert e.text == stream(r2, {**body, "seed": e.events[-1]["shoal"]["seed"]})["text"]
        assert r2.metrics()["shoal_router_attach_not_found_total"] == 1


def test_a_disconnect_cancels_unless_the_request_asked_to_be_kept():
    with Cluster(timers=FAST) as c:
        (r1, r2), w = two_routers(c, 1), None
        w = c.processes[-1]

        def leave(headers):
            conn = r1.connect()
            conn.request("POST", "/v1/completions", json.dumps(ask("long", 250, stream=True)), {**JSON, **headers})
            wait_for(lambda: w.metrics()["shoal_worker_sequences_running"] == 1, "it runs")
            conn.sock.shutdown(2)
            conn.close()

        def running():
            return w.metrics()["shoal_worker_sequences_running"]

        for headers in ({}, {"Idempotency-Key": "gone", "Shoal-Resume": "0"}):
            leave(headers)
            wait_for(lambda: running() == 0, "it was cancelled", 5)
        cancelled = w.metrics()["shoal_worker_cancelled_total"]
        leave({"Shoal-Resume": "1"})
        decoded = w.metrics()["shoal_worker_decoded_tokens_total"]
        wait_for(lambda: w.metrics()["shoal_worker_decoded_tokens_total"] > decoded + 50, "it goes on")
        assert w.metrics()["shoal_worker_cancelled_total"] == cancelled
        wait_for(lambda: running() == 0, "it ended by itself")
        assert w.metrics()["shoal_worker_cancelled_total"] == cancelled
        assert r1.json("POST", "/v1/completions", ask("x", 1), {**JSON, "Shoal-Resume": "maybe"})[0] == 400


def test_requests_of_one_key_are_one_request():
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c)
        body, key = ask("once", 150), {"Idempotency-Key": "order-17"}
        answers = [None] * 3

        def run(i):
            answers[i] = stream(r1, body, headers=key)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
        for t in threads:
            t.start()
        wait_for(lambda: r1.metrics()["shoal_router_tokens_total"] > 10, "it runs")
        run(2)  # joins in the middle
        for t in threads:
            t.join()
        texts = {a["text"] for a in answers}
        assert len(texts) == 1 and len(answers[0]["text"]) == 150 and all(a["done"] for a in answers), answers
        decoded = sum(w.metrics()["shoal_worker_decoded_tokens_total"] for w in c.processes[2:])
        assert decoded == 150, decoded
        status, _, whole = r1.json("POST", "/v1/completions", body, {**JSON, **key})  # after its end, in one piece
        assert status == 200 and whole["choices"][0]["text"] in texts
        status, _, whole = r2.json("POST", "/v1/completions", body, {**JSON, **key})  # at another router
        assert status == 200 and whole["choices"][0]["text"] in texts
        assert sum(w.metrics()["shoal_worker_decoded_tokens_total"] for w in c.processes[2:]) == decoded
        for router in (r1, r2):
            status, _, refused = router.json("POST", "/v1/completions", ask("else", 150), {**JSON, **key})
            assert status == 422 and refused["error"]["code"] == "idempotency_key_reused", refused
        assert r1.json("POST", "/v1/completions", body, {**JSON, "Idempotency-Key": "x" * 300})[0] == 400


def test_an_answer_in_one_piece_survives_by_its_key():
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c, 2)
        body, key = ask("whole", 150), {**JSON, "Idempotency-Key": "order-18"}
        conn = r1.connect()
        conn.request("POST", "/v1/completions", json.dumps(body), key)
        wait_for(lambda: r1.metrics()["shoal_router_tokens_total"] > 20, "it runs")
        r1.kill()
        status, _, whole = r2.json("POST", "/v1/completions", body, key)
        assert status == 200 and len(whole["choices"][0]["text"]) == 150
        assert r2.metrics()["shoal_router_attached_total"] == 1
        decoded = sum(w.metrics()["shoal_worker_decoded_tokens_total"] for w in c.processes[2:])
        assert decoded == 150, decoded


# --- shoal proxy: clients that never reconnect


class Proxy(Process):
    def __init__(self, c, routers, *args):
        urls = ",".join(r.url for r in routers)
        super().__init__([f"{BIN}/shoal", "proxy", "--listen", "127.0.0.1:0", "--routers", urls, *args], "proxy")
        self.http = self.wait_log(r"listening on http://(\S+),").group(1)
        self.host, port = self.http.rsplit(":", 1)
        self.port, self.url = int(port), f"http://{self.http}"
        c.processes.append(self)

    connect, request, json = Router.connect, Router.request, Router.json


def test_the_official_package_sees_nothing_of_a_routers_death_behind_the_proxy():
    with Cluster(timers=FAST) as c:
        routers = two_routers(c)
        proxy = Proxy(c, routers)
        client = openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0, timeout=60)
        assert [m.id for m in client.models.list()] == ["mock"]
        at = 0  # the proxy stays with the router that answered last
        for i in range(KILLS):
            n = random.randint(60, 120)
            k = random.randint(1, n - 20)

            def chunks():
                return client.completions.create(
                    model="mock", prompt=f"story {i}", max_tokens=n, temperature=1, seed=700 + i, stream=True, extra_body={"ignore_eos": True}
                )

            want = "".join(x.choices[0].text for x in chunks())
            assert len(want) == n
            text, finish, ids = "", None, set()
            for x in chunks():
                text += x.choices[0].text
                finish = x.choices[0].finish_reason or finish
                ids.add((x.id, x.created))
                if routers[at] is not None and len(text) >= k:
                    dead, routers[at] = routers[at], None
                    dead.kill()
            assert text == want and finish == "length" and len(ids) == 1, (i, k, text, want)
            if i + 1 < KILLS:
                routers[at] = revive(c, dead)
                c.wait_ready(routers[at], 2)
            at = 1 - at


def test_an_answer_in_one_piece_survives_behind_the_proxy():
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c)
        proxy = Proxy(c, [r1, r2])
        body, out = ask("whole", 150, seed=5), []
        t = threading.Thread(target=lambda: out.append(proxy.json("POST", "/v1/completions", body)))
        t.start()
        wait_for(lambda: r1.metrics()["shoal_router_tokens_total"] > 20, "it runs")
        r1.kill()
        t.join(30 * SLOW)
        status, _, whole = out[0]
        assert status == 200 and len(whole["choices"][0]["text"]) == 150
        assert r2.metrics()["shoal_router_attached_total"] == 1
        assert sum(w.metrics()["shoal_worker_decoded_tokens_total"] for w in c.processes[2:4]) == 150
        assert whole["choices"][0]["text"] == proxy.json("POST", "/v1/completions", body)[2]["choices"][0]["text"]


def test_the_proxy_passes_on_what_is_refused_and_says_when_nobody_answers():
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c, 1)
        w = c.processes[-1]
        proxy = Proxy(c, [r1, r2], "--patience", "1s")
        assert proxy.json("POST", "/v1/completions", {"model": "none", "prompt": "x"})[0] == 404
        status, head, body = proxy.json("POST", "/v1/completions", {"model": "mock", "prompt": "x", "max_tokens": -1})
        assert status == 400 and body["error"]["param"] == "max_tokens"
        assert proxy.json("GET", "/v1/models?x=1")[2]["data"][0]["id"] == "mock"
        assert proxy.request("GET", "/nothing")[0] == 404
        s = stream(proxy, ask("mine", 30))
        assert s["done"] and len(s["text"]) == 30 and len(s["headers"]["X-Request-Id"]) == 32
        conn = proxy.connect()  # a client that leaves
        conn.request("POST", "/v1/completions", json.dumps(ask("long", 20000, stream=True)), JSON)
        wait_for(lambda: w.metrics()["shoal_worker_sequences_running"] == 1, "it runs")
        conn.sock.shutdown(2)
        conn.close()
        wait_for(lambda: w.metrics()["shoal_worker_sequences_running"] == 0, "it was cancelled", 5)
        r1.kill(), r2.kill()
        status, _, body = proxy.json("POST", "/v1/completions", ask("x", 5))
        assert status == 503 and "no router" in body["error"]["message"], body


def test_a_slow_client_behind_the_proxy_holds_nothing_up_and_loses_nothing():
    with Cluster(timers=FAST) as c:
        r1, r2 = two_routers(c, 1, "--mock-decode-ms", "0.2")
        proxy = Proxy(c, [r1, r2])
        body = ask("slow", 4000, seed=9)
        want = stream(r2, body)["text"]
        conn = proxy.connect()
        conn.request("POST", "/v1/completions", json.dumps({**body, "stream": True}), JSON)
        wait_for(lambda: r1.metrics()["shoal_router_tokens_total"] == 4000, "all of it waits for the client")
        r1.kill()
        text = ""
        for data in sse(conn.getresponse()):
            if data not in (":", "[DONE]"):
                text += json.loads(data)["choices"][0]["text"]
        assert text == want


# --- libshoal: the shoal command over ZeroMQ


def test_the_shoal_command_goes_on_at_the_other_router():
    with Cluster(timers=FAST) as c:
        routers = two_routers(c)
        for i in range(KILLS):
            n = random.randint(60, 120)
            args = [f"{BIN}/shoal", "generate", "--routers", ",".join(r.zmq for r in routers), "--model", "mock", "--max-tokens", str(n)]
            args += ["--seed", str(i), "--temperature", "1", "--ignore-eos", f"story {i}"]
            want = subprocess.run(args, capture_output=True, text=True, timeout=60 * SLOW, check=True).stdout
            before = [r.metrics()["shoal_router_tokens_total"] for r in routers]
            p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            k = random.randint(1, n - 20)

            def serving():
                return next((r for r, b in zip(routers, before) if r.metrics()["shoal_router_tokens_total"] >= b + k), None)

            dead = wait_for(serving, "it runs", every=0.003)
            dead.kill()
            out, err = p.communicate(timeout=60 * SLOW)
            assert p.returncode == 0 and out == want, (i, out, want, err)
            if i + 1 < KILLS:
                routers[routers.index(dead)] = revive(c, dead)
                c.wait_ready(routers[0], 2), c.wait_ready(routers[1], 2)
        for r in routers:
            r.kill()  # the command ends without waiting for its last acknowledgement to arrive, and a router waits for that
