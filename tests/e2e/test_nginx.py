"""deploy/nginx/shoal.conf as it is, in front of a router: TLS, tokens that go out one by one, clients that go away, limits.

nginx is the system's, or Debian's package unpacked beside the build (nothing is installed); without either the test is skipped loudly, and fails
under CI."""

import contextlib
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import warnings

import openai
import pytest
from cluster import BUILD, ROOT, Cluster, Process, free_port, sse, wait_for
from keys import shoal

CONFIG = """security: {api_keys: "{dir}/api-keys", metrics: open}
"""
AROUND = """daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    include {dir}/shoal.conf;
}}
"""
LONG = {"model": "mock", "prompt": "hello", "max_tokens": 100000, "stream": True}


def find_nginx():
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if found:
        return found
    folder = os.path.join(BUILD, "nginx")
    unpacked = os.path.join(folder, "root", "usr", "sbin", "nginx")
    if not os.path.exists(unpacked) and shutil.which("apt-get"):
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            subprocess.run(["apt-get", "download", "nginx"], cwd=folder, check=True, capture_output=True, timeout=120)
            subprocess.run(["dpkg", "-x", glob.glob(f"{folder}/nginx_*.deb")[0], f"{folder}/root"], check=True, capture_output=True, timeout=60)
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        subprocess.run([unpacked, "-V"], check=True, capture_output=True, timeout=30)
        return unpacked
    return None


NGINX = find_nginx() if shutil.which("openssl") else None
if NGINX is None:
    why = "SKIPPED LOUDLY: neither nginx is installed nor Debian's package can be had (apt-get download nginx), or openssl is missing"
    if os.environ.get("CI"):
        raise RuntimeError(why)
    pytest.skip(why, allow_module_level=True)


class Edge:
    """nginx with the recipe, its marked lines changed and nothing else."""

    def __init__(self, c, router, header_timeout="10s"):
        self.dir = f"{c.dir}/nginx"
        os.makedirs(self.dir, exist_ok=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{self.dir}/key.pem", "-out",
                        f"{self.dir}/cert.pem"], check=True, capture_output=True, timeout=60)
        self.port, self.plain = free_port(), free_port()
        with open(f"{ROOT}/deploy/nginx/shoal.conf") as f:
            text = f.read()
        for old, new in [
            ("server 127.0.0.1:8080 ", f"server {router.http} "),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("listen 80;", f"listen 127.0.0.1:{self.plain};"),
            ("/etc/shoal/tls/fullchain.pem", f"{self.dir}/cert.pem"),
            ("/etc/shoal/tls/privkey.pem", f"{self.dir}/key.pem"),
            ("client_header_timeout       10s;", f"client_header_timeout {header_timeout};"),
        ]:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        with open(f"{self.dir}/shoal.conf", "w") as f:
            f.write(text)
        with open(f"{self.dir}/nginx.conf", "w") as f:
            f.write(AROUND.format(dir=self.dir))
        args = [NGINX, "-p", self.dir, "-c", f"{self.dir}/nginx.conf", "-e", "stderr"]
        subprocess.run([*args, "-t"], check=True, capture_output=True, timeout=60)
        self.process = Process(args, "nginx")
        self.tls = ssl.create_default_context(cafile=f"{self.dir}/cert.pem")
        wait_for(lambda: self.connect().close() is None, "nginx answers")

    def connect(self, timeout=60):
        c = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls)
        c.connect()
        return c

    def stop(self):
        self.process.kill(signal.SIGTERM)
        self.process.wait()


@pytest.fixture(scope="module")
def edge():
    with Cluster(more=CONFIG) as c:
        key = shoal("key", "add", "--file", f"{c.dir}/api-keys", "--name", "k", "--tenant", "t").stdout.strip()
        r = c.router("r1")
        w = c.mock("slow", "north", [r], "--mock-decode-ms", "500", "--max-context", "200000")
        c.mock("quick", "north", [r])
        c.wait_ready(r, 2)
        e = Edge(c, r)
        yield e, r, w, key
        e.stop()


def running(w):
    return w.metrics()["shoal_worker_sequences_running"]


def begin(e, key, body, replica="quick"):
    c = e.connect()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "X-Shoal-Replica": replica}
    c.request("POST", "/v1/completions", json.dumps(body), headers)
    return c, c.getresponse()


def test_the_official_client_works_over_tls(edge):
    e, _, _, key = edge
    with openai.OpenAI(base_url=f"https://127.0.0.1:{e.port}/v1", api_key=key, max_retries=0,
                       http_client=openai.DefaultHttpxClient(verify=e.tls)) as client:
        assert client.completions.create(model="mock", prompt="hello", max_tokens=4).choices[0].text
        chunks = list(client.completions.create(model="mock", prompt="hello", max_tokens=20, stream=True))
        assert len(chunks) > 10
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sk-wrong").models.list()


def test_tokens_go_out_while_the_answer_is_being_made_and_a_client_that_leaves_stops_it(edge):
    e, r, w, key = edge
    wait_for(lambda: running(w) == 0, "nothing is running")
    cancelled = r.metrics()["shoal_router_cancelled_total"]
    before = w.metrics()["shoal_worker_decoded_tokens_total"]
    c, response = begin(e, key, LONG, "slow")
    assert response.status == 200 and response.getheader("Content-Type").startswith("text/event-stream")
    events = sse(response)
    while not json.loads(next(events))["choices"][0]["text"]:
        pass
    # Two tokens a second: the first is here before the 20 or so that would fill nginx's smallest buffer are made.
    assert w.metrics()["shoal_worker_decoded_tokens_total"] - before < 12 and running(w) == 1
    response.close()
    c.close()
    wait_for(lambda: running(w) == 0, "the worker has stopped")
    wait_for(lambda: r.metrics()["shoal_router_cancelled_total"] == cancelled + 1, "the router has seen the client leave")


def test_a_connection_is_kept_and_a_refusal_comes_through_as_it_is(edge):
    e, _, _, key = edge
    c = e.connect()
    for headers, status in [({"Authorization": f"Bearer {key}"}, 200), ({}, 401), ({"Authorization": f"Bearer {key}"}, 200)]:
        c.request("GET", "/v1/models", headers=headers)
        response = c.getresponse()
        body = json.loads(response.read())
        assert response.status == status and not response.will_close
        assert response.getheader("Strict-Transport-Security")
        if status == 401:
            assert response.getheader("WWW-Authenticate").startswith("Bearer") and body["error"]["code"] == "invalid_api_key"
    c.request("GET", "/metrics", headers={"Authorization": f"Bearer {key}"})
    assert c.getresponse().status == 404
    c.close()


def test_plain_http_is_sent_to_https_and_old_tls_is_refused(edge):
    e, _, _, _ = edge
    c = http.client.HTTPConnection("127.0.0.1", e.plain, timeout=60)
    c.request("GET", "/v1/models")
    response = c.getresponse()
    assert response.status == 301 and response.getheader("Location").startswith("https://")
    c = http.client.HTTPConnection("127.0.0.1", e.port, timeout=60)
    c.request("GET", "/v1/models")
    assert c.getresponse().status == 400
    old = ssl.create_default_context(cafile=f"{e.dir}/cert.pem")
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that they are old is the point
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection(("127.0.0.1", e.port), 60) as s:
        old.wrap_socket(s, server_hostname="localhost")


def test_a_body_too_large_and_headers_too_slow_are_refused(edge):
    e, r, _, key = edge
    c, response = begin(e, key, {"model": "mock", "prompt": "x" * (9 << 20)})
    assert response.status == 413
    c.close()


def test_slow_headers_are_cut_and_a_router_that_is_gone_is_502():
    with Cluster() as c:
        r = c.router("r1")
        e = Edge(c, r, header_timeout="1s")
        try:
            with socket.create_connection(("127.0.0.1", e.port), 60) as raw, e.tls.wrap_socket(raw, server_hostname="localhost") as s:
                s.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Slow: ")
                with contextlib.suppress(ssl.SSLError, ConnectionError):
                    assert b"200" not in s.recv(4096)  # 408, or closed
            r.kill()
            r.wait()
            with contextlib.closing(e.connect()) as conn:
                conn.request("GET", "/v1/models")
                assert conn.getresponse().status == 502
        finally:
            e.stop()
