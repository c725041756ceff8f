"""scripts/rolling_restart: every process of the local cluster restarted under load, and nobody notices."""

import os
import subprocess
import threading

from cluster import BIN, ROOT, SANITIZED, SLOW, free_port
from load import Load

MOCK = "--model tiny --device mock --mock-decode-ms 15"
SCRIPT = '. scripts/lib.sh; . scripts/local_cluster.sh; '


class Backend(threading.Thread):
    """A service that talks to the routers through libshoal, one longer answer after the other."""

    def __init__(self, env):
        super().__init__(daemon=True)
        self.routers = f"{env['NORTH_ZMQ']},{env['SOUTH_ZMQ']}"
        self.over, self.ended, self.failed = threading.Event(), 0, []

    def run(self):
        args = [os.path.join(BIN, "shoal"), "generate", "--routers", self.routers, "--model", "tiny", "--max-tokens", "80", "--ignore-eos", "count"]
        while not self.over.is_set():
            ran = subprocess.run(args, capture_output=True, text=True, timeout=100 * SLOW, stdin=subprocess.DEVNULL)
            self.ended += 1
            if ran.returncode != 0:
                self.failed.append(ran.stderr)


def test_a_rolling_restart_under_load_fails_no_request(tmp_path):
    north, south = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = tmp_path / "cluster.yaml"
    with open(os.path.join(ROOT, "deploy", "local", "cluster.yaml")) as f:
        text = f.read()
    config.write_text(text.replace("timers: {", "timers: {suspect: 3s, dead: 10s, ") if SANITIZED else text)
    env = {**os.environ, "RUN": str(tmp_path / "run"), "BIN": BIN, "CLUSTER_CONFIG": str(config), "NORTH_HTTP": north, "SOUTH_HTTP": south,
           "NORTH_ZMQ": f"tcp://127.0.0.1:{free_port()}", "SOUTH_ZMQ": f"tcp://127.0.0.1:{free_port()}"}
    if SANITIZED:
        env["WORKER_FLAGS"] = MOCK

    def run(*command, seconds=100):
        ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=seconds * SLOW, stdin=subprocess.DEVNULL)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    try:
        run("bash", "-c", SCRIPT + "cluster_start && wait_mesh")
        before = {n: (tmp_path / "run" / f"{n}.pid").read_text() for n in ("north-r1", "south-r1", "north-w1", "south-w1")}
        body = {"model": "tiny", "prompt": "1, 2, 3,", "max_tokens": 20, "ignore_eos": True, "temperature": 1}
        service = Backend(env)
        service.start()
        with Load([north, south], body, 20, SLOW) as load:
            said = "".join(run(os.path.join(ROOT, "scripts", "rolling_restart")) for _ in range(2))
        service.over.set()
        service.join(100 * SLOW)
        after = {n: (tmp_path / "run" / f"{n}.pid").read_text() for n in before}
        print(f"{load.asked} requests, {len(load.failed)} failed, by router {[b.served for b in load.backends]}\n{said}")
        assert load.failed == [], load.failed[:5]
        assert service.failed == [] and service.ended > 0, service.failed[:5]
        assert load.asked > 100 and all(b.served > 20 for b in load.backends)
        assert all(before[n] != after[n] for n in before), (before, after)
    except BaseException:
        for log in sorted((tmp_path / "run").glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-3000:]}")
        raise
    finally:
        run("bash", "-c", SCRIPT + "cluster_stop")
