"""Real processes of a small cluster on loopback, for tests: started on free ports, watched, killed, always cleaned up.

Every wait is for a condition with a deadline. Sanitizer builds are slower: SLOW stretches deadlines, and link timers are relaxed."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("SHOAL_BUILD", os.path.join(ROOT, "build")))
BIN = os.path.join(BUILD, "bin")
MODEL = os.path.join(ROOT, "deploy", "local", "model")


def _cache_value(name):
    with open(os.path.join(BUILD, "CMakeCache.txt")) as f:
        for line in f:
            if line.startswith(name + ":"):
                return line.strip().split("=", 1)[1]
    return ""


SANITIZED = bool(_cache_value("SHOAL_SANITIZE"))
SLOW = 6 if SANITIZED else 1  # factor on deadlines
# For every program that a test starts.
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=99")
os.environ.setdefault("TSAN_OPTIONS", "exitcode=99:suppressions=" + os.path.join(ROOT, "tests", "tsan.supp"))


def wait_for(condition, what, seconds=20.0, every=0.02):
    """Calls condition until it returns something true; fails with `what` after the deadline."""
    end = time.monotonic() + seconds * SLOW
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
        except (OSError, http.client.HTTPException, AssertionError) as e:
            last = e
        time.sleep(every)
    raise AssertionError(f"not within {seconds * SLOW:.0f} s: {what}" + (f" (last: {last!r})" if last else ""))


class Process:
    """One process with its log kept line by line."""

    def __init__(self, args, name):
        self.name = name
        self.args = args
        self.lines = []
        self.p = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.p.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def pid(self):
        return self.p.pid

    def log(self):
        return "\n".join(self.lines)

    def alive(self):
        return self.p.poll() is None

    def find(self, pattern):
        for line in list(self.lines):
            m = re.search(pattern, line)
            if m:
                return m
        return None

    def wait_log(self, pattern, seconds=30):
        def look():
            m = self.find(pattern)
            if not m and not self.alive():
                self.reader.join(1)
                m = self.find(pattern)
                if not m:
                    raise RuntimeError(f"{self.name} ended with {self.p.returncode}:\n{self.log()}")
            return m

        return wait_for(look, f"{self.name} says {pattern}\n{self.log()[-3000:]}", seconds)

    def first_word(self, pattern):
        """wait_log for a constructor: who never gets ready is not left behind."""
        try:
            return self.wait_log(pattern)
        except BaseException:
            self.kill()
            self.p.wait()
            raise

    def kill(self, sig=signal.SIGKILL):
        if self.alive():
            self.p.send_signal(sig)

    def wait(self, seconds=20):
        code = self.p.wait(seconds * SLOW)
        self.reader.join(5)
        return code


class Router(Process):
    def __init__(self, cluster, name, region, peers=(), zmq="tcp://127.0.0.1:0", extra=(), http="127.0.0.1:0", program="shoal-router"):
        args = [f"{BIN}/{program}", "--name", name, "--region", region, "--http", http, "--zmq", zmq]
        args += ["--config", cluster.config, "--admin", f"unix:{cluster.dir}/{name}.sock"]
        for p in peers:
            args += ["--peer", p]
        super().__init__(args + list(extra), name)
        self.region = region
        m = self.first_word(r"router_ready .*http=(\S+) zmq=(\S+)")
        self.http, self.zmq = m.group(1).strip('"'), m.group(2).strip('"')
        self.host, port = self.http.rsplit(":", 1)
        self.port = int(port)
        self.url = f"http://{self.http}"

    def connect(self, timeout=60):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout * SLOW)

    def request(self, method, path, body=None, headers=None, timeout=60):
        c = self.connect(timeout)
        try:
            data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            c.request(method, path, data, headers or ({"Content-Type": "application/json"} if data else {}))
            r = c.getresponse()
            text = r.read()
            return r.status, dict(r.getheaders()), text
        finally:
            c.close()

    def json(self, method, path, body=None, headers=None, timeout=60):
        status, head, text = self.request(method, path, body, headers, timeout)
        return status, head, json.loads(text) if text else None

    def metrics(self):
        return parse_metrics(self.request("GET", "/metrics")[2].decode())

    def replicas_ready(self):
        return self.metrics().get("shoal_router_replicas_ready", 0)

    def ready(self):
        return self.request("GET", "/readyz")[0] == 200


class Worker(Process):
    def __init__(self, cluster, name, region, routers, args):
        self.metrics_port = free_port()
        base = [f"{BIN}/shoal-worker", "--config", cluster.config, "--name", name, "--region", region]
        base += ["--metrics", f"127.0.0.1:{self.metrics_port}"]
        for r in routers:
            base += ["--router", r.zmq if isinstance(r, Router) else r]
        super().__init__(base + list(args), name)
        self.region = region

    def metrics(self):
        c = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=20 * SLOW)
        try:
            c.request("GET", "/metrics")
            return parse_metrics(c.getresponse().read().decode())
        finally:
            c.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def parse_metrics(text):
    out = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, value = line.rsplit(" ", 1)
            out[key] = float(value)
    return out


BASE_CONFIG = """schema: 1
cluster: test
regions:
{regions}
timers: {{{timers}}}
limits: {{queue: {queue}}}
"""


class Cluster:
    """with Cluster(weights={"north": 70, "south": 30}) as c: r = c.router("n1", "north"); w = c.mock("w1", "north", [r])"""

    def __init__(self, weights=None, queue=4096, timers=None, more=""):
        self.weights = weights or {"north": 50, "south": 50}
        self.queue = queue
        self.timers = dict(timers or {})
        self.more = more  # further lines of the configuration; {dir} is the cluster's folder
        if SANITIZED:
            self.timers = {"suspect": "3s", "dead": "10s", **self.timers}
        self.processes = []

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="shoal-test-")
        self.config = os.path.join(self.dir, "cluster.yaml")
        regions = "\n".join(f"  {name}: {{weight: {w}}}" for name, w in self.weights.items())
        timers = ", ".join(f"{k}: {v}" for k, v in self.timers.items())
        with open(self.config, "w") as f:
            f.write(BASE_CONFIG.format(regions=regions, timers=timers, queue=self.queue) + self.more.replace("{dir}", self.dir))
        return self

    def __exit__(self, kind, value, trace):
        bad = []
        for p in self.processes:
            crashed = not p.alive() and p.p.returncode not in (0, -signal.SIGKILL, -signal.SIGTERM) and not getattr(p, "may_crash", False)
            if crashed:
                bad.append(p)
            p.kill(signal.SIGCONT)
            p.kill(signal.SIGTERM)
        end = time.monotonic() + 5 * SLOW
        for p in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.p.wait(max(0.1, end - time.monotonic()))
            if p.alive():
                p.kill()
                p.p.wait()
            p.reader.join(2)
            if SANITIZED and re.search(r"ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|WARNING: ThreadSanitizer", p.log()):
                bad.append(p)
        shutil.rmtree(self.dir, ignore_errors=True)
        if kind is not None:
            for p in self.processes:
                print(f"--- {p.name} (exit {p.p.returncode})\n{p.log()[-6000:]}", file=sys.stderr)
        elif bad:
            raise AssertionError("\n".join(f"{p.name} ended with {p.p.returncode}:\n{p.log()[-6000:]}" for p in bad))

    def router(self, name, region="north", peers=(), zmq="tcp://127.0.0.1:0", extra=(), http="127.0.0.1:0"):
        r = Router(self, name, region, peers, zmq, extra, http)
        self.processes.append(r)
        return r

    def router_pair(self):
        """A router in north and one in south, each the other's peer."""
        north, south = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        return self.router("north-1", "north", [south], north), self.router("south-1", "south", [north], south)

    def worker(self, name, region, routers, *args):
        w = Worker(self, name, region, routers, args)
        self.processes.append(w)
        return w

    def mock(self, name, region, routers, *args, model="mock"):
        return self.worker(name, region, routers, "--device", "mock", "--model", model, *args)

    def tiny(self, name, region, routers, *args, model="tiny"):
        return self.worker(name, region, routers, "--device", "cpu", "--threads", "1", "--model", model, "--path", MODEL, *args)

    def group(self, name, region, routers, stages, *args, device="mock", model="mock"):
        """One replica in several processes: [stage 0, stage 1, …]. args go to all of them."""
        address = f"tcp://127.0.0.1:{free_port()}"
        common = ["--parallel", f"pp={stages}", "--group", f"{name}-group", *args]
        common += ["--device", "mock"] if device == "mock" else ["--device", "cpu", "--threads", "1", "--path", MODEL]
        leader = self.worker(name, region, routers, "--model", model, "--group-listen", address, *common)
        leader.group_args, leader.group_address = common, address
        return [leader] + [self.follower(leader, stage) for stage in range(1, stages)]

    def follower(self, leader, stage, *args):
        """A stage for that leader: a new one, or one that comes back."""
        flags = {"--stage": str(stage), "--leader": leader.group_address}
        flags.update(zip(leader.group_args[::2], leader.group_args[1::2]))
        flags.update(zip(args[::2], args[1::2]))
        return self.worker(f"{leader.name}-{stage}", leader.region, [], *[x for pair in flags.items() for x in pair])

    def wait_ready(self, router, replicas, seconds=30):
        wait_for(lambda: router.metrics().get("shoal_router_replicas_ready", 0) >= replicas,
                 f"{router.name} has {replicas} ready replicas", seconds)


class Event:
    """A server-sent event; a comment has neither data nor id."""

    def __init__(self):
        self.data = self.id = None


def sse_events(response):
    """Yields each event of an http.client response as soon as it is whole, and each comment at once."""
    event = Event()
    for raw in response:
        line = raw.decode().rstrip("\r\n")
        if line.startswith(":"):
            yield Event()
        elif line.startswith("data:"):
            data = line[5:].removeprefix(" ")
            event.data = data if event.data is None else event.data + "\n" + data
        elif line.startswith("id:"):
            event.id = line[3:].removeprefix(" ")
        elif line == "" and (event.data is not None or event.id is not None):
            yield event
            event = Event()


def sse(response):
    """Yields the data of each server-sent event of an http.client response (keep-alive comments are yielded as ':')."""
    for event in sse_events(response):
        if event.data is not None or event.id is None:
            yield ":" if event.data is None else event.data


def stream(router, body, path="/v1/completions", headers=None, on_text=None, timeout=120):
    """Runs a streamed request to its end. Returns a dict: text, reasoning, chunks, finish, usage, error, done ([DONE] seen), headers."""
    c = router.connect(timeout)
    out = {"text": "", "reasoning": "", "chunks": [], "finish": None, "usage": None, "error": None, "done": False, "keepalives": 0}
    try:
        c.request("POST", path, json.dumps({**body, "stream": True}).encode(), {"Content-Type": "application/json", **(headers or {})})
        r = c.getresponse()
        out["status"], out["headers"] = r.status, dict(r.getheaders())
        if r.status != 200:
            out["error"] = json.loads(r.read())["error"]
            return out
        for data in sse(r):
            if data == ":":
                out["keepalives"] += 1
                continue
            if data == "[DONE]":
                out["done"] = True
                break
            chunk = json.loads(data)
            if "error" in chunk:
                out["error"] = chunk["error"]
                continue
            out["chunks"].append(chunk)
            out["usage"] = chunk.get("usage") or out["usage"]
            for choice in chunk["choices"]:
                delta = choice.get("delta", choice)
                out["text"] += delta.get("content") or delta.get("text") or ""
                out["reasoning"] += delta.get("reasoning_content") or ""
                out["finish"] = choice.get("finish_reason") or out["finish"]
            if "shoal" in chunk:
                out["shoal"] = chunk["shoal"]
            if on_text:
                on_text(out)
    except (http.client.IncompleteRead, ConnectionError):
        pass
    finally:
        c.close()
    return out
