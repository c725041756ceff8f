#!/usr/bin/env python3
"""The rules of STYLE.md that a program can check. Prints every breach and ends with 1 if there is one."""

import os
import re
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
FUNCTION_MAX, SOURCE_MAX, HEADER_MAX, P90_MAX = 80, 500, 180, 40
STRINGS = r"\b(strcpy|strcat|sprintf|gets|strtok)\s*\("
ALLOWED = {"common/base/message.h": 350}  # every message in one place
BANNED = {
    r"\bgetenv\s*\(": "the environment is read nowhere: configuration is a file, machines have flags",
    STRINGS: "use snprintf, memcpy or struct buf",
    r"\bsystem\s*\(": "no shell from C",
    r"\b(TODO|FIXME|XXX|HACK)\b": "finish it or write down why not",
    r'#include\s+"\.\./': "include by the path from the root",
}
PURE = ("router/core/", "worker/core/", "worker/plan/", "common/base/", "common/delivery/")
IMPURE = {r"#include\s+<(uv|zmq|czmq|pthread|time|sys/time|sys/socket)\.h>": "a core has no clock, thread or socket",
          r"\b(time|clock_gettime|gettimeofday|rand|random)\s*\(": "a core is handed its time and its random numbers"}


def files():
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):  # no git here: every room
        rooms = ("client", "common", "proto", "router", "tests", "worker")
        found = (os.path.join(at, f) for room in rooms for at, _, names in os.walk(os.path.join(ROOT, room)) for f in names)
        listed = [os.path.relpath(f, ROOT) for f in found]
    return [f for f in listed if f.endswith((".c", ".h", ".inc")) and os.path.exists(os.path.join(ROOT, f))]


def functions(lines):
    """(first line, length) of each function: a line that starts in column 0 and ends with '{', to the next '}' in column 0."""
    start = None
    for i, line in enumerate(lines):
        if start is None and re.match(r"^[A-Za-z_].*\)\s*\{\s*$", line) and not line.startswith(("struct", "enum", "union", "typedef")):
            start = i
        elif start is not None and line.startswith("}"):
            yield start, i - start + 1
            start = None


def main():
    breaches, lengths = [], []
    for name in files():
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            lines = f.read().split("\n")
        most = ALLOWED.get(name, HEADER_MAX if name.endswith(".h") else SOURCE_MAX)
        if len(lines) > most and not name.startswith("tests/"):
            breaches.append(f"{name}: {len(lines)} lines, at most {most}")
        rules = {k: v for k, v in BANNED.items() if not (k == STRINGS and name.startswith("tests/"))}
        if name.startswith(PURE):
            rules.update(IMPURE)
        for i, line in enumerate(lines):
            code = line.split("//")[0] if "TODO" not in line and "FIXME" not in line else line
            for pattern, why in rules.items():
                if re.search(pattern, code):
                    breaches.append(f"{name}:{i + 1}: {line.strip()[:60]}: {why}")
        for start, length in functions(lines):
            lengths.append(length)
            if length > FUNCTION_MAX:
                breaches.append(f"{name}:{start + 1}: a function of {length} lines, at most {FUNCTION_MAX}")
    lengths.sort()
    p50, p90 = lengths[len(lengths) // 2], lengths[len(lengths) * 9 // 10]
    if p90 > P90_MAX:
        breaches.append(f"nine functions in ten have up to {p90} lines, at most {P90_MAX} wanted")
    print("\n".join(breaches))
    print(f"{len(lengths)} functions: median {p50} lines, nine in ten up to {p90}, longest {lengths[-1]}; {len(breaches)} breaches")
    return 1 if breaches else 0


sys.exit(main())
