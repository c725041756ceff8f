"""What happened: the table by kind of fault, the summary, the JSON."""

from faults import KINDS

LOOK_S = 0.5  # a wait for a token counts to a fault if it begins within this of the fault


def resumed_after(fault, arrivals, ended):
    """Seconds from the fault until the stream's next token, behind those that were on their way: to the end of the longest wait that
    overlaps the LOOK_S after the fault. None: nothing came."""
    times = [t for t in arrivals] + ([ended] if ended else [])
    best, end = 0.0, None
    for a, b in zip(times, times[1:]):
        begin = max(a, fault.at)
        if b > fault.at and a < fault.at + LOOK_S and b - begin > best:
            best, end = b - begin, b
    return end - fault.at if end else None


def percentile(values, p):
    if not values:
        return None
    values = sorted(values)
    return values[min(len(values) - 1, int(p / 100 * len(values)))]


def table(faults):
    rows = []
    for kind in KINDS:
        of_kind = [f for f in faults if f.kind == kind]
        pauses = [p for f in of_kind for s in f.hit if (p := resumed_after(f, s.arrivals, s.ended)) is not None]
        rows.append({"fault": kind, "count": len(of_kind), "streams_hit": sum(len(f.hit) for f in of_kind),
                     "resume_p50_ms": ms(percentile(pauses, 50)), "resume_p99_ms": ms(percentile(pauses, 99))})
    return rows


def slowest(faults, began, most=5):
    """The longest waits: which fault, which stream."""
    waits = [(p, f, s) for f in faults for s in f.hit if (p := resumed_after(f, s.arrivals, s.ended)) is not None]
    waits.sort(key=lambda w: -w[0])
    return [{"resume_ms": ms(p), "fault": f.kind, "of": f.victim.name, "at_s": round(f.at - began, 2), "stream": s.name(), "request": s.request_id,
             "tokens_then": sum(1 for a in s.arrivals if a < f.at), "stream_began_s": round(s.began - began, 2)} for p, f, s in waits[:most]]


def ms(seconds):
    return None if seconds is None else round(seconds * 1000)


def print_table(rows):
    print(f"\n{'fault':<18} {'count':>6} {'streams hit':>12} {'to resume p50':>14} {'p99':>10}")
    for r in rows:
        p50, p99 = (f"{v} ms" if v is not None else "–" for v in (r["resume_p50_ms"], r["resume_p99_ms"]))
        print(f"{r['fault']:<18} {r['count']:>6} {r['streams_hit']:>12} {p50:>14} {p99:>10}")
