"""A load that behaves like clients behind a sane load balancer: it asks each router's /readyz ten times a second, sends new requests only to
those that are ready, keeps connections and drops them when told so or when their router is not ready any more. It repeats nothing: whatever
is not a whole answer has failed."""

import http.client
import json
import queue
import threading
import time

PROBE_S, TIMEOUT_S = 0.1, 60


class Backend:
    def __init__(self, address):
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.ready = False
        self.idle = []  # kept connections
        self.served = 0

    def probe(self):
        c = http.client.HTTPConnection(self.host, self.port, timeout=2)
        try:
            c.request("GET", "/readyz")
            self.ready = c.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            self.ready = False
        finally:
            c.close()
        if not self.ready:
            while self.idle:
                self.idle.pop().close()


class Load:
    """with Load(addresses, body, per_second): …; then .asked, .failed (sentences)"""

    def __init__(self, addresses, body, per_second, slow=1):
        self.backends = [Backend(a) for a in addresses]
        self.body, self.per_second, self.slow = body, per_second, slow
        self.asked, self.failed = 0, []
        self.over = threading.Event()
        self.work = queue.Queue()
        self.threads = []

    def __enter__(self):
        for b in self.backends:
            b.probe()
            self._thread(self._watch, b)
        for _ in range(self.per_second * 4):
            self._thread(self._serve)
        self._thread(self._pace)
        return self

    def __exit__(self, *_):
        self.over.set()
        for _ in range(self.per_second * 4):
            self.work.put(None)
        for t in self.threads:
            t.join(2 * TIMEOUT_S * self.slow)
            assert not t.is_alive(), "the load did not end"
        for b in self.backends:
            for c in b.idle:
                c.close()

    def _thread(self, target, *args):
        t = threading.Thread(target=target, args=args, daemon=True)
        t.start()
        self.threads.append(t)

    def _watch(self, backend):
        while not self.over.is_set():
            backend.probe()
            time.sleep(PROBE_S)

    def _pace(self):
        due = time.monotonic()
        while not self.over.is_set():
            self.work.put(self.asked)
            self.asked += 1
            due += 1 / self.per_second
            time.sleep(max(0, due - time.monotonic()))

    def _serve(self):
        while (number := self.work.get()) is not None:
            ready = [b for b in self.backends if b.ready]
            if not ready:
                self.failed.append(f"request {number}: no router was ready")
                continue
            b = ready[number % len(ready)]
            try:
                self._ask(b, number)
            except (OSError, http.client.HTTPException, ValueError, AssertionError) as e:
                self.failed.append(f"request {number} to {b.host}:{b.port}: {e!r}")

    def _ask(self, b, number):
        c = b.idle.pop() if b.idle else http.client.HTTPConnection(b.host, b.port, timeout=TIMEOUT_S * self.slow)
        streamed = number % 2 == 0
        body = {**self.body, "seed": number, "stream": streamed}
        try:
            c.request("POST", "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
            r = c.getresponse()
            text = r.read().decode()
            assert r.status == 200, f"{r.status} {text[:200]}"
            assert text.endswith("data: [DONE]\n\n") if streamed else json.loads(text)["usage"]["completion_tokens"] == body["max_tokens"], text[-300:]
            assert "error" not in text, text[-300:]
        except BaseException:
            c.close()
            raise
        b.served += 1
        if c.sock is not None and b.ready:  # http.client closes it when the answer says so
            b.idle.append(c)
        else:
            c.close()
