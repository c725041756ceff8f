"""What is done to the cluster, in an order that the seed decides. A fault takes one process; it comes back by itself, in a thread of its
own, and may be taken again when it serves. Some replica can always serve."""

import signal
import threading
import time

from cluster import SLOW, wait_for
from fleet import freeze

LEAVE_S = 60  # within which a process that was asked to leave has ended


def frozen_for(rng):
    return rng.uniform(0.2, 1.2) if rng.random() < 0.7 else rng.uniform(1.2, 5)


class Fault:
    def __init__(self, number, kind, victim):
        self.number, self.kind, self.victim = number, kind, victim
        self.at = None
        self.hit = []  # streams that were in the middle and served by the victim
        self.lasted = None


def hit_by(victim, streams):
    """A stream knows its replica by the leader's name."""
    name = victim.leader.name if victim.kind == "follower" else victim.name
    return [s for s in streams if s.in_the_middle() and s.served_by(name)]


def kill(fleet, fault, rng):
    fault.victim.life.kill(signal.SIGKILL)
    delay = rng.uniform(0, 1.5)

    def mend():
        fault.victim.life.wait()
        time.sleep(delay)
        fleet.restart(fault.victim)

    return mend


def leave(fleet, fault, rng):
    life = fault.victim.life
    life.asked = True
    life.kill(signal.SIGTERM)
    delay = rng.uniform(0, 0.5)

    def mend():
        code = life.wait(LEAVE_S)
        if code != 0:
            raise AssertionError(f"{fault.victim.name} was asked to leave and ended with {code}: {life.log()[-1000:]}")
        time.sleep(delay)
        fleet.restart(fault.victim)

    return mend


def stop(fleet, fault, rng):
    seconds = frozen_for(rng)

    def mend():
        freeze(fault.victim, seconds)
        wait_for(lambda: fault.victim.ready(fleet), f"{fault.victim.name} serves again after its sleep", 30, every=0.05)

    fault.victim.life.kill(signal.SIGSTOP)
    return mend


# kind → (whom it takes, what it does)
KINDS = {
    "worker kill -9": ("worker", kill),
    "worker SIGSTOP": ("worker", stop),
    "worker SIGTERM": ("worker", leave),
    "leader kill -9": ("leader", kill),
    "leader SIGSTOP": ("leader", stop),
    "leader SIGTERM": ("leader", leave),
    "follower kill -9": ("follower", kill),
    "follower SIGSTOP": ("follower", stop),
    "follower SIGTERM": ("follower", leave),
    "router kill -9": ("router", kill),
    "router SIGSTOP": ("router", stop),
    "router SIGTERM": ("router", leave),
}


class Injector:
    """`streams()`: those that run now. One thread calls step()."""

    def __init__(self, fleet, rng, pace_s, only, streams):
        self.fleet, self.rng, self.pace_s, self.streams = fleet, rng, pace_s, streams
        self.kinds = [k for k in KINDS if only in k]
        self.faults = []
        self.bag = []
        self.mending = []
        self.problems = []
        self.open_then = []  # streams that ran at the last fault of a worker, and how far they were
        self.next_at = time.monotonic()

    def counts(self):
        return {k: sum(1 for f in self.faults if f.kind == k) for k in KINDS}

    def _draw(self):
        """A kind and a victim that can be spared now; kinds come round equally often."""
        if not self.bag:
            self.bag = list(self.kinds)
            self.rng.shuffle(self.bag)
        for kind in list(self.bag):
            who, _ = KINDS[kind]
            if who != "router" and not self._settled():
                continue
            able = [m for m in self.fleet.members if m.kind == who and self.fleet.can_spare([m])]
            if able:
                self.bag.remove(kind)
                return kind, self._choose(able)
        return None, None

    def _choose(self, able):
        """Rather one with streams than one without."""
        running = list(self.streams())
        return self.rng.choices(able, [1 + 3 * len(hit_by(m, running)) for m in able])[0]

    def _settled(self):
        """Everything that ran at the last fault of a worker has moved since: a request under which two workers die without a token in
        between is refused by design."""
        self.open_then = [(s, n) for s, n in self.open_then if s.ended is None and s.progress() == n]
        return not self.open_then

    def step(self):
        """Injects the next fault if it is time and something can be spared. True if it did."""
        if time.monotonic() < self.next_at or self.problems:
            return False
        kind, victim = self._draw()
        if kind is None:
            return False
        fault = Fault(len(self.faults), kind, victim)
        self.fleet.take([victim])
        running = list(self.streams())
        fault.hit = hit_by(victim, running)
        fault.at = time.monotonic()
        mend = KINDS[kind][1](self.fleet, fault, self.rng)
        if victim.kind != "router":
            self.open_then = [(s, s.progress()) for s in running]
        self.faults.append(fault)
        t = threading.Thread(target=self._mend, args=(fault, mend), daemon=True)
        t.start()
        self.mending = [m for m in self.mending if m.is_alive()] + [t]
        self.next_at = fault.at + self.rng.uniform(0.3, 1.7) * self.pace_s * (SLOW if SLOW == 1 else 2)
        return True

    def _mend(self, fault, mend):
        try:
            mend()
            fault.lasted = time.monotonic() - fault.at
            self.fleet.give_back([fault.victim])
        except Exception as e:  # noqa: BLE001: whatever it is, the run has failed
            self.problems.append(f"fault {fault.number}, {fault.kind} of {fault.victim.name}: {e}")

    def settle(self):
        """Until everything that was disturbed is back."""
        for t in self.mending:
            t.join(120 * SLOW)
            if t.is_alive():
                self.problems.append("a process did not come back")
