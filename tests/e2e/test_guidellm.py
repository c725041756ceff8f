"""PyPI's guidellm, a load generator, against the cluster. It needs torch and transformers, so it is not among the tests' requirements:
runs where the command is found (pip install guidellm==0.8.1 h2), else it is skipped."""

import json
import os
import shutil
import subprocess

import pytest
from cluster import MODEL, SLOW, Cluster

GUIDELLM = shutil.which("guidellm")
pytestmark = pytest.mark.skipif(not GUIDELLM, reason="no guidellm in PATH")


def test_its_requests_all_succeed():
    with Cluster() as c:
        r = c.router("r1")
        c.tiny("w1", "north", [r])
        c.wait_ready(r, 1)
        report = os.path.join(c.dir, "report.json")
        args = [GUIDELLM, "run", "--backend", f"kind=openai_http,target={r.url},model=tiny", "--profile", "kind=concurrent,streams=4",
                "--constraint", "kind=max_requests,count=24", "--tokenizer", f"kind=huggingface_auto,model={MODEL}",
                "--data", "kind=synthetic_text,prompt_tokens=64,output_tokens=32", "--output", f"kind=json,path={report}", "--disable-progress"]
        done = subprocess.run(args, capture_output=True, text=True, timeout=300 * SLOW, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stderr[-3000:]
        with open(report) as f:
            assert json.load(f)["benchmarks"]
        assert r.metrics()['shoal_router_http_requests_total{how="done"}'] >= 24
        assert r.metrics().get("shoal_router_replacements_total", 0) == 0
