"""What the tests of keys share: the shoal command, addresses beyond loopback, routers that must not start."""

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
