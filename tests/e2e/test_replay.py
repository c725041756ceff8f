"""A worker's recording, run again by shoal-model, gives the recorded tokens; a damaged one gets one sentence."""
import json
import os
import subprocess

import pytest
from cluster import BIN, MODEL, Cluster, stream


def replay(*args):
    return subprocess.run([os.path.join(BIN, "shoal-model"), "replay", *args], capture_output=True, text=True, timeout=120)


def record(path, worker, body, *args):
    with Cluster() as c:
        r = c.router("r1")
        w = getattr(c, worker)("w1", "north", [r], "--record", str(path), *args)
        c.wait_ready(r, 1)
        for seed in range(3):
            assert stream(r, dict(body, seed=seed))["done"]
        w.kill()  # what was answered is in the file


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "mock.rec"
    record(path, "mock", {"model": "mock", "prompt": "tell me", "max_tokens": 40, "temperature": 1})
    return path


def test_the_mocks_recording_gives_its_tokens_again(recording):
    r = replay(str(recording))
    assert r.returncode == 0, r.stderr
    out = json.loads(r.stdout)
    assert out["tokens"] >= 3 * 40 and out["different"] == 0 and out["steps"] >= out["tokens"] // 3


@pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")
def test_the_models_recording_gives_its_tokens_again_with_other_threads(tmp_path):
    record(tmp_path / "tiny.rec", "tiny", {"model": "tiny", "prompt": "Count from 3 to 9.", "max_tokens": 40, "temperature": 1})
    for threads in ("1", "2"):
        r = replay(str(tmp_path / "tiny.rec"), "--threads", threads)
        assert r.returncode == 0, r.stderr
        out = json.loads(r.stdout)
        assert out["tokens"] >= 3 and out["different"] == 0


def test_a_changed_token_is_found(recording, tmp_path):
    raw = bytearray(recording.read_bytes())
    at = 8 + int.from_bytes(raw[12:16], "little") - 8
    while int.from_bytes(raw[at:at + 4], "little") != 5:  # the first RESULT frame
        at += 8 + (int.from_bytes(raw[at + 4:at + 8], "little") + 7) // 8 * 8
    raw[at + 8 + 16 + 8] ^= 1  # the first row's token
    (tmp_path / "changed.rec").write_bytes(raw)
    r = replay(str(tmp_path / "changed.rec"))
    assert r.returncode == 1 and json.loads(r.stdout)["different"] == 1, (r.stdout, r.stderr)


def test_damaged_recordings_get_one_sentence(recording, tmp_path):
    raw = recording.read_bytes()
    head = int.from_bytes(raw[12:16], "little")
    bad = tmp_path / "bad.rec"
    for data in [b"", raw[:100], b"x" * 5000] + [raw[:head + n] for n in (3, 9, 200, 1000)] + \
            [raw[:head + n] + b"\xff\xff\xff\x7f" + raw[head + n + 4:] for n in range(0, 1600, 100)]:
        bad.write_bytes(data)
        r = replay(str(bad))
        assert r.returncode in (0, 1, 2), (r.returncode, r.stderr)
        if r.returncode == 2:
            assert len(r.stderr.strip().split("\n")) == 1 and "bad.rec" in r.stderr or "step" in r.stderr or "slot" in r.stderr
    assert replay(str(tmp_path / "none.rec")).returncode == 2
