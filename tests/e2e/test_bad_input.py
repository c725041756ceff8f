"""Whatever is sent, the answer is one clear sentence in the usual form and the process serves on."""

import json
import os
import socket
import subprocess

import pytest
from cluster import BIN, Cluster, stream


@pytest.fixture(scope="module")
def router():
    with Cluster() as c:
        r = c.router("r1")
        c.mock("w1", "north", [r], "--max-context", "2048")
        c.wait_ready(r, 1)
        yield r
        assert stream(r, {"model": "mock", "prompt": "after all", "max_tokens": 5})["done"]


def error(router, path, body, headers=None):
    status, head, data = router.request("POST", path, body, headers)
    e = json.loads(data)["error"]
    assert set(e) == {"message", "type", "param", "code"} and e["message"], data
    return status, e


CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    "path,body,status,param",
    [
        (CHAT, b"", 400, None),
        (CHAT, b"{", 400, None),
        (CHAT, b"[1]", 400, None),
        (CHAT, b'{"model": "mock", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, None),
        (CHAT, {"messages": HI}, 400, "model"),
        (CHAT, {"model": 5, "messages": HI}, 400, "model"),
        (CHAT, {"model": "mock"}, 400, "messages"),
        (CHAT, {"model": "mock", "messages": []}, 400, "messages"),
        (CHAT, {"model": "mock", "messages": [{"content": "x"}]}, 400, "messages[0].role"),
        (CHAT, {"model": "mock", "messages": [{"role": "user", "content": 7}]}, 400, "messages[0].content"),
        (CHAT, {"model": "mock", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0].content"),
        (CHAT, {"model": "mock", "messages": HI, "temperature": 9}, 400, "temperature"),
        (CHAT, {"model": "mock", "messages": HI, "top_p": "high"}, 400, "top_p"),
        (CHAT, {"model": "mock", "messages": HI, "max_tokens": 0}, 400, "max_tokens"),
        (CHAT, {"model": "mock", "messages": HI, "n": 33}, 400, "n"),
        (CHAT, {"model": "mock", "messages": HI, "stop": [""]}, 400, "stop"),
        (CHAT, {"model": "mock", "messages": HI, "logit_bias": {"x": 1}}, 400, "logit_bias"),
        (CHAT, {"model": "mock", "messages": HI, "stream": "yes"}, 400, "stream"),
        (TEXT, {"model": "mock"}, 400, "prompt"),
        (TEXT, {"model": "mock", "prompt": ["a", "b"]}, 400, "prompt"),
        (TEXT, {"model": "mock", "prompt": [1, -2]}, 400, "prompt"),
        (TEXT, {"model": "mock", "prompt": [1, 99999999]}, 400, "prompt"),
        (TEXT, {"model": "mock", "prompt": ""}, 400, "prompt"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(router, path, body, status, param):
    got, e = error(router, path, body)
    assert got == status and e["param"] == param, e


def test_an_unknown_model_is_404_and_names_it(router):
    status, e = error(router, CHAT, {"model": "gpt-oops", "messages": HI})
    assert status == 404 and e["code"] == "model_not_found" and "gpt-oops" in e["message"]


def test_a_prompt_longer_than_the_context_is_told_both_numbers(router):
    status, e = error(router, TEXT, {"model": "mock", "prompt": "x" * 3000})
    assert status == 400 and e["code"] == "context_length_exceeded" and "3000" in e["message"] and "2048" in e["message"], e
    s = stream(router, {"model": "mock", "prompt": "x" * 3000})
    assert s["error"]["code"] == "context_length_exceeded"


def test_nulls_are_absent_and_unknown_fields_are_ignored_but_named(router):
    body = {"model": "mock", "prompt": "x", "max_tokens": 3, "stop": None, "temperature": None, "best_of": None, "frobnicate": 1, "user": "u"}
    status, head, _ = router.json("POST", TEXT, body)
    assert status == 200 and head["X-Shoal-Ignored"] == "frobnicate"


def test_wrong_paths_and_methods(router):
    assert router.json("GET", "/v1/nothing")[0] == 404
    assert router.json("DELETE", "/v1/models")[0] == 405
    assert router.json("GET", "/v1//models")[0] == 200
    assert router.request("OPTIONS", CHAT)[0] == 204


def raw(router, data, expect=True):
    with socket.create_connection((router.host, router.port), timeout=20) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR) if not expect else None
        s.settimeout(20)
        out = b""
        try:
            while True:
                piece = s.recv(65536)
                if not piece:
                    break
                out += piece
                if b"\r\n\r\n" in out and expect:
                    break
        except (ConnectionResetError, TimeoutError):
            pass
        return out


def test_garbage_on_the_http_port_is_answered_or_closed(router):
    assert b" 400 " in raw(router, b"\x16\x03\x01\x02\x00garbage\r\n\r\n").split(b"\r\n")[0]
    assert b" 431 " in raw(router, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200000 + b"\r\n\r\n").split(b"\r\n")[0]
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    assert b" 413 " in raw(router, head).split(b"\r\n")[0]
    for _ in range(50):
        raw(router, os.urandom(300), expect=False)


def test_garbage_on_the_zmq_port_leaves_the_router_standing(router):
    host, port = router.zmq.removeprefix("tcp://").rsplit(":", 1)
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=20) as s:
            s.sendall(os.urandom(2000))


@pytest.mark.parametrize(
    "args,words",
    [
        (["shoal-router", "--frob"], ["--frob"]),
        (["shoal-router", "--naem", "x"], ["--naem", "name"]),
        (["shoal-router", "--config", "/nonexistent.yaml"], ["/nonexistent.yaml"]),
        (["shoal-router", "--http", "nonsense"], ["nonsense"]),
        (["shoal-router", "--zmq", "tcp://8.8.8.8:7700", "--http", "127.0.0.1:0"], ["8.8.8.8", "127.0.0.1"]),
        (["shoal-worker", "--model", "m", "--router", "tcp://127.0.0.1:1", "--device", "tpu"], ["tpu", "cpu", "mock"]),
        (["shoal-worker", "--model", "m", "--router", "tcp://127.0.0.1:1"], ["--path"]),
        (["shoal-worker", "--model", "m", "--router", "tcp://127.0.0.1:1", "--path", "/nonexistent"], ["/nonexistent"]),
        (["shoal-worker", "--model", "m"], ["--router"]),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_exit_code_2(args, words):
    p = subprocess.run([f"{BIN}/{args[0]}", *args[1:]], capture_output=True, text=True, timeout=60)
    assert p.returncode == 2, p
    lines = [line for line in p.stderr.splitlines() if line and " info " not in line]
    assert len(lines) == 1 and all(w in lines[0] for w in words), p.stderr
