"""Who may speak over HTTP: without a key or with a wrong one every port refuses; the right one works, and no longer once it is revoked."""

import http.client
import json
import signal
import socket

import openai
import pytest
from cluster import Cluster, parse_metrics, stream, wait_for
from keys import another_address, shoal, start_and_fail

HI = {"model": "mock", "prompt": "hello", "max_tokens": 4}
TENANTS = """security: {api_keys: "{dir}/api-keys"}
tenants: {shop: {models: [mock]}, lab: {models: [other]}, ops: {}}
models: {mock: {aliases: [mocked], deployments: {main: {}}}, other: {deployments: {main: {}}}}
"""


def add_key(folder, name, tenant, role="user"):
    return shoal("key", "add", "--file", f"{folder}/api-keys", "--name", name, "--tenant", tenant, "--role", role).stdout.strip()


def bearer(key):
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def keyed():
    """A router that asks for API keys, a worker, and keys of three tenants."""
    with Cluster(more=TENANTS) as c:
        keys = {name: add_key(c.dir, name, name, "operator" if name == "ops" else "user") for name in ("shop", "lab", "ops")}
        r = c.router("r1")
        c.mock("w1", "north", [r])
        wait_for(lambda: r.request("GET", "/readyz")[0] == 200, "ready", 30)
        yield c, r, keys


WRONG = [{}, {"Authorization": ""}, bearer("sk-shoal-" + "A" * 43), bearer(""), {"Authorization": "Basic QTpC"}, bearer("x" * 5000)]
PATHS = [("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/completions"), ("GET", "/v1/models"), ("HEAD", "/v1/models"),
         ("GET", "/v1/models/mock"), ("GET", "/metrics")]


@pytest.mark.parametrize("method,path", PATHS)
def test_http_without_a_right_key_is_401_in_openais_form(keyed, method, path):
    _, r, keys = keyed
    for headers in [*WRONG, bearer(keys["shop"][:-1]), bearer(keys["shop"] + "x")]:
        status, head, body = r.request(method, path, HI if method == "POST" else None, headers)
        assert status == 401 and head["WWW-Authenticate"].startswith("Bearer"), (headers, status, body)
        if method != "HEAD":
            e = json.loads(body)["error"]
            assert e["code"] == "invalid_api_key" and e["type"] == "invalid_request_error" and e["message"]


def test_who_has_no_key_does_not_get_to_send_a_body(keyed):
    _, r, keys = keyed
    for path in ("/v1/completions", "/nothing-here"):
        with socket.create_connection((r.host, r.port), timeout=60) as s:
            s.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n".encode() + b"x" * 1000)
            answer = s.recv(65536)  # although 8 MB are still to come
        assert answer.startswith(b"HTTP/1.1 401 ") and b"WWW-Authenticate: Bearer" in answer
    assert r.request("POST", "/v1/completions", {**HI, "prompt": "x" * 100000}, bearer(keys["shop"]))[0] in (200, 400)


def test_health_needs_no_key(keyed):
    _, r, _ = keyed
    assert [r.request("GET", p)[0] for p in ("/livez", "/readyz", "/health")] == [200, 200, 200]
    assert r.request("OPTIONS", "/v1/models")[0] == 204


def test_the_right_key_works_through_the_official_client(keyed):
    _, r, keys = keyed
    client = openai.OpenAI(base_url=f"{r.url}/v1", api_key=keys["shop"], max_retries=0)
    assert client.completions.create(model="mock", prompt="hello", max_tokens=4).choices[0].text
    assert client.completions.create(model="mocked", prompt="hello", max_tokens=4).choices[0].text
    assert [m.id for m in client.models.list()] == ["mock", "mocked"]
    assert stream(r, HI, headers=bearer(keys["shop"]))["done"]
    with pytest.raises(openai.AuthenticationError) as e:
        openai.OpenAI(base_url=f"{r.url}/v1", api_key="sk-wrong", max_retries=0).models.list()
    assert e.value.code == "invalid_api_key"


def test_a_tenant_gets_403_for_models_that_are_not_its(keyed):
    _, r, keys = keyed
    client = openai.OpenAI(base_url=f"{r.url}/v1", api_key=keys["lab"], max_retries=0)
    for model in ("mock", "mocked", "nothing-such"):
        with pytest.raises(openai.PermissionDeniedError) as e:
            client.completions.create(model=model, prompt="hello", max_tokens=4)
        assert e.value.code == "permission_denied" and e.value.param == "model" and "lab" in e.value.message
    assert "mock" not in [m.id for m in client.models.list()]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("mock")
    assert stream(r, HI, headers=bearer(keys["lab"]))["status"] == 403


def test_metrics_are_for_operators(keyed):
    _, r, keys = keyed
    status, _, body = r.json("GET", "/metrics", headers=bearer(keys["shop"]))
    assert status == 403 and body["error"]["code"] == "permission_denied"
    status, _, text = r.request("GET", "/metrics", headers=bearer(keys["ops"]))
    m = parse_metrics(text.decode())
    assert status == 200 and m['shoal_router_auth_refused_total{why="wrong_key"}'] > 0 and m['shoal_router_auth_refused_total{why="no_key"}'] > 0


def test_a_key_works_and_stops_working_without_a_restart(keyed):
    c, r, _ = keyed
    status = lambda key: r.request("POST", "/v1/completions", HI, bearer(key))[0]
    key = add_key(c.dir, "guest", "shop")
    wait_for(lambda: status(key) == 200, "the new key is taken")
    shoal("key", "revoke", "--file", f"{c.dir}/api-keys", "--name", "guest")
    r.kill(signal.SIGHUP)
    wait_for(lambda: status(key) == 401, "the revoked key is refused")
    with open(f"{c.dir}/api-keys", "a") as f:
        f.write("broken line\n")
    r.kill(signal.SIGHUP)
    r.wait_log(r"keys_not_read .*api-keys:\d+: expected NAME TENANT ROLE HASH")
    shoal("key", "list", "--file", f"{c.dir}/api-keys", check=False)
    assert r.request("GET", "/v1/models", headers=bearer(keyed[2]["shop"]))[0] == 200  # the last good file stays in force
    with open(f"{c.dir}/api-keys") as f:
        good = [line for line in f if "broken" not in line]
    with open(f"{c.dir}/api-keys", "w") as f:
        f.writelines(good)
    assert key not in r.log() and not any(key in line for line in good)


def test_off_loopback_nothing_is_served_without_keys():
    assert "security.api_keys" in start_and_fail("--http", "0.0.0.0:0")
    assert "security.api_keys" in start_and_fail("--http", ":0")
    assert "security.metrics: open" in start_and_fail("--metrics", "[::]:0")
    assert "unix:/path" in start_and_fail("--admin", ":0")


@pytest.mark.skipif(another_address() is None, reason="this machine has no address but loopback's")
def test_off_loopback_http_is_served_with_keys_or_when_the_configuration_says_so():
    address = another_address()

    def get(r, path, headers):
        c = http.client.HTTPConnection(address, r.port, timeout=60)
        c.request("GET", path, headers=headers)
        return c.getresponse().status

    with Cluster(more=TENANTS) as c:
        key = add_key(c.dir, "shop", "shop")
        r = c.router("r1", http=f"{address}:0")
        r.wait_log("http_plaintext")
        assert get(r, "/v1/models", {}) == 401 and get(r, "/v1/models", bearer(key)) == 200
    with Cluster(more="security: {plaintext: anywhere}\n") as c:
        r = c.router("r1", http=f"{address}:0")
        assert get(r, "/v1/models", {}) == 200
