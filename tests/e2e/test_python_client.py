"""client/python: the semantics of libshoal in Python. Each choice whole, in order and once, whoever dies."""

import os
import pathlib
import random
import subprocess
import sys
import threading

import pytest
from cluster import SLOW, Cluster, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "client" / "python"))

import shoal  # noqa: E402
from test_router_death import FAST, revive, two_routers  # noqa: E402

KILLS = int(os.environ.get("SHOAL_KILLS", "3"))


def both(routers):
    return shoal.Client(",".join(r.zmq for r in routers), connect_s=20 * SLOW, silence_s=1.5 * SLOW)


def ask(client, prompt, tokens, on_event=None, **more):
    """The text of each choice, each event checked: in order, once, nothing behind an end."""
    n = more.get("n", 1)
    texts, counts, ended = [""] * n, [0] * n, [None] * n
    for e in client.generate("mock", prompt=prompt, max_tokens=tokens, ignore_eos=True, **{"temperature": 1.0, **more}):
        assert ended[e.choice] is None
        if e.kind == "token":
            assert e.offset == counts[e.choice]
            counts[e.choice] += 1
        if e.kind == "done":
            ended[e.choice] = e
            assert e.finish == "length" and e.usage["completion_tokens"] == tokens == counts[e.choice]
        texts[e.choice] += e.text
        if on_event:
            on_event(sum(counts))
    return texts


def test_the_generated_module_is_that_of_the_proto(tmp_path):
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={tmp_path}", "shoal.proto"], check=True)
    fresh, kept = (p.joinpath("shoal_pb2.py").read_text() for p in (tmp_path, ROOT / "client/python/shoal"))
    assert fresh == kept, "run protoc -Iproto --python_out=client/python/shoal shoal.proto"


def test_answers_choices_chat_and_parameters():
    with Cluster(timers=FAST) as c:
        r = c.router("r1")
        c.mock("w0", "north", [r])
        c.wait_ready(r, 1)
        with both([r]) as client:
            texts = ask(client, "hello", 20, n=3, seed=7)
            assert len(set(texts)) == 3 and texts[:2] == ask(client, "hello", 20, n=2, seed=7)
            status, _, web = r.json("POST", "/v1/completions", {"model": "mock", "prompt": "hello", "max_tokens": 20, "ignore_eos": True, "seed": 7,
                                                                "temperature": 1, "n": 3})
            assert status == 200 and [x["text"] for x in web["choices"]] == texts, "HTTP says the same"
            assert client.complete("mock", messages=[{"role": "user", "content": "é"}], max_tokens=4, ignore_eos=True)[0]
            events = list(client.generate("mock", tokens=[1, 2, 3], max_tokens=3, ignore_eos=True, logprobs=True, top_logprobs=2))
            assert all(e.logprob is not None and len(e.top_logprobs) == 2 for e in events if e.kind == "token"), events
            for wrong, status, param in ((dict(model="nobody", prompt="x"), "NOT_FOUND", "model"), (dict(model="mock", prompt="x", temperature=-1.0), "INVALID_ARGUMENT", "temperature")):
                with pytest.raises(shoal.Error) as e:
                    list(client.generate(**wrong))
                assert e.value.status == status and e.value.param == param and str(e.value)
            with pytest.raises(ValueError):
                list(client.generate("mock", prompt="x", messages=[]))
        wait_for(lambda: r.metrics()["shoal_router_sessions"] == 0, "all sessions ended")


def test_a_killed_router_costs_no_choice_a_token():
    with Cluster(timers=FAST) as c:
        routers = two_routers(c)
        with both(routers) as client:
            for i in range(KILLS):
                calm = ask(client, f"killed {i}", 60, n=2, seed=i)
                at, killed, victim = random.randint(1, 100), [], i % 2

                def kill(count):
                    if count >= at and not killed:
                        killed.append(True)
                        routers[victim].kill()
                        routers[victim].wait()
                        routers[victim] = revive(c, routers[victim])

                assert ask(client, f"killed {i}", 60, kill, n=2, seed=i) == calm
                for r in routers:
                    c.wait_ready(r, 2)


def test_many_threads_share_a_client_and_a_killed_worker_is_survived():
    with Cluster(timers=FAST) as c:
        routers = two_routers(c)
        workers = [p for p in c.processes if p.name.startswith("w")]
        with both(routers) as client:
            calm = [ask(client, f"t{i}", 40, seed=i) for i in range(8)]
            got = [None] * 8

            def one(i):
                got[i] = ask(client, f"t{i}", 40, (lambda n: n == 20 and workers[0].alive() and workers[0].kill()) if i == 3 else None, seed=i)

            threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            assert got == calm


def test_cancel_deadline_close_and_no_router():
    with Cluster(timers=FAST) as c:
        r = c.router("r1")
        w = c.mock("w0", "north", [r], "--mock-decode-ms", "20")
        c.wait_ready(r, 1)
        client = both([r])
        events = client.generate("mock", prompt="long", max_tokens=3000, ignore_eos=True, n=2)
        next(events)
        events.close()
        wait_for(lambda: w.metrics()["shoal_worker_sequences_running"] == 0, "the worker has stopped")
        with pytest.raises(shoal.Error) as e:
            list(client.generate("mock", prompt="late", max_tokens=3000, ignore_eos=True, deadline_s=0.5, pin="w0"))  # a pinned request is not refused beforehand
        assert e.value.status == "DEADLINE_EXCEEDED"
        events = client.generate("mock", prompt="closed", max_tokens=3000, ignore_eos=True)
        next(events)
        client.close()
        with pytest.raises(shoal.Error) as e:
            list(events)
        assert e.value.status == "CANCELLED"
    with shoal.Client("tcp://127.0.0.1:9", connect_s=0.3) as nobody, pytest.raises(shoal.Error) as e:
        list(nobody.generate("mock", prompt="x"))
    assert e.value.status == "UNAVAILABLE" and "127.0.0.1:9" in str(e.value)
