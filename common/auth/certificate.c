#include "common/auth/certificate.h"

#include "common/auth/files.h"
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/config.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

static const char *const roles[] = {"client", "worker", "router", "operator"};

const char *certificate_role_name(enum certificate_role role) { return roles[role]; }

bool certificate_role_parse(const char *word, enum certificate_role *out) {
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (strcmp(word, roles[i]) == 0) return *out = (enum certificate_role)i, true;
    return false;
}

void certificate_key_text(const uint8_t key[CERTIFICATE_KEY_BYTES], char out[CERTIFICATE_TEXT]) {
    CHECK(zmq_z85_encode(out, key, CERTIFICATE_KEY_BYTES) != NULL);
}

bool certificate_key_parse(const char *text, uint8_t out[CERTIFICATE_KEY_BYTES]) {
    static const char others[] = ".-:+=^!/*?&<>()[]{}@%$#"; // Z85 (ZeroMQ RFC 32) beside letters and digits
    if (strlen(text) != CERTIFICATE_TEXT - 1) return false;
    for (const char *c = text; *c; c++) // libzmq's decoder looks characters up in a table that ends at 0x7f
        if (!((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || strchr(others, *c)))
            return false;
    return zmq_z85_decode(out, text) != NULL;
}

// --- reading

struct reader {
    struct certificate *out;
    char section[32];
    bool has_public, has_role;
};

static err_id set_key(const char *value, uint8_t out[CERTIFICATE_KEY_BYTES], bool *has, struct error *e) {
    if (!certificate_key_parse(value, out)) return error_set(e, ERR_CONFIG, "a key has 40 characters of Z85");
    *has = true;
    return ERR_NONE;
}

static err_id set_name(const char *name, const char *value, char out[NAME_SIZE], struct error *e) {
    if (!config_is_name(value))
        return error_set(e, ERR_CONFIG, "%s: \"%.80s\" is no name: expected 1 to %d letters, digits, '.', '_' or '-'", name,
                         value, NAME_MAX_BYTES);
    snprintf(out, NAME_SIZE, "%s", value);
    return ERR_NONE;
}

static err_id set_property(struct reader *r, const char *name, const char *value, struct error *e) {
    struct certificate *c = r->out;
    if (strcmp(r->section, "curve") == 0) {
        if (strcmp(name, "public-key") == 0) return set_key(value, c->public_key, &r->has_public, e);
        if (strcmp(name, "secret-key") == 0) return set_key(value, c->secret_key, &c->has_secret, e);
    } else if (strcmp(r->section, "metadata") == 0) {
        if (strcmp(name, "name") == 0) return set_name(name, value, c->name, e);
        if (strcmp(name, "tenant") == 0) return set_name(name, value, c->tenant, e);
        if (strcmp(name, "role") == 0) {
            r->has_role = certificate_role_parse(value, &c->role);
            if (!r->has_role)
                return error_set(e, ERR_CONFIG, "the role is client, worker, router or operator, not \"%.80s\"", value);
        }
    }
    return ERR_NONE; // other metadata is its owner's business
}

static char *trim(char *text) {
    text += strspn(text, " \t\r");
    for (size_t n = strlen(text); n && strchr(" \t\r", text[n - 1]); n--) text[n - 1] = '\0';
    return text;
}

// `name = "value"`, `name = value`, or `section`. A '#' begins a comment only where a word may begin: Z85 has it too.
static err_id parse_line(struct reader *r, char *line, struct error *e) {
    bool indented = line[0] == ' ' || line[0] == '\t';
    char *text = trim(line), *equals = strchr(text, '=');
    if (*text == '\0' || *text == '#') return ERR_NONE;
    if (!indented) {
        snprintf(r->section, sizeof r->section, "%s", text);
        return ERR_NONE;
    }
    if (equals == NULL) return error_set(e, ERR_CONFIG, "expected NAME = \"VALUE\"");
    *equals = '\0';
    char *value = trim(equals + 1), *name = trim(text);
    if (*value == '"') {
        char *end = strchr(++value, '"');
        if (end == NULL) return error_set(e, ERR_CONFIG, "the quote does not end");
        *end = '\0';
    }
    return set_property(r, name, value, e);
}

err_id certificate_parse(const char *file, const char *text, size_t len, struct certificate *out, struct error *e) {
    struct error why = {0};
    struct reader r = {.out = out};
    char *copy = xmalloc(len + 1), *rest = copy, *line;
    uint32_t number = 0;
    *out = (struct certificate){0};
    if (len) memcpy(copy, text, len);
    copy[len] = '\0';
    err_id id = strlen(copy) != len ? error_set(&why, ERR_CONFIG, "the file holds a zero byte") : ERR_NONE;
    while (id == ERR_NONE && (line = strsep(&rest, "\n")) != NULL) {
        number++;
        id = parse_line(&r, line, &why);
    }
    sodium_memzero(copy, len);
    free(copy);
    if (id != ERR_NONE) return error_set(e, id, "%s:%u: %s", file, number, error_text(&why));
    if (!r.has_public) return error_set(e, ERR_CONFIG, "%s is no certificate: it has no curve/public-key", file);
    if (!out->name[0] || !r.has_role)
        return error_set(e, ERR_CONFIG, "%s has no metadata/%s; `shoal keygen` writes it", file,
                         out->name[0] ? "role" : "name");
    if (out->tenant[0] && (out->role == CERTIFICATE_WORKER || out->role == CERTIFICATE_ROUTER))
        return error_set(e, ERR_CONFIG, "%s: only a client belongs to a tenant, not a %s", file, roles[out->role]);
    return ERR_NONE;
}

err_id certificate_load(const char *path, struct certificate *out, struct error *e) {
    struct buf text = {0};
    err_id id = auth_file_read(path, CERTIFICATE_FILE_MAX, &text, e);
    if (id == ERR_NONE) id = certificate_parse(path, text.data, text.len, out, e);
    if (text.data) sodium_memzero(text.data, text.len);
    buf_free(&text);
    return id;
}

static err_id secret_path(const char *path, char out[PATH_MAX], struct error *e) {
    if (snprintf(out, PATH_MAX, "%s_secret", path) < PATH_MAX) return ERR_NONE;
    return error_set(e, ERR_CONFIG, "the path %.80s… is too long", path);
}

err_id certificate_load_secret(const char *path, struct certificate *out, struct error *e) {
    char secret[PATH_MAX], derived[CERTIFICATE_TEXT], text[CERTIFICATE_TEXT];
    struct stat s;
    TRY(secret_path(path, secret, e));
    if (stat(secret, &s) != 0)
        return error_set(e, ERR_SYSTEM, "cannot read the certificate %s: %s; `shoal keygen` makes one", secret,
                         strerror(errno));
    if (s.st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
        return error_set(e, ERR_CONFIG, "%s can be read or changed by others; run: chmod 600 %s", secret, secret);
    TRY(certificate_load(secret, out, e));
    if (!out->has_secret) return error_set(e, ERR_CONFIG, "%s has no curve/secret-key", secret);
    certificate_key_text(out->secret_key, text);
    bool fits = zmq_curve_public(derived, text) == 0;
    certificate_key_text(out->public_key, text);
    if (!fits || strcmp(derived, text) != 0)
        return error_set(e, ERR_CONFIG, "%s: the public key does not belong to the secret one", secret);
    return ERR_NONE;
}

// --- making

err_id certificate_draw(struct certificate *c, struct error *e) {
    char public_text[CERTIFICATE_TEXT], secret_text[CERTIFICATE_TEXT];
    if (zmq_curve_keypair(public_text, secret_text) != 0)
        return error_set(e, ERR_SYSTEM, "this build of ZeroMQ has no CURVE: %s", zmq_strerror(zmq_errno()));
    CHECK(certificate_key_parse(public_text, c->public_key) && certificate_key_parse(secret_text, c->secret_key));
    c->has_secret = true;
    return ERR_NONE;
}

void certificate_print(const struct certificate *c, bool secret, struct buf *out) {
    char text[CERTIFICATE_TEXT];
    buf_str(out, secret ? "# Shoal: a SECRET certificate. Keep it on its machine.\n"
                        : "# Shoal: a public certificate. Who has it in security.allow lets its owner speak.\n");
    buf_printf(out, "metadata\n    name = \"%s\"\n    role = \"%s\"\n", c->name, roles[c->role]);
    if (c->tenant[0]) buf_printf(out, "    tenant = \"%s\"\n", c->tenant);
    certificate_key_text(c->public_key, text);
    buf_printf(out, "curve\n    public-key = \"%s\"\n", text);
    if (!secret) return;
    certificate_key_text(c->secret_key, text);
    buf_printf(out, "    secret-key = \"%s\"\n", text);
}

err_id certificate_save(const char *path, const struct certificate *c, struct error *e) {
    char secret[PATH_MAX];
    struct buf text = {0};
    TRY(secret_path(path, secret, e));
    certificate_print(c, true, &text);
    err_id id = auth_file_create(secret, &text, 0600, e);
    sodium_memzero(text.data, text.len);
    buf_reset(&text);
    certificate_print(c, false, &text);
    if (id == ERR_NONE && (id = auth_file_create(path, &text, 0644, e)) != ERR_NONE) unlink(secret);
    buf_free(&text);
    return id;
}
