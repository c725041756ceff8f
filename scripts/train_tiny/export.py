"""Writes and reads a model folder as DeepSeek-V3 is published: config.json, sharded safetensors with an index, tokenizer."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from config import GENERATION_CONFIG
from model import Model

SHARD_BYTES_MAX = 14_000_000


def published_tensors(model):
    """{published name: tensor}, bf16 but for the gates' biases, in the order of the layers."""
    c, out = model.config, {}
    inner, mtp = c["moe_intermediate_size"], f"model.layers.{c['num_hidden_layers']}"
    for name, tensor in model.state_dict().items():
        name = re.sub(r"^nextn\b", mtp, name) if name.startswith("nextn.") else "model." + name
        name = "lm_head.weight" if name == "model.lm_head.weight" else name
        if name.endswith(".mlp.gate_up"):
            for e, (gate, up) in enumerate(t.split(inner) for t in tensor):
                out[name[:-7] + f"experts.{e}.gate_proj.weight"] = gate
                out[name[:-7] + f"experts.{e}.up_proj.weight"] = up
        elif name.endswith(".mlp.down"):
            out |= {name[:-4] + f"experts.{e}.down_proj.weight": t for e, t in enumerate(tensor)}
        else:
            out[name] = tensor
    out[f"{mtp}.embed_tokens.weight"] = out["model.embed_tokens.weight"].clone()
    out[f"{mtp}.shared_head.head.weight"] = out["lm_head.weight"].clone()
    fp32 = "e_score_correction_bias"
    return {
        n: t.detach().cpu().to(torch.float32 if n.endswith(fp32) else torch.bfloat16).contiguous() for n, t in out.items()
    }


def shards(tensors):
    """Cuts the tensors, in order, into files of at most SHARD_BYTES_MAX."""
    files, size = [{}], 0
    for name, tensor in tensors.items():
        if size + tensor.nbytes > SHARD_BYTES_MAX:
            files.append({})
            size = 0
        files[-1][name] = tensor
        size += tensor.nbytes
    return files


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save(model, folder):
    """Everything but the tokenizer's files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files, weight_map, total = shards(published_tensors(model)), {}, 0
    for i, tensors in enumerate(files):
        name = f"model-{i + 1:05}-of-{len(files):06}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)
        weight_map |= {n: name for n in tensors}
        total += sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)
    write_json(folder / "config.json", model.config)
    write_json(folder / "generation_config.json", GENERATION_CONFIG)


def load(folder):
    """The model of a folder that save wrote, its weights in fp32."""
    folder = Path(folder)
    model = Model(json.loads((folder / "config.json").read_text()))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    found = {}
    for name in sorted(set(index["weight_map"].values())):
        found |= load_file(folder / name)
    mtp = f"model.layers.{model.config['num_hidden_layers']}."
    state = {}
    for name in model.state_dict():
        full = mtp + name[6:] if name.startswith("nextn.") else name if name == "lm_head.weight" else "model." + name
        experts = range(model.config["n_routed_experts"])
        if full.endswith(".mlp.gate_up"):
            pair = [[found[full[:-7] + f"experts.{e}.{p}_proj.weight"] for p in ("gate", "up")] for e in experts]
            state[name] = torch.stack([torch.cat(p) for p in pair]).float()
        elif full.endswith(".mlp.down"):
            state[name] = torch.stack([found[full[:-4] + f"experts.{e}.down_proj.weight"] for e in experts]).float()
        else:
            state[name] = found[full].float()
    model.load_state_dict(state)
    return model
