"""libshoal as others use it: installed, found by pkg-config, linked as a shared library that exports its own functions and no more."""

import os
import pathlib
import re
import subprocess

from cluster import Cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = r"""
#include <client/shoal.h>
#include <poll.h>
#include <stdio.h>
static bool on_event(void *ctx, const struct shoal_event *e) {
    if (e->kind == SHOAL_TOKEN && e->choice == 0) fwrite(e->text, 1, e->text_len, stdout);
    if (e->kind == SHOAL_FAILED) fprintf(stderr, "%s\n", e->failure->text);
    return true;
}
int main(int argc, char **argv) {
    struct shoal_options o = {.size = sizeof o, .routers = argv[1]};
    struct shoal_failure why;
    struct shoal *s;
    if (shoal_open(&o, &s, &why) != 0) return fprintf(stderr, "%s\n", why.text), 2;
    struct shoal_request r = SHOAL_REQUEST_INIT;
    r.model = "mock", r.prompt = "hello", r.prompt_len = 5, r.max_tokens = 12, r.ignore_eos = true, r.has_seed = true, r.seed = 3, r.n = 2;
    if (shoal_start(s, &r, on_event, NULL, &why) != 0) return fprintf(stderr, "%s\n", why.text), 1;
    struct pollfd p = {.fd = shoal_fd(s), .events = POLLIN};
    while (shoal_dispatch(s) > 0) poll(&p, 1, 1000);
    shoal_close(s);
    return 0;
}
"""


def run(*args, **more):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, check=True, **more).stdout


def test_an_installed_libshoal_serves_a_program(tmp_path):
    build = os.environ["SHOAL_BUILD"]
    if "fsanitize" in (pathlib.Path(build) / "build.ninja").read_text():
        return  # a sanitizer's run-time wants to be first in a program that is not built with it
    run("cmake", "--install", build, "--component", "libshoal", "--prefix", tmp_path / "root")
    pc = next((tmp_path / "root").rglob("libshoal.pc"))
    env = {**os.environ, "PKG_CONFIG_PATH": str(pc.parent)}
    flags = run("pkg-config", "--define-variable", f"prefix={tmp_path / 'root'}", "--cflags", "--libs", "libshoal", env=env).split()
    (tmp_path / "program.c").write_text(PROGRAM)
    run("cc", "-Wall", "-Werror", "-o", tmp_path / "program", tmp_path / "program.c", *flags)
    library = pc.parent.parent / "libshoal.so.0"
    assert "libshoal.so.0" in run("readelf", "-d", tmp_path / "program")
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    header = (ROOT / "client/shoal.h").read_text() + (ROOT / "client/shoal_view.h").read_text()
    declared = set(re.findall(r"^\w[\w *]*?\b(shoal_\w+)\(", header, re.M))
    assert exported == declared, (exported ^ declared)
    with Cluster() as c:
        r = c.router("r1")
        c.mock("w0", "north", [r])
        c.wait_ready(r, 1)
        text = run(tmp_path / "program", r.zmq, env={**os.environ, "LD_LIBRARY_PATH": str(library.parent)})
        assert text == r.json("POST", "/v1/completions", {"model": "mock", "prompt": "hello", "max_tokens": 12, "ignore_eos": True, "seed": 3})[2]["choices"][0]["text"]
