"""Stages killed (-9) and stopped in the middle of streams: nothing is lost, the group forms anew, and who survived doesn't load again.

SHOAL_KILLS: how often (scripts/soak: 20)."""

import os
import random
import signal
import subprocess
import threading
import time

from cluster import BIN, Cluster, stream, wait_for

KILLS = int(os.environ.get("SHOAL_KILLS", "2"))
FAST = {"leave": "0ms"}  # routers need not linger
SOAK = "SHOAL_KILLS" in os.environ  # a quiet machine: figures are held to their bars
PACED = ("--mock-decode-ms", "0", "--step-min-ms", "15", "--max-seqs", "4")
OTHER = ("--mock-layers", "2", "--mock-decode-ms", "0", "--step-min-ms", "30", "--max-seqs", "4")  # one process, as fast as the group


def ask(prompt, n, **more):
    return {"model": "mock", "prompt": prompt, "max_tokens": n, "ignore_eos": True, "temperature": 1, "seed": 5, **more}


class Streams:
    """Always `count` of them under way, each compared with the undisturbed answer to its prompt."""

    def __init__(self, router, count, length, expected):
        self.router, self.length, self.expected = router, length, expected
        self.over, self.served, self.wrong = threading.Event(), 0, []
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(count)]

    def _run(self, number):
        pick = random.Random(number)
        while not self.over.is_set():
            prompt = pick.choice(list(self.expected))
            got = stream(self.router, ask(prompt, self.length))
            if not got["done"] or got["error"] or got["text"] != self.expected[prompt]:
                self.wrong.append((prompt, got["error"], got["text"]))
            self.served += 1

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join()


def status(router):
    return subprocess.run([f"{BIN}/shoal", "status", "--routers", router.zmq], capture_output=True, text=True, timeout=60).stdout


def undisturbed(router, prompts, n):
    return {p: stream(router, ask(p, n))["text"] for p in prompts}


def at_work(leader):
    """Until each of its streams has got some tokens here: a request under which two processes die without a token in between is refused."""
    def decoded():
        return leader.metrics()["shoal_worker_decoded_tokens_total"]
    before = decoded()
    wait_for(lambda: decoded() > before + 40, "the group is at work")


def up(leader, epoch=0):
    m = leader.metrics()
    return m["shoal_worker_group_up"] == 1 and m["shoal_worker_group_epoch"] > epoch and m["shoal_worker_group_epoch"]


def test_followers_killed_under_load_cost_nothing_and_the_survivors_load_once():
    prompts = [f"prompt number {i}" for i in range(6)]
    with Cluster(timers=FAST) as c:
        r = c.router("r1", "north")
        group = c.group("cut", "north", [r], 2, *PACED)
        c.mock("whole", "north", [r], *OTHER)
        c.wait_ready(r, 2)
        expected = undisturbed(r, prompts, 40)
        took = []
        with Streams(r, 8, 40, expected) as load:
            for i in range(KILLS):
                at_work(group[0])
                epoch = group[0].metrics()["shoal_worker_group_epoch"]
                group[1].kill()
                group[1].wait()
                start = time.monotonic()
                group[1] = c.follower(group[0], 1)
                wait_for(lambda: up(group[0], epoch), "the group is up again", 30)
                took.append(time.monotonic() - start)
        m = group[0].metrics()
        print(f"killed {KILLS} times: {load.served} streams, {len(load.wrong)} wrong; formed anew in {max(took):.2f} s at most, epoch {m['shoal_worker_group_epoch']:.0f}")
        assert not load.wrong, load.wrong[:3]
        assert m["shoal_worker_loads_total"] == 1 and m["shoal_worker_group_reforms_total"] >= KILLS
        assert r.metrics()["shoal_router_poisoned_total"] == 0
        if SOAK:
            assert max(took) <= 3


def test_a_group_alone_takes_its_streams_up_again():
    """No other replica: the router holds the streams until the group is back, whichever member was lost, also in the middle of three."""
    with Cluster(timers=FAST) as c:
        r = c.router("r1", "north")
        group = c.group("cut", "north", [r], 3, *PACED)
        c.wait_ready(r, 1)
        expected = undisturbed(r, ["a", "b"], 50)
        with Streams(r, 4, 50, expected) as load:
            for stage in (1, 2):
                at_work(group[0])
                epoch = group[0].metrics()["shoal_worker_group_epoch"]
                group[stage].kill()
                group[stage].wait()
                group[0].wait_log(f"group_waits .*waiting for stage {stage} of group cut-group|group_member_lost .*stage={stage}")
                wait_for(lambda: f"waiting for stage {stage} of group cut-group" in status(r), "status says what is missing")
                group[stage] = c.follower(group[0], stage)
                wait_for(lambda: up(group[0], epoch), "the group is up again", 30)
        assert not load.wrong, load.wrong[:3]
        assert [w.metrics()["shoal_worker_loads_total"] for w in group] == [1, 1, 1]


def test_a_follower_that_stands_still_is_left_behind_and_taken_back():
    with Cluster(timers=FAST) as c:
        r = c.router("r1", "north")
        group = c.group("cut", "north", [r], 2, *PACED)
        c.mock("whole", "north", [r], *OTHER)
        c.wait_ready(r, 2)
        expected = undisturbed(r, ["a", "b", "c"], 50)
        with Streams(r, 6, 50, expected) as load:
            at_work(group[0])
            epoch = group[0].metrics()["shoal_worker_group_epoch"]
            group[1].kill(signal.SIGSTOP)
            group[0].wait_log("group_member_lost .*silent")
            served = load.served
            wait_for(lambda: load.served > served + 6, "the streams go on elsewhere")
            group[1].kill(signal.SIGCONT)
            wait_for(lambda: up(group[0], epoch), "the group is up again", 30)
        assert not load.wrong, load.wrong[:3]
        assert [w.metrics()["shoal_worker_loads_total"] for w in group] == [1, 1]


def test_a_leader_killed_finds_followers_that_are_loaded():
    with Cluster(timers=FAST) as c:
        r = c.router("r1", "north")
        group = c.group("cut", "north", [r], 2, *PACED)
        c.mock("whole", "north", [r], *OTHER)
        c.wait_ready(r, 2)
        expected = undisturbed(r, ["a", "b", "c"], 40)
        with Streams(r, 6, 40, expected) as load:
            for _ in range(2):
                at_work(group[0])
                old = group[0]
                epoch = old.metrics()["shoal_worker_group_epoch"]
                old.kill()
                old.wait()
                group[0] = c.worker("cut", "north", [r], "--model", "mock", "--group-listen", old.group_address, *old.group_args)
                group[0].group_args, group[0].group_address = old.group_args, old.group_address
                wait_for(lambda: up(group[0], epoch), "the group is up again, in an epoch that was not there before", 30)
        assert not load.wrong, load.wrong[:3]
        assert group[1].metrics()["shoal_worker_loads_total"] == 1


def test_a_request_that_kills_a_stage_is_refused_after_the_second_and_the_others_go_on():
    with Cluster(timers=FAST) as c:
        r = c.router("r1", "north")
        group = c.group("cut", "north", [r], 2, *PACED)
        c.wait_ready(r, 1)
        expected = undisturbed(r, ["a", "b"], 50)
        with Streams(r, 3, 50, expected) as load:
            at_work(group[0])
            poison = {}
            asking = threading.Thread(target=lambda: poison.update(stream(r, ask("please <crash> now", 20))))
            asking.start()
            for _ in range(2):
                epoch = group[0].metrics()["shoal_worker_group_epoch"]
                group[1].wait()
                group[1].may_crash = True
                group[1] = c.follower(group[0], 1)
                wait_for(lambda: up(group[0], epoch), "the group is up again", 30)
            asking.join()
            assert poison["error"]["code"] == "request_killed_workers", poison
            at_work(group[0])
        assert not load.wrong, load.wrong[:3]
        assert group[1].alive() and group[0].metrics()["shoal_worker_loads_total"] == 1
