"""shoal bench: what it says of a server whose behaviour is known, and of a cluster, over HTTP and ZeroMQ."""

import http.server
import json
import re
import signal
import subprocess
import threading
import time

from cluster import BIN, SLOW, Cluster, wait_for


class Scripted(http.server.ThreadingHTTPServer):
    """A completions server: plan(i) says what the i-th request meets: (wait before the first token, between tokens, tokens, fault)."""

    daemon_threads = True

    def __init__(self, plan):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.bodies, self.times, self.lock = plan, [], [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            i = len(self.server.bodies)
            self.server.bodies.append((self.path, body, self.headers.get("Authorization")))
            self.server.times.append(time.monotonic())
        wait, between, tokens, fault = self.server.plan(i)
        time.sleep(wait)
        self.send_response(429 if fault == "429" else 200)
        self.end_headers()
        if fault == "429":
            return
        for k in range(tokens):
            if k:
                time.sleep(between)
            if fault == "torn" and k == tokens // 2:
                return
            self._say({"choices": [{"text": f"t{k} "}]})
        if fault == "error":
            self._say({"error": {"message": "no", "code": "overloaded"}})
            return
        self._say({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": tokens, "prompt_tokens_details": {"cached_tokens": 4}}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _say(self, what):
        self.wfile.write(b"data: " + json.dumps(what).encode() + b"\n\n")
        self.wfile.flush()


def bench(*args, code=0):
    p = subprocess.run([f"{BIN}/shoal", "bench", *args, "--json", "-"], capture_output=True, text=True, timeout=120 * SLOW)
    assert p.returncode == code, (p.returncode, p.stdout, p.stderr)
    return json.loads(p.stdout), p.stderr


def test_latencies_tokens_and_goodput_of_a_known_server():
    server = Scripted(lambda i: (0.05 if i % 2 else 0.5, 0.02, 5, None))
    r, table = bench("--http", server.url, "--model", "m", "--api-key", "k", "--concurrency", "4", "--requests", "20", "--output-tokens", "5",
                     "--ttft", "450ms")
    assert r["sent"] == r["complete"] == 20 and r["failed"] == 0 and r["errors"] == {}
    assert r["output_tokens"] == 100 and r["prompt_tokens"] == 220 and r["cached_tokens"] == 80
    assert r["ttft_ms"]["n"] == r["e2e_ms"]["n"] == 20 and r["itl_ms"]["n"] == 80
    assert r["ttft_ms"]["p90"] >= 500 and r["itl_ms"]["p50"] >= 20 and r["e2e_ms"]["p90"] >= 580
    assert r["good"] <= 10, "half of them wait 500 ms"
    assert "goodput" in table and "first token within 450 ms" in table
    path, body, key = server.bodies[0]
    assert path == "/v1/completions" and key == "Bearer k" and body["model"] == "m" and body["max_tokens"] == 5 and body["ignore_eos"]
    assert len({b["prompt"] for _, b, _ in server.bodies}) == 20


def test_a_server_that_stalls_cannot_hide_it_from_an_open_loop():
    """One second of silence meets all requests that were meant to begin in it, as they would have met real users."""
    first = []

    def plan(i):
        if not first:
            first.append(time.monotonic())
        left = first[0] + 1 - time.monotonic()
        return (max(0, left), 0, 1, None)

    server = Scripted(plan)
    r, _ = bench("--http", server.url, "--model", "m", "--rate", "50", "--duration", "2s", "--output-tokens", "1")
    assert r["failed"] == 0
    begin = server.times[0]
    in_stall = sum(t < begin + 0.5 for t in server.times)
    assert in_stall >= 5, "it went on sending while nothing came back"
    assert r["ttft_ms"]["max"] >= 900
    assert r["ttft_ms"]["p90"] >= 450, "a tenth of all were meant to begin in the first half of the stall"


def test_failures_are_counted_by_their_kind():
    faults = ["429", "torn", "error", None]
    server = Scripted(lambda i: (0, 0, 4, faults[i % 4]))
    r, table = bench("--http", server.url + "/x/", "--model", "m", "--concurrency", "1", "--requests", "12", code=1)
    assert r["errors"] == {"HTTP 429": 3, "ended without [DONE]": 3, "in the stream: overloaded": 3}, r["errors"]
    assert r["complete"] == 3 and r["failed"] == 9 and "HTTP 429" in table
    assert server.bodies[0][0] == "/x/completions"
    r, _ = bench("--http", "http://127.0.0.1:9", "--model", "m", "--concurrency", "1", "--requests", "2", code=1)
    assert r["errors"] == {"no connection": 2} and r["complete"] == 0


def test_warm_up_is_sent_but_not_measured_and_the_same_seed_asks_the_same():
    server = Scripted(lambda i: (0, 0, 2, None))
    args = ("--http", server.url, "--model", "m", "--rate", "40", "--duration", "1500ms", "--prompt-tokens", "3-9", "--output-tokens", "1-4")
    r, _ = bench(*args, "--warmup", "500ms", "--seed", "7")
    assert 0 < r["sent"] < r["sent_all"] == len(server.bodies)
    asked = sorted(b["prompt"] for _, b, _ in server.bodies)
    server.bodies.clear()
    bench(*args, "--seed", "7")
    assert sorted(b["prompt"] for _, b, _ in server.bodies) == asked
    server.bodies.clear()
    bench(*args, "--seed", "8")
    assert sorted(b["prompt"] for _, b, _ in server.bodies) != asked


def test_ctrl_c_tells_what_there_is(tmp_path):
    server = Scripted(lambda i: (0, 0.01, 3, None) if i < 10 else (60, 0, 1, None))
    page, result = tmp_path / "report.html", tmp_path / "result.json"
    p = subprocess.Popen([f"{BIN}/shoal", "bench", "--http", server.url, "--model", "m", "--rate", "20", "--duration", "60s", "--html", page, "--json", result],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(server.bodies) >= 15, "requests under way")
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30 * SLOW)
    r = json.loads(result.read_text())
    assert p.returncode == 0 and r["interrupted"] and r["complete"] == 10 and r["failed"] == 0, (out, err)
    assert "interrupted: what there is so far" in out
    html = page.read_text()
    assert html.startswith("<!doctype html>") and html.count("<svg") == html.count("</svg>") >= 3 and "nan" not in html
    assert not re.search(r'(src|href)="', html), "it is one file"


def test_a_cluster_over_zeromq_and_http_and_a_trace(tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps({"timestamp": 20 * i, "input_length": 30 + i, "output_length": 1 + i % 5, "hash_ids": [1, i]}) + "\n" for i in range(30)))
    with Cluster() as c:
        r = c.router("r1")
        c.mock("w0", "north", [r])
        c.wait_ready(r, 1)
        zmq, _ = bench("--routers", r.zmq, "--trace", str(trace), "--speed", "2")
        assert zmq["complete"] == 30 and zmq["output_tokens"] == sum(1 + i % 5 for i in range(30))
        assert zmq["itl_ms"]["n"] == zmq["output_tokens"] - 30 and zmq["prompt_tokens"] > 0
        web, _ = bench("--http", f"http://{r.http}", "--model", "mock", "--trace", str(trace))
        assert web["complete"] == 30 and web["output_tokens"] == zmq["output_tokens"] and web["prompt_tokens"] == zmq["prompt_tokens"]
        chat, _ = bench("--http", f"http://{r.http}", "--chat", "--model", "mock", "--concurrency", "50", "--requests", "200", "--output-tokens", "3")
        assert chat["complete"] == 200 and chat["output_tokens"] == 600
        refused, _ = bench("--routers", r.zmq, "--model", "nobody", "--concurrency", "1", "--requests", "3", code=1)
        assert refused["failed"] == 3 and list(refused["errors"]) == ["404 not_found"], refused["errors"]


def test_what_makes_no_sense_is_told():
    for args, says in ((["--rate", "1", "--concurrency", "1"], "give one of"), (["--rate", "1", "--prompt-tokens", "x"], "--prompt-tokens"),
                       (["--trace", "/nowhere"], "cannot read the trace"), (["--http", "ftp://x", "--model", "m", "--rate", "1"], "expected http://host:port"),
                       (["--http", "http://127.0.0.1:1", "--rate", "1"], "--model")):
        p = subprocess.run([f"{BIN}/shoal", "bench", *args], capture_output=True, text=True, timeout=30 * SLOW)
        assert p.returncode == 2 and says in p.stderr and p.stderr.count("\n") == 1, (args, p.returncode, p.stderr)
