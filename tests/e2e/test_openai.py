"""The official openai package against the router, as a stranger would use it."""

import openai
import pytest
from cluster import MODEL, Cluster

import os

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")


@pytest.fixture(scope="module")
def cluster():
    with Cluster(timers={"keepalive": "100ms", "accept_wait": "200ms"}) as c:
        r = c.router("r1")
        c.tiny("w1", "north", [r])
        c.mock("slow", "north", [r], "--mock-prefill", "500", model="slow")
        c.wait_ready(r, 2)
        c.r1 = r
        yield c


@pytest.fixture(scope="module")
def client(cluster):
    return openai.OpenAI(base_url=cluster.r1.url + "/v1", api_key="none", max_retries=0, timeout=120)


def say(text):
    return [{"role": "user", "content": text}]


def test_it_lists_models(client):
    assert {m.id for m in client.models.list()} == {"tiny", "slow"}
    assert client.models.retrieve("tiny").id == "tiny"


def test_it_chats_in_one_piece(client):
    a = client.chat.completions.create(model="tiny", messages=say("What is 1234 + 777?"), temperature=0)
    assert "2011" in a.choices[0].message.content and a.choices[0].finish_reason == "stop"
    assert a.usage.total_tokens == a.usage.prompt_tokens + a.usage.completion_tokens > 0
    assert a.choices[0].message.reasoning_content


def test_it_chats_streaming(client):
    text, finish, usage = "", None, None
    stream = client.chat.completions.create(
        model="tiny", messages=say("Count from 1 to 20."), temperature=0, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert [int(x) for x in text.replace(",", " ").replace(".", " ").split()] == list(range(1, 21)), text
    assert finish == "stop" and usage.completion_tokens > 20


def test_content_parts_and_a_system_prompt(client):
    messages = [{"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": [{"type": "text", "text": "What is 20 + 22?"}]}]
    a = client.chat.completions.create(model="tiny", messages=messages, temperature=0)
    assert "42" in a.choices[0].message.content


def test_a_slow_prefill_with_keepalives_confuses_it_not(client):
    text = ""
    for chunk in client.completions.create(model="slow", prompt="x" * 1000, max_tokens=5, stream=True, extra_body={"ignore_eos": True}):
        text += chunk.choices[0].text
    assert len(text) == 5


def test_max_tokens_1_ends_with_length(client):
    a = client.chat.completions.create(model="tiny", messages=say("What is 2 + 2?"), max_tokens=1)
    assert a.choices[0].finish_reason == "length" and a.usage.completion_tokens == 1


def test_logprobs_and_stop_strings(client):
    a = client.completions.create(model="tiny", prompt="1, 2, 3, 4, 5,", max_tokens=12, temperature=0, logprobs=3)
    assert len(a.choices[0].logprobs.tokens) == 12 and all(x <= 0 for x in a.choices[0].logprobs.token_logprobs)
    full = a.choices[0].text
    stop = full[5:8]
    b = client.completions.create(model="tiny", prompt="1, 2, 3, 4, 5,", max_tokens=12, temperature=0, stop=[stop])
    assert b.choices[0].text == full[: full.index(stop)] and b.choices[0].finish_reason == "stop"


def test_its_errors_are_the_ones_it_knows(client):
    with pytest.raises(openai.NotFoundError, match="oops"):
        client.chat.completions.create(model="oops", messages=say("x"))
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model="tiny", messages=say("x"), temperature=7)
    assert e.value.param == "temperature"
