"""Answers bound to a form, through the whole cluster: JSON schemas, any JSON object and regular expressions; what isn't supported;
a worker killed in the middle of a constrained answer."""

import json
import os
import re

import openai
import pytest
from cluster import MODEL, Cluster

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(MODEL, "config.json")), reason="no model in deploy/local/model")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 3, "maximum": 120},
        "mood": {"enum": ["good", "bad", None]},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
        "friends": {"type": "array", "items": {"$ref": "#/$defs/friend"}, "maxItems": 2},
    },
    "required": ["name", "age", "code"],
    "additionalProperties": False,
    "$defs": {"friend": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 4}},
                         "required": ["name"], "additionalProperties": False}},
}


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as c:
        c.r1 = c.router("r1")
        c.workers = [c.tiny("w1", "north", [c.r1]), c.tiny("w2", "north", [c.r1])]
        c.wait_ready(c.r1, 2)
        yield c


@pytest.fixture(scope="module")
def client(cluster):
    return openai.OpenAI(base_url=cluster.r1.url + "/v1", api_key="none", max_retries=0, timeout=120)


def form(schema):
    return {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}


def ask(client, text="Tell me of Ann.", **more):
    more = {"temperature": 1.5, "max_tokens": 300, **more}
    return client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": text}], **more).choices[0]


def check_person(text):
    p = json.loads(text)
    assert set(p) >= {"name", "age", "code"} and set(p) <= set(PERSON["properties"]), p
    assert len(p["name"]) <= 12 and 3 <= p["age"] <= 120 and re.fullmatch("[A-Z]{2}-[0-9]{3}", p["code"]), p
    assert p.get("mood") in ("good", "bad", None) and len(p.get("friends", [])) <= 2, p
    assert all(set(f) == {"name"} and len(f["name"]) <= 4 for f in p.get("friends", [])), p


def test_every_answer_is_valid_by_its_schema_however_hot(client):
    for seed in range(20):
        a = ask(client, seed=seed, response_format=form(PERSON))
        assert a.finish_reason == "stop", (seed, a)
        check_person(a.message.content)


def test_regular_expressions_bind_the_whole_answer(client):
    for seed in range(5):
        a = ask(client, seed=seed, extra_body={"guided_regex": "(yes|no), [a-f]{3,9}\\."})
        assert a.finish_reason == "stop" and re.fullmatch("(yes|no), [a-f]{3,9}\\.", a.message.content), a


def test_a_json_object_is_one(client):
    a = ask(client, text="Answer as JSON.", temperature=0, response_format={"type": "json_object"})
    assert a.finish_reason == "length" or isinstance(json.loads(a.message.content), dict), a


def test_free_and_bound_answers_share_a_batch(client):
    free = ask(client, text="What is 20 + 22?", temperature=0, max_tokens=200).message.content
    streams = [client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "What is 20 + 22?"}], temperature=0, max_tokens=200, stream=True,
        **({"response_format": form(PERSON)} if i % 2 else {})) for i in range(6)]
    texts = ["".join(k.choices[0].delta.content or "" for k in s if k.choices) for s in streams]
    assert texts[0] == texts[2] == texts[4] == free
    assert texts[1] == texts[3] == texts[5]
    check_person(texts[1])


@pytest.mark.parametrize("bad,why", [
    ({"type": "object", "patternProperties": {}}, "patternProperties"), ({"not": {}}, "'not'"), ({"type": "strin"}, "'type'"),
    ({"$ref": "#/$defs/none"}, "nowhere"), ({"type": "string", "pattern": "(a"}, "regular expression"), (False, "no text at all"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"), ({"type": "string", "pattern": "a{9999}b{9999}c{9999}"}, "simpler"),
])
def test_what_is_not_supported_is_refused_by_name(client, bad, why):
    with pytest.raises(openai.BadRequestError) as e:
        ask(client, response_format=form(bad) if isinstance(bad, dict) else None, extra_body=None if isinstance(bad, dict) else
            {"guided_json": bad})
    assert why in str(e.value) and e.value.param == "response_format", e.value


def test_an_answer_that_no_token_can_follow_ends_alone(client):
    with pytest.raises(openai.APIError) as e:
        client.completions.create(model="tiny", prompt="x", max_tokens=9, extra_body={"guided_regex": "xyz", "allowed_token_ids": [0]})
    assert "no token can follow" in str(e.value)
    a = client.completions.create(model="tiny", prompt="x", max_tokens=9, extra_body={"guided_regex": "xyz"}).choices[0]
    assert (a.text, a.finish_reason) == ("xyz", "stop")


def test_a_worker_killed_in_a_constrained_answer_changes_nothing(cluster, client):
    whole = ask(client, seed=5, response_format=form(PERSON)).message.content
    stream = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Tell me of Ann."}], temperature=1.5, max_tokens=300, seed=5, stream=True,
        response_format=form(PERSON))
    text, killed = "", False
    for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if not killed and len(text) >= 8:
            killed = True
            cluster.workers[0].kill()
    assert killed and text == whole
    again = ask(client, seed=5, response_format=form(PERSON)).message.content
    assert again == whole
