"""Texts that tokenizers get wrong: every Unicode category, marks out of order, joiners, halves of added tokens, long runs, bytes at random."""

import random
import unicodedata

_BY_CATEGORY = {}
for _c in range(0x110000):
    if not 0xD800 <= _c < 0xE000 and (_c < 0x32400 or 0xE0000 <= _c < 0xE0200 or _c % 4099 == 0 or _c >= 0x10FFF0):
        _BY_CATEGORY.setdefault(unicodedata.category(chr(_c)), []).append(_c)

# Code points at the borders of UTF-8's lengths, of the surrogates, of blocks and of the categories' special cases.
EDGES = [0, 1, 8, 9, 10, 11, 12, 13, 0x1C, 0x1F, 0x20, 0x7E, 0x7F, 0x80, 0x85, 0x9F, 0xA0, 0xAD, 0xB2, 0xDF, 0x130, 0x131, 0x149, 0x17F, 0x1C4, 0x1C5, 0x2B0,
         0x300, 0x307, 0x327, 0x345, 0x34F, 0x37E, 0x3A3, 0x3C2, 0x600, 0x61C, 0x6DD, 0x7FF, 0x800, 0x93C, 0xE31, 0xE33, 0xF43, 0x1100, 0x1161, 0x11A8, 0x115F, 0x1680,
         0x180E, 0x1D62, 0x1E9B, 0x1E9E, 0x2000, 0x200A, 0x200B, 0x200C, 0x200D, 0x200E, 0x2028, 0x2029, 0x202E, 0x202F, 0x203C, 0x2044, 0x205F, 0x2060, 0x2126,
         0x212A, 0x212B, 0x2160, 0x2460, 0x24B6, 0x2581, 0x2ADC, 0x3000, 0x3007, 0x3021, 0x302A, 0x304B, 0x3099, 0x309A, 0x309B, 0x30AB, 0x30FC, 0x3164, 0x3400,
         0x4DBF, 0x4E00, 0x9FA5, 0x9FFF, 0xA000, 0xAC00, 0xAC01, 0xD7A3, 0xD7FF, 0xE000, 0xF8FF, 0xF900, 0xFA10, 0xFB01, 0xFB1D, 0xFB49, 0xFDD0, 0xFDFA, 0xFE0F, 0xFE20,
         0xFEFF, 0xFF01, 0xFF21, 0xFF5C, 0xFF9E, 0xFFA0, 0xFFFC, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFF, 0x1D15E, 0x1D165, 0x1D400, 0x1F1E6, 0x1F3FB, 0x1F468,
         0x1F600, 0x20000, 0x2F800, 0x2FA1D, 0xE0001, 0xE0020, 0xE007F, 0xE0100, 0xF0000, 0x100000, 0x1C89, 0x10D40, 0x16D40, 0x1E5D0, 0x31350, 0x323AF]
WORDS = ("the of and to in is that it for on with as was at by this have from or had an but not are which you one were her all she there would their we him been has "
         "when who will more no if out so said what up its about into than them can only other new some could time these two may then do first any my now such like "
         "internationalization antidisestablishmentarianism naïve café Größe Straße résumé Ångström don't I'll they've HELLO World camelCase snake_case "
         "привет здравствуйте 中文 深度求索 日本語 カタカナ 한국어 العربية עברית हिन्दी ภาษาไทย Ελληνικά tiếng Việt").split()
CODE = ["for (int i = 0; i < n; i++) {", "\treturn x->y[0];\n", "#include <stdio.h>\n", "def f(a, *b, **c):\n    ", "a != b && c == d || !e", "/* … */", "// -- ++ --",
        "\\u00e9\\n", "{\"a\": [1, 2.5e-3, null]}", "<div class='x'>&nbsp;</div>", "https://x.y/z?a=1&b=%20#c", "SELECT * FROM t;", "$HOME/.bashrc", "0xDEADBEEF", "1_000"]
JOINED = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷🇩", "👍🏽", "❤️", "1️⃣", "👨🏿‍⚕️", "क्षि", "நி", "กำ", "각", "각", "é", "é", "ǖ", "ệ", "ệ",
          "ﷺ", "ﬁ", "½", "㎏", "①", "ｱﾞ", "が", "Ω", "K", "Å", "ſ", "ẛ̣", "\u1e9b\u0323", "\u0344", "\u2126\u0301"]
BASIC = list("abcdefgh ABC 0123 .,!?'\"-\n\t_") + ["  ", "\n\n", "\r\n", " '", "'s", "'S", "'ll", "'LL", "'ſ"]
BYTES_TOKENS = ["<0x41>", "<0x0A>", "<0x", "<0xFF>", "<0xff>", "▁", "▁▁", "Ġ", "Ċ", "Ã", "##a", "</w>"]


def one_of_any_category(rng):
    return chr(rng.choice(_BY_CATEGORY[rng.choice(sorted(_BY_CATEGORY))]))


def of_bytes(rng):
    """Random bytes, of which what is UTF-8 is kept."""
    lead = rng.choice([0x80, 0xC2, 0xE0, 0xEA, 0xF0, 0])
    raw = bytes(rng.choice([rng.randrange(256), rng.randrange(0x80, 0xC0), lead]) for _ in range(rng.choice([4, 20, 200])))
    return raw.decode("utf-8", rng.choice(["ignore", "replace"]))


def marks(rng):
    """A letter with many combining marks in any order, perhaps normalised."""
    text = "".join(rng.choice(["a", "e", "o", "u", "क", "가", " ", "1", "か"]) + "".join(chr(rng.choice(_BY_CATEGORY["Mn"][:700])) for _ in range(rng.choice([0, 1, 2, 5, 40])))
                   for _ in range(rng.randint(1, 6)))
    form = rng.choice(["NFC", "NFD", "NFKC", "NFKD", None, None])
    return unicodedata.normalize(form, text) if form else text


def run(rng):
    """The same thing again and again."""
    what = rng.choice(BASIC + JOINED + CODE + [chr(c) for c in EDGES])
    return what * rng.choice([2, 3, 4, 7, 16, 47, 48, 49, 50, 96, 97, 300])


class Texts:
    """A source of texts for a tokenizer whose added tokens are these."""

    def __init__(self, seed, added=()):
        self.rng = random.Random(seed)
        self.added = [a for a in added if a]

    def piece_of_added(self):
        rng = self.rng
        token = rng.choice(self.added)
        k = rng.random()
        if k < 0.5:
            return token
        if k < 0.7:
            return token[:rng.randint(1, len(token))]
        if k < 0.8:
            return token[rng.randint(0, len(token) - 1):]
        other = rng.choice(self.added)
        if k < 0.9:  # overlapping
            return token[:rng.randint(1, len(token))] + other
        i = rng.randint(0, len(token))
        return token[:i] + rng.choice(["", " ", other, "\u200d", token.upper()]) + token[i:]

    def part(self):
        rng = self.rng
        k = rng.random()
        if self.added and k < 0.15:
            return rng.choice(["", " ", "  ", "x", "\u00a0\n", "é"]) + self.piece_of_added() + rng.choice(["", " ", "  ", "x", "\t", "."])
        if k < 0.30:
            return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 6)))
        if k < 0.38:
            return rng.choice(CODE)
        if k < 0.50:
            return "".join(one_of_any_category(rng) for _ in range(rng.randint(1, 8)))
        if k < 0.60:
            return "".join(chr(rng.choice(EDGES)) for _ in range(rng.randint(1, 8)))
        if k < 0.68:
            return "".join(rng.choice(JOINED) for _ in range(rng.randint(1, 4)))
        if k < 0.74:
            return marks(rng)
        if k < 0.80:
            return of_bytes(rng)
        if k < 0.83:
            return run(rng)
        if k < 0.86:
            return rng.choice(BYTES_TOKENS)
        if k < 0.90:
            return "".join(rng.choice("0123456789٣१²Ⅷ,.") for _ in range(rng.randint(1, 12)))
        return "".join(rng.choice(BASIC) for _ in range(rng.randint(1, 12)))

    def text(self):
        text = "".join(self.part() for _ in range(self.rng.choice([0, 1, 1, 2, 3, 5, 9])))
        if self.rng.random() < 0.05:
            text = unicodedata.normalize(self.rng.choice(["NFC", "NFD", "NFKC", "NFKD"]), text)
        return text

    def many(self, n):
        return [self.text() for _ in range(n)]
