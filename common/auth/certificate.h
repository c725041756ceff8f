// CURVE certificates: who somebody is on a ZeroMQ link. The files are czmq's (zcert): NAME.cert holds the public half and
// the metadata, NAME.cert_secret both halves,
//     metadata
//         name = "w-17"
//         role = "worker"
//     curve
//         public-key = "…40 characters of Z85…"
//         secret-key = "…"
// czmq's own reader and writer are not used: zcert writes over what is there, takes a secret file for a public one, and
// reports on stdout. Plain data, no pointers.
#pragma once
#include "common/base/error.h"
#include "common/base/limits.h"

#include <stdint.h>

enum { CERTIFICATE_FILE_MAX = 16 << 10, CERTIFICATE_KEY_BYTES = 32, CERTIFICATE_TEXT = 41 }; // Z85 of a key, NUL

// What its owner may say on a link: the roles of proto/README.md. An operator is a client who may also drain workers.
enum certificate_role { CERTIFICATE_CLIENT, CERTIFICATE_WORKER, CERTIFICATE_ROUTER, CERTIFICATE_OPERATOR };

struct certificate {
    char name[NAME_SIZE];
    enum certificate_role role;
    char tenant[NAME_SIZE]; // of a client or an operator; empty: none
    uint8_t public_key[CERTIFICATE_KEY_BYTES], secret_key[CERTIFICATE_KEY_BYTES];
    bool has_secret;
};

struct buf;

// file is used in messages. ERR_CONFIG: "FILE:LINE: sentence", or what is missing.
err_id certificate_parse(const char *file, const char *text, size_t len, struct certificate *out, struct error *e);
// The public half, NAME.cert.
err_id certificate_load(const char *path, struct certificate *out, struct error *e);
// Both halves, from path + "_secret". Refuses a file that everybody on the machine may read.
err_id certificate_load_secret(const char *path, struct certificate *out, struct error *e);
// A pair of keys nobody had before.
err_id certificate_draw(struct certificate *c, struct error *e);
void certificate_print(const struct certificate *c, bool secret, struct buf *out);
// Writes path (mode 0644) and path + "_secret" (mode 0600). Never over an existing file.
err_id certificate_save(const char *path, const struct certificate *c, struct error *e);

void certificate_key_text(const uint8_t key[CERTIFICATE_KEY_BYTES], char out[CERTIFICATE_TEXT]);
bool certificate_key_parse(const char *text, uint8_t out[CERTIFICATE_KEY_BYTES]);
const char *certificate_role_name(enum certificate_role role);
bool certificate_role_parse(const char *word, enum certificate_role *out);
