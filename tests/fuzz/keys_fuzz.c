// Files of keys and certificates, broken in every way: each is read or refused with a sentence, and what is read comes back
// the same after printing.
#include "common/auth/api_keys.h"
#include "common/auth/certificate.h"
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/hash.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 40000, MUTATIONS_MAX = 6 };

static const char keys_file[] =
    "# keys\nlaptop shop user blake2b:0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8\n"
    "ops shop operator blake2b:bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319 # x\n";
static const char certificate_file[] =
    "metadata\n    name = \"shop-1\"\n    role = \"client\"\n    tenant = \"shop\"\ncurve\n"
    "    public-key = \"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7\"\n";

static uint64_t draw(uint64_t *seed, uint64_t below) {
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    return hash_mix(*seed) % below;
}

static void mutate(struct buf *text, uint64_t *seed) {
    static const char tokens[] = " \t\r\n\"=#\\:\0user operator curve metadata role blake2b: \x7f\xff";
    size_t at = text->len ? draw(seed, text->len) : 0, n = 1 + draw(seed, 8);
    switch (draw(seed, 4)) {
    case 0: // a byte
        if (text->len) text->data[at] = (char)draw(seed, 256);
        break;
    case 1: // cut
        if (n > text->len - at) n = text->len - at;
        memmove(text->data + at, text->data + at + n, text->len - at - n);
        text->len -= n;
        break;
    case 2: // something that means something
        buf_append(text, tokens + draw(seed, sizeof tokens - 9), n);
        break;
    default: // twice
        if (text->len == 0 || text->len > 4096) break;
        buf_reserve(text, text->len); // may move it
        memcpy(text->data + text->len, text->data, text->len);
        text->len *= 2;
    }
}

static void try_keys(const struct buf *text) {
    struct api_keys keys, again;
    struct error e = {0};
    if (api_keys_parse("f", text->data ? text->data : "", text->len, &keys, &e) != ERR_NONE) {
        CHECK(e.id == ERR_CONFIG && e.text[0]);
        return;
    }
    struct buf printed = {0};
    buf_str(&printed, "");
    for (uint32_t i = 0; i < keys.n; i++) api_key_print(&keys.keys[i], &printed);
    CHECK(api_keys_parse("g", printed.data, printed.len, &again, &e) == ERR_NONE && again.n == keys.n);
    CHECK(memcmp(keys.keys, again.keys, keys.n * sizeof *keys.keys) == 0);
    buf_free(&printed);
    api_keys_free(&keys);
    api_keys_free(&again);
}

static void try_certificate(const struct buf *text) {
    struct certificate c, again;
    struct error e = {0};
    if (certificate_parse("f", text->data ? text->data : "", text->len, &c, &e) != ERR_NONE) {
        CHECK(e.id == ERR_CONFIG && e.text[0]);
        return;
    }
    struct buf printed = {0};
    certificate_print(&c, c.has_secret, &printed);
    CHECK(certificate_parse("g", printed.data, printed.len, &again, &e) == ERR_NONE);
    CHECK(memcmp(c.public_key, again.public_key, sizeof c.public_key) == 0 && c.role == again.role);
    CHECK(strcmp(c.name, again.name) == 0 && strcmp(c.tenant, again.tenant) == 0);
    buf_free(&printed);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < ROUNDS; i++) {
        struct buf text = {0};
        bool keys = i % 2;
        buf_str(&text, keys ? keys_file : certificate_file);
        for (uint64_t n = 1 + draw(&seed, MUTATIONS_MAX); n > 0; n--) mutate(&text, &seed);
        (keys ? try_keys : try_certificate)(&text);
        buf_free(&text);
    }
    return 0;
}
