"""A worker that gets SIGTERM hands its running streams over through the checkpoint store: nothing is computed again, and every answer is the
undisturbed one. A checkpoint that is damaged, missing or was never finished costs a prefill."""

import concurrent.futures
import glob
import json
import os
import signal
import statistics
import struct
import subprocess
import threading
import time

import pytest
from cluster import BIN, MODEL, SLOW, Cluster, stream, wait_for

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")

N, TOKENS = 8, 160
PACED = ("--step-min-ms", "25")


def body(i):
    return {"model": "tiny", "prompt": f"{i}: Count from {i} to {100 + i}.", "max_tokens": TOKENS, "ignore_eos": True,
            "temperature": 0 if i % 2 else 1, "seed": 500 + i}


class Asked:
    """One stream, over HTTP or by `shoal generate` over ZeroMQ; `seen` grows with its tokens."""

    def __init__(self, router, i):
        self.i, self.router, self.seen, self.text, self.done = i, router, 0, None, False
        self.thread = threading.Thread(target=self.by_zmq if i % 4 == 3 else self.by_http, daemon=True)
        self.thread.start()

    def by_http(self):
        def on_text(out):
            self.seen = len(out["chunks"])

        got = stream(self.router, body(self.i), on_text=on_text)
        self.text, self.done, self.got = got["text"], got["done"], got

    def by_zmq(self):
        b = body(self.i)
        args = [f"{BIN}/shoal", "generate", "--routers", self.router.zmq, "--model", "tiny", "--events", "--ignore-eos", "--max-tokens", str(TOKENS),
                "--temperature", str(b["temperature"]), "--seed", str(b["seed"]), b["prompt"]]
        p = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
        for line in p.stdout:
            self.seen += 1
            self.got = json.loads(line)
        self.text, self.done = self.got.get("text"), p.wait() == 0


@pytest.fixture(scope="module")
def wanted():
    """The undisturbed answers."""
    with Cluster() as c:
        r = c.router("r1")
        c.tiny("w0", "north", [r])
        c.wait_ready(r, 1)
        with concurrent.futures.ThreadPoolExecutor(N) as pool:
            got = list(pool.map(lambda i: stream(r, body(i)), range(N)))
    assert all(g["done"] and g["finish"] == "length" for g in got)
    return [g["text"] for g in got]


def start_first(c, *args):
    """All streams run on w1."""
    r = c.router("r1")
    w1 = c.tiny("w1", "north", [r], *PACED, *args)
    c.wait_ready(r, 1)
    asked = [Asked(r, i) for i in range(N)]
    wait_for(lambda: w1.metrics()["shoal_worker_sequences_running"] == N and all(a.seen > 3 for a in asked), "all streams run", 60)
    return r, w1, asked


def start(c, *args):
    """And w2 is ready to take them."""
    store = os.path.join(c.dir, "ckpt")
    r, w1, asked = start_first(c, "--checkpoint-dir", store, "--drain-deadline", "1s")
    w2 = c.tiny("w2", "north", [r], "--checkpoint-dir", store, *args)
    c.wait_ready(r, 2, 60)
    return r, w1, w2, asked, store


def finish(asked, wanted):
    for a in asked:
        a.thread.join(120 * SLOW)
        assert a.done and a.text == wanted[a.i], (a.i, a.got)


def frames(path):
    with open(path, "rb") as f:
        raw = f.read()
    at = struct.unpack_from("<I", raw, 12)[0]
    while at + 8 <= len(raw):
        kind, size = struct.unpack_from("<II", raw, at)
        yield kind, raw[at + 8:at + 8 + size]
        at += 8 + (size + 7) // 8 * 8


def prompt_rows(path):
    """Of sequences that came with records: how many there were, how many were imported, and how many rows of theirs computed a position before
    the last known token's."""
    opened, resumed, imports, rows = {}, 0, 0, 0
    for kind, payload in frames(path):
        if kind == 1:
            slot, n_tokens, n_prompt = struct.unpack_from("<III", payload)
            opened[slot] = n_tokens if n_tokens > n_prompt else None
            resumed += n_tokens > n_prompt
        elif kind == 6:
            imports += 1
        elif kind == 3:
            n_rows, rows_off = struct.unpack_from("<I", payload, 32)[0], struct.unpack_from("<I", payload, 48)[0]
            for i in range(n_rows):
                slot, q_len, pos = struct.unpack_from("<III", payload, rows_off + 24 * i)
                rows += opened.get(slot) is not None and pos < opened[slot] - 1
    return resumed, imports, rows


def test_eight_streams_move_and_nothing_is_computed_again(wanted, tmp_path):
    recording = tmp_path / "w2.rec"
    with Cluster() as c:
        r, w1, w2, asked, store = start(c, "--record", str(recording))
        before = w2.metrics()["shoal_worker_prefilled_tokens_total"]
        w1.kill(signal.SIGTERM)
        assert w1.wait(60) == 0
        assert w1.find(r"worker_noticed .*running=8")
        finish(asked, wanted)
        m = w2.metrics()
        assert m["shoal_worker_restores_total"] == N and m["shoal_worker_restores_failed_total"] == 0
        assert m["shoal_worker_prefilled_tokens_total"] == before
        assert r.metrics()["shoal_router_moves_total"] == N
        assert len([a for a in asked if a.got.get("shoal", {}).get("attempt") == 2]) == N - 2  # over HTTP it is said
        wait_for(lambda: glob.glob(store + "/*.*") == [], "what was used up is deleted")
        w2.kill()
    assert prompt_rows(recording) == (N, N, 0)


def damage(store, how):
    """Does `how` to a file of every checkpoint as soon as all are there."""
    wait_for(lambda: len(glob.glob(store + "/*.manifest")) == N, "all are written")
    for path in glob.glob(store + "/*.part0"):
        how(path)


def flip(path):
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2)
        b = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([b ^ 4]))


def cut(path):
    os.truncate(path, os.path.getsize(path) // 3)


@pytest.mark.parametrize("how, says", [(flip, "hash of its entries is wrong"), (cut, "bytes where"), (os.unlink, "is missing")])
def test_a_damaged_checkpoint_costs_a_prefill_and_no_token(wanted, how, says):
    with Cluster() as c:
        store = os.path.join(c.dir, "ckpt")
        r, w1, asked = start_first(c, "--checkpoint-dir", store, "--drain-deadline", "2s")
        w1.kill(signal.SIGTERM)
        damage(store, how)
        w2 = c.tiny("w2", "north", [r], "--checkpoint-dir", store)
        finish(asked, wanted)
        assert w1.wait(60) == 0
        m = w2.metrics()
        assert m["shoal_worker_restores_failed_total"] == N and m["shoal_worker_restores_total"] == 0
        assert m["shoal_worker_prefilled_tokens_total"] > N * 10
        assert len([line for line in w2.lines if "checkpoint_unusable" in line and says in line]) == N, w2.log()


def test_kill_9_while_it_writes_costs_a_prefill_and_no_token(wanted):
    with Cluster() as c:
        r, w1, w2, asked, store = start(c)
        w1.kill(signal.SIGTERM)
        wait_for(lambda: glob.glob(store + "/*.part0*"), "it writes", every=0.0005)
        w1.kill()
        finish(asked, wanted)
        m = w2.metrics()
        assert m["shoal_worker_restores_failed_total"] == 0


def test_without_a_store_streams_move_by_prefill(wanted):
    with Cluster() as c:
        r, w1, asked = start_first(c, "--drain-deadline", "1s")
        c.tiny("w2", "north", [r])
        c.wait_ready(r, 2, 60)
        w1.kill(signal.SIGTERM)
        finish(asked, wanted)
        assert w1.wait(60) == 0
        assert r.metrics()["shoal_router_moves_total"] == N


def test_a_second_sigterm_ends_at_once():
    with Cluster() as c:
        r = c.router("r1")
        w1 = c.tiny("w1", "north", [r], *PACED, "--drain-deadline", "100s")
        c.wait_ready(r, 1)
        a = Asked(r, 0)
        wait_for(lambda: a.seen > 3, "it runs", 60)
        w1.kill(signal.SIGTERM)
        w1.wait_log("worker_noticed")
        w1.kill(signal.SIGTERM)
        assert w1.wait(20) == 0


def test_shoal_drain_does_what_sigterm_does(wanted):
    with Cluster() as c:
        store = os.path.join(c.dir, "ckpt")
        r, w1, asked = start_first(c, "--checkpoint-dir", store)
        c.tiny("w2", "north", [r], "--checkpoint-dir", store)
        c.wait_ready(r, 2, 60)

        def drain(*args):
            return subprocess.run([f"{BIN}/shoal", "drain", "--routers", r.zmq, *args], capture_output=True, text=True, timeout=120)

        p = drain("w3")
        assert p.returncode == 2 and "no worker 'w3'; did you mean 'w" in p.stderr, p.stderr
        p = drain("w1", "--deadline", "1s")
        assert p.returncode == 0 and "w1 is gone after" in p.stdout, (p.stdout, p.stderr)  # it may go before it is seen to leave
        assert w1.wait(60) == 0
        finish(asked, wanted)
        assert r.metrics()["shoal_router_moves_total"] == N


@pytest.mark.skipif("SHOAL_SOAK_SECONDS" not in os.environ, reason="needs a quiet machine: scripts/soak moves")
def test_at_2000_tokens_of_context_a_checkpoint_is_five_times_faster_than_prefill():
    """The client's pause around the move, five times each way: the last token of one worker until the first of the other."""
    prompt = [100 + i * 7 % 200 for i in range(2000)]
    pauses = {True: [], False: []}
    for stored in [True, False] * 5:
        with Cluster() as c:
            r = c.router("r1")
            args = ("--checkpoint-dir", os.path.join(c.dir, "ckpt")) if stored else ()
            w1 = c.tiny("w1", "north", [r], *PACED, "--drain-deadline", "1s", *args)
            c.wait_ready(r, 1)
            w2, times = [], []

            def on_text(out):
                times.append(time.monotonic())
                if len(times) == 5:
                    w2.append(c.tiny("w2", "north", [r], *args))
                    c.wait_ready(r, 2, 60)
                if len(times) == 30:
                    w1.kill(signal.SIGTERM)

            body = {"model": "tiny", "prompt": prompt, "max_tokens": 120, "ignore_eos": True, "temperature": 0, "seed": 1}
            got = stream(r, body, on_text=on_text)
            assert got["done"] and got["shoal"]["attempt"] == 2, got
            assert w2[0].metrics()["shoal_worker_restores_total"] == stored
            pauses[stored].append(1000 * max(b - a for a, b in zip(times[29:], times[30:])))
    by_store, by_prefill = (statistics.median(pauses[x]) for x in (True, False))
    print(f"pause of a move at 2000 tokens of context: {by_store:.0f} ms from the checkpoint, {by_prefill:.0f} ms by prefill: {by_prefill / by_store:.1f} times")
    assert by_prefill >= 5 * by_store, pauses
