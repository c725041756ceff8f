#!/usr/bin/env python3
"""Changes one comparison, assignment or call at random in the cores, and sees whether the simulator notices.

    tests/sim/mutate.py [--seed N] [--count 40] [--build DIR] [--at FILE:LINE]

Each mutant is one changed line of router/core, worker/core or common/delivery. Its file alone is compiled and linked in front of the
libraries of a build, then shoal-sim runs up to 20 seeds (short ones, then whole hours), and after that the cores' unit tests. A mutant
that nobody catches is a missing check, or equivalent: the latter are in mutants_equivalent.txt, each with its reason, and don't
count. Exit code 0: at least nine in ten are caught. Statistics, texts and the invariants themselves are left alone.
"""
import argparse, concurrent.futures, json, os, random, re, shlex, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROOMS = {"router/core": "router_", "worker/core": "worker_", "common/delivery": "delivery_"}
CORES = ["router/core", "worker/core"]
LEFT_ALONE = {"router/core/core_check.c", "worker/core/check.c", "router/core/cluster_view.c"}
SKIP_LINE = re.compile(r"CHECK\(|MARK\(|counters\.|error_set|snprintf|_BUG_|core_odd|bug|^\s*#|^\s*//|^\s*static const|^\s*\w+_ODD_")
SWAPS = [(" < ", " <= "), (" <= ", " < "), (" > ", " >= "), (" >= ", " > "), (" == ", " != "), (" != ", " == "), (" && ", " || "),
         (" || ", " && "), (" + ", " - "), (" - ", " + "), (" += ", " -= "), (" -= ", " += "), ("++", "--"), ("--", "++"),
         ("true", "false"), ("false", "true")]
WHOLE = re.compile(r"^(\s+)(?:[\w\->.\[\]]+ (?:=|\+=|-=) [^;{]+|\w+\([^;{]*\)|[\w\->.\[\]]+(?:\+\+|--));$")
ASSIGNMENT = re.compile(r"^\s+[\w\->.\[\]]+ ?(?:=|\+=|-=|\+\+|--)")
UNIT_SECONDS, SIM_RUNS = 60, [("0.1", 90), ("0.5", 300)]  # hours, and seconds that they may take


def mutations(path, calls):
    """All (line number, before, after) of a file."""
    out = []
    for number, line in enumerate(open(os.path.join(ROOT, path)), 1):
        line = line.rstrip("\n")
        code = line.split("//")[0]
        if SKIP_LINE.search(line) or '"' in code or not line.startswith(" "):
            continue
        for old, new in SWAPS:
            at = code.find(old)
            while at >= 0:
                out.append((number, line, line[:at] + new + line[at + len(old):]))
                at = code.find(old, at + len(old))
        m = WHOLE.match(code.rstrip())
        if m and "return" not in code and (calls or ASSIGNMENT.match(code)):
            out.append((number, line, m.group(1) + ";"))
    return out


def equivalents():
    known = {}
    for line in open(os.path.join(ROOT, "tests/sim/mutants_equivalent.txt")):
        if line.strip() and not line.startswith("#"):
            path, before, after, reason = [part.strip() for part in line.split(" | ")]
            known[path, before, after] = reason
    return known


class Builder:
    def __init__(self, build):
        self.build = build
        self.compile = {}
        for entry in json.load(open(os.path.join(build, "compile_commands.json"))):
            self.compile[os.path.relpath(entry["file"], ROOT)] = entry["command"]

    def link_command(self, target):
        lines = subprocess.run(["ninja", "-C", self.build, "-t", "commands", target], capture_output=True, text=True).stdout.splitlines()
        return lines[-1]

    def compile_mutant(self, path, source, out):
        words = shlex.split(self.compile[path])
        words = [w for w in words if not w.endswith("ccache")]
        words[words.index("-o") + 1] = out
        words[words.index("-c") + 1] = source
        words = ["-O1" if w == "-O2" else w for w in words if w != "-g"] + ["-w"]
        return subprocess.run(words, cwd=self.build, capture_output=True).returncode == 0

    def link(self, target, mutant, out):
        command = self.link_command(target)
        first = re.search(r"\s(\S+\.a)\s", command).group(1)
        command = command.replace(" " + first, f" {mutant} {first}", 1)
        command = re.sub(r"-o \S+", "-o " + out, command, count=1)
        return subprocess.run(command, shell=True, cwd=self.build, capture_output=True).returncode == 0


def run(words, seconds):
    try:
        p = subprocess.run(words, capture_output=True, text=True, timeout=seconds, cwd=ROOT)
        return p.returncode, p.stdout, p.stderr
    except subprocess.TimeoutExpired:
        return None, "", ""


def sim_catches(command, seconds):
    code, out, err = run(command, seconds)
    if code is None:
        return "the run hangs"
    if code >= 0 and '"ok":false' not in out:
        return None
    lines = [l for l in err.splitlines() if re.match(r"CHECK|.*CHECK failed|seed \d+(:| at)", l)]
    return (lines[0] if lines else "crash")[:110]


def judge(builder, units, path, number, before, after):
    with tempfile.TemporaryDirectory(dir=builder.build) as folder:
        lines = open(os.path.join(ROOT, path)).read().split("\n")
        lines[number - 1] = after
        source, mutant, sim = (os.path.join(folder, n) for n in (os.path.basename(path), "mutant.o", "sim"))
        open(source, "w").write("\n".join(lines))
        if not builder.compile_mutant(path, source, mutant) or not builder.link("bin/shoal-sim", mutant, sim):
            return "does not compile", ""
        for hours, seconds in SIM_RUNS:
            check = ["--check"] if hours == "0.1" else []
            caught = sim_catches([sim, "--seed", "1..20", "--hours", hours, "--faults", "all", "--caught", *check], seconds)
            if caught:
                return "sim", caught
        for unit in units.get(os.path.dirname(path), []):
            test = os.path.join(folder, "unit")
            if builder.link("tests/" + unit, mutant, test) and run([test], UNIT_SECONDS)[0] != 0:
                return "unit", unit
    return "survived", ""


def choose(a, known):
    every = []
    for room in ROOMS if a.all else CORES:
        folder = os.path.join(ROOT, room)
        for name in sorted(os.listdir(folder)):
            path = f"{room}/{name}"
            if name.endswith(".c") and path not in LEFT_ALONE:
                every += [(path, *m) for m in mutations(path, a.all)]
    if a.at:
        path, line = a.at.split(":")
        return [m for m in every if m[0] == path and m[1] == int(line)]
    dice = random.Random(a.seed)
    dice.shuffle(every)
    lines, out = set(), []
    for m in every:  # one per line
        if (m[0], m[1]) not in lines and (m[0], m[2].strip(), m[3].strip()) not in known:
            lines.add((m[0], m[1]))
            out.append(m)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=40)
    p.add_argument("--build", default=os.path.join(ROOT, "build"))
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--at", help="all mutants of one line")
    p.add_argument("--all", action="store_true", help="also calls that are left out, and common/delivery")
    p.add_argument("--units", action="store_true", help="what the simulator misses is tried on the cores' unit tests, for information")
    a = p.parse_args()
    a.build = os.path.abspath(a.build)
    builder, known = Builder(a.build), equivalents()
    names = [n for n in sorted(os.listdir(os.path.join(a.build, "tests"))) if n.endswith("_test")]
    units = {}
    for room, prefix in ROOMS.items() if a.units else []:
        units[room] = [n for n in names if n.startswith(prefix) and builder_has(builder, n, room)]
    chosen, counts, at = choose(a, known), {"sim": 0, "unit": 0, "survived": 0}, 0
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        while sum(counts.values()) < a.count and at < len(chosen):
            batch = chosen[at:at + min(a.jobs, a.count - sum(counts.values()))]
            at += len(batch)
            for m, (verdict, how) in zip(batch, pool.map(lambda m: judge(builder, units, *m), batch)):
                if verdict in counts:
                    counts[verdict] += 1
                    print(f"{verdict:9}{m[0]}:{m[1]}: {m[2].strip()}  ->  {m[3].strip()}\n         {how}", flush=True)
    total = sum(counts.values())
    more = f"; of the others {counts['unit']} by unit tests" if a.units else ""
    print(f"{counts['sim']} of {total} mutants caught by the simulator{more}; seed {a.seed}")
    return 0 if total and counts["sim"] * 10 >= total * 9 else 1


def builder_has(builder, unit, room):
    return "lib" + room.replace("/", "_") + ".a" in builder.link_command("tests/" + unit)


if __name__ == "__main__":
    sys.exit(main())
