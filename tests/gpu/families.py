#!/usr/bin/env python3
"""The recorded answers of all fixtures against a device: a JSON line each with max |difference| / max |logit| for whole
prompts, chunks, and token by token. --bf16 adds transformers' own run in bf16 (torch and transformers must be there), whose
error times 1.25 is the bound. Exits 1 when a fixture fails or passes its bound."""

import argparse
import concurrent.futures
import json
import os
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures")
CHUNKS = (0, 7, 1)  # 0: as many as go into a step
SLACK = 1.25


def tensors(path):
    """Name -> (shape, flat list) of a safetensors file of F32 and I32."""
    with open(path, "rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    out = {}
    for name, t in head.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            kind = {"F32": "f", "I32": "i"}[t["dtype"]]
            out[name] = (t["shape"], list(struct.unpack(f"<{(end - begin) // 4}{kind}", data[begin:end])))
    return out


def run(args, model, tokens, vocab, chunk, every):
    """Position -> logits by id."""
    cmd = [args.program, "logits", "--model", model, "--tokens", ",".join(map(str, tokens)), "--top", str(vocab), "--device", args.device]
    cmd += ["--all"] if every else []
    cmd += ["--chunk", str(chunk)] if chunk else []
    cmd += ["--numeric", "w8a8"] if args.device == "cpu" and "fp8" in model else []
    done = subprocess.run(cmd, capture_output=True, text=True, timeout=args.timeout)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-400:])
    out = {}
    for line in done.stdout.splitlines():
        x = json.loads(line)
        row = [None] * vocab
        for token, logit in x["next_top"]:
            row[token] = logit
        out[x.get("position", len(tokens) - 1)] = row
    return out


def error_of(got, positions, logits, vocab):
    """max |difference| / max |logit|, and the same of the positions' median: an expert chosen otherwise by a hair moves the first alone."""
    most = max(abs(x) for x in logits)
    each = sorted(max(abs(got[p][t] - logits[i * vocab + t]) for t in range(vocab)) / most for i, p in enumerate(positions))
    return each[-1], each[len(each) // 2]


def bf16_errors(names):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    errors = {}
    for name in names:
        if "fp8" in name:
            continue
        folder = os.path.join(FIXTURES, "families", name)
        want = tensors(os.path.join(folder, "expected", "model.safetensors"))
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager",
                                                                      experts_implementation="eager").eval()
            with torch.no_grad():
                got = model(torch.tensor([want["prompt"][1]]), use_cache=False).logits[0].float()
        except Exception as e:  # what this version of transformers can't load has no bound
            print(f"{name}: {e}", file=sys.stderr)
            continue
        (n, vocab), flat = want["logits"]
        exact = torch.tensor(flat).reshape(n, vocab)
        each = ((got[want["positions"][1]] - exact).abs().amax(1) / exact.abs().max()).sort().values
        errors[name] = float(each[-1]), float(each[n // 2])
    return errors


def family(args, name, bf16):
    folder = os.path.join(FIXTURES, "families", name)
    want = tensors(os.path.join(folder, "expected", "model.safetensors"))
    (n, vocab), logits = want["w8a8_logits" if "w8a8_logits" in want else "logits"]
    out = {"fixture": name, "device": args.device}
    try:
        for chunk in CHUNKS:
            got = run(args, folder, want["prompt"][1], vocab, chunk, True)
            out[f"error_chunk_{chunk}"], out["median"] = error_of(got, want["positions"][1], logits, vocab)
    except (RuntimeError, subprocess.TimeoutExpired, KeyError, TypeError, ValueError) as e:
        out["failed"] = str(e)
    errors = [v for k, v in out.items() if k.startswith("error")]
    out["worst"] = max(errors) if len(errors) == len(CHUNKS) else None
    if name in bf16:
        out["transformers_bf16"], out["transformers_bf16_median"] = bf16[name]
        out["ratio"] = out["worst"] and out["worst"] / bf16[name][0]
        out["median_ratio"] = out["worst"] and out["median"] / bf16[name][1]
    out["ok"] = out["worst"] is not None and (name not in bf16 or out["ratio"] <= SLACK)
    return out


def tiny(args, case):
    out = {"fixture": "tiny: " + case["name"], "device": args.device}
    try:
        for chunk in CHUNKS:
            got = run(args, args.tiny, case["tokens"], args.tiny_vocab, chunk, False)
            row = got[len(case["tokens"]) - 1]
            out[f"error_chunk_{chunk}"] = max(abs(row[t] - l) for t, l in case["next_top"]) / case["max_abs_logit"]
            out["same_best"] = out.get("same_best", True) and max(range(len(row)), key=row.__getitem__) == case["next_top"][0][0]
    except (RuntimeError, subprocess.TimeoutExpired, KeyError, TypeError, ValueError) as e:
        out["failed"] = str(e)
    errors = [v for k, v in out.items() if k.startswith("error")]
    out["worst"] = max(errors) if len(errors) == len(CHUNKS) else None
    out["ok"] = out["worst"] is not None and out["same_best"]
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--program", default="build/bin/shoal-model")
    p.add_argument("--device", default="cuda")
    p.add_argument("--bf16", action="store_true")
    p.add_argument("--jobs", type=int, default=4)
    p.add_argument("--timeout", type=float, default=60)
    p.add_argument("--tiny", default=os.path.join(HERE, "..", "..", "deploy", "local", "model"))
    p.add_argument("names", nargs="*")
    args = p.parse_args()
    names = args.names or sorted(os.listdir(os.path.join(FIXTURES, "families")))
    with open(os.path.join(args.tiny, "config.json")) as f:
        args.tiny_vocab = json.load(f)["vocab_size"]
    with open(os.path.join(FIXTURES, "tiny_logits.json")) as f:
        cases = [] if args.names else json.load(f)["cases"]
    bf16 = bf16_errors(names) if args.bf16 else {}
    ok = True
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(tiny, args, c) for c in cases] + [pool.submit(family, args, n, bf16) for n in names]
        for job in jobs:
            line = job.result()
            ok = ok and line["ok"]
            print(json.dumps(line), flush=True)
    sys.exit(0 if ok else 1)


main()
