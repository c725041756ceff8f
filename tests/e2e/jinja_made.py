"""Random small templates: expressions from a grammar over a fixed set of variables, and blocks with random white space around tags."""

CONTEXT = {"n": 7, "z": 0, "neg": -3, "f": 2.5, "g": 1e17, "t": True, "no": False, "nil": None, "s": "Hello Wörld", "e": "", "sp": "  a b\n c  ",
           "d": {"a": 1, "b": [1, 2], "items": "x", "k": {"x": None}}, "l": [3, 1, 2, 10], "ls": ["b", "A", "c", "a"], "mix": [1, "a", None, [1, "é"], {"q": "'"}],
           "objs": [{"n": "x", "v": 2, "w": {"u": 1}}, {"n": "y", "v": 1}, {"n": "X", "v": 3, "w": {"u": 2}}], "el": [], "ed": {}, "q": "it's \"q\"\t\\ \u00a0\u200b"}
NAMES = list(CONTEXT)
FILTERS = ["trim", "upper", "lower", "title", "capitalize", "length", "count", "tojson", "string", "int", "float", "abs", "first", "last", "list",
           "items", "reverse", "sort", "unique", "join", "join('-')", "join(', ', 'n')", "default('D')", "default('D', true)", "d", "round",
           "round(1)", "round(1, 'floor')", "replace('l', 'LL')", "replace('', '.')", "replace('a', 'b', 1)", "indent", "indent(2, true)",
           "indent('> ', first=true, blank=true)", "map('upper')", "map(attribute='n')", "map(attribute='w.u', default=0)", "map('tojson')",
           "map('string')", "select", "reject", "select('string')", "reject('none')", "select('equalto', 1)", "selectattr('w')", "selectattr('v', 'equalto', 1)",
           "rejectattr('n', 'equalto', 'x')", "rejectattr('w', 'defined')", "sum", "sum('v')", "sum(attribute='v', start=10)", "min", "max", "max(attribute='v')",
           "dictsort", "dictsort(by='value')", "dictsort(reverse=true)", "sort(reverse=true)", "sort(attribute='n')", "sort(case_sensitive=true)",
           "tojson(indent=2)", "tojson(separators=(',', ':'))", "tojson(sort_keys=true)", "tojson(ensure_ascii=true)", "center(15)", "wordcount",
           "truncate(8)", "truncate(8, true, '!', 0)", "batch(2)", "batch(3, 'x')", "format(1)", "trim('H ')", "int(5)", "float(1)", "attr('nope')"]
TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "number", "true", "false", "sequence", "boolean", "integer", "float", "even",
         "odd", "divisibleby 3", "divisibleby(2)", "equalto 7", "eq('a')", "ne 1", "in [1, 7, 'a']", "in 'Hello'", "lower", "upper", "gt 2", "ge(7)",
         "lt 3", "le 7", "sameas none", "callable", "filter", "test", "escaped"]
METHODS = [".strip()", ".lstrip()", ".rstrip('d\\n')", ".split()", ".split('l')", ".split('l', 1)", ".split(None, 1)", ".rsplit(' ', 1)", ".rsplit()",
           ".startswith('H')", ".endswith(('d', 'x'))", ".replace('l', 'L')", ".replace('o', '0', 1)", ".upper()", ".lower()", ".title()", ".capitalize()",
           ".find('o')", ".rfind('o')", ".count('l')", ".splitlines()", ".isdigit()", ".isalpha()", ".isspace()", ".isupper()", ".join(ls)", ".get('a')",
           ".get('zz', 9)", ".items()", ".keys()", ".items", ".index(1)", ".index('o')", ".center(20, '*')", ".ljust(14)", ".rjust(14, '.')",
           ".zfill(14)", ".swapcase()", ".partition(' ')", ".rpartition('l')", ".removeprefix('He')", ".removesuffix('ld')", ".append(1)", ".nope", ".a", ".b[1]",
           ".k.x", "['a']", "['zz']", "[0]", "[-1]", "[99]", "[1:]", "[:-1]", "[::2]", "[::-1]", "[-3:2]", "[5:1:-2]", "[n]", "['upper']()", ".0"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
CONSTANTS = ["1", "0", "-2", "3.5", "1e3", "1_000", "0x1f", "'a'", "\"b\"", "'it\\'s'", "'\\n\\t\\x41\\u00e9\\\\'", "true", "False", "none", "[]", "{}",
             "[1, 'x', none]", "{'a': 1, 'b': [2]}", "(1, 2)", "(1,)", "()", "'a' 'b'", "'%s=%d' % ('k', 3)", "'{0}-{x:>4}|{0!r}'.format('a', x=5)", "'%5.2f|%-5s|%05d|%x' % (f, 'ab', n, 255)",
             "range(3)|list", "range(1, 9, 3)|list", "dict(a=1, b=s)", "namespace(a=1).a", "joined_undefined", "'{:.2f} {:,} {:^7}'.format(f, 1234567, 'm')"]


def expression(rng, depth=0):
    k = rng.random()
    if depth > 3 or k < 0.25:
        return rng.choice(NAMES) if rng.random() < 0.75 else rng.choice(CONSTANTS)
    if k < 0.45:
        return "%s | %s" % (unit(rng, depth), rng.choice(FILTERS))
    if k < 0.60:
        return unit(rng, depth) + rng.choice(METHODS)
    if k < 0.70:
        return "%s is %s%s" % (unit(rng, depth), rng.choice(["", "", "not "]), rng.choice(TESTS))
    if k < 0.90:
        return "%s %s %s" % (unit(rng, depth), rng.choice(BINARY), unit(rng, depth))
    if k < 0.93:
        return "not " + unit(rng, depth)
    if k < 0.95:
        return "-" + unit(rng, depth)
    if k < 0.98:
        return "%s if %s else %s" % (unit(rng, depth), unit(rng, depth), unit(rng, depth))
    return "%s < %s <= %s" % (unit(rng, depth), unit(rng, depth), unit(rng, depth))


def unit(rng, depth):
    """An operand: in parentheses when it isn't a name."""
    inner = expression(rng, depth + 1)
    if inner.isidentifier():
        return inner
    # Without parentheses precedence decides; but what a dot behind a filter's or test's name would mean is no use, and jinja2 folds
    # constants with other rules than it runs by.
    loose = rng.random() < 0.1 and not any(w in inner for w in ("|", " is ")) and not inner[0].isdigit()
    return inner if loose else "(" + inner + ")"


SPACE = ["", "", " ", "\n", "  \n", "\n  ", "\n\n", " \t", "x", "x ", "\n x\n"]


def tag(rng, inside, kind="%"):
    left = rng.choice(["", "", "", "-", "+" if kind == "%" else ""])
    right = rng.choice(["", "", "", "-", "+" if kind == "%" else ""])
    close = {"%": "%", "{": "}", "#": "#"}[kind]
    return "{" + kind + left + " " + inside + " " + right + close + "}"


def body(rng, depth=0):
    parts = []
    for _ in range(rng.randint(1, 4)):
        parts.append(rng.choice(SPACE))
        k = rng.random()
        if k < 0.35 or depth > 2:
            parts.append(tag(rng, rng.choice(["n", "s", "loop.index", "x", "v", "ns.c", "(x, v)", "'a\\nb'"]), "{"))
        elif k < 0.42:
            parts.append(tag(rng, "a comment " + rng.choice(["", "\n", "{% x %}"]), "#"))
        elif k < 0.55:
            parts.append(tag(rng, "if " + rng.choice(["t", "no", "x", "v is defined", "n > 3"])) + body(rng, depth + 1))
            if rng.random() < 0.4:
                parts.append(tag(rng, "elif " + rng.choice(["t", "no"])) + body(rng, depth + 1))
            if rng.random() < 0.4:
                parts.append(tag(rng, "else") + body(rng, depth + 1))
            parts.append(tag(rng, "endif"))
        elif k < 0.72:
            head = rng.choice(["for x in l", "for x in ls if x != 'b'", "for x, v in d.items()", "for x in el", "for x in 'ab'", "for x in range(3) if loop is not defined",
                               "for x in objs"])
            parts.append(tag(rng, head) + body(rng, depth + 1))
            if rng.random() < 0.3:
                parts.append(tag(rng, "if loop.index > 1") + tag(rng, rng.choice(["break", "continue"])) + tag(rng, "endif"))
            if rng.random() < 0.3:
                parts.append(tag(rng, "else") + body(rng, depth + 1))
            parts.append(tag(rng, "endfor"))
        elif k < 0.80:
            parts.append(tag(rng, rng.choice(["set x = n", "set v = x", "set ns.c = ns.c + 1", "set x, v = 1, s", "set v = (v or 0)"])))
        elif k < 0.85:
            parts.append(tag(rng, rng.choice(["set x", "set v | upper"])) + body(rng, depth + 1) + tag(rng, "endset"))
        elif k < 0.88:
            parts.append(tag(rng, "filter " + rng.choice(["upper", "trim | length", "replace('x', 'y')"])) + body(rng, depth + 1) + tag(rng, "endfilter"))
        elif k < 0.91:
            parts.append(tag(rng, "with x = 5, v = x") + body(rng, depth + 1) + tag(rng, "endwith"))
        elif k < 0.94:
            parts.append(tag(rng, "raw") + rng.choice(["{{ x }}", "{% if %}", " \n", "{# #}"]) + tag(rng, "endraw"))
        elif k < 0.97:
            parts.append(tag(rng, "macro m(a, b=n)") + body(rng, depth + 1) + tag(rng, "endmacro") + tag(rng, "m(1, b=x)", "{"))
        else:
            parts.append(tag(rng, "generation") + body(rng, depth + 1) + tag(rng, "endgeneration"))
    parts.append(rng.choice(SPACE))
    return "".join(parts)


def template(rng):
    return "{% set ns = namespace(c=0) %}" + body(rng) + rng.choice(["", "\n", "\n\n", "\r\n"])
