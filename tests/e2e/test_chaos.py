"""scripts/chaos in its short form: holds with the router that ships, and finds the one whose offsets are wrong."""

import json
import os
import subprocess

import pytest
from cluster import BUILD, ROOT, SLOW


def chaos(tmp_path, *arguments):
    result = tmp_path / "result.json"
    args = [os.path.join(ROOT, "scripts", "chaos"), "--streams", "8", "--minutes", "2", "--json", str(result), "--logs", str(tmp_path / "logs"), *arguments]
    ran = subprocess.run(args, capture_output=True, text=True, timeout=120 * SLOW, env={**os.environ, "SHOAL_BUILD": BUILD})
    print(ran.stdout, ran.stderr)
    return ran, json.loads(result.read_text()) if result.exists() else None


@pytest.mark.parametrize("seed", [1])
def test_kills_freezes_and_restarts_change_no_stream(tmp_path, seed):
    ran, r = chaos(tmp_path, "--seed", str(seed), "--faults", "12", "--pace", "0.6")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert r["faults"] == 12 and all(row["count"] == 1 for row in r["by_fault"]), r
    assert r["streams_hit"] > 0 and r["lost"] + r["doubled"] + r["different"] + r["failed"] == 0 and not r["problems"], r


def test_a_planted_offset_bug_is_found(tmp_path):
    ran, r = chaos(tmp_path, "--seed", "2", "--router-program", "shoal-router-offset-bug", "--only", "SIGSTOP")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert r["doubled"] + r["different"] > 0 and r["problems"] == [], r
