"""Every kind of ZeroMQ link under CURVE: client, worker, peer and the stages of a replica; what a capture of one holds; and what leaves the host."""

import contextlib
import os
import socket
import subprocess
import threading

import pytest
from cluster import BIN, Cluster, stream, wait_for
from keys import CURVE, another_address, certificate_key, connected, generate, make_keys, start_and_fail

HI = {"model": "mock", "prompt": "hello", "max_tokens": 4}
MARK = "xylophone-marmalade-4711"


class Tap:
    """A TCP relay that keeps every byte that passes, in both directions."""

    def __init__(self, target):
        self.target = target.removeprefix("tcp://").rsplit(":", 1)
        self.seen = bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                a, _ = self.listener.accept()
                b = socket.create_connection((self.target[0], int(self.target[1])))
                for pair in ((a, b), (b, a)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                sink.sendall(data)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("curve", [False, True])
def test_a_capture_of_a_curve_link_holds_no_byte_of_the_prompt(curve):
    with Cluster(more=CURVE if curve else "") as c:
        if curve:
            make_keys(c)
        r = c.router("r1")
        at_worker, at_client = Tap(r.zmq), Tap(r.zmq)
        c.mock("w1", "north", [at_worker.address])
        c.wait_ready(r, 1)
        p = generate(at_client.address, config=c.config, prompt=f"{MARK} and on")
        assert p.returncode == 0, p
        for tap in (at_worker, at_client):
            assert len(tap.seen) > 500
            words = [MARK.encode(), b"marmalade", b"mock", b"north"]
            assert [word in tap.seen for word in words] == [not curve] * len(words), (curve, words)


def test_peers_speak_curve_and_a_stream_comes_through_both():
    with Cluster(weights={"north": 0, "south": 100}, more=CURVE) as c:
        make_keys(c)
        north, south = c.router_pair()
        c.mock("w1", "south", [south])
        wait_for(lambda: north.ready(), "the north knows of the south's replica", 30)
        assert stream(north, HI)["done"]
        assert generate(north.zmq, config=c.config).returncode == 0


def test_the_stages_of_a_replica_speak_curve_and_only_with_workers():
    with Cluster(more=CURVE) as c:
        make_keys(c)
        r = c.router("r1")
        stages = c.group("cut", "north", [r], 3, device="mock", model="mock")
        c.wait_ready(r, 1)
        assert stream(r, HI)["done"]
        address = stages[0].find(r"group_listens .*address=(\S+)").group(1)
        p = generate(address, f"{c.dir}/keys/client.cert", f"{c.dir}/keys/worker.cert")  # no router's certificate
        assert "the routers' is needed" in p.stderr
        server = certificate_key(f"{c.dir}/keys/worker.cert")
        p = generate(address, f"{c.dir}/keys/client.cert", server)  # a client at a stage's door
        assert "does not know this process' certificate" in p.stderr, p
        os.rename(f"{c.dir}/keys/worker.cert", f"{c.dir}/worker.cert")
        wait_for(lambda: connected(r) == 0, "the replica is cut off")
        os.rename(f"{c.dir}/worker.cert", f"{c.dir}/keys/worker.cert")
        c.wait_ready(r, 1)
        assert stream(r, HI)["done"]


def test_off_loopback_zeromq_is_refused_in_plaintext():
    for address in ("tcp://0.0.0.0:0", ":0", "[::]:0"):
        assert "security.curve: required" in start_and_fail("--zmq", address)
    p = subprocess.run([f"{BIN}/shoal-worker", "--router", "tcp://192.0.2.1:7700", "--model", "m", "--device", "mock"], capture_output=True,
                       text=True, timeout=120)
    assert p.returncode == 2 and "security.curve: required" in p.stderr
    p = generate("tcp://192.0.2.1:7700")
    assert p.returncode != 0 and "security.curve: required" in p.stderr


@pytest.mark.skipif(another_address() is None, reason="this machine has no address but loopback's")
def test_off_loopback_zeromq_is_served_with_curve():
    with Cluster(more=CURVE) as c:
        make_keys(c)
        r = c.router("r1", zmq=f"tcp://{another_address()}:0")
        c.mock("w1", "north", [r])
        c.wait_ready(r, 1)
        assert generate(r.zmq, config=c.config).returncode == 0
        assert generate(r.zmq).returncode != 0
