"""What is right: every stream, token by token, is what a quiet cluster says to the same request with the same seed."""

import difflib
import json
import subprocess
import threading

from cluster import SLOW
from streams import LibStream


class Oracle:
    def __init__(self, quiet):
        self.endpoints = [quiet.router.zmq]
        self.known = {}
        self.lock = threading.Lock()

    def expected(self, request, seed):
        """{"text", "tokens", "finish"} of the undisturbed run."""
        key = json.dumps([request, seed], sort_keys=True)
        with self.lock:
            if key in self.known:
                return self.known[key]
        args = LibStream(0, dict(request, seed=seed), self.endpoints).args()
        args[args.index("--events")] = "--json"
        ran = subprocess.run(args, capture_output=True, timeout=100 * SLOW, stdin=subprocess.DEVNULL)
        if ran.returncode != 0:
            raise RuntimeError(f"the undisturbed run failed: {ran.stderr.decode(errors='replace')}")
        o = json.loads(ran.stdout)
        want = {"text": o["reasoning"] + o["text"], "tokens": o["tokens"], "finish": o["finish"]}
        with self.lock:
            self.known[key] = want
        return want

    def judge(self, s):
        """None, or (what, sentence): "lost", "doubled", "different", or "failed" for a stream that ended in an error."""
        if s.problem:
            return "lost" if s.ends == 0 else "failed", s.problem
        if s.seed is None:
            return "failed", "nobody told its seed"
        want = self.expected(s.request, s.seed)
        text = s.reasoning + s.text
        if s.ends != 1:
            return "failed", f"it ended {s.ends} times"
        if s.kind == "libshoal" and s.tokens != want["tokens"]:
            return describe(s.tokens, want["tokens"], "token")
        if text != want["text"]:
            return describe(text, want["text"], "character")
        if s.finish != want["finish"]:
            return "different", f"it finished with {s.finish}, the undisturbed run with {want['finish']}"
        return None


def describe(got, want, unit):
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    edits = [e for e in difflib.SequenceMatcher(None, want, got, autojunk=False).get_opcodes() if e[0] != "equal"]
    kinds = {e[0] for e in edits}
    what = "doubled" if kinds == {"insert"} else "lost" if kinds == {"delete"} else "different"
    return what, f"{what} at {unit} {at} of {len(want)} (got {len(got)}): expected {want[at:at + 12]!r}, got {got[at:at + 12]!r}"
