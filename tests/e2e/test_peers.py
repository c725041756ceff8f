"""Streams that a peer router relays from its region: when the home region can't serve, or is too slow; and when the relaying router dies."""

import os
import random
import threading

from cluster import Cluster, free_port, stream, wait_for
from test_router_death import Events, ask, kill_at

KILLS = int(os.environ.get("SHOAL_KILLS", "2"))
PACED = ("--mock-decode-ms", "8")
FAST = {"leave": "0ms"}


def known(router, replicas):
    data = router.json("GET", "/v1/models")[2]["data"]
    return data and data[0]["replicas_ready"] == replicas


def home_and_two_relays(c, workers=2):
    """north-1 has no replica of its own and two peers in the south, which share `workers` replicas."""
    zmq = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    relays = [c.router(f"south-{i}", "south", zmq=z) for i, z in enumerate(zmq)]
    home = c.router("north-1", "north", zmq)
    for i in range(workers):
        c.mock(f"w{i}", "south", relays, *PACED)
    for r in relays:
        c.wait_ready(r, workers)
    wait_for(lambda: known(home, workers), "the home router knows the south")
    return home, relays


def test_a_stream_whose_region_dies_goes_on_in_the_other():
    with Cluster(timers=FAST) as c:
        north, south = c.router_pair()
        c.mock("s1", "south", [south], *PACED)
        near = c.mock("n1", "north", [north], *PACED)
        wait_for(lambda: known(north, 2) and known(south, 2), "both regions are known")
        body = {**ask("two regions", 100, seed=1), "temperature": 1}
        want = stream(south, body)["text"]
        moved = []

        def look(out):
            if len(out["text"]) > 30 and not moved:
                moved.append(out["headers"]["X-Shoal-Replica"])
                near.kill()

        for _ in range(20):  # until one begins in the north
            if near.alive():
                got = stream(north, body, on_text=lambda out: look(out) if out["headers"]["X-Shoal-Replica"] == "n1" else None)
                assert got["text"] == want and got["done"]
        assert moved == ["n1"] and got["shoal"]["replica"] == "s1"


def test_work_spills_over_when_the_wait_is_too_long():
    with Cluster(weights={"north": "100, spill_after: 200ms", "south": 0}, timers=FAST) as c:
        north, south = c.router_pair()
        c.mock("s1", "south", [south], *PACED)
        c.mock("n1", "north", [north], *PACED, "--max-seqs", "1")
        wait_for(lambda: known(north, 2), "both regions are known")
        served = []

        def run(i):
            s = stream(north, ask(f"crowd {i}", 150))
            served.append((s["shoal"]["replica"], len(s["text"])))

        threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert {n for _, n in served} == {150} and {r for r, _ in served} == {"n1", "s1"}, served


def test_when_the_relaying_router_dies_the_home_router_goes_on_through_another():
    with Cluster(timers=FAST) as c:
        home, relays = home_and_two_relays(c)
        for i in range(KILLS):
            n = random.randint(60, 120)
            body = ask(f"relayed {i}", n, seed=i)
            want = stream(home, body)["text"]
            before = [r.metrics()["shoal_router_tokens_total"] for r in relays]
            k, dead = random.randint(1, n - 20), []

            def look(out):
                if len(out["text"]) >= k and not dead:
                    dead.append(next(r for r, b in zip(relays, before) if r.metrics()["shoal_router_tokens_total"] > b))
                    dead[0].kill()

            got = stream(home, body, on_text=look)
            assert got["text"] == want and got["done"] and dead, (i, k, got)
            if i + 1 < KILLS:
                at = relays.index(dead[0])
                relays[at] = c.router(dead[0].name, "south", zmq=dead[0].zmq)
                c.processes.remove(dead[0])
                c.wait_ready(relays[at], 2)


def test_when_the_home_router_dies_the_client_goes_on_at_the_one_that_relayed():
    """Kill the home router: its client comes to a relay, which makes the stream its own, or to the other one, which asks for it."""
    with Cluster(timers=FAST) as c:
        for other in (False, True):
            home, relays = home_and_two_relays(c) if not other else (revive_home(c, relays), relays)
            before = [r.metrics()["shoal_router_tokens_total"] for r in relays]
            e = Events(ask(f"homeless {other}", 100)).read(home, kill_at(home, 30))
            relay = next(r for r, b in zip(relays, before) if r.metrics()["shoal_router_tokens_total"] > b)
            goes_to = relays[1 - relays.index(relay)] if other else relay
            e.read(goes_to)
            assert e.done and len(e.text) == 100, (e.status, e.error, e.text)
            seed = e.events[-1]["shoal"]["seed"]
            assert e.text == stream(relay, {**ask(f"homeless {other}", 100), "seed": seed})["text"]
            assert sum(r.metrics()["shoal_router_attach_not_found_total"] for r in relays) == 0


def revive_home(c, relays):
    home = c.router("north-1", "north", [r.zmq for r in relays])
    wait_for(lambda: known(home, 2), "the home router knows the south")
    return home


def test_a_client_of_a_dead_relaying_region_finds_its_stream_through_a_peer():
    """The client comes to a router of the other region, which asks its own, then its peers."""
    with Cluster(timers=FAST) as c:
        south_zmq = f"tcp://127.0.0.1:{free_port()}"
        south_2 = f"tcp://127.0.0.1:{free_port()}"
        north = c.router("north-1", "north", [south_zmq, south_2])
        s1, s2 = c.router("south-1", "south", zmq=south_zmq), c.router("south-2", "south", zmq=south_2)
        c.mock("w1", "south", [s1, s2], *PACED)
        c.mock("n1", "north", [north], *PACED)
        wait_for(lambda: known(north, 2), "the north knows the south")
        c.wait_ready(s1, 1), c.wait_ready(s2, 1)
        e = Events(ask("over the border", 100)).read(s1, kill_at(s1, 30))
        e.read(north)
        assert e.done and len(e.text) == 100, (e.status, e.error)
        assert north.metrics()["shoal_router_attached_total"] == 1
        assert e.text == stream(north, {**ask("over the border", 100), "seed": e.events[-1]["shoal"]["seed"]})["text"]


