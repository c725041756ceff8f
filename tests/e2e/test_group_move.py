"""A replica in pipeline stages hands its streams over: each stage writes its part of a checkpoint, and a replica that is cut alike goes on without a
prompt row. One that is cut otherwise, or meets a damaged part, computes them again. A follower's notice is its group's."""

import glob
import os
import signal
import subprocess

import pytest
from cluster import BIN, MODEL, Cluster, stream, wait_for
from test_move import N, PACED, Asked, cut, finish, flip, prompt_rows, wanted  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")


def group(c, name, r, stages, *args):
    return c.group(name, "north", [r], stages, *args, device="cpu", model="tiny")


def start_first(c, stages, *args):
    """All streams run on the first group."""
    r = c.router("r1")
    g1 = group(c, "g1", r, stages, *PACED, *args)
    c.wait_ready(r, 1, 60)
    asked = [Asked(r, i) for i in range(N)]
    wait_for(lambda: g1[0].metrics()["shoal_worker_sequences_running"] == N and all(a.seen > 3 for a in asked), "all streams run", 60)
    return r, g1, asked


def store_of(c):
    return os.path.join(c.dir, "ckpt")


@pytest.mark.parametrize("stages", [2, 3])
def test_eight_streams_of_a_group_move_and_nothing_is_computed_again(wanted, tmp_path, stages):  # noqa: F811
    recording = tmp_path / "g2.rec"
    with Cluster() as c:
        store = store_of(c)
        r, g1, asked = start_first(c, stages, "--checkpoint-dir", store, "--drain-deadline", "1s")
        g2 = group(c, "g2", r, stages, "--checkpoint-dir", store)
        if stages == 2:  # the leader's plans are recorded
            g2[0].kill()
            g2[0].wait()
            g2[0] = c.worker("g2", "north", [r], "--model", "tiny", "--group-listen", g2[0].group_address, *g2[0].group_args, "--record", str(recording))
        c.wait_ready(r, 2, 60)
        before = g2[0].metrics()["shoal_worker_prefilled_tokens_total"]
        g1[0].kill(signal.SIGTERM)
        assert g1[0].wait(60) == 0
        assert g1[0].find(r"worker_noticed .*running=8")
        finish(asked, wanted)
        m = g2[0].metrics()
        assert m["shoal_worker_restores_total"] == N and m["shoal_worker_restores_failed_total"] == 0, g2[0].log()
        assert m["shoal_worker_prefilled_tokens_total"] == before
        assert r.metrics()["shoal_router_moves_total"] == N
        wait_for(lambda: glob.glob(store + "/*.*") == [], "what was used up is deleted")
        if stages == 2:
            g2[0].kill()
            assert prompt_rows(recording) == (N, N, 0)


# Of eight checkpoints each suffers in its own way; four stay whole.
DAMAGE = [(flip, "part1"), (cut, "part1"), (os.unlink, "part1"), (flip, "part0"), (os.unlink, "manifest")]


def test_a_damaged_part_of_any_stage_costs_a_prefill_and_no_token(wanted):  # noqa: F811
    with Cluster() as c:
        store = store_of(c)
        r, g1, asked = start_first(c, 2, "--checkpoint-dir", store, "--drain-deadline", "2s")
        g1[0].kill(signal.SIGTERM)
        wait_for(lambda: len(glob.glob(store + "/*.manifest")) == N, "all are written")
        assert len(glob.glob(store + "/*.part0")) == len(glob.glob(store + "/*.part1")) == N
        for (how, part), path in zip(DAMAGE, sorted(glob.glob(store + "/*.manifest"))):
            how(path.replace("manifest", part))
        g2 = group(c, "g2", r, 2, "--checkpoint-dir", store)
        finish(asked, wanted)
        assert g1[0].wait(60) == 0
        m = g2[0].metrics()
        assert m["shoal_worker_restores_total"] == N - len(DAMAGE), g2[0].log()
        unusable = [line for line in g2[0].lines if "checkpoint_unusable" in line]
        assert len(unusable) == len(DAMAGE), unusable
        for says in ("stage 1: the hash of its entries is wrong", "stage 1: it has", "part1 is missing", "manifest is missing", "the hash of its entries"):
            assert any(says in line for line in unusable), (says, unusable)
        assert len([line for line in g2[1].lines if "checkpoint_part_unusable" in line]) == 3


def test_a_follower_killed_while_it_writes_costs_a_prefill_and_no_token(wanted):  # noqa: F811
    with Cluster() as c:
        store = store_of(c)
        r, g1, asked = start_first(c, 2, "--checkpoint-dir", store, "--drain-deadline", "1s")
        g2 = group(c, "g2", r, 2, "--checkpoint-dir", store)
        c.wait_ready(r, 2, 60)
        g1[0].kill(signal.SIGTERM)
        wait_for(lambda: glob.glob(store + "/*.part*"), "they write", every=0.0005)
        g1[1].kill()
        finish(asked, wanted)
        assert g1[0].wait(60) == 0
        assert g2[0].metrics()["shoal_worker_restores_failed_total"] == 0


@pytest.mark.parametrize("other", ["three stages", "one process", "no store at stage 1"])
def test_who_is_cut_otherwise_computes_from_the_tokens(wanted, other):  # noqa: F811
    with Cluster() as c:
        store = store_of(c)
        own = ("--checkpoint-dir", store)
        r, g1, asked = start_first(c, 2, *own, "--drain-deadline", "1s")
        if other == "three stages":
            w2 = group(c, "g2", r, 3, *own)[0]
        elif other == "one process":
            w2 = c.tiny("w2", "north", [r], *own)
        else:
            w2 = group(c, "g2", r, 2)[0]
            w2.kill()
            w2.wait()
            w2 = c.worker("g2", "north", [r], "--model", "tiny", "--group-listen", w2.group_address, *w2.group_args, *own)
            w2.wait_log("checkpoints_off .*stage 1 of group g2-group has no checkpoint store")
        c.wait_ready(r, 2, 60)
        g1[0].kill(signal.SIGTERM)
        assert g1[0].wait(60) == 0
        finish(asked, wanted)
        m = w2.metrics()
        assert m["shoal_worker_restores_total"] == 0 and r.metrics()["shoal_router_moves_total"] == N
        assert m["shoal_worker_restores_failed_total"] == 0, "it doesn't even try"


@pytest.mark.parametrize("how", ["SIGTERM", "shoal drain"])
def test_a_followers_notice_is_its_groups(wanted, how):  # noqa: F811
    with Cluster() as c:
        store = store_of(c)
        r, g1, asked = start_first(c, 2, "--checkpoint-dir", store, "--drain-deadline", "1s")
        g2 = group(c, "g2", r, 2, "--checkpoint-dir", store)
        c.wait_ready(r, 2, 60)
        epoch = g1[0].metrics()["shoal_worker_group_epoch"]
        if how == "SIGTERM":
            g1[1].kill(signal.SIGTERM)
        else:
            p = subprocess.run([f"{BIN}/shoal", "drain", "g1-1", "--deadline", "1s", "--routers", r.zmq], capture_output=True, text=True, timeout=120)
            assert p.returncode == 0 and "g1-1 is gone after" in p.stdout, (p.stdout, p.stderr)
        assert g1[1].wait(60) == 0 and g1[1].find("stage_released")
        finish(asked, wanted)
        m = g2[0].metrics()
        assert m["shoal_worker_restores_total"] == N and r.metrics()["shoal_router_moves_total"] == N
        assert g1[0].alive() and g1[0].find("worker_noticed .*running=8")
        g1[0].wait_log("group_waits .*waiting for stage 1 of group g1-group")
        g1[1] = c.follower(g1[0], 1)
        wait_for(lambda: g1[0].metrics()["shoal_worker_group_up"] == 1, "the group is up again", 60)
        c.wait_ready(r, 2, 60)
        assert g1[0].metrics()["shoal_worker_group_epoch"] > epoch and g1[0].metrics()["shoal_worker_loads_total"] == 1
        g2[0].kill()
        got = stream(r, {"model": "tiny", "prompt": "and now?", "max_tokens": 8, "ignore_eos": True})
        assert got["done"], got
