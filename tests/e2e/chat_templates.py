"""Chat templates in the manner of the published families, written for these tests; and jinja2 set up as transformers sets it up."""

import copy
import datetime
import functools
import json

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Generation(Extension):
    """{% generation %}: marks what the model said; rendered as it is."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.now(datetime.timezone.utc).strftime(f)
    return env


ENVIRONMENT = environment()
compiled = functools.lru_cache(ENVIRONMENT.from_string)


def render(source, line):
    """What transformers makes of a line of `shoal-model template`; raises when the template refuses it."""
    line = copy.deepcopy(line)  # some filters change lists in place
    kwargs = line.pop("chat_template_kwargs", None) or {}
    variables = {"tools": None, "documents": None, "add_generation_prompt": False, **SPECIAL, **line, **kwargs}
    return compiled(source).render(**variables)


FAMILIES = {}

FAMILIES["deepseek_v2"] = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for m in messages %}
{% if m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\\n\\n' }}{% elif m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}
{% elif m['role'] == 'system' %}{{ m['content'] + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""

FAMILIES["deepseek_r1"] = """{% set ns = namespace(first=true, tool=false, outputs=true, system='') %}
{%- for m in messages %}{% if m['role'] == 'system' %}{% set ns.system = ns.system + (m['content'] if not ns.system else '\\n\\n' + m['content']) %}{% endif %}{% endfor -%}
{{ bos_token }}{{ ns.system }}
{%- for m in messages %}
{%- if m['role'] == 'user' %}{%- set ns.tool = false -%}{{ '<｜User｜>' + m['content'] }}{%- endif %}
{%- if m['role'] == 'assistant' and m['tool_calls'] is defined and m['tool_calls'] is not none %}
{%- set ns.tool = false -%}
{%- for call in m['tool_calls'] -%}
{%- if loop.first %}{{ '<｜Assistant｜>' ~ (m['content'] or '') ~ '<｜tool▁calls▁begin｜>' }}{% else %}{{ '\\n' }}{% endif -%}
{{ '<｜tool▁call▁begin｜>' + call['type'] + '<｜tool▁sep｜>' + call['function']['name'] + '\\n```json\\n' + call['function']['arguments'] + '\\n```<｜tool▁call▁end｜>' }}
{%- if loop.last %}{{ '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}{% endif %}
{%- endfor %}
{%- elif m['role'] == 'assistant' and m['content'] is not none %}
{%- set content = m['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}
{{- ('<｜tool▁outputs▁end｜>' if ns.tool else '<｜Assistant｜>') + content + '<｜end▁of▁sentence｜>' }}{%- set ns.tool = false -%}
{%- endif %}
{%- if m['role'] == 'tool' %}{%- set ns.tool = true -%}
{{- '<｜tool▁outputs▁begin｜>' if ns.outputs else '\\n' }}{%- set ns.outputs = false %}{{- '<｜tool▁output▁begin｜>' + m['content'] + '<｜tool▁output▁end｜>' }}
{%- endif %}
{%- endfor -%}
{% if ns.tool %}{{ '<｜tool▁outputs▁end｜>' }}{% endif %}{% if add_generation_prompt and not ns.tool %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"""

FAMILIES["deepseek_v31"] = """{% if thinking is not defined %}{% set thinking = false %}{% endif %}{{ bos_token }}
{%- if tools is defined and tools is not none %}{% set text = namespace(t='## Tools\\n') %}
{%- for tool in tools %}{% set text.t = text.t + '\\n### ' + tool.function.name + '\\nDescription: ' + tool.function.description + '\\n\\nParameters: ' + (tool.function.parameters | tojson) + '\\n' %}{% endfor %}
{{- text.t }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% set last = loop.last %}{% if loop.last and add_generation_prompt %}{% endif %}
{%- elif m.role == 'assistant' %}{{ '<｜Assistant｜></think>' }}{{ m.content.split('</think>', 1)[1] if m.content and '</think>' in m.content else (m.content or '') }}{% generation %}{{ eos_token }}{% endgeneration %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt and messages and messages[-1].role in ['user', 'tool'] %}{{ '<｜Assistant｜>' }}{{ '<think>' if thinking else '</think>' }}{% endif %}"""

FAMILIES["llama3"] = """{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The first message may be the system's. -#}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("Only one tool call at once is supported") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

FAMILIES["qwen3"] = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages and messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

FAMILIES["mistral"] = """{%- if messages and messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("Roles must alternate user/assistant") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call ids have nine characters") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- elif message["role"] in ("tool_results", "tool") %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}
"""

FAMILIES["smollm2"] = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are small and helpful<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

FAMILIES["macros"] = """{%- macro type_of(p, depth=0) -%}
    {%- if p.type == 'object' -%}
        { {%- for k, v in p.properties.items() %} {{ k }}{{ '?' if k not in (p.required or []) }}: {{ type_of(v, depth + 1) }}{{ ',' if not loop.last }}{% endfor %} }
    {%- elif p.enum is defined -%}
        {{ p.enum | map('tojson') | join(' | ') }}
    {%- else -%}
        {{ p.type | default('any', true) }}{{ ' = ' ~ p.default if p.default is defined }}
    {%- endif -%}
{%- endmacro -%}
{%- macro wrap(tag) -%}<{{ tag }}>{{ caller() }}</{{ tag }}>{%- endmacro -%}
{%- for tool in tools or [] %}
{% call wrap('tool') %}
// {{ tool.function.description or 'none' }}
type {{ tool.function.name }} = {{ type_of(tool.function.parameters) }}
{% endcall %}
{%- endfor %}
{%- set joined %}
{% for m in messages %}
{% if m.role == 'system' %}{% continue %}{% endif %}
{% if loop.index > 4 %}{% break %}{% endif %}
{{ loop.index }}/{{ loop.length }} {{ loop.revindex }} {{ loop.cycle('odd', 'even') }} {{ m.role | capitalize }}: {{ (m.content or '') | replace('\\n', ' ') | trim }}
{% else %}
nothing
{% endfor %}
{% endset -%}
{{ joined | upper | indent(2, true) }}
{% raw %}{{ not run }}{% endraw %}
{%- with a = 1, b = messages | length %}{{ a + b }}{% endwith %}
{% filter lower %}SHOUT {{ messages | map(attribute='role') | unique | join(',') }}{% endfilter %}"""


def random_tool(rng):
    return {"type": "function", "function": {
        "name": rng.choice(["get_weather", "add", "f2"]), "description": rng.choice(["Gets it", 'Zwölf "x"', ""]),
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "The city", "enum": ["a", "b"]}, "n": {"type": "integer", "default": 1.5},
            "in": {"type": "object", "properties": {"x": {"type": rng.choice(["number", None])}}}}, "required": ["city"]}}}


WORDS = ["hi", "what's 2+2?", "  spaced  ", "line1\nline2\n", "<think>\nhm\n</think>\n\nans", "你好", "quote\"'s", "</think>x", "", "a <b> & c",
         "[TOOL]", "{}", "<tool_response>x</tool_response>"]


def random_line(rng):
    """One line for `shoal-model template`: a conversation, perhaps with tools and variables."""
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": rng.choice(WORDS)})
    for _ in range(rng.randint(0, 4)):
        messages.append({"role": "user", "content": rng.choice(WORDS)})
        if rng.random() < 0.25:
            as_text = rng.random() < 0.5
            arguments = {"a": 1, "ü": [2.5, None, True]}
            calls = [{"id": "call%05d" % i, "type": "function",
                      "function": {"name": "add", "arguments": json.dumps(arguments) if as_text else arguments}} for i in range(rng.randint(1, 2))]
            messages.append({"role": "assistant", "content": rng.choice([None, "", "ok"]), "tool_calls": calls})
            messages += [{"role": "tool", "content": rng.choice(["42", '{"r": 1}']), "tool_call_id": c["id"], "name": "add"} for c in calls]
        if rng.random() < 0.8:
            messages.append({"role": "assistant", "content": rng.choice(WORDS)})
            if rng.random() < 0.2:
                messages[-1]["reasoning_content"] = "because\nof"
    if rng.random() < 0.6:
        messages.append({"role": "user", "content": rng.choice(WORDS)})
    line = {"messages": messages, "add_generation_prompt": rng.random() < 0.6}
    if rng.random() < 0.4:
        line["tools"] = [random_tool(rng) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.3:
        line["chat_template_kwargs"] = {rng.choice(["enable_thinking", "thinking", "date_string"]): rng.choice([True, False, "today"])}
    return line
