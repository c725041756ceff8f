"""The cluster that chaos is done to: two routers, four workers and a replica in two stages, in two regions: real processes, each of which can be
frozen, killed, asked to leave, and started again under its old name and addresses. Beside it a quiet cluster that nobody disturbs, for the oracle."""

import os
import shutil
import signal
import threading
import time

from cluster import BIN, SANITIZED, Cluster, Process, Router, Worker, free_port, wait_for

READY_S = 30  # for a process to serve after its start

CONFIG = """schema: 1
cluster: chaos
regions:
  north: {{weight: 50}}
  south: {{weight: 50}}
models: {{chaos: {{deployments: {{main: {{}}}}}}}}
timers: {{{timers}}}
"""


class Member:
    """One place in the cluster, through all lives of its process."""

    def __init__(self, name, kind, region):
        self.name, self.kind, self.region = name, kind, region
        self.life = None  # the process now
        self.lives = []
        self.disturbed = False

    def born(self, process):
        self.life = process
        self.lives.append(process)


class RouterMember(Member):
    def __init__(self, name, region):
        super().__init__(name, "router", region)
        self.http, self.zmq = f"127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"
        self.url = f"http://{self.http}"

    def start(self, fleet):
        peers = [r.zmq for r in fleet.routers if r is not self]
        self.born(Router(fleet, self.name, self.region, peers, self.zmq, http=self.http, program=fleet.router_program))

    def ready(self, fleet):
        """It sees every undisturbed replica that dials it."""
        want = sum(1 for w in fleet.replicas if w.whole() and self in w.dials)
        return self.life.replicas_ready() >= want and self.life.ready()


class ReplicaMember(Member):
    """A replica's one process, or the leader of its stages: this alone talks to routers, and streams know it by its name."""

    def __init__(self, name, kind, region, dials, flags=()):
        super().__init__(name, kind, region)
        self.dials, self.flags = dials, list(flags)
        self.followers = []

    def start(self, fleet):
        self.born(Worker(fleet, self.name, self.region, [r.zmq for r in self.dials], fleet.worker_args + self.flags))

    def whole(self):
        return not self.disturbed and not any(f.disturbed for f in self.followers)

    def ready(self, fleet):
        """Every undisturbed router that it dials has as many replicas as there are whole ones, and this, unless another stage is away."""
        assert self.life.alive(), f"{self.name} ended with {self.life.p.returncode}:\n{self.life.log()[-2000:]}"
        if any(f.disturbed for f in self.followers):
            return bool(self.life.find("worker_started"))
        for r in [r for r in self.dials if not r.disturbed]:
            others = sum(1 for w in fleet.replicas if w is not self and w.whole() and r in w.dials)
            if r.life.replicas_ready() < others + 1:
                return False
        return True


class FollowerMember(Member):
    def __init__(self, leader, stage, flags):
        super().__init__(f"{leader.name}-stage{stage}", "follower", leader.region)
        self.leader, self.flags = leader, list(flags)
        leader.followers.append(self)

    def start(self, fleet):
        self.born(Worker(fleet, self.name, self.region, [], [x for x in fleet.worker_args + self.flags]))

    def ready(self, fleet):
        assert self.life.alive(), f"{self.name} ended with {self.life.p.returncode}:\n{self.life.log()[-2000:]}"
        if self.leader.disturbed:
            return True
        was, self.disturbed = self.disturbed, False  # as if it were back: is the replica?
        try:
            return self.leader.ready(fleet)
        finally:
            self.disturbed = was


def model_args(model, paced_ms):
    """A short grace: what a worker keeps for a router that is gone would hold up its own leaving for half a minute."""
    return ["--grace", "5s", *device_args(model, paced_ms)]


def device_args(model, paced_ms):
    if model == "mock":
        return ["--device", "mock", "--model", "chaos", "--mock-layers", "2", "--mock-decode-ms", str(paced_ms or 0.2)]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "local", "model")
    return ["--device", "cpu", "--threads", "1", "--model", "chaos", "--path", os.path.abspath(path), *(["--step-min-ms", str(paced_ms)] if paced_ms else [])]


class Fleet(Cluster):
    def __init__(self, model, paced_ms, router_program="shoal-router"):
        super().__init__()
        self.worker_args = model_args(model, paced_ms)
        self.router_program = router_program
        north, south = RouterMember("north-r1", "north"), RouterMember("south-r1", "south")
        self.routers = [north, south]
        # One of each region dials its own router alone, one dials both, its own first.
        self.replicas = [ReplicaMember("north-w1", "worker", "north", [north]), ReplicaMember("north-w2", "worker", "north", [north, south]),
                         ReplicaMember("south-w1", "worker", "south", [south]), ReplicaMember("south-w2", "worker", "south", [south, north])]
        address = f"tcp://127.0.0.1:{free_port()}"
        group = ["--parallel", "pp=2", "--group", "two"]
        leader = ReplicaMember("south-p", "leader", "south", [south, north], [*group, "--group-listen", address])
        self.replicas.append(leader)
        self.followers = [FollowerMember(leader, 1, [*group, "--stage", "1", "--leader", address])]
        self.lock = threading.Lock()
        self.model = model
        self.logs = None  # where the logs were kept after a failure

    @property
    def members(self):
        return self.routers + self.replicas + self.followers

    def __enter__(self):
        super().__enter__()
        timers = ", ".join(f"{k}: {v}" for k, v in self.timers.items())
        with open(self.config, "w") as f:
            f.write(CONFIG.format(timers=timers))
        # What can't end in half a second moves, with its state where the layouts agree.
        self.worker_args += ["--drain-deadline", "500ms", "--checkpoint-dir", os.path.join(self.dir, "checkpoints")]
        try:
            for m in self.members:
                m.start(self)
            self.quiet = Quiet(self)
            self.proxies = [Proxy(self.routers, "proxy-1"), Proxy(self.routers[::-1], "proxy-2")]
            for m in self.members:
                wait_for(lambda m=m: m.ready(self), f"{m.name} is ready", READY_S)
        except BaseException as e:
            self.__exit__(type(e), e, None)
            raise
        return self

    def bad_ends(self):
        """Lives that ended in a way that nobody asked for."""
        out = []
        for p in self.proxies:
            if not p.alive():
                out.append(f"{p.name} ended with {p.p.returncode}: {p.log()[-800:]}")
        for m in self.members:
            for p in m.lives:
                code = p.p.poll()
                if code not in (None, 0, -signal.SIGKILL):
                    out.append(f"{p.name} ended with {code}: {p.log()[-800:]}")
                elif SANITIZED and any("Sanitizer" in line or "runtime error:" in line for line in list(p.lines)):
                    out.append(f"{p.name}: the sanitizer complained:\n{p.log()[-4000:]}")
                elif code == 0 and not getattr(p, "asked", False):
                    out.append(f"{p.name} left though nobody asked it to")
        return out

    def __exit__(self, kind, value, trace):
        self.processes = [p for m in self.members for p in m.lives] + getattr(self, "proxies", [])
        self.processes += self.quiet.processes if getattr(self, "quiet", None) else []
        for p in self.processes:
            p.asked = True
        keep = self.logs
        if keep:
            os.makedirs(keep, exist_ok=True)
            for m in self.members:
                for i, p in enumerate(m.lives):
                    with open(os.path.join(keep, f"{m.name}.{i}.log"), "w") as f:
                        f.write(p.log() + "\n")
        super().__exit__(None, None, None) if kind is None else self._end_quietly()

    def _end_quietly(self):
        for p in self.processes:
            p.kill(signal.SIGCONT)
            p.kill(signal.SIGKILL)
        for p in self.processes:
            p.p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- who may be taken

    def can_spare(self, victims):
        """With these gone too, some undisturbed router has an undisturbed worker that dials it."""
        with self.lock:
            if any(v.disturbed for v in victims):
                return False
            up = [m for m in self.members if not m.disturbed and m not in victims]
            return any(all(f in up for f in w.followers) and any(r in up for r in w.dials) for w in self.replicas if w in up)

    def take(self, victims):
        with self.lock:
            for v in victims:
                v.disturbed = True

    def give_back(self, victims):
        with self.lock:
            for v in victims:
                v.disturbed = False

    def restart(self, member):
        member.start(self)
        wait_for(lambda: member.ready(self), f"{member.name} is ready again", READY_S, every=0.05)


class Quiet:
    """One router and one worker in a corner: what they say is what is right."""

    def __init__(self, fleet):
        self.router = Router(fleet, "quiet-r1", "north")
        self.processes = [self.router]
        worker = Worker(fleet, "quiet-w1", "north", [self.router.zmq], model_args(fleet.model, 0))
        self.processes.append(worker)
        wait_for(lambda: self.router.replicas_ready() >= 1, "the quiet worker is ready", READY_S)


class Proxy(Process):
    """`shoal proxy` on a client's host: nobody disturbs it."""

    def __init__(self, routers, name):
        urls = ",".join(r.url for r in routers)
        super().__init__([f"{BIN}/shoal", "proxy", "--listen", "127.0.0.1:0", "--routers", urls], name)
        self.http = self.first_word(r"listening on http://(\S+),").group(1)


def freeze(member, seconds):
    member.life.kill(signal.SIGSTOP)
    time.sleep(seconds)
    member.life.kill(signal.SIGCONT)
