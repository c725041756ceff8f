"""What stock clients need beyond the plain case, over raw HTTP: OpenAI's API, the dialects of vLLM, SGLang and DeepSeek."""

import json
import os
import socket

import pytest
from cluster import MODEL, Cluster, sse, sse_events, wait_for

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")


@pytest.fixture(scope="module")
def cluster():
    models = "models:\n  tiny: {aliases: [deepseek-chat, deepseek-reasoner], deployments: {d: {tools: auto}}}\n"
    with Cluster(timers={"keepalive": "100ms", "accept_wait": "200ms"}, more=models) as c:
        r = c.router("r1")
        c.tiny("w1", "north", [r])
        c.worker_mock = c.mock("slow", "north", [r], "--mock-prefill", "1000", "--mock-decode-ms", "20", model="slow")
        c.wait_ready(r, 2)
        c.r1 = r
        yield c


@pytest.fixture(scope="module")
def router(cluster):
    return cluster.r1


def chat(text, **more):
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "temperature": 0, **more}


def ask(router, path, body, status=200):
    got, headers, answer = router.json("POST", path, body)
    assert got == status, answer
    return answer, headers


def events(router, path, body):
    connection = router.connect(60)
    connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    lines = response.read().decode()
    connection.close()
    return response, lines


def chunks_of(lines):
    return [json.loads(line[6:]) for line in lines.splitlines() if line.startswith("data: ") and line != "data: [DONE]"]


# ---- streams


def test_a_keepalive_is_one_line_and_no_block_is_without_data(router):
    _, lines = events(router, "/v1/completions", {"model": "slow", "prompt": "x" * 600, "max_tokens": 3})
    assert ": keep-alive\n" in lines and ": keep-alive\n\n" not in lines
    for block in lines.strip().split("\n\n"):
        assert any(line.startswith("data: ") for line in block.splitlines()), block
    assert lines.endswith("data: [DONE]\n\n")


def test_headers_go_out_while_a_long_prompt_is_read(router):
    response, _ = events(router, "/v1/completions", {"model": "slow", "prompt": "x" * 600, "max_tokens": 1})
    assert response.status == 200 and response.getheader("X-Accel-Buffering") == "no"


@pytest.mark.parametrize("wanted", [True, False])
def test_usage_comes_in_a_chunk_without_choices_and_only_when_asked(router, wanted):
    _, lines = events(router, "/v1/chat/completions", chat("What is 2 + 2?", stream_options={"include_usage": wanted}))
    with_usage = [c for c in chunks_of(lines) if c.get("usage")]
    assert len(with_usage) == (1 if wanted else 0)
    if wanted:
        assert with_usage[0]["choices"] == []


def test_a_stream_ends_with_a_finish_reason(router):
    _, lines = events(router, "/v1/chat/completions", chat("What is 2 + 2?"))
    reasons = [c["choices"][0]["finish_reason"] for c in chunks_of(lines)]
    assert reasons[-1] == "stop" and reasons[:-1] == [None] * (len(reasons) - 1)


def test_a_long_answer_in_one_piece_is_kept_alive_by_blank_lines(router):
    status, headers, text = router.request("POST", "/v1/completions", {"model": "slow", "prompt": "x" * 800, "max_tokens": 5, "ignore_eos": True})
    assert status == 200 and text.startswith(b"\n") and headers["Content-Type"].startswith("application/json")
    answer = json.loads(text)
    assert len(answer["choices"][0]["text"]) == 5


def test_a_client_that_hangs_up_stops_the_generation_also_without_a_stream(cluster, router):
    before = cluster.worker_mock.metrics()
    body = json.dumps({"model": "slow", "prompt": "hello", "max_tokens": 20000, "ignore_eos": True}).encode()
    s = socket.create_connection((router.host, router.port))
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    running = "shoal_worker_streams" if "shoal_worker_streams" in before else next(k for k in before if "running" in k)
    wait_for(lambda: cluster.worker_mock.metrics()[running] > before[running], "it runs")
    s.close()
    wait_for(lambda: cluster.worker_mock.metrics()[next(k for k in before if "running" in k)] == 0, "it is cancelled", 30)


# ---- requests


def test_what_guidellm_sends_is_taken(router):
    body = chat("What is 2 + 2?", max_tokens=4, max_completion_tokens=4, stop=None, ignore_eos=True, user=None, logit_bias=None,
                stream_options={"include_usage": True, "continuous_usage_stats": True})
    response, lines = events(router, "/v1/chat/completions", body)
    assert response.status == 200 and response.getheader("X-Shoal-Ignored") == "stream_options.continuous_usage_stats"
    assert chunks_of(lines)[-1]["usage"]["completion_tokens"] == 4


def test_extensions_are_taken_and_unknown_fields_are_named(router):
    body = chat("What is 2 + 2?", top_k=5, min_p=0.1, typical_p=0.9, repetition_penalty=1.0, min_tokens=1, ignore_eos=False,
                stop_token_ids=[], skip_special_tokens=True, include_stop_str_in_output=False, priority=1, metadata={"a": "b"},
                store=False, service_tier="auto", parallel_tool_calls=True, chat_template_kwargs={"x": 1}, bad_words=["7"],
                frobnicate=1, min_tokenz=2)
    answer, headers = ask(router, "/v1/chat/completions", body)
    assert headers["X-Shoal-Ignored"] == "frobnicate, min_tokenz" and "4" in answer["choices"][0]["message"]["content"]


def test_strict_refuses_unknown_fields_by_name():
    with Cluster(more="strict: true\n") as c:
        r = c.router("r1")
        c.mock("m", "north", [r])
        c.wait_ready(r, 1)
        answer, _ = ask(r, "/v1/completions", {"model": "mock", "prompt": "x", "max_tokens": 1, "frob": 1}, 400)
        assert answer["error"]["param"] == "frob" and "frob" in answer["error"]["message"]
        ask(r, "/v1/completions", {"model": "mock", "prompt": "x", "max_tokens": 1, "frob": None})


def test_one_token_of_a_thinking_model_is_an_answer(router):
    answer, _ = ask(router, "/v1/chat/completions", chat("What is 2 + 2?", max_tokens=1))
    assert answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["completion_tokens"] == 1


def test_content_may_be_parts_or_null_and_reasoning_is_taken_back(router):
    messages = [{"role": "developer", "content": [{"type": "text", "text": "You are a helpful assistant."}]},
                {"role": "user", "content": "What is 1 + 1?"},
                {"role": "assistant", "content": "2", "reasoning_content": "1 + 1 = 2", "reasoning": "1 + 1 = 2"},
                {"role": "user", "content": [{"type": "text", "text": "What is 20 + 22?"}]}]
    answer, _ = ask(router, "/v1/chat/completions", {"model": "tiny", "messages": messages, "temperature": 0})
    assert "42" in answer["choices"][0]["message"]["content"]
    messages[2] = {"role": "assistant", "content": None}
    ask(router, "/v1/chat/completions", {"model": "tiny", "messages": messages, "max_tokens": 1})


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "both"])
def test_the_name_of_the_reasoning_is_configured(name):
    said = "<think>hm</think>ok"
    with Cluster(more=f"reasoning_field: {name}\n") as c:
        r = c.router("r1")
        c.mock("m", "north", [r], "--mock-say", said, "--mock-decode-ms", "0")
        c.wait_ready(r, 1)
        body = {"model": "mock", "messages": [{"role": "user", "content": "x"}]}
        names = {"reasoning_content", "reasoning"} if name == "both" else {name}
        message = ask(r, "/v1/chat/completions", body)[0]["choices"][0]["message"]
        assert {k for k in message if k.startswith("reasoning")} == names and message["content"] == "ok"
        _, lines = events(r, "/v1/chat/completions", body)
        assert {k for ch in chunks_of(lines) for k in ch["choices"][0]["delta"] if k.startswith("reasoning")} == names


# ---- errors and paths


@pytest.mark.parametrize("path, body, status, code", [
    ("/v1/chat/completions", b"{", 400, None),
    ("/v1/chat/completions", b"[]", 400, None),
    ("/v1/chat/completions", b"", 400, None),
    ("/v1/chat/completions", json.dumps({"model": "nope", "messages": [{"role": "user", "content": "x"}]}).encode(), 404, "model_not_found"),
    ("/v1/completions", json.dumps({"model": "tiny", "prompt": "7 " * 9000}).encode(), 400, "context_length_exceeded"),
    ("/v1/nothing", b"{}", 404, None),
    ("/v1/embeddings", json.dumps({"model": "tiny", "input": "x"}).encode(), 400, None),
    ("/v1/completions", json.dumps({"model": "tiny", "prompt": "x", "suffix": "y"}).encode(), 400, None),
])
def test_an_error_has_a_body_of_openais_shape(router, path, body, status, code):
    got, headers, text = router.request("POST", path, body, {"Content-Type": "application/json"})
    error = json.loads(text)["error"]
    assert got == status, error
    assert set(error) == {"message", "type", "param", "code"} and error["message"] and error["type"] and error["code"] == (code or error["code"])


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1//models", "//v1/models", "/beta/models"])
def test_models_are_listed_under_every_spelling(router, path):
    status, _, answer = router.json("GET", path)
    assert status == 200 and {m["id"] for m in answer["data"]} >= {"tiny", "deepseek-chat", "deepseek-reasoner", "slow"}
    assert all(m["max_model_len"] > 0 and m["object"] == "model" for m in answer["data"])


def test_head_preflight_and_health(router):
    status, headers, text = router.request("HEAD", "/v1/models")
    assert status == 200 and text == b"" and int(headers["Content-Length"]) > 0
    status, headers, _ = router.request("OPTIONS", "/v1/chat/completions", headers={"Origin": "http://x", "Access-Control-Request-Method": "POST"})
    assert status == 204 and headers["Access-Control-Allow-Origin"] == "*" and "POST" in headers["Access-Control-Allow-Methods"]
    assert router.request("GET", "/health")[0] == 200


# ---- completions


def test_a_prompt_may_be_text_or_tokens_and_be_echoed(router):
    tokens = ask(router, "/tokenize", {"model": "tiny", "prompt": "1, 2, 3, 4,"})[0]["tokens"]
    by_text = ask(router, "/v1/completions", {"model": "tiny", "prompt": "1, 2, 3, 4,", "max_tokens": 8, "temperature": 0})[0]
    by_tokens = ask(router, "/completions", {"model": "tiny", "prompt": tokens, "max_tokens": 8, "temperature": 0})[0]
    assert by_text["choices"][0]["text"] == by_tokens["choices"][0]["text"]
    for prompt in ("1, 2, 3, 4,", tokens):
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 8, "temperature": 0, "echo": True}
        echoed = ask(router, "/v1/completions", body)[0]["choices"][0]["text"]
        assert echoed == "1, 2, 3, 4," + by_text["choices"][0]["text"]
        _, lines = events(router, "/v1/completions", body)
        assert "".join(c["choices"][0]["text"] for c in chunks_of(lines)) == echoed


def test_text_to_tokens_and_back(router):
    for text in ("What is 12 + 30?", "", "héllo 世界\n"):
        answer = ask(router, "/v1/tokenize", {"model": "tiny", "prompt": text, "add_special_tokens": False, "return_token_strs": True})[0]
        assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"]) and answer["max_model_len"] == 4096
        back = ask(router, "/detokenize", {"model": "tiny", "tokens": answer["tokens"]})[0]
        assert back == {"prompt": text}
    chat_tokens = ask(router, "/tokenize", {"model": "tiny", "messages": [{"role": "user", "content": "What is 2 + 2?"}]})[0]
    used = ask(router, "/v1/chat/completions", chat("What is 2 + 2?", max_tokens=1))[0]["usage"]["prompt_tokens"]
    assert chat_tokens["count"] == used
    error = ask(router, "/detokenize", {"model": "tiny", "tokens": [10**6]}, 400)[0]["error"]
    assert "vocabulary" in error["message"]


def test_bad_words_of_one_token_are_not_said(router):
    plain = ask(router, "/v1/completions", {"model": "tiny", "prompt": "1, 2, 3, 4,", "max_tokens": 8, "temperature": 0})[0]["choices"][0]["text"]
    assert "5" in plain
    banned = ask(router, "/v1/completions", {"model": "tiny", "prompt": "1, 2, 3, 4,", "max_tokens": 8, "temperature": 0, "bad_words": ["5"]})[0]
    assert "5" not in banned["choices"][0]["text"]
    ask(router, "/v1/completions", {"model": "tiny", "prompt": "x", "bad_words": ["supercalifragilistic"]}, 400)


def test_likely_tokens_are_named_in_both_forms(router):
    answer = ask(router, "/v1/chat/completions", chat("What is 20 + 22?", logprobs=True, top_logprobs=3))[0]
    content = answer["choices"][0]["logprobs"]["content"]
    assert content and "".join(c["token"] for c in content) == answer["choices"][0]["message"]["content"]
    for c in content:
        tops = c["top_logprobs"]
        assert len(tops) == 3 and tops[0]["logprob"] >= tops[1]["logprob"] and all(bytes(t["bytes"]) for t in tops)
        assert c["token"] == "" or tops[0]["token"] == c["token"], c
    tokens = ask(router, "/v1/completions", {"model": "tiny", "prompt": "1, 2, 3, 4,", "max_tokens": 4, "temperature": 0, "logprobs": 2})[0]
    logprobs = tokens["choices"][0]["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["text_offset"]) == 4
    assert all(len(t) == 2 and max(t, key=t.get) == name for t, name in zip(logprobs["top_logprobs"], logprobs["tokens"]))
    assert [tokens["choices"][0]["text"][o:].startswith(t) for o, t in zip(logprobs["text_offset"], logprobs["tokens"])] == [True] * 4


# ---- DeepSeek's dialect


def test_the_base_url_may_lack_v1_and_names_may_be_aliases(router):
    for base in ("", "/v1", "/beta"):
        answer, _ = ask(router, base + "/chat/completions", {**chat("What is 2 + 2?"), "model": "deepseek-chat"})
        assert "4" in answer["choices"][0]["message"]["content"] and answer["model"] == "deepseek-chat"


def test_the_answer_goes_on_behind_a_prefix(router):
    whole = ask(router, "/chat/completions", chat("Count from 1 to 9."))[0]["choices"][0]["message"]["content"]
    prefix = whole[: len(whole) // 2]
    for extra in ({"messages": [{"role": "user", "content": "Count from 1 to 9."}, {"role": "assistant", "content": prefix, "prefix": True}]},
                  {"messages": [{"role": "user", "content": "Count from 1 to 9."}, {"role": "assistant", "content": prefix}],
                   "continue_final_message": True, "add_generation_prompt": False}):
        rest = ask(router, "/beta/chat/completions", {"model": "tiny", "temperature": 0, "max_tokens": 60, **extra})[0]["choices"][0]["message"]["content"]
        assert not rest.startswith(whole[:3]) or rest == "", rest
    last_of_user = {"model": "tiny", "messages": [{"role": "user", "content": "x", "prefix": True}]}
    ask(router, "/beta/chat/completions", last_of_user, 400)


def test_usage_tells_what_the_cache_had(router):
    body = chat("What is 3 + 4? " + "Please. " * 40)
    for _ in range(2):
        usage = ask(router, "/chat/completions", body)[0]["usage"]
        assert usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"] == usage["prompt_tokens"]
        assert usage["prompt_cache_hit_tokens"] == usage["prompt_tokens_details"]["cached_tokens"]


def test_the_thinking_switch_is_read(router):
    for kind in ("enabled", "disabled"):
        answer, headers = ask(router, "/chat/completions", chat("What is 2 + 2?", thinking={"type": kind}))
        assert "X-Shoal-Ignored" not in headers and "4" in answer["choices"][0]["message"]["content"]
    ask(router, "/chat/completions", chat("x", thinking={"type": "sometimes"}), 400)
