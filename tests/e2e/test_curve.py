"""Who may speak over ZeroMQ: without a key, with a wrong one or with one of the wrong role nothing gets through; the right one works, and no
longer once it is revoked."""

import concurrent.futures
import os
import signal
import socket
import subprocess

import pytest
from cluster import BIN, Cluster, wait_for
from keys import CURVE, connected, generate, keygen, make_keys, shoal, start_and_fail

@pytest.fixture(scope="module")
def curved():
    """A router and a worker that speak CURVE on loopback, and keys: known ones in keys/, unknown ones in strangers/."""
    with Cluster(more=CURVE) as c:
        make_keys(c)
        r = c.router("r1")
        c.mock("w1", "north", [r])
        c.wait_ready(r, 1)
        yield c, r


def test_with_the_right_keys_a_client_is_served_over_zeromq(curved):
    c, r = curved
    p = generate(r.zmq, f"{c.dir}/keys/client.cert", f"{c.dir}/keys/router.cert")
    assert p.returncode == 0 and len(p.stdout) > 1, p  # a mock may well say nothing but blanks
    p = generate(r.zmq, config=c.config)  # all from the cluster's file
    assert p.returncode == 0 and len(p.stdout) > 1, p  # a mock may well say nothing but blanks
    status = shoal("status", "--config", c.config, "--routers", r.zmq)
    assert "w1" in status.stdout


def test_without_or_with_wrong_keys_a_client_is_refused_and_told_why(curved):
    c, r = curved
    before = r.metrics()
    known, strange, server = f"{c.dir}/keys/client.cert", f"{c.dir}/strangers/client.cert", f"{c.dir}/keys/router.cert"
    cases = [
        (None, None, "only one side uses CURVE"),
        (strange, server, "does not know this process' certificate"),
        (known, f"{c.dir}/strangers/router.cert", ""),
    ]
    with concurrent.futures.ThreadPoolExecutor() as pool:  # each waits a while for a router
        answers = list(pool.map(lambda case: generate(r.zmq, *case[:2]), cases))
    for p, (_, _, words) in zip(answers, cases, strict=True):
        assert p.returncode != 0 and "no router answered" in p.stderr and words in p.stderr and not p.stdout.strip(), p
    assert "shoal keygen" in generate(r.zmq, f"{c.dir}/keys/nobody.cert", server).stderr
    after = r.metrics()
    assert after["shoal_router_requests_total"] == before["shoal_router_requests_total"]
    assert after['shoal_router_curve_handshakes_total{outcome="refused"}'] > before['shoal_router_curve_handshakes_total{outcome="refused"}']


def test_a_clients_key_asks_in_its_tenants_name(curved):
    c, r = curved
    p = generate(r.zmq, f"{c.dir}/keys/lab.cert", f"{c.dir}/keys/router.cert")
    assert p.returncode != 0 and "The tenant lab may not use the model 'mock'" in p.stderr, p


def test_another_tenants_stream_id_opens_nothing(curved):
    c, r = curved
    request, server = "0123456789abcdef" * 2, f"{c.dir}/keys/router.cert"
    args = ["--model", "mock", "--routers", r.zmq, "--server-key", server, "--request-id", request]
    owner = subprocess.Popen([f"{BIN}/shoal", "generate", *args, "--key", f"{c.dir}/keys/client.cert", "--max-tokens", "300", "hello"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: connected(r, "sessions") == 1, "the stream runs")
    p = shoal("generate", *args, "--key", f"{c.dir}/keys/office.cert", "--max-tokens", "300", "hello", check=False)
    assert p.returncode != 0 and "the request id is in use by another request" in p.stderr and not p.stdout.strip(), p
    out, err = owner.communicate(timeout=120)
    assert owner.returncode == 0 and len(out) > 1, err


def test_draining_a_worker_takes_an_operators_certificate(curved):
    c, r = curved
    keygen(f"{c.dir}/keys", "ops", "operator")
    w = c.mock("w2", "north", [r])
    c.wait_ready(r, 2)
    args = ["drain", "w2", "--routers", r.zmq, "--server-key", f"{c.dir}/keys/router.cert"]
    p = shoal(*args, "--key", f"{c.dir}/keys/client.cert", check=False)
    assert p.returncode != 0 and "operator's certificate" in p.stderr, p
    assert w.alive() and connected(r) == 2
    r.wait_log(r"key_overstepped .*certificate=client .*operator's")
    p = wait_for(lambda: (q := shoal(*args, "--key", f"{c.dir}/keys/ops.cert", check=False)).returncode == 0 and q, "w2 is drained")
    assert "gone" in p.stdout and w.wait() == 0


def test_a_key_of_the_wrong_role_is_nobody(curved):
    """A worker and a router with a client's key: certificates whose label lies, as a thief's would."""
    c, r = curved
    os.makedirs(f"{c.dir}/thief", exist_ok=True)
    for role in ("worker", "router"):
        for half in ("cert", "cert_secret"):
            with open(f"{c.dir}/keys/client.{half}") as f:
                text = f.read().replace('role = "client"', f'role = "{role}"').replace('    tenant = "shop"\n', "")
            with open(f"{c.dir}/thief/{role}.{half}", "w") as f:
                os.fchmod(f.fileno(), 0o600)
                f.write(text)
    overstepped = connected(r, "link_overstepped_total")
    w = c.mock("thief", "north", [r], "--key", f"{c.dir}/thief/worker.cert")
    w.wait_log("router_connected")
    wait_for(lambda: connected(r, "link_overstepped_total") > overstepped, "the worker's Hello is refused")
    r2 = c.router("thief-router", "south", peers=[r.zmq], extra=["--key", f"{c.dir}/thief/router.cert"])
    r2.wait_log("peer_connected")
    r.wait_log(r"key_overstepped .*certificate=client role=client what=\"?Hello")
    assert connected(r) == 1
    c.processes.remove(w), c.processes.remove(r2)
    for p in (w, r2):
        p.kill()
        p.wait()
    p = subprocess.run([*w.args[:-2], "--key", "client"], capture_output=True, text=True, timeout=120)
    assert p.returncode == 2 and "is a client's; this process needs a worker's" in p.stderr


def test_workers_and_routers_with_unknown_keys_stay_outside(curved):
    c, r = curved
    w = c.mock("stranger", "north", [r], "--key", f"{c.dir}/strangers/worker.cert")
    w.wait_log("router_refused .*does not know this process")
    r2 = c.router("stranger-router", "south", peers=[r.zmq], extra=["--key", f"{c.dir}/strangers/router.cert"])
    r2.wait_log("peer_refused .*does not know this process")
    assert connected(r) == 1 and connected(r2) == 0
    for p in (w, r2):
        c.processes.remove(p)
        p.kill()
        p.wait()


def test_a_certificate_taken_away_cuts_its_owner_off_and_brought_back_lets_it_in(curved):
    c, r = curved
    known, server = f"{c.dir}/keys/client.cert", f"{c.dir}/keys/router.cert"
    os.makedirs(f"{c.dir}/revoked", exist_ok=True)
    os.rename(known, f"{c.dir}/revoked/client.cert")
    os.rename(f"{c.dir}/keys/worker.cert", f"{c.dir}/revoked/worker.cert")
    r.kill(signal.SIGHUP)
    wait_for(lambda: connected(r) == 0, "the worker is cut off")
    r.wait_log("link_cut .*taken away")
    p = generate(r.zmq, known, server)
    assert p.returncode != 0 and "does not know this process' certificate" in p.stderr, p
    os.rename(f"{c.dir}/revoked/client.cert", known)
    os.rename(f"{c.dir}/revoked/worker.cert", f"{c.dir}/keys/worker.cert")  # no signal: the folder is watched
    c.wait_ready(r, 1)
    assert generate(r.zmq, known, server).returncode == 0


def test_garbage_on_a_curve_port_leaves_the_router_standing(curved):
    c, r = curved
    host, port = r.zmq.removeprefix("tcp://").rsplit(":", 1)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
    hello = b"\x04\xc8\x05HELLO\x01\x00" + os.urandom(192)
    for data in [os.urandom(2000), greeting, greeting + os.urandom(500), greeting + hello, greeting.replace(b"CURVE", b"NULL\0") + os.urandom(99),
                 greeting + b"\x06" + b"\xff" * 8 + os.urandom(100)] * 3:
        with socket.create_connection((host, int(port)), timeout=20) as s:
            s.sendall(data)
    assert generate(r.zmq, config=c.config).returncode == 0


def test_what_is_wrong_with_a_certificate_is_one_sentence(curved):
    c, _ = curved
    base = ["--config", c.config]
    assert "shoal keygen" in start_and_fail(*base, "--key", "nobody")
    assert "is a worker's; this process needs a router's" in start_and_fail(*base, "--key", "worker")
    os.chmod(f"{c.dir}/strangers/router.cert_secret", 0o644)
    assert "chmod 600" in start_and_fail(*base, "--key", f"{c.dir}/strangers/router.cert")
