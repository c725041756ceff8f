"""What the tests of keys share: the shoal command, certificates, addresses beyond loopback, routers that must not start."""

import re
import socket
import subprocess

from cluster import BIN


def shoal(*args, check=True):
    p = subprocess.run([f"{BIN}/shoal", *args], capture_output=True, text=True, timeout=120)
    assert not check or p.returncode == 0, p
    return p


def another_address():
    """An address of this machine that is not loopback's; None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        return None if s.getsockname()[0].startswith("127.") else s.getsockname()[0]


def start_and_fail(*args):
    rest = [] if "--http" in args else ["--http", "127.0.0.1:0"]
    rest += [] if "--zmq" in args else ["--zmq", "tcp://127.0.0.1:0"]
    p = subprocess.run([f"{BIN}/shoal-router", *rest, *args], capture_output=True, text=True, timeout=120)
    lines = [line for line in p.stderr.splitlines() if line and " info " not in line]
    assert p.returncode == 2 and len(lines) == 1, p.stderr
    return lines[0]


CURVE = """security: {curve: required, keys: "{dir}/keys", metrics: open}
tenants: {shop: {models: [mock]}, lab: {models: [other]}, office: {}}
models: {mock: {deployments: {main: {}}}, other: {deployments: {main: {}}}}
"""


def keygen(folder, name, role, tenant=None):
    shoal("keygen", "--out", folder, "--name", name, "--role", role, *(["--tenant", tenant] if tenant else []))
    return f"{folder}/{name}.cert"


def make_keys(c):
    for name, role, tenant in [("router", "router", None), ("worker", "worker", None), ("client", "client", "shop"), ("lab", "client", "lab"),
                               ("office", "client", "office")]:
        keygen(f"{c.dir}/keys", name, role, tenant)
    for name, role in [("router", "router"), ("worker", "worker"), ("client", "client")]:  # that nobody knows
        keygen(f"{c.dir}/strangers", name, role)


def generate(address, key=None, server=None, prompt="hello", config=None, model="mock", seconds=None):
    args = ["--model", model, "--max-tokens", "4"]
    args += ["--config", config] if config else []
    args += ["--routers", address] if address else []
    args += ["--key", key, "--server-key", server] if key else []
    return shoal("generate", *args, prompt, check=False)


def certificate_key(path):
    with open(path) as f:
        return re.search(r'public-key = "(\S{40})"', f.read()).group(1)


def connected(r, what="replicas_ready"):
    return r.metrics().get(f"shoal_router_{what}", 0)
