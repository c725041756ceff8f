"""Calls of tools and reasoning through the whole stack: a mock says what a model would, in each family's style."""

import json

import openai
import pytest
from cluster import Cluster, sse

STYLES = {
    "hermes": "I look.\n<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n"
              "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": [2]}}\n</tool_call>",
    "llama3": "{\"name\": \"get\", \"parameters\": {\"city\": \"Paris\"}}; {\"name\": \"add\", \"parameters\": {\"a\": 1, \"b\": [2]}}",
    "deepseek_v3": "<think>\nHm.\n</think>\n\nI look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n```json\n"
                   "{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
                   "{\"a\": 1, \"b\": [2]}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek_v31": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜>"
                    "<｜tool▁call▁begin｜>add<｜tool▁sep｜>{\"a\": 1, \"b\": [2]}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
}
CALLS = [("get", {"city": "Paris"}), ("add", {"a": 1, "b": [2]})]
TOOLS = [{"type": "function", "function": {"name": n, "parameters": {"type": "object"}}} for n in ("get", "add")]
MESSAGES = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module")
def cluster():
    models = "models:\n" + "".join(f"  {s}: {{deployments: {{d: {{tools: {s}}}}}}}\n" for s in STYLES)
    with Cluster(more=models) as c:
        r = c.router("r1")
        for style, said in STYLES.items():
            c.mock(f"w-{style}", "north", [r], "--mock-say", said, "--mock-decode-ms", "1", model=style)
        c.wait_ready(r, len(STYLES))
        c.r1 = r
        yield c


@pytest.fixture(scope="module")
def client(cluster):
    return openai.OpenAI(base_url=cluster.r1.url + "/v1", api_key="none", max_retries=0, timeout=120)


def calls_of(message):
    return [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls]


@pytest.mark.parametrize("style", STYLES)
def test_calls_come_in_one_piece(client, style):
    a = client.chat.completions.create(model=style, messages=MESSAGES, tools=TOOLS).choices[0]
    assert calls_of(a.message) == CALLS and a.finish_reason == "tool_calls"
    assert a.message.content == ("I look." if "I look" in STYLES[style] else None)
    assert len({c.id for c in a.message.tool_calls}) == 2 and all(c.type == "function" for c in a.message.tool_calls)
    if style == "deepseek_v3":
        assert a.message.reasoning_content.strip() == "Hm."


@pytest.mark.parametrize("style", STYLES)
def test_calls_stream_as_deltas(client, style):
    names, arguments, ids, finish = {}, {}, {}, None
    for chunk in client.chat.completions.create(model=style, messages=MESSAGES, tools=TOOLS, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                assert call.type == "function"
                if call.function.name is not None:
                    assert call.index not in names, "a name comes once"
                    names[call.index], ids[call.index] = call.function.name, call.id
                arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert [(names[i], json.loads(arguments[i])) for i in sorted(names)] == CALLS and finish == "tool_calls"
    assert all(i.startswith("call_") for i in ids.values()) and len(set(ids.values())) == 2


def test_the_package_puts_streamed_calls_together(client):
    with client.chat.completions.stream(model="hermes", messages=MESSAGES, tools=TOOLS) as s:
        message = s.get_final_completion().choices[0].message
    assert calls_of(message) == CALLS


def test_without_tools_or_with_none_calls_are_text(client):
    for extra in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        a = client.chat.completions.create(model="hermes", messages=MESSAGES, **extra).choices[0]
        assert a.message.content == STYLES["hermes"] and a.finish_reason == "stop" and not a.message.tool_calls


def test_without_parallel_calls_the_answer_ends_with_the_first(client):
    a = client.chat.completions.create(model="deepseek_v31", messages=MESSAGES, tools=TOOLS, parallel_tool_calls=False)
    assert calls_of(a.choices[0].message) == CALLS[:1] and a.choices[0].finish_reason == "tool_calls"


def test_an_answer_cut_in_a_call_ends_with_length(client):
    a = client.chat.completions.create(model="hermes", messages=MESSAGES, tools=TOOLS, max_tokens=60).choices[0]
    assert a.finish_reason == "length" and a.message.tool_calls[0].function.name == "get"


def test_results_of_calls_may_be_sent_back(client):
    a = client.chat.completions.create(model="deepseek_v3", messages=MESSAGES, tools=TOOLS).choices[0].message
    back = [*MESSAGES, a.model_dump(exclude_none=True), *({"role": "tool", "tool_call_id": c.id, "content": "21"} for c in a.tool_calls)]
    assert client.chat.completions.create(model="deepseek_v3", messages=back, tools=TOOLS).choices[0].finish_reason == "tool_calls"


def test_a_stream_whose_worker_dies_in_a_call_is_the_same_stream():
    said = STYLES["deepseek_v3"]
    with Cluster(more="models: {m: {deployments: {d: {tools: deepseek_v3}}}}\n") as c:
        r = c.router("r1")
        workers = [c.mock(f"w{i}", "north", [r], "--mock-say", said, "--mock-decode-ms", "15", model="m") for i in range(2)]
        c.wait_ready(r, 2)
        body = {"model": "m", "messages": MESSAGES, "tools": TOOLS}
        whole = r.json("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]
        deltas, killed = [], []

        def kill_in_call(chunk, replica):
            calls = [x for ch in chunk.get("choices", []) for x in ch["delta"].get("tool_calls", [])]
            deltas.extend(calls)
            if calls and not killed:
                killed.append(replica)
                next(w for w in workers if w.name == replica).kill()

        out = stream_chunks(r, body, kill_in_call)
        assert killed and out["finish"] == "tool_calls"
        got = {}
        for d in deltas:
            call = got.setdefault(d["index"], {"name": "", "arguments": ""})
            call["name"] += d["function"].get("name", "")
            call["arguments"] += d["function"].get("arguments", "")
        assert [got[i] for i in sorted(got)] == [t["function"] for t in whole["tool_calls"]]


def stream_chunks(r, body, on_chunk):
    connection = r.connect(120)
    out = {"finish": None}
    connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    for data in sse(response):
        if data in (":", "[DONE]"):
            continue
        chunk = json.loads(data)
        assert "error" not in chunk, chunk
        for choice in chunk.get("choices", []):
            out["finish"] = choice["finish_reason"] or out["finish"]
        on_chunk(chunk, response.getheader("X-Shoal-Replica"))
    connection.close()
    return out
