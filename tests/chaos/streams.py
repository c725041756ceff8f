"""The streams that run while the cluster is disturbed. Each asks for one answer, over HTTP or through libshoal, notes when each token came
and by whom it was served, and goes on by itself where its kind of client would: libshoal carries its streams over to another router; an
HTTP client repeats its POST with Last-Event-ID."""

import base64
import http.client
import json
import os
import subprocess
import time

from cluster import BIN, SLOW, sse_events

STREAM_S = 90  # within which every stream must have ended
RETRY_S = 0.2  # between two knocks at a door that is closed
SILENCE_S = 30  # without a byte, not even a keep-alive: an HTTP client gives the connection up


class Broken(Exception):
    """The connection went, or the answer ended before its end."""


class Stream:
    def __init__(self, number, request, kind):
        self.number, self.request, self.kind = number, request, kind
        self.began = time.monotonic()
        self.ended = None
        self.arrivals = []  # when text or a token came
        self.text, self.reasoning, self.tokens = "", "", []
        self.router = self.replica = None  # that serve it now, as far as the client can know
        self.finish, self.ends, self.seed = None, 0, request.get("seed")
        self.attempt = None
        self.request_id = None
        self.problem = None
        self.reconnects = self.refused = 0
        self.deadline = self.began + STREAM_S * SLOW

    def in_the_middle(self):
        return bool(self.arrivals) and self.ended is None

    def served_by(self, name):
        return name in (self.router, self.replica)

    def progress(self):
        return len(self.arrivals)

    def end(self, problem=None):
        self.problem = self.problem or problem
        self.ended = time.monotonic()
        self.router = self.replica = None

    def name(self):
        r = self.request
        how = "greedy" if r["temperature"] == 0 else "sampled" if r.get("seed") is not None else "sampled, seed drawn"
        return f"stream {self.number} ({self.kind}, {how}, seed {self.seed}, {'chat' if 'messages' in r else 'text'} {r['max_tokens']} tokens)"


# --- HTTP


def decoded(event_id):
    try:
        return base64.urlsafe_b64decode(event_id + "=" * (-len(event_id) % 4))
    except ValueError:
        return b""


class HttpStream(Stream):
    """A client of OpenAI's API that knows of Last-Event-ID. `addresses`: (name, host:port) of the routers, asked in turn."""

    def __init__(self, number, request, addresses, kind="http", resumes=True):
        super().__init__(number, request, kind)
        self.addresses, self.resumes = addresses, resumes
        self.turn = number // 3
        self.last_id = None

    def served_by(self, name):
        """The id of an event names the replica that serves it (router/front/stream_id.h), the head only the first."""
        if self.last_id is not None and self.replica:
            self.replica = None
        return super().served_by(name) or (self.router is not None and self.last_id is not None and name.encode() in decoded(self.last_id))

    def run(self):
        while self.ended is None:
            try:
                self._ask()
                self.end()
            except Broken as e:
                self._go_on(str(e))
            except OSError as e:
                self._go_on(repr(e))

    def _go_on(self, why):
        """Decides whether what has happened is for this client to mend."""
        if self.ended is not None:
            return None
        if self.problem:
            return self.end()
        if time.monotonic() > self.deadline:
            return self.end(f"not ended after {STREAM_S * SLOW} s; last: {why}")
        self.turn += 1
        self.router = self.replica = None
        if not self.arrivals and not self.text:
            time.sleep(RETRY_S)
        elif self.last_id is not None and self.resumes:
            self.reconnects += 1
        elif not self.resumes:
            return self.end(f"the connection broke, and this client never reconnects: {why}")
        else:
            return self.end(f"an event without an id came, and then the connection broke: {why}")
        return None

    def _ask(self):
        name, address = self.addresses[self.turn % len(self.addresses)]
        host, port = address.rsplit(":", 1)
        c = http.client.HTTPConnection(host, int(port), timeout=SILENCE_S * SLOW)
        r = dict(self.request, stream=True, model="chaos")
        path = "/v1/chat/completions" if "messages" in r else "/v1/completions"
        headers = {"Content-Type": "application/json"}
        if self.last_id is not None and self.resumes:
            headers["Last-Event-ID"] = self.last_id
        try:
            c.request("POST", path, json.dumps(r).encode(), headers)
            response = c.getresponse()
            self._head(response, name)
            self._body(response)
        except http.client.HTTPException as e:
            raise Broken(repr(e)) from e
        finally:
            c.close()

    def _head(self, response, name):
        if response.status != 200:
            text = response.read().decode("utf-8", "replace")
            if response.status in (429, 503):
                self.refused += 1
                time.sleep(RETRY_S)
                raise Broken(f"{response.status}: {text}")
            self.end(f"refused with {response.status}: {text}")
            raise Broken("refused")
        self.router = name
        self.replica = response.getheader("X-Shoal-Replica")
        self.request_id = response.getheader("X-Request-Id")

    def _body(self, response):
        for event in sse_events(response):
            if event.id is not None:
                self.last_id = event.id
            if event.data is None:
                continue
            if self.ends:
                self.problem = "something came behind [DONE]"
            if event.data == "[DONE]":
                self.ends += 1
                if not self.finish:
                    self.problem = "[DONE] without a finish_reason"
                return
            self._chunk(json.loads(event.data))
        raise Broken("the stream broke off")

    def _chunk(self, chunk):
        if "error" in chunk:
            self.problem = f"an error event: {chunk['error']}"
            self.ends += 1
            raise Broken("an error event")
        if "shoal" in chunk:
            self.seed, self.attempt = chunk["shoal"]["seed"], chunk["shoal"]["attempt"]
        for choice in chunk["choices"]:
            delta = choice.get("delta", choice)
            text, thought = delta.get("content") or delta.get("text") or "", delta.get("reasoning_content") or ""
            if text or thought:
                self.arrivals.append(time.monotonic())
                self.text += text
                self.reasoning += thought
            if choice.get("finish_reason"):
                if self.finish:
                    self.problem = "two finish_reasons"
                self.finish = choice["finish_reason"]


# --- libshoal


class LibStream(Stream):
    """`shoal generate --events`: libshoal over ZeroMQ, which carries the stream from router to router by itself."""

    def __init__(self, number, request, endpoints):
        super().__init__(number, request, "libshoal")
        k = number // 3 % len(endpoints)
        self.endpoints = endpoints[k:] + endpoints[:k]  # it asks the first that answers
        self.process = None

    def args(self):
        r = self.request
        a = [os.path.join(BIN, "shoal"), "generate", "--routers", ",".join(self.endpoints), "--model", "chaos", "--events", "--max-tokens",
             str(r["max_tokens"]), "--temperature", str(r["temperature"]), "--deadline", f"{STREAM_S * SLOW}s"]
        if r.get("ignore_eos"):
            a.append("--ignore-eos")
        if r.get("seed") is not None:
            a += ["--seed", str(r["seed"])]
        if "messages" in r:
            return [*a, "--chat", r["messages"][0]["content"]]
        return [*a, r["prompt"]]

    def run(self):
        self.process = subprocess.Popen(self.args(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            last = None
            for line in self.process.stdout:
                last = json.loads(line)
                self._event(last)
            code = self.process.wait(10)
            complaint = self.process.stderr.read().decode("utf-8", "replace").strip()
            if code != 0:
                self.problem = self.problem or f"shoal ended with {code}: {complaint}"
            else:
                self._summary(last)
        except (ValueError, KeyError, subprocess.TimeoutExpired) as e:
            self.problem = f"shoal said what nobody understands: {e!r}"
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process.stderr.close()
        self.end()

    def _event(self, e):
        kind = e.get("event")
        if kind is None:
            return
        self.router, self.replica = e["router"] or None, e["replica"] or None
        if kind == "token":
            if e["offset"] != len(self.tokens):
                self.problem = self.problem or f"offset {e['offset']} came at {len(self.tokens)}"
            self.tokens.append(e["token"])
            self.arrivals.append(time.monotonic())
        if kind in ("token", "tail"):
            self.text += e["text"]
        if kind in ("done", "failed"):
            self.ends += 1

    def _summary(self, o):
        self.finish, self.seed, self.attempt, self.request_id = o["finish"], o["seed"], o["attempts"], o["request_id"]
        if o["tokens"] != self.tokens:
            self.problem = "the summary's tokens are not those that came"
