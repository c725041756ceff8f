#include "common/auth/api_keys.h"

#include "common/auth/files.h"
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/config.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 4, RANDOM_BYTES = 32 };
_Static_assert(API_KEY_HASH_BYTES == crypto_generichash_BYTES, "the hash is BLAKE2b-256");

static const char hash_prefix[] = "blake2b:", text_prefix[] = "sk-shoal-";
static const char *const roles[] = {"user", "operator"};

const char *api_role_name(enum api_role role) { return roles[role]; }

bool api_role_parse(const char *word, enum api_role *out) {
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (strcmp(word, roles[i]) == 0) return *out = (enum api_role)i, true;
    return false;
}

void api_key_hash(const char *text, size_t len, uint8_t out[API_KEY_HASH_BYTES]) {
    CHECK(crypto_generichash(out, API_KEY_HASH_BYTES, (const unsigned char *)text, len, NULL, 0) == 0);
}

void api_key_draw(struct api_key *key, char text[API_KEY_SIZE]) {
    unsigned char secret[RANDOM_BYTES];
    CHECK(sodium_init() >= 0);
    randombytes_buf(secret, sizeof secret);
    memcpy(text, text_prefix, sizeof text_prefix);
    sodium_bin2base64(text + sizeof text_prefix - 1, API_KEY_SIZE - (sizeof text_prefix - 1), secret, sizeof secret,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(secret, sizeof secret);
    api_key_hash(text, strlen(text), key->hash);
}

// --- reading

static err_id parse_hash(const char *word, uint8_t out[API_KEY_HASH_BYTES], struct error *e) {
    size_t n = 0, prefix = sizeof hash_prefix - 1;
    const char *end = NULL;
    bool ok = strncmp(word, hash_prefix, prefix) == 0 && strlen(word + prefix) == 2 * API_KEY_HASH_BYTES &&
              sodium_hex2bin(out, API_KEY_HASH_BYTES, word + prefix, 2 * API_KEY_HASH_BYTES, NULL, &n, &end) == 0 &&
              n == API_KEY_HASH_BYTES;
    if (ok) return ERR_NONE;
    return error_set(e, ERR_CONFIG, "expected blake2b: and 64 hex digits at the end; `shoal key add` writes such lines");
}

// fields: FIELDS words, or fewer.
static err_id parse_fields(char *const *fields, size_t n, struct api_key *out, struct error *e) {
    if (n != FIELDS) return error_set(e, ERR_CONFIG, "expected NAME TENANT ROLE HASH; this line has %zu words", n);
    if (!config_is_name(fields[0]) || !config_is_name(fields[1]))
        return error_set(e, ERR_CONFIG, "\"%.80s\" is no name: expected 1 to %d letters, digits, '.', '_' or '-'",
                         config_is_name(fields[0]) ? fields[1] : fields[0], NAME_MAX_BYTES);
    snprintf(out->name, sizeof out->name, "%s", fields[0]);
    snprintf(out->tenant, sizeof out->tenant, "%s", fields[1]);
    if (!api_role_parse(fields[2], &out->role))
        return error_set(e, ERR_CONFIG, "the role is user or operator, not \"%.80s\"", fields[2]);
    return parse_hash(fields[3], out->hash, e);
}

static const struct api_key *named(const struct api_keys *keys, const char *name) {
    for (uint32_t i = 0; i < keys->n; i++)
        if (strcmp(keys->keys[i].name, name) == 0) return &keys->keys[i];
    return NULL;
}

static err_id parse_line(char *line, struct api_keys *out, struct error *e) {
    char *fields[FIELDS + 1], *rest = line, *word;
    size_t n = 0;
    line[strcspn(line, "#")] = '\0';
    while (n < ARRAY_LEN(fields) && (word = strsep(&rest, " \t\r")) != NULL)
        if (*word) fields[n++] = word;
    if (n == 0) return ERR_NONE;
    if (out->n == API_KEYS_MAX) return error_set(e, ERR_CONFIG, "a file has at most %d keys", API_KEYS_MAX);
    struct api_key *key = &out->keys[out->n];
    TRY(parse_fields(fields, n, key, e));
    if (named(out, key->name)) return error_set(e, ERR_CONFIG, "the name %s stands here twice", key->name);
    out->n++;
    return ERR_NONE;
}

err_id api_keys_parse(const char *file, const char *text, size_t len, struct api_keys *out, struct error *e) {
    struct error why = {0};
    char *copy = xmalloc(len + 1), *rest = copy, *line;
    memcpy(copy, text, len);
    copy[len] = '\0';
    CHECK(sodium_init() >= 0);
    *out = (struct api_keys){.keys = xcalloc(API_KEYS_MAX, sizeof *out->keys)};
    err_id id = memchr(text, 0, len) ? error_set(&why, ERR_CONFIG, "the file holds a zero byte") : ERR_NONE;
    uint32_t number = 0;
    while (id == ERR_NONE && (line = strsep(&rest, "\n")) != NULL) {
        number++;
        id = parse_line(line, out, &why);
    }
    if (id != ERR_NONE) {
        error_set(e, ERR_CONFIG, "%s:%u: %s", file, number, error_text(&why));
        api_keys_free(out);
    }
    free(copy);
    return id;
}

err_id api_keys_load(const char *path, struct api_keys *out, struct error *e) {
    struct buf text = {0};
    TRY(auth_file_read(path, API_KEYS_FILE_MAX, &text, e));
    err_id id = api_keys_parse(path, text.data, text.len, out, e);
    buf_free(&text);
    return id;
}

void api_keys_free(struct api_keys *keys) {
    free(keys->keys);
    *keys = (struct api_keys){0};
}

const struct api_key *api_keys_find(const struct api_keys *keys, const char *text, size_t len) {
    uint8_t hash[API_KEY_HASH_BYTES];
    const struct api_key *found = NULL;
    if (len == 0 || len > API_KEY_TEXT_MAX) return NULL;
    api_key_hash(text, len, hash);
    for (uint32_t i = 0; i < keys->n; i++) // all of them, whichever fits
        if (sodium_memcmp(hash, keys->keys[i].hash, sizeof hash) == 0) found = &keys->keys[i];
    return found;
}

// --- writing

void api_key_print(const struct api_key *key, struct buf *out) {
    char hex[2 * API_KEY_HASH_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, key->hash, sizeof key->hash);
    buf_printf(out, "%s %s %s %s%s\n", key->name, key->tenant, roles[key->role], hash_prefix, hex);
}

err_id api_keys_save(const char *path, const struct api_keys *keys, struct error *e) {
    struct buf text = {0};
    buf_str(&text, "# API keys: NAME TENANT ROLE HASH. Made by `shoal key`; the keys themselves are kept nowhere.\n");
    for (uint32_t i = 0; i < keys->n; i++) api_key_print(&keys->keys[i], &text);
    err_id id = auth_file_replace(path, &text, 0640, e);
    buf_free(&text);
    return id;
}
