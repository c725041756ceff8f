"""The local cluster of the scripts: every process restarted under load (scripts/rolling_restart), and the three acts of the quickstart."""

import os
import re
import subprocess
import threading

from cluster import BIN, ROOT, SANITIZED, SLOW, free_port
from load import Load

MOCK = {"WORKER_FLAGS": "--model tiny --device mock --mock-layers 2", "PACE": "--mock-decode-ms 15", "STAGE_PACE": "--mock-decode-ms 8"}


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


class Local:
    """The local cluster of the scripts, at addresses and in a folder of its own."""

    def __init__(self, tmp_path, **env):
        self.run_dir = tmp_path / "run"
        config = tmp_path / "cluster.yaml"
        with open(os.path.join(ROOT, "deploy", "local", "cluster.yaml")) as f:
            text = f.read()
        config.write_text(text.replace("timers: {", "timers: {suspect: 3s, dead: 10s, ") if SANITIZED else text)
        self.http = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self.zmq = [f"tcp://127.0.0.1:{free_port()}" for _ in range(3)]
        self.env = {**os.environ, "RUN": str(self.run_dir), "BIN": BIN, "CLUSTER_CONFIG": str(config), "NORTH_HTTP": self.http[0], "SOUTH_HTTP": self.http[1],
                    "NORTH_ZMQ": self.zmq[0], "SOUTH_ZMQ": self.zmq[1], "GROUP_ZMQ": self.zmq[2], **env}

    def run(self, *command, seconds=100):
        ran = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=seconds * SLOW, stdin=subprocess.DEVNULL)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def script(self, what):
        return self.run("bash", "-c", ". scripts/lib.sh; . scripts/local_cluster.sh; " + what)

    def pids(self):
        return {f.stem: f.read_text() for f in self.run_dir.glob("*.pid")}

    def __enter__(self):
        try:
            self.script("cluster_start")
        except BaseException:
            self.__exit__(AssertionError, None, None)
            raise
        return self

    def __exit__(self, kind, value, trace):
        for log in sorted(self.run_dir.glob("*.log")) if kind else []:
            print(f"--- {log.name}\n{log.read_text()[-3000:]}")
        self.script("cluster_stop")


def test_a_rolling_restart_under_load_fails_no_request(tmp_path):
    with Local(tmp_path, **(MOCK if SANITIZED else {})) as c:
        before = c.pids()
        assert len(before) == 6
        body = {"model": "tiny", "prompt": "1, 2, 3,", "max_tokens": 20, "ignore_eos": True, "temperature": 1}
        service = Backend(c.env)
        service.start()
        with Load(c.http, body, 20, SLOW) as load:
            said = c.run(os.path.join(ROOT, "scripts", "rolling_restart"))
        service.over.set()
        service.join(100 * SLOW)
        after = c.pids()
        print(f"{load.asked} requests, {len(load.failed)} failed, by router {[b.served for b in load.backends]}\n{said}")
        assert load.failed == [], load.failed[:5]
        assert service.failed == [] and service.ended > 0, service.failed[:5]
        assert load.asked > 80 and all(b.served > 20 for b in load.backends)
        assert before.keys() == after.keys() and all(before[n] != after[n] for n in before), (before, after)


def test_the_three_acts_of_the_quickstart_end_as_if_nothing_had_been(tmp_path):
    with Local(tmp_path, PACE="--step-min-ms 8", STAGE_PACE="--step-min-ms 4") as c:
        for act, origin in (("kill", "tokens recomputed, prompt included"), ("notice", "checkpoint (.*; 0 tokens recomputed"), ("router", "resumed from: ")):
            if SANITIZED and act != "notice":
                continue  # the same processes die in the tests of streams and routers
            said = c.run(f"{BIN}/shoal", "demo", act, "--routers", ",".join(c.zmq[:2]), "--model", "tiny", "--temperature", "1")
            assert "identical to the undisturbed run: yes" in said and re.search(origin.replace("(", "\\(", 1), said), said
            c.script("cluster_restart_dead")
