"""The JSON-Schema-Test-Suite, draft 2020-12 (it comes with the sdist of PyPI's jsonschema): for every schema whose keywords are known,
valid instances are taken byte by byte, written as grammar.h says, and invalid ones are not."""

import glob
import hashlib
import json
import os
import subprocess
import sys
import tarfile

import pytest
from cluster import BUILD

VERSION, SHA256 = "4.23.0", "d71497fef26351a33265337fa77ffeb82423f3ea21283cd9467bb03999266bc4"
# By policy: formats are asserted, and these two need another writing of the same value.
EXCEPT = {"same object with different property order is valid", "float is valid"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("suite"))
    got = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "jsonschema",
                          f"jsonschema=={VERSION}", "-d", folder], capture_output=True, text=True)
    files = glob.glob(folder + "/*.tar.gz")
    if got.returncode != 0 or not files:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no sdist of jsonschema: " + got.stderr[-300:])
    assert hashlib.sha256(open(files[0], "rb").read()).hexdigest() == SHA256
    with tarfile.open(files[0]) as tar:
        tar.extractall(folder, filter="data")
    return sorted(glob.glob(folder + "/*/json/tests/draft2020-12/*.json"))


def order_of(schema, order, keyword="properties"):
    """Where each property is named first."""
    if isinstance(schema, dict):
        for name in schema.get(keyword) or []:
            if isinstance(name, str):
                order.setdefault(name, len(order))
    for value in schema if isinstance(schema, list) else schema.values() if isinstance(schema, dict) else []:
        order_of(value, order, keyword)
    return order


def written(value, order):
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return int(value)
    if isinstance(value, list):
        return [written(v, order) for v in value]
    if isinstance(value, dict):
        return {k: written(value[k], order) for k in sorted(value, key=lambda k: order.get(k, len(order)))}
    return value


def test_valid_instances_are_taken_and_invalid_ones_are_not(suite):
    tool = subprocess.Popen([os.path.join(BUILD, "bin", "grammar_check")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            encoding="utf-8")

    def ask(line):
        print(line, file=tool.stdin, flush=True)
        return tool.stdout.readline().strip()

    checked, refused, wrong = 0, 0, []
    for path in suite:
        for group in json.load(open(path)):
            said = ask("S" + json.dumps(group["schema"]))
            if said != "OK":
                assert "'" in said or said == "no text at all is valid" or "number" in said, said  # names what isn't supported
                if said == "no text at all is valid":
                    assert not any(t["valid"] for t in group["tests"]), group
                refused += 1
                continue
            order = order_of(group["schema"], order_of(group["schema"], {}), "required")
            for test in group["tests"]:
                if test["description"] in EXCEPT or "annotation by default" in test["description"]:
                    continue
                got = ask("T" + json.dumps(written(test["data"], order), ensure_ascii=False))
                checked += 1
                if got != str(int(test["valid"])):
                    wrong.append((os.path.basename(path), group["description"], test["description"], test["valid"]))
    tool.stdin.close()
    assert tool.wait() == 0 and not wrong, wrong
    print(f"{checked} instances checked, {refused} schemas refused by name")
    assert checked >= 500
