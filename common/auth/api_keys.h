// API keys of the HTTP side. The file holds only hashes: one key a line,
//     NAME TENANT ROLE blake2b:64-HEX-DIGITS
// with blanks between, empty lines, and comments from '#' to the end of a line. The hash is BLAKE2b-256 (RFC 7693, unkeyed)
// of the key as it travels. A key is 32 random bytes and not a word that people make up, so its hash needs neither salt nor
// slowness. A set is immutable; reloading makes a new one. Pure but for api_keys_load and api_keys_save.
#pragma once
#include "common/base/error.h"
#include "common/base/limits.h"

#include <stdint.h>

enum {
    API_KEYS_MAX = 4096,
    API_KEYS_FILE_MAX = 1 << 20, // bytes
    API_KEY_HASH_BYTES = 32,
    API_KEY_SIZE = 53,      // "sk-shoal-", 43 characters of base64url, NUL
    API_KEY_TEXT_MAX = 256, // a longer one is nobody's
};

enum api_role {
    API_USER,     // requests
    API_OPERATOR, // and /metrics
};

struct api_key {
    char name[NAME_SIZE]; // for people: which key to revoke
    char tenant[NAME_SIZE];
    enum api_role role;
    uint8_t hash[API_KEY_HASH_BYTES];
};

struct api_keys {
    uint32_t n;
    struct api_key *keys;
};

struct buf;

// *out is filled on success; free it with api_keys_free. file is used in messages: "FILE:LINE: sentence". ERR_CONFIG, or
// ERR_SYSTEM when the file can't be read.
err_id api_keys_parse(const char *file, const char *text, size_t len, struct api_keys *out, struct error *e);
err_id api_keys_load(const char *path, struct api_keys *out, struct error *e);
void api_keys_free(struct api_keys *keys);

// Whose key this is; NULL: nobody's. The time does not tell which key came near: the text is hashed, and compared with every
// hash in constant time.
const struct api_key *api_keys_find(const struct api_keys *keys, const char *text, size_t len);

// A new key for `out->name`, `->tenant` and `->role`: draws the text, which is kept nowhere, and fills the hash.
void api_key_draw(struct api_key *out, char text[API_KEY_SIZE]);
void api_key_hash(const char *text, size_t len, uint8_t out[API_KEY_HASH_BYTES]);
const char *api_role_name(enum api_role role);
bool api_role_parse(const char *word, enum api_role *out);
// The line of one key, with its newline.
void api_key_print(const struct api_key *key, struct buf *out);
// Replaces the file as a whole (temporary name, fsync, rename), so that nobody reads half of it. A new file gets mode 0640,
// an existing one keeps its own. ERR_SYSTEM.
err_id api_keys_save(const char *path, const struct api_keys *keys, struct error *e);
