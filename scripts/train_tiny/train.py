"""Trains the model of config.py on the world of world.py for a given time, and writes the model's folder.

python3 scripts/train_tiny/train.py --out deploy/local/model
"""

import argparse
import time
from pathlib import Path

import torch

import export
import tokenizer as tok
from config import CONFIG
from data import EXAMPLE_TOKENS_MAX, WEIGHT_UNITS, Batches, sample_texts
from model import Model

END_RATE, WARM_STEPS, HOLD = 0.01, 300, 0.3  # of the peak; of the whole time
BALANCE_STEP, BALANCE_UNTIL = 1e-3, 0.85
MTP_WEIGHT = 0.2


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--out", type=Path, required=True, help="folder to write")
    p.add_argument("--minutes", type=float, default=10.0, help="of training, compilation not counted")
    p.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    p.add_argument("--start", type=Path, help="folder of a model to go on from, with its tokenizer, instead of from nothing")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--tokens", type=int, default=65536, help="in a batch")
    p.add_argument("--processes", type=int, default=14, help="that make batches")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p.parse_args()


def make_tokenizer(o):
    if o.start:
        tokenizer = tok.load(o.start)
    else:
        tokenizer = tok.train(sample_texts(o.seed, 40_000))
    tok.save(tokenizer, o.out)


def optimizer_of(model):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


def rate(peak, done, step):
    """done: the part of the training time that is over."""
    falling = 1 if done < HOLD else 1 - (1 - END_RATE) * (done - HOLD) / (1 - HOLD)
    return peak * min(falling, (step + 1) / WARM_STEPS)


def to_device(batch, device):
    ids, positions, weights, starts = (torch.from_numpy(x).to(device, non_blocking=True) for x in batch)
    return ids.long(), positions.long(), weights.float() / WEIGHT_UNITS, starts


@torch.no_grad()
def balance(model, loads):
    """Moves each expert's bias a little towards an even load (auxiliary-loss-free balancing, arXiv 2408.15664)."""
    for moe, load in zip(model.moes(), loads):
        moe.gate.e_score_correction_bias += BALANCE_STEP * torch.sign(load.mean() - load)


def train(o, model, batches):
    on_gpu = o.device.startswith("cuda")
    optimizer = optimizer_of(model)
    losses = torch.compile(model.losses, dynamic=False) if on_gpu else model.losses
    start = told = None
    step = 0
    while True:
        batch = to_device(next(batches), o.device)
        done = (time.monotonic() - start) / (60 * o.minutes) if start else 0.0
        if done >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = rate(o.rate, done, step)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=on_gpu):
            main, ahead, loads = losses(*batch, EXAMPLE_TOKENS_MAX)
        (main + MTP_WEIGHT * ahead).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if done < BALANCE_UNTIL:
            balance(model, loads)
        step += 1
        if step == 3:  # compiled by now
            start = told = time.monotonic()
        if told and time.monotonic() - told > 10:
            told = time.monotonic()
            uneven = (loads.max(1).values / loads.mean(1)).max().item()
            speed = step * o.tokens / (told - start) / 1e6
            losses_now = f"loss {main.item():.5f}  mtp {ahead.item():.5f}  rate {group['lr']:.2e}"
            print(
                f"{told - start:4.0f} s  step {step:6}  {losses_now}  busiest expert {uneven:.2f}x  {speed:.2f} M tokens/s",
                flush=True,
            )


def main():
    o = options()
    torch.manual_seed(o.seed)
    torch.set_float32_matmul_precision("high")
    began = time.monotonic()
    make_tokenizer(o)
    print(f"tokenizer ready after {time.monotonic() - began:.0f} s", flush=True)
    batches = Batches(o.out, o.seed, o.tokens, o.processes)
    model = (export.load(o.start) if o.start else Model(CONFIG)).to(o.device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, MTP layer included", flush=True)
    try:
        steps = train(o, model, batches)
    finally:
        batches.close()
    export.save(model, o.out)
    print(f"{steps} steps, {steps * o.tokens / 1e6:.0f} M tokens, {time.monotonic() - began:.0f} s in all; wrote {o.out}")


if __name__ == "__main__":
    main()
