"""shoal-model's text subcommands for tests: lines in, lines out; and folders with tokenizer files."""

import json
import os
import subprocess

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("SHOAL_BUILD", os.path.join(ROOT, "build")))
SHOAL_MODEL = os.path.join(BUILD, "bin", "shoal-model")


def run_lines(command, folder, lines, *options, timeout=500):
    """Answers of `shoal-model command --model folder` to these objects, and its exit code."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([SHOAL_MODEL, command, "--model", str(folder), *options], input=text.encode(),
                          capture_output=True, timeout=timeout)
    answers = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert len(answers) == len(lines), (done.returncode, done.stderr.decode()[-2000:])
    return answers, done.returncode


def encode(folder, texts, *options):
    return [a.get("ids", a) for a in run_lines("tokenize", folder, [{"text": t} for t in texts], *options)[0]]


def decode(folder, ids, *options):
    return [a.get("text", a) for a in run_lines("tokenize", folder, [{"ids": i} for i in ids], "--decode", *options)[0]]


def write_folder(folder, tokenizer=None, config=None, template=None):
    """A model folder with only these files; tokenizer is JSON text or an object."""
    os.makedirs(folder, exist_ok=True)
    if tokenizer is not None:
        text = tokenizer if isinstance(tokenizer, str) else json.dumps(tokenizer, ensure_ascii=False)
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
            f.write(text)
    if config is not None:
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f, ensure_ascii=False)
    if template is not None:
        with open(os.path.join(folder, "chat_template.jinja"), "w", encoding="utf-8", newline="") as f:
            f.write(template)
    return folder
