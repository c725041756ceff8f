"""Quantising: at load and into a folder give the same bits; those bits don't depend on chunks, threads or stages; what can't be is
refused with a sentence."""

import json
import os
import subprocess

import pytest
from cluster import MODEL, Cluster
from text_tools import SHOAL_MODEL

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")
TOKENS = ",".join(str(3 + i * 7 % 900) for i in range(40))


def run(*args):
    return subprocess.run([SHOAL_MODEL, *map(str, args)], capture_output=True, text=True, timeout=300)


def logits(*args):
    done = run("logits", "--tokens", TOKENS, "--top", 1024, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_a_quantised_folder_gives_the_bits_of_quantising_at_load(quant, tmp_path):
    out = tmp_path / "model"
    done = run("quantize", "--model", MODEL, "--quant", quant, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["model"]
    assert json.loads((out / "config.json").read_text())["quantization_config"] == {"quant_method": "shoal", "format": quant}
    whole = sum(os.path.getsize(os.path.join(MODEL, f)) for f in os.listdir(MODEL) if f.endswith(".safetensors"))
    assert os.path.getsize(out / "model.safetensors") < whole / (1.9 if quant == "int8" else 3)
    want = logits("--model", MODEL, "--quant", quant)
    assert want != logits("--model", MODEL)
    for options in ([], ["--chunk", 1], ["--chunk", 7, "--threads", 1], ["--parallel", "pp=2"]):
        assert logits("--model", out, *options) == want, options


def test_what_cannot_be_is_refused(tmp_path):
    def refused(sentence, *args):
        done = run(*args)
        assert done.returncode == 2 and sentence in done.stderr, done.stderr

    refused("takes int8 or int4", "logits", "--model", MODEL, "--tokens", "1", "--quant", "int3")
    refused("is there already", "quantize", "--model", MODEL, "--quant", "int8", "--out", tmp_path)
    out = tmp_path / "q"
    assert run("quantize", "--model", MODEL, "--quant", "int4", "--out", out).returncode == 0
    refused("quantised already", "logits", "--model", out, "--tokens", "1", "--quant", "int8")
    refused("quantised already", "quantize", "--model", out, "--quant", "int8", "--out", tmp_path / "again")
    config = json.loads((out / "config.json").read_text())
    for how, sentence in (({"quant_method": "shoal", "format": "int2"}, "only \"format\" int8 and int4"),
                          ({"quant_method": "shoal", "format": "int8"}, "of the wrong shape")):
        (out / "config.json").write_text(json.dumps({**config, "quantization_config": how}))
        refused(sentence, "logits", "--model", out, "--tokens", "1")


def test_a_worker_serves_it_quantised_and_other_fingerprints_are_told():
    with Cluster() as c:
        r = c.router("r1")
        c.tiny("full", "north", [r], model="full")
        c.tiny("eighth", "north", [r], "--quant", "int8", model="eighth")
        c.wait_ready(r, 2)
        prints = set()
        for w, model in zip(c.processes[1:], ("full", "eighth")):
            prints.add(w.wait_log(r"worker_ready .*fingerprint=(\w+)").group(1))
            body = {"model": model, "messages": [{"role": "user", "content": "What is 1200 + 34?"}], "temperature": 0}
            assert "1234" in r.json("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"]
        assert len(prints) == 2
