#!/usr/bin/env python3
"""Chaos on real processes: a small cluster answers streams while its processes are killed, frozen and asked to leave; every stream is compared,
token by token, with what a quiet cluster says. Run by scripts/chaos. 0: everything held; 1: a stream or a process did not; 2: it could not run."""

import argparse
import json
import os
import random
import signal
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e")]

from cluster import BIN  # noqa: E402
from faults import Injector  # noqa: E402
from fleet import Fleet  # noqa: E402
from oracle import Oracle  # noqa: E402
from report import print_table, slowest, table  # noqa: E402
from streams import HttpStream, LibStream  # noqa: E402

REQUESTS = 64  # distinct requests with a seed; their undisturbed runs are made once
SHOWN_MAX = 10  # wrong streams described


def arguments():
    p = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__.split("Run by")[0].strip())
    p.add_argument("--seed", type=int, help="of the faults and the requests; default: drawn and told (the times are the machine's own)")
    p.add_argument("--minutes", type=float, default=1, help="how long faults are injected (default 1)")
    p.add_argument("--faults", type=int, default=0, help="end after this many faults, if that is sooner")
    p.add_argument("--model", choices=["mock", "local"], default="mock", help="mock: token chains that cost nothing; local: deploy/local/model")
    p.add_argument("--streams", type=int, help="that run at any time (default: 16, with --model local 8)")
    p.add_argument("--pace", type=float, default=1.2, metavar="SECONDS", help="between two faults, on average (default 1.2)")
    p.add_argument("--only", metavar="WORD", default="", help="only the kinds of fault with this word in their name, as in router or SIGSTOP")
    p.add_argument("--json", metavar="FILE", help="write the result there")
    p.add_argument("--logs", metavar="DIR", help="keep the logs of all processes there")
    p.add_argument("--keep-going", action="store_true", help="do not stop at the first wrong stream")
    p.add_argument("--router-program", default="shoal-router", help=argparse.SUPPRESS)  # one with a planted bug, in the tests
    return p.parse_args()


class Run:
    def __init__(self, options, fleet):
        self.options, self.fleet = options, fleet
        self.oracle = Oracle(fleet.quiet)
        self.rng = random.Random(options.seed)
        self.lock = threading.Lock()
        self.running, self.done, self.wrong = [], [], []
        self.over = threading.Event()
        self.started = 0
        self.requests = [self._request(random.Random(f"{options.seed}/{i}")) for i in range(REQUESTS)]
        self.injector = Injector(fleet, self.rng, options.pace, options.only, lambda: list(self.running))

    # --- requests and streams

    def _request(self, rng):
        mock = self.options.model == "mock"
        r = {"temperature": rng.choice([0, 1]), "max_tokens": rng.randint(40, 260), "ignore_eos": True, "seed": rng.randrange(1 << 40)}
        if rng.random() < 0.5:
            text = f"Count from {rng.randint(1, 9)} to {rng.randint(20, 60)}." if not mock else "chat " * rng.randint(1, 60)
            r["messages"] = [{"role": "user", "content": text}]
        else:
            r["prompt"] = f"story {rng.randrange(1 << 30)} " * rng.randint(1, 20)
        return r

    def _stream(self, number, rng):
        request = dict(rng.choice(self.requests))
        if rng.random() < 0.2:  # the router draws the seed, and tells it
            request["temperature"], request["seed"] = 1, None
        request = {k: v for k, v in request.items() if v is not None}
        if number % 3 == 1:
            return LibStream(number, request, [r.zmq for r in self.fleet.routers])
        if number % 3 == 2:
            p = self.fleet.proxies[number // 3 % 2]
            return HttpStream(number, request, [(p.name, p.http)], "proxy", resumes=False)
        return HttpStream(number, request, [(r.name, r.http) for r in self.fleet.routers])

    def client(self, index):
        rng = random.Random(f"{self.options.seed}/client/{index}")
        number = index
        while not self.over.is_set():
            s = self._stream(number, rng)
            with self.lock:
                self.running.append(s)
                self.started += 1
            try:
                s.run()
                verdict = self.oracle.judge(s)
            except Exception as e:  # noqa: BLE001: a bug of the harness must not look like a stream that held
                s.end(f"the harness failed: {e!r}")
                verdict = ("failed", s.problem)
            with self.lock:
                self.running.remove(s)
                self.done.append(s)
                if verdict:
                    self.wrong.append((s, *verdict))
                    if not self.options.keep_going:
                        self.over.set()
            number += self.options.streams

    # --- the run

    def go(self):
        begin = self.began = time.monotonic()
        end = begin + self.options.minutes * 60
        clients = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(self.options.streams)]
        for c in clients:
            c.start()
        shown = 0.0
        while not self.over.is_set() and time.monotonic() < end and not self.injector.problems:
            if self.options.faults and len(self.injector.faults) >= self.options.faults:
                break
            if not self.injector.step():
                time.sleep(0.02)
            if time.monotonic() - shown > (0.5 if sys.stdout.isatty() else 10):
                shown = time.monotonic()
                self.progress(shown - begin)
        self.injector.settle()
        self.over.set()
        for c in clients:
            c.join(120)
        if any(c.is_alive() for c in clients):
            self.injector.problems.append("a client did not end")
        self.seconds = time.monotonic() - begin

    def progress(self, seconds):
        share = min(1, seconds / (self.options.minutes * 60))
        if self.options.faults:
            share = max(share, len(self.injector.faults) / self.options.faults)
        bar = "#" * int(share * 24)
        line = f"[{bar:<24}] {seconds:4.0f} s  {len(self.injector.faults)} faults  {len(self.done)} streams ended, {len(self.running)} running  {len(self.wrong)} wrong"
        print("\r" + line if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)

    # --- the result

    def result(self):
        rows = table(self.injector.faults)
        hit = {id(s) for f in self.injector.faults for s in f.hit}
        verdicts = [w for _, w, _ in self.wrong]
        return {
            "seed": self.options.seed, "model": self.options.model, "seconds": round(self.seconds, 1), "faults": len(self.injector.faults),
            "streams": len(self.done), "by_kind_of_client": {k: sum(1 for s in self.done if s.kind == k) for k in sorted({s.kind for s in self.done})},
            "tokens": sum(len(s.tokens) or len(s.text) for s in self.done), "streams_hit": sum(r["streams_hit"] for r in rows), "distinct_streams_hit": len(hit),
            "lost": verdicts.count("lost"), "doubled": verdicts.count("doubled"), "different": verdicts.count("different"), "failed": verdicts.count("failed"),
            "refused_and_asked_again": sum(getattr(s, "refused", 0) for s in self.done), "reconnects": sum(s.reconnects for s in self.done),
            "problems": self.injector.problems + self.fleet.bad_ends(), "by_fault": rows,
            "slowest": slowest(self.injector.faults, self.began),
            "timeline": [{"at_s": round(f.at - self.began, 2), "fault": f.kind, "of": f.victim.name, "streams_hit": len(f.hit),
                          "over_after_s": round(f.lasted, 2) if f.lasted else None} for f in self.injector.faults],
        }

    def report(self):
        r = self.result()
        print_table(r["by_fault"])
        print(f"\n{r['faults']} faults in {r['seconds']} s; {r['streams']} streams ({', '.join(f'{n} {k}' for k, n in r['by_kind_of_client'].items())}), "
              f"{r['streams_hit']} hits in the middle of {r['distinct_streams_hit']} streams")
        print(f"HTTP: {r['reconnects']} reconnects with Last-Event-ID, {r['refused_and_asked_again']} refusals asked again")
        for s, what, sentence in self.wrong[:SHOWN_MAX]:
            print(f"{what.upper()}: {s.name()}: {sentence}")
        for p in r["problems"]:
            print(f"PROBLEM: {p}")
        print(f"{r['lost']} lost, {r['doubled']} doubled, {r['different']} different, {r['failed']} failed, {len(r['problems'])} problems")
        if self.options.json:
            with open(self.options.json, "w") as f:
                json.dump(r, f, indent=1)
                f.write("\n")
        return 0 if not self.wrong and not r["problems"] and r["streams"] > 0 else 1


def main():
    options = arguments()
    options.seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    options.streams = options.streams or (8 if options.model == "local" else 16)
    if not os.path.exists(os.path.join(BIN, options.router_program)):
        print(f"{BIN} has no {options.router_program}: build first", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    print(f"chaos: seed {options.seed}, {options.streams} streams, model {options.model}", flush=True)
    fleet = Fleet(options.model, 20 if options.model == "local" else 15, options.router_program)
    with fleet:
        run = Run(options, fleet)
        try:
            run.go()
            code = run.report()
        finally:
            run.over.set()
            if options.logs or run.wrong or run.injector.problems:
                fleet.logs = options.logs or os.path.join(os.path.dirname(BIN), "chaos-logs")
                print(f"the logs of all processes are in {fleet.logs}")
            for s in list(run.running):
                if getattr(s, "process", None):
                    s.process.kill()
    return code


if __name__ == "__main__":
    sys.exit(main())
