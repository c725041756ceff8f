"""Programs that others wrote, unchanged: PyPI's openai (async) and langchain-openai, on the local model. And the model's four harder
tasks through the API: several turns, a passkey, JSON, a call of a tool."""

import asyncio
import json
import os
import random

import langchain_openai
import openai
import pytest
from cluster import MODEL, SANITIZED, Cluster

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Get the weather in a city.",
           "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


@pytest.fixture(scope="module")
def base():
    with Cluster() as c:
        r = c.router("r1")
        c.tiny("w1", "north", [r])
        c.wait_ready(r, 1)
        yield r.url + "/v1"


@pytest.fixture(scope="module")
def client(base):
    return openai.OpenAI(base_url=base, api_key="none", max_retries=0, timeout=240)


def test_many_at_once_with_asyncio(base):
    async def run():
        async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0, timeout=240) as client:
            async def one(i):
                a = await client.chat.completions.create(model="tiny", temperature=0, messages=[{"role": "user", "content": f"What is {i} + 10?"}])
                text = ""
                stream = await client.chat.completions.create(
                    model="tiny", temperature=0, stream=True, messages=[{"role": "user", "content": f"What is {i} + 10?"}])
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or ""
                assert text == a.choices[0].message.content and str(i + 10) in text
            await asyncio.gather(*(one(i) for i in range(20, 28)))
    asyncio.run(run())


def test_langchain_chats_streams_and_calls_tools(base):
    model = langchain_openai.ChatOpenAI(model="tiny", base_url=base, api_key="none", temperature=0, max_retries=0, timeout=240)
    assert "42" in model.invoke("What is 20 + 22?").content
    assert "42" in "".join(chunk.content for chunk in model.stream("What is 20 + 22?"))
    with_tools = model.bind_tools([WEATHER])
    called = with_tools.invoke("What is the weather in Paris?")
    assert [(c["name"], c["args"]) for c in called.tool_calls] == [("get_weather", {"city": "Paris"})]
    whole = None
    for chunk in with_tools.stream("What is the weather in Paris?"):
        whole = chunk if whole is None else whole + chunk
    assert [(c["name"], c["args"]) for c in whole.tool_calls] == [("get_weather", {"city": "Paris"})]


# ---- the four tasks

NAMES = ["Ada", "Tom", "Mia", "Leo", "Eva", "Max"]
CITIES = ["Paris", "London", "Rome", "Tokyo", "Berlin", "Madrid"]
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "


def turns(client, r):
    name = r.choice(NAMES)
    messages = [{"role": "user", "content": f"My name is {name}."}]
    first = client.chat.completions.create(model="tiny", messages=messages, temperature=0).choices[0].message.content
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "What is my name?"}]
    return name in client.chat.completions.create(model="tiny", messages=messages, temperature=0).choices[0].message.content


def passkey(client, r):
    key = str(r.randrange(10000, 99999))
    before, behind = r.randrange(1, 12), r.randrange(1, 12)
    text = FILLER * before + f"The pass key is {key}. Remember it. " + FILLER * behind + "What is the pass key?"
    return key in client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": text}], temperature=0).choices[0].message.content


def fields(client, r):
    name, age = r.choice(NAMES), r.randrange(5, 90)
    text = f"Extract name and age as JSON: {name} is {age} years old."
    got = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": text}], temperature=0).choices[0].message.content
    try:
        return json.loads(got) == {"name": name, "age": age}
    except ValueError:
        return False


def tool(client, r):
    city = r.choice(CITIES)
    messages = [{"role": "user", "content": f"What is the weather in {city}?"}]
    a = client.chat.completions.create(model="tiny", messages=messages, tools=[WEATHER], temperature=0).choices[0]
    calls = a.message.tool_calls or []
    return a.finish_reason == "tool_calls" and [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [("get_weather", {"city": city})]


@pytest.mark.parametrize("task", [turns, passkey, fields, tool])
def test_a_harder_task_is_done_at_least_19_times_of_20(client, task):
    r = random.Random(os.environ.get("SHOAL_SEED", "6"))
    n = 20 if SANITIZED else 40
    done = sum(task(client, r) for _ in range(n))
    print(f"{task.__name__}: {done} of {n}")
    assert done >= 0.95 * n
