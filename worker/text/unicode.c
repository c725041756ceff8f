#include "worker/text/unicode.h"

#include "common/base/check.h"
#include "worker/text/utf8.h"

#include <string.h>
#include <utf8proc.h>

const struct unicode_range unicode_new[] = {
    {0x00897, 0x00897, "Mn", false}, {0x00cf3, 0x00cf3, "Mc", false}, {0x00ece, 0x00ece, "Mn", false},
    {0x01b4e, 0x01b4f, "Po", false}, {0x01b7f, 0x01b7f, "Po", false}, {0x01c89, 0x01c89, "Lu", false},
    {0x01c8a, 0x01c8a, "Ll", false}, {0x02427, 0x02429, "So", false}, {0x02ffc, 0x02fff, "So", false},
    {0x031e4, 0x031e5, "So", false}, {0x031ef, 0x031ef, "So", false}, {0x0a7cb, 0x0a7cc, "Lu", false},
    {0x0a7cd, 0x0a7cd, "Ll", false}, {0x0a7da, 0x0a7da, "Lu", false}, {0x0a7db, 0x0a7db, "Ll", false},
    {0x0a7dc, 0x0a7dc, "Lu", false}, {0x105c0, 0x105f3, "Lo", false}, {0x10d40, 0x10d49, "Nd", false},
    {0x10d4a, 0x10d4d, "Lo", false}, {0x10d4e, 0x10d4e, "Lm", false}, {0x10d4f, 0x10d4f, "Lo", false},
    {0x10d50, 0x10d65, "Lu", false}, {0x10d69, 0x10d6d, "Mn", false}, {0x10d6e, 0x10d6e, "Pd", false},
    {0x10d6f, 0x10d6f, "Lm", false}, {0x10d70, 0x10d85, "Ll", false}, {0x10d8e, 0x10d8f, "Sm", false},
    {0x10ec2, 0x10ec4, "Lo", false}, {0x10efc, 0x10eff, "Mn", false}, {0x1123f, 0x11240, "Lo", false},
    {0x11241, 0x11241, "Mn", false}, {0x11380, 0x11389, "Lo", false}, {0x1138b, 0x1138b, "Lo", false},
    {0x1138e, 0x1138e, "Lo", false}, {0x11390, 0x113b5, "Lo", false}, {0x113b7, 0x113b7, "Lo", false},
    {0x113b8, 0x113ba, "Mc", false}, {0x113bb, 0x113c0, "Mn", false}, {0x113c2, 0x113c2, "Mc", false},
    {0x113c5, 0x113c5, "Mc", false}, {0x113c7, 0x113ca, "Mc", false}, {0x113cc, 0x113cd, "Mc", false},
    {0x113ce, 0x113ce, "Mn", false}, {0x113cf, 0x113cf, "Mc", false}, {0x113d0, 0x113d0, "Mn", false},
    {0x113d1, 0x113d1, "Lo", false}, {0x113d2, 0x113d2, "Mn", false}, {0x113d3, 0x113d3, "Lo", false},
    {0x113d4, 0x113d5, "Po", false}, {0x113d7, 0x113d8, "Po", false}, {0x113e1, 0x113e2, "Mn", false},
    {0x116d0, 0x116e3, "Nd", false}, {0x11b00, 0x11b09, "Po", false}, {0x11bc0, 0x11be0, "Lo", false},
    {0x11be1, 0x11be1, "Po", false}, {0x11bf0, 0x11bf9, "Nd", false}, {0x11f00, 0x11f01, "Mn", false},
    {0x11f02, 0x11f02, "Lo", false}, {0x11f03, 0x11f03, "Mc", false}, {0x11f04, 0x11f10, "Lo", false},
    {0x11f12, 0x11f33, "Lo", false}, {0x11f34, 0x11f35, "Mc", false}, {0x11f36, 0x11f3a, "Mn", false},
    {0x11f3e, 0x11f3f, "Mc", false}, {0x11f40, 0x11f40, "Mn", false}, {0x11f41, 0x11f41, "Mc", false},
    {0x11f42, 0x11f42, "Mn", false}, {0x11f43, 0x11f4f, "Po", false}, {0x11f50, 0x11f59, "Nd", false},
    {0x11f5a, 0x11f5a, "Mn", false}, {0x1342f, 0x1342f, "Lo", false}, {0x13439, 0x1343f, "Cf", false},
    {0x13440, 0x13440, "Mn", false}, {0x13441, 0x13446, "Lo", false}, {0x13447, 0x13455, "Mn", false},
    {0x13460, 0x143fa, "Lo", false}, {0x16100, 0x1611d, "Lo", false}, {0x1611e, 0x16129, "Mn", false},
    {0x1612a, 0x1612c, "Mc", false}, {0x1612d, 0x1612f, "Mn", false}, {0x16130, 0x16139, "Nd", false},
    {0x16d40, 0x16d42, "Lm", false}, {0x16d43, 0x16d6a, "Lo", false}, {0x16d6b, 0x16d6c, "Lm", false},
    {0x16d6d, 0x16d6f, "Po", false}, {0x16d70, 0x16d79, "Nd", false}, {0x18cff, 0x18cff, "Lo", false},
    {0x1b132, 0x1b132, "Lo", false}, {0x1b155, 0x1b155, "Lo", false}, {0x1cc00, 0x1ccef, "So", false},
    {0x1ccf0, 0x1ccf9, "Nd", false}, {0x1cd00, 0x1ceb3, "So", false}, {0x1d2c0, 0x1d2d3, "No", false},
    {0x1df25, 0x1df2a, "Ll", false}, {0x1e030, 0x1e06d, "Lm", false}, {0x1e08f, 0x1e08f, "Mn", false},
    {0x1e4d0, 0x1e4ea, "Lo", false}, {0x1e4eb, 0x1e4eb, "Lm", false}, {0x1e4ec, 0x1e4ef, "Mn", false},
    {0x1e4f0, 0x1e4f9, "Nd", false}, {0x1e5d0, 0x1e5ed, "Lo", false}, {0x1e5ee, 0x1e5ef, "Mn", false},
    {0x1e5f0, 0x1e5f0, "Lo", false}, {0x1e5f1, 0x1e5fa, "Nd", false}, {0x1e5ff, 0x1e5ff, "Po", false},
    {0x1f6dc, 0x1f6dc, "So", false}, {0x1f774, 0x1f776, "So", false}, {0x1f77b, 0x1f77f, "So", false},
    {0x1f7d9, 0x1f7d9, "So", false}, {0x1f8b2, 0x1f8bb, "So", false}, {0x1f8c0, 0x1f8c1, "So", false},
    {0x1fa75, 0x1fa77, "So", false}, {0x1fa87, 0x1fa89, "So", false}, {0x1fa8f, 0x1fa8f, "So", false},
    {0x1faad, 0x1faaf, "So", false}, {0x1fabb, 0x1fabf, "So", false}, {0x1fac6, 0x1fac6, "So", false},
    {0x1face, 0x1facf, "So", false}, {0x1fada, 0x1fadc, "So", false}, {0x1fadf, 0x1fadf, "So", false},
    {0x1fae8, 0x1fae9, "So", false}, {0x1faf7, 0x1faf8, "So", false}, {0x1fbcb, 0x1fbef, "So", false},
    {0x2b739, 0x2b739, "Lo", true},  {0x2ebf0, 0x2ee5d, "Lo", true},  {0x31350, 0x323af, "Lo", true},
};
const size_t unicode_n_new = ARRAY_LEN(unicode_new);

static const struct unicode_range *find_new(uint32_t cp) {
    size_t low = 0, high = ARRAY_LEN(unicode_new);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (cp > unicode_new[mid].high) {
            low = mid + 1;
        } else if (cp < unicode_new[mid].low) {
            high = mid;
        } else {
            return &unicode_new[mid];
        }
    }
    return NULL;
}

bool unicode_is_new(uint32_t cp) { return find_new(cp) != NULL; }

// The blocks that hold nearly all text in use and nothing new: most of what is not ASCII is settled by these comparisons.
static bool surely_old(uint32_t cp) {
    return cp < unicode_new[0].low || (cp >= 0x3200 && cp < 0xA700) || (cp >= 0xA800 && cp < 0x10000) ||
           (cp >= 0x1F300 && cp < 0x1F6D0) || (cp >= 0x1F900 && cp < 0x1FA70);
}

bool unicode_has_new(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (i + 8 <= n && (memcpy(&eight, s + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        uint32_t cp;
        i += utf8_next(s + i, n - i, &cp);
        if (!surely_old(cp) && unicode_is_new(cp)) return true;
    }
    return false;
}

const char *unicode_category(uint32_t cp) {
    const struct unicode_range *r = find_new(cp);
    return r != NULL ? r->category : utf8proc_category_string((utf8proc_int32_t)cp);
}

bool unicode_is_numeric(uint32_t cp) {
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    bool unicode_17 = (cp >= 0x11DE0 && cp <= 0x11DE9) || (cp >= 0x16FF4 && cp <= 0x16FF6);
    return unicode_17 || unicode_category(cp)[0] == 'N';
}

bool unicode_is_space(uint32_t cp) {
    return (cp >= 0x09 && cp <= 0x0D) || cp == ' ' || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

// Other_Alphabetic outside L, M and N: the circled and squared Latin letters.
static bool is_alphabetic_symbol(uint32_t cp) {
    return (cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) || (cp >= 0x1F150 && cp <= 0x1F169) ||
           (cp >= 0x1F170 && cp <= 0x1F189);
}

bool unicode_is_word(uint32_t cp) {
    if (cp < 0x80) return (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z') || cp == '_';
    const char *c = unicode_category(cp);
    if (c[0] == 'L' || c[0] == 'M') return true;
    if (c[0] == 'N') return c[1] == 'd' || c[1] == 'l';
    return (c[0] == 'P' && c[1] == 'c') || cp == 0x200C || cp == 0x200D || is_alphabetic_symbol(cp);
}

bool unicode_is_printable(uint32_t cp) {
    if (cp < 0x80) return cp >= ' ' && cp < 0x7F;
    const char *c = unicode_category(cp);
    return c[0] != 'C' && c[0] != 'Z';
}

uint32_t unicode_lower(uint32_t cp) {
    static const struct {
        uint32_t low, high;
        int32_t step; // to the lower case
    } after_utf8proc[] = {{0x1C89, 0x1C89, 1},
                          {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
                          {0xA7CC, 0xA7CC, 1},
                          {0xA7DA, 0xA7DA, 1},
                          {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
                          {0x10D50, 0x10D65, 0x20},
                          {0xA7CE, 0xA7CE, 1},
                          {0xA7D2, 0xA7D2, 1},
                          {0xA7D4, 0xA7D4, 1},
                          {0x16EA0, 0x16EB8, 0x1B}};
    for (size_t i = 0; cp >= 0x1C89 && i < ARRAY_LEN(after_utf8proc); i++) {
        if (cp >= after_utf8proc[i].low && cp <= after_utf8proc[i].high)
            return (uint32_t)((int32_t)cp + after_utf8proc[i].step);
    }
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}
