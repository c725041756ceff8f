#!/usr/bin/env python3
"""Makes tests/fixtures/families: little models of every family and what transformers answers with them in fp32. See README.md."""

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import zlib

import torch
import transformers

from families import FAMILIES
from more import KINDS, random_family
from weights import is_fp8, random_weights, rounded_activations, shapes, stored, write

GREEDY, RECORDED, TRIES = 24, 24, 20
NOISE = 1e-5  # of max |logit|: fp32 against fp64; above it an expert was chosen by a hair


def load(folder, dtype):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "mismatched_keys", "unexpected_keys")), info
    return model.eval()


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.tensor([tokens]), use_cache=False).logits[0]


def answers(model, prompt):
    """Logits at some positions of the prompt, and greedy tokens with their distance to the second, in parts of max |logit|."""
    logits = logits_of(model, prompt).float()
    n = len(prompt)
    positions = sorted({*range(min(4, n)), *range(0, n, max(1, n // (RECORDED - 6))), n - 2, n - 1})
    tokens, greedy, margins = list(prompt), [], []
    for _ in range(GREEDY):
        last = logits_of(model, tokens)[-1].float()
        best = last.topk(2).values
        greedy.append(int(last.argmax()))
        margins.append(float((best[0] - best[1]) / last.abs().max()))
        tokens.append(greedy[-1])
    return {"prompt": torch.tensor(prompt, dtype=torch.int32), "positions": torch.tensor(positions, dtype=torch.int32),
            "logits": logits[positions].contiguous(), "greedy": torch.tensor(greedy, dtype=torch.int32), "margin": torch.tensor(margins)}


@contextlib.contextmanager
def w8a8(model):
    """The other numeric class of FP8 checkpoints: what goes into an FP8 matrix is rounded first."""
    linear, fp8 = torch.nn.functional.linear, set()
    for name, p in model.named_parameters():
        if ("experts" in name and p.dim() == 3) or is_fp8(name, p):
            fp8.add(p.untyped_storage().data_ptr())
    torch.nn.functional.linear = lambda x, w, b=None: linear(rounded_activations(x) if w.untyped_storage().data_ptr() in fp8 else x, w, b)
    try:
        yield
    finally:
        torch.nn.functional.linear = linear


def both_classes(config, model, model64, prompt):
    """Answers, and how far fp32 strays from fp64; of FP8 checkpoints in both numeric classes."""
    got, noise = {}, 0
    for prefix in ("", "w8a8_") if "quantization_config" in config else ("",):
        with w8a8(model) if prefix else contextlib.nullcontext():
            one = answers(model, prompt)
        with w8a8(model64) if prefix else contextlib.nullcontext():
            exact = logits_of(model64, prompt)[one["positions"].long()]
        noise = max(noise, float((one["logits"] - exact).abs().max() / exact.abs().max()))
        got.update({prefix + k: v for k, v in one.items() if not prefix or k not in ("prompt", "positions")})
    return got, noise


def attempt(family, seed):
    """(config, checkpoint's tensors, answers, noise of fp32)"""
    config, dtype, length = family
    generator = torch.Generator().manual_seed(seed)
    file, exact = stored(random_weights(config, generator), dtype)
    prompt = torch.randint(0, config["vocab_size"], (length,), generator=generator).tolist()
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump({k: v for k, v in config.items() if k != "quantization_config"}, f)
        write(os.path.join(folder, "model.safetensors"), {k: v for k, v in exact.items() if k not in shapes(config)[1]})
        got, noise = both_classes(config, load(folder, torch.float32), load(folder, torch.float64), prompt)
    return config, file, got, noise


def make(name, family, out):
    for t in range(TRIES):
        seed = zlib.crc32(name.encode()) % 100000 + t
        config, file, got, noise = attempt(family, seed)
        if noise < NOISE:
            break
    assert noise < NOISE, (name, noise)
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "expected"))
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    write(os.path.join(folder, "model.safetensors"), file)
    write(os.path.join(folder, "expected", "model.safetensors"), got)
    size = sum(os.path.getsize(os.path.join(at, f)) for at, _, names in os.walk(folder) for f in names)
    print(f"{name}: seed {seed}, {size // 1024} KiB, fp32 noise {noise:.1e}, logits {got['logits'].std():.2f} wide, "
          f"smallest margin {got['margin'].min():.1e}, {len(set(got['greedy'].tolist()))} different tokens", flush=True)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", default=os.path.join(here, "..", "..", "tests", "fixtures", "families"))
    p.add_argument("--random", type=int, nargs="*", metavar="SEED", help="instead: a model of each kind with random dimensions for each of these seeds")
    p.add_argument("names", nargs="*", help="families; all when none is named")
    args = p.parse_args()
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for seed in args.random or []:
        for kind in KINDS:
            make(f"{kind}-{seed}", random_family(kind, seed), args.out)
    for name in args.names or ([] if args.random else FAMILIES):
        make(name, FAMILIES[name], args.out)


main()
