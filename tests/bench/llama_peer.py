#!/usr/bin/env python3
"""llama.cpp's figures for the loads of engine_bench (a prompt of 512 tokens, decoding at batch 1 and 16), through PyPI's llama-cpp-python:
tokens a second, of one thread by the processor's time. scripts/peer_bench runs both."""

import argparse
import time

import llama_cpp as L

PREFILL, BATCH, STEPS, TRIES = 512, 16, 40, 4


def batch_of(rows):
    """rows: (token, position, sequence, logits wanted)"""
    b = L.llama_batch_init(len(rows), 0, 1)
    b.n_tokens = len(rows)
    for i, (token, pos, seq, wanted) in enumerate(rows):
        b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, pos, 1, wanted
        b.seq_id[i][0] = seq
    return b


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("model")
    p.add_argument("threads", type=int, nargs="?", default=1)
    a = p.parse_args()
    now = time.process_time if a.threads == 1 else time.perf_counter
    L.llama_backend_init()
    print("llama.cpp      ", L.llama_print_system_info().decode().strip())
    model = L.llama_model_load_from_file(a.model.encode(), L.llama_model_default_params())
    params = L.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = 16 * 1024, PREFILL, PREFILL, BATCH
    params.n_threads = params.n_threads_batch = a.threads
    context = L.llama_init_from_model(model, params)
    memory, vocab = L.llama_get_memory(context), L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))

    def run(rows):
        batch = batch_of(rows)
        start = now()
        assert L.llama_decode(context, batch) == 0
        L.llama_synchronize(context)
        took = now() - start
        L.llama_batch_free(batch)
        return took

    for n in (1, BATCH):
        L.llama_memory_clear(memory, True)
        best = min(run([((s * 31 + k) % vocab, k, s, 1) for s in range(n)]) for k in range(STEPS))
        print(f"decode batch {n:<3} {n / best:8.1f} tokens/s")
    best = float("inf")
    for _ in range(TRIES):
        L.llama_memory_clear(memory, True)
        best = min(best, run([((i * 7 + 2) % vocab, i, 0, i + 1 == PREFILL) for i in range(PREFILL)]))
    print(f"prefill {PREFILL}       {PREFILL / best:8.1f} tokens/s")


main()
