"""A replica in pipeline stages: processes of a group serve as one, agree before anyone loads, and lose nothing when one of them dies."""

import json
import os
import subprocess
import threading
import time

import pytest

from cluster import BIN, MODEL, SLOW, Cluster, free_port, stream, wait_for

SOAK = "SHOAL_KILLS" in os.environ  # a quiet machine: figures are held to their bars
PROMPTS = ["What is 1234 + 777?", "Tell me a story about a boat.", "12+30", "Name a colour."]
TOKENS = "0,1011,367,275,223,19,20,21,22,575,223,25,25,25,33,1012,1013,201"


def ask_all(router, prompts, replica=None, **body):
    """All at once; the answers in order."""
    headers = {"X-Shoal-Replica": replica} if replica else None
    out = [None] * len(prompts)

    def one(i):
        out[i] = stream(router, {"prompt": prompts[i], **body}, headers=headers)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(prompts))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return out


def logprobs(answer):
    """[token, logprob, tops] of each token, whatever the chunks."""
    out = []
    for chunk in answer["chunks"]:
        for choice in chunk["choices"]:
            lp = choice.get("logprobs")
            if lp:
                out += zip(lp["tokens"], lp["token_logprobs"], lp["top_logprobs"])
    assert out
    return out


def test_any_number_of_stages_gives_the_same_logits():
    def run(command, stages):
        args = [f"{BIN}/shoal-model", command, "--model", MODEL, "--tokens", TOKENS, "--parallel", f"pp={stages}", "--threads", "1"]
        args += ["--max-tokens", "24"] if command == "generate" else ["--top", "100"]
        return subprocess.run(args, check=True, capture_output=True, text=True, timeout=60 * SLOW).stdout

    for command in ("logits", "generate"):
        whole = run(command, 1)
        assert len(json.loads(whole)) >= 1
        for stages in (2, 3):
            assert run(command, stages) == whole


@pytest.mark.parametrize("stages", [2, 3])
def test_a_group_answers_as_one_process_does(stages):
    with Cluster() as c:
        r = c.router("r1", "north")
        group = c.group("cut", "north", [r], stages, device="cpu", model="tiny")
        c.tiny("whole", "north", [r])
        c.wait_ready(r, 2)
        answers = {}
        for name in ("whole", "cut"):
            body = {"model": "tiny", "max_tokens": 40, "seed": 7, "temperature": 0.8, "frequency_penalty": 0.2, "logprobs": 2}
            answers[name] = ask_all(r, PROMPTS, name, **body)
        for whole, cut in zip(answers["whole"], answers["cut"]):
            assert whole["done"] and cut["done"], (whole["error"], cut["error"])
            assert whole["text"] == cut["text"] and whole["finish"] == cut["finish"]
            assert logprobs(whole) == logprobs(cut)
        m = [w.metrics() for w in group]
        assert [x["shoal_worker_loads_total"] for x in m] == [1] * stages
        assert all(x["shoal_worker_group_up"] == 1 and x["shoal_worker_group_epoch"] == 1 for x in m)
        for k in range(stages):
            busy = f'shoal_worker_stage_busy_seconds_total{{stage="{k}"}}'
            wait_for(lambda: group[0].metrics()[busy] > 0, f"stage {k} is seen to have worked")  # told with the next beat
        bytes_of = [x["shoal_worker_weights_bytes"] for x in m]
        whole_bytes = [w for w in c.processes if w.name == "whole"][0].metrics()["shoal_worker_weights_bytes"]
        assert sum(bytes_of) == whole_bytes and max(bytes_of) < whole_bytes


def test_what_does_not_fit_together_is_refused_before_anyone_loads():
    with Cluster() as c:
        r = c.router("r1", "north")
        leader = c.group("two", "north", [r], 2)[0]
        c.wait_ready(r, 1)
        cases = [
            (["--parallel", "pp=3", "--stage", "2"], "number of stages"),
            (["--mock-answer", "9"], "model"),
            (["--mock-layers", "7"], "number of layers"),
            (["--layers", "0-1"], "stage 0 ends before layer 1, but stage 1 begins with layer 0"),
            (["--group", "another"], "the group differs: another here, two-group at the leader"),
        ]
        for args, sentence in cases:
            w = c.follower(leader, 1, *args)
            assert w.wait() == 2, w.log()
            w.may_crash = True
            assert sentence in w.log()
            assert leader.find("group_join_refused") and leader.metrics()["shoal_worker_group_up"] == 1
        again = c.follower(leader, 1)  # the stage is held: this one waits for it
        again.wait_log("group_join_refused .*held by two-1")
        assert leader.alive() and again.alive()


def test_quantised_stages_answer_as_one_quantised_process_and_take_no_other():
    with Cluster() as c:
        r = c.router("r1", "north")
        leader = c.group("cut", "north", [r], 2, "--quant", "int8", device="cpu", model="tiny")[0]
        c.tiny("whole", "north", [r], "--quant", "int8")
        c.wait_ready(r, 2)
        body = {"model": "tiny", "max_tokens": 30, "temperature": 0, "logprobs": 1}
        whole, cut = (ask_all(r, PROMPTS[:2], name, **body) for name in ("whole", "cut"))
        assert [(a["text"], logprobs(a)) for a in whole] == [(a["text"], logprobs(a)) for a in cut]
        other = c.follower(leader, 1, "--quant", "int4")
        assert other.wait() == 2 and "the model (fingerprint of its files) differs" in other.log()
        other.may_crash = True


def test_wrong_flags_are_told_in_a_sentence():
    base = [f"{BIN}/shoal-worker", "--device", "mock", "--model", "m", "--router", "tcp://127.0.0.1:1"]
    for args, sentence in [
        (["--parallel", "tp=2"], "pp=N"),
        (["--stage", "1"], "--parallel"),
        (["--parallel", "pp=2", "--group", "g"], "--group-listen"),
        (["--parallel", "pp=2", "--group-listen", "tcp://127.0.0.1:0"], "--group"),
        (["--parallel", "pp=2", "--group", "g", "--stage", "2", "--leader", "tcp://127.0.0.1:1"], "0 to 1"),
        (["--parallel", "pp=2", "--group", "g", "--stage", "1"], "--leader"),
        (["--parallel", "pp=2", "--group", "g", "--group-listen", "tcp://127.0.0.1:0", "--layers", "x"], "4-11"),
        (["--parallel", "pp=2", "--group", "g", "--stage", "1", "--leader", "tcp://127.0.0.1:1", "--record", "/tmp/x"], "--record"),
    ]:
        p = subprocess.run(base + args, capture_output=True, text=True, timeout=20 * SLOW)
        assert p.returncode == 2 and sentence in p.stderr, (args, p.stderr)


def test_a_deployment_says_how_many_processes_make_a_replica():
    with Cluster(more='models: {m: {deployments: {d: {parallel: "pp=2"}}}}\n') as c:
        r = c.router("r1", "north")
        address = ["--group", "g", "--device", "mock"]
        leader = c.worker("cut", "north", [r], *address, "--group-listen", f"tcp://127.0.0.1:{free_port()}")
        listens = leader.wait_log(r"group_listens .*address=(\S+)").group(1)
        c.worker("cut-1", "north", [], *address, "--stage", "1", "--leader", listens)
        whole = c.worker("whole", "north", [r], "--device", "mock", "--parallel", "pp=1")  # a flag goes before it
        c.wait_ready(r, 2)
        assert leader.metrics()["shoal_worker_group_up"] == 1 and "shoal_worker_group_up" not in whole.metrics()


def rate_of(stages_at_work, device):
    """Decode steps a second of a group of two stages, paced at 10 ms each, and the overlap that it reports. Four answers in each step."""
    with Cluster() as c:
        r = c.router("r1", "north")
        pace = ["--step-min-ms", "10", "--micro-batches", str(stages_at_work), "--max-seqs", str(4 * stages_at_work)]
        if device == "mock":
            pace += ["--mock-decode-ms", "0"]
        leader = c.group("cut", "north", [r], 2, *pace, device=device, model="m")[0]
        c.wait_ready(r, 1)
        ask_all(r, PROMPTS[:1], model="m", max_tokens=4, ignore_eos=True)
        before, start = leader.metrics(), time.monotonic()
        answers = ask_all(r, PROMPTS * stages_at_work, model="m", max_tokens=300 if SOAK else 60, ignore_eos=True, temperature=0)
        took, after = time.monotonic() - start, leader.metrics()
        assert all(a["done"] for a in answers)

        def grown(name):
            return sum(after[k] - before[k] for k in after if k.startswith(name))

        overlap = grown("shoal_worker_stage_busy_seconds_total") / grown("shoal_worker_pipeline_active_seconds_total")
        return grown("shoal_worker_steps_total") / took, overlap, [a["text"] for a in answers[: len(PROMPTS)]]


@pytest.mark.parametrize("device", ["mock", "cpu"])
def test_two_micro_batches_keep_both_stages_at_work(device):
    one, overlap_one, text_one = rate_of(1, device)
    two, overlap_two, text_two = rate_of(2, device)
    print(f"{device}: one micro-batch {one:.1f} steps/s, overlap {overlap_one:.2f}; two {two:.1f} steps/s, overlap {overlap_two:.2f}: {two / one:.2f}x")
    assert text_one == text_two
    assert overlap_one <= 1.01 and overlap_two > 1.1 * overlap_one
    if SOAK:
        assert two / one >= 1.8
