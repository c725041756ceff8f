"""Prompts byte for byte equal to those of Python's jinja2 with transformers' settings."""

import os
import random
import subprocess

import pytest

import chat_templates
import jinja_made
import text_tools

ARCHIVE = os.path.join(text_tools.ROOT, "..", "shared", "data", "tokenizers", "deepseek_v3.tar.xz")
LOCAL_MODEL = os.path.join(text_tools.ROOT, "deploy", "local", "model")


def expected(source, line):
    """The text, or the exception."""
    try:
        return chat_templates.render(source, line)
    except Exception as e:  # whatever Python raises, Shoal must refuse too
        return e


def compare(source, lines, folder):
    text_tools.write_folder(folder, config=chat_templates.SPECIAL, template=source)
    answers, _ = text_tools.run_lines("template", folder, lines)
    for line, answer in zip(lines, answers):
        want = expected(source, line)
        if isinstance(want, Exception):
            assert "error" in answer, (line, repr(want), answer)
        else:
            assert answer.get("text") == want, (line, want, answer)


@pytest.mark.parametrize("family", sorted(chat_templates.FAMILIES))
def test_conversations_through_a_template_in_the_manner_of(family, tmp_path):
    rng = random.Random(family)
    compare(chat_templates.FAMILIES[family], [chat_templates.random_line(rng) for _ in range(300)], tmp_path)


def test_conversations_through_the_template_of_deepseek_v3(tmp_path):
    if not os.path.exists(ARCHIVE):
        pytest.skip("SKIPPED LOUDLY: the DeepSeek-V3 tokenizer is not beside the project")
    subprocess.run(["tar", "xf", ARCHIVE, "-C", str(tmp_path)], check=True)
    import json
    with open(tmp_path / "deepseek_v3" / "tokenizer_config.json", encoding="utf-8") as f:
        source = json.load(f)["chat_template"]
    rng = random.Random(5)
    compare(source, [chat_templates.random_line(rng) for _ in range(300)], tmp_path / "t")


def test_conversations_through_the_template_of_the_local_model(tmp_path):
    import json
    path = os.path.join(LOCAL_MODEL, "tokenizer_config.json")
    if not os.path.exists(path):
        pytest.skip("there is no local model")
    with open(path, encoding="utf-8") as f:
        source = json.load(f)["chat_template"]
    rng = random.Random(6)
    compare(source, [chat_templates.random_line(rng) for _ in range(300)], tmp_path)


def guarded(expressions):
    """One template for many expressions: which one runs is said by the variable `which`."""
    return "".join("{%% if which == %d %%}{{ %s }}{%% endif %%}" % (i, e) for i, e in enumerate(expressions))


def compiles(expression):
    try:
        chat_templates.ENVIRONMENT.from_string("{{ %s }}" % expression)
        return True
    except Exception:
        return False


def has_address(text):
    """Python's text for an object that has none: not compared."""
    return any(w in text.lower() for w in ("object at 0x", "object select", "object sync", "object do_", "<function", "<built", "<generator", "dict_", "range(", "<bound", "rotareneg"))


def known_refusal(answer):
    """Where Shoal refuses what Python gives a useless text for: the address of a generator, slices of constants that have none, and
    integers of more than 64 bits."""
    return any(w in answer.get("error", "") for w in ("a generator has no text", "can't be sliced", "over 64 bits", "out of range"))


@pytest.mark.parametrize("seed", range(6))
def test_random_expressions_give_what_python_gives(seed, tmp_path):
    rng = random.Random(seed)
    made = [e for e in (jinja_made.expression(rng) for _ in range(1500)) if compiles(e)]
    source = guarded(made)
    lines = [{"messages": [], **jinja_made.CONTEXT, "which": i} for i in range(len(made))]
    text_tools.write_folder(tmp_path, config={}, template=source)
    answers, _ = text_tools.run_lines("template", tmp_path, lines)
    for e, line, answer in zip(made, lines, answers):
        want = expected("{{ %s }}" % e, line)
        if isinstance(want, Exception):
            assert "error" in answer, (e, repr(want), answer)
        elif not has_address(want) and not known_refusal(answer):
            assert answer.get("text") == want, (e, want, answer)


@pytest.mark.parametrize("seed", range(4))
def test_random_blocks_and_white_space_give_what_python_gives(seed, tmp_path):
    rng = random.Random(1000 + seed)
    line = {"messages": [], **jinja_made.CONTEXT}
    for i in range(150):
        source = jinja_made.template(rng)
        want = expected(source, line)
        text_tools.write_folder(tmp_path, config={}, template=source)
        done = subprocess.run([text_tools.SHOAL_MODEL, "template", "--model", str(tmp_path)], input=text_tools.json.dumps(line).encode(),
                              capture_output=True, timeout=60)
        if isinstance(want, Exception):
            assert done.returncode == 2, (source, repr(want), done.stdout)
        else:
            assert done.returncode == 0 and text_tools.json.loads(done.stdout)["text"] == want, (source, want, done.stdout, done.stderr)


BAD = [("{% for x in y %}", "endfor"), ("{{ x | strange }}", "strange"), ("{{ x is strange }}", "strange"), ("{% include 'a' %}", "include"),
       ("{{ (1 }}", "bracket"), ("{{ 'a }}", "string"), ("{{", "closed"), ("{# x", "comment"), ("{% if x %}{% endfor %}", "endfor"), ("{{ 1 + }}", "expression"),
       ("{% set 1 = 2 %}", "name"), ("{% break %}", "loop"), ("{{ " + "(" * 200 + "1" + ")" * 200 + " }}", "nested"), ("{{ " + "-" * 500 + "1 }}", "nested")]


@pytest.mark.parametrize("source,word", BAD)
def test_a_template_that_cannot_be_run_is_refused_with_line_and_construct(source, word, tmp_path):
    text_tools.write_folder(tmp_path, config={}, template="line one\n" + source)
    done = subprocess.run([text_tools.SHOAL_MODEL, "template", "--model", str(tmp_path)], input=b"{}", capture_output=True, timeout=60)
    text = done.stderr.decode()
    assert done.returncode == 2 and "line 2" in text and word in text and text.count("\n") == 1, text


ENDLESS = ["{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ 'a' * 100000000 }}", "{{ [1] * 100000000 }}", "{{ range(1000000000) }}",
           "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
           "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
           "{% for i in range(100000) %}{{ messages }}{% endfor %}", "{{ '%9999999d' % 1 }}", "{{ 2 ** 100000 }}"]


@pytest.mark.parametrize("source", ENDLESS)
def test_a_template_without_end_is_stopped(source, tmp_path):
    text_tools.write_folder(tmp_path, config={}, template=source)
    lines = [{"messages": [{"role": "user", "content": "x" * 1000}]}, {"messages": []}]
    answers, code = text_tools.run_lines("template", tmp_path, lines, timeout=120)
    assert code == 2 and "error" in answers[0] and "line 1" in answers[0]["error"]
