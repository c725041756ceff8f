"""Processes are asked to leave: what runs ends whole, what comes is told to go elsewhere in time."""

import json
import signal
import threading

from cluster import Cluster, stream, wait_for

PACED = ("--mock-decode-ms", "8")


def ask(prompt, n, **more):
    return {"model": "mock", "prompt": prompt, "max_tokens": n, "ignore_eos": True, "temperature": 0, **more}


def test_the_last_stream_of_a_leaving_router_is_whole():
    with Cluster(timers={"leave": "0ms"}) as c:
        south = c.router("south-1", "south")
        for i in range(8):
            north = c.router(f"north-{i}")
            w = c.mock(f"w{i}", "north", [north, south], *PACED)
            c.wait_ready(north, 1)
            asked = []

            def on_text(out):
                if len(out["text"]) > 10 and not asked:
                    asked.append(1)
                    north.kill(signal.SIGTERM)

            s = stream(north, ask(f"last {i}", 40), on_text=on_text)
            assert s["done"] and s["finish"] == "length" and len(s["text"]) == 40, s
            assert north.wait(20) == 0
            w.kill()


def test_a_leaving_router_serves_on_until_it_is_noticed():
    """Not ready at once; what comes is served meanwhile, with word that the connection ends; then the door is closed and the process goes with 0."""
    with Cluster(timers={"leave": "3s"}) as c:
        r = c.router("r1")
        c.mock("w1", "north", [r], *PACED)
        c.wait_ready(r, 1)
        kept = r.connect()
        kept.request("GET", "/livez")
        assert kept.getresponse().read() and kept.sock is not None
        r.kill(signal.SIGTERM)
        wait_for(lambda: not r.ready(), "not ready any more")
        kept.request("POST", "/v1/completions", json.dumps(ask("late", 10)), {"Content-Type": "application/json"})
        response = kept.getresponse()
        assert response.status == 200 and response.getheader("Connection") == "close"
        assert len(json.loads(response.read())["choices"][0]["text"]) == 10
        s = stream(r, ask("later", 10))
        assert s["done"] and s["headers"]["Connection"] == "close", s
        assert r.wait(20) == 0
        text = r.log()
        assert text.index("router_leaving") < text.index("request_ended") < text.index("router_draining") < text.index("router_stopped")


def test_a_router_whose_time_is_up_breaks_streams_off_and_refuses_bodies():
    """No [DONE] and no error event: the client is to take the stream up at another router."""
    with Cluster(timers={"leave": "0ms", "drain": "600ms"}) as c:
        r = c.router("r1")
        c.mock("w1", "north", [r], *PACED)
        c.wait_ready(r, 1)
        body = []
        asker = threading.Thread(target=lambda: body.append(r.json("POST", "/v1/completions", ask("body", 5000))))
        asker.start()
        wait_for(lambda: r.metrics()["shoal_router_sessions"] == 1, "it runs")
        asked = []

        def on_text(out):
            if not asked:
                asked.append(1)
                r.kill(signal.SIGTERM)

        s = stream(r, ask("endless", 5000), on_text=on_text)
        assert not s["done"] and s["error"] is None and s["finish"] is None and 0 < len(s["text"]) < 5000, s
        asker.join(20)
        status, head, answer = body[0]
        assert status == 503 and answer["error"]["code"] == "draining" and head["Retry-After"], body
        assert r.wait(20) == 0 and r.find("router_hands_over .*streams=2")
