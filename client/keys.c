// The handle's keys: what shoal_options says of them, as the sockets want it.
#include "client/internal.h"

#include "common/auth/certificate.h"

#include <stdio.h>
#include <string.h>

// One of the words of server_key: a certificate's path, or the key itself.
static err_id read_server(const char *word, uint8_t key[NET_KEY_BYTES], struct error *e) {
    struct certificate c;
    if (certificate_key_parse(word, key)) return ERR_NONE;
    TRY(certificate_load(word, &c, e));
    if (c.role != CERTIFICATE_ROUTER)
        return error_set(e, ERR_CONFIG, "%s is a %s's certificate; the routers' is needed", word,
                         certificate_role_name(c.role));
    memcpy(key, c.public_key, NET_KEY_BYTES);
    return ERR_NONE;
}

static err_id read_servers(const char *list, struct shoal *s, struct error *e) {
    char word[SERVER_KEY_WORD];
    for (const char *at = list; *at;) {
        size_t len = strcspn(at, ",");
        if (len >= sizeof word) return error_set(e, ERR_INVALID_ARGUMENT, "a path in server_key is too long: %.80s", at);
        if (len > 0 && s->n_servers == ROUTERS_MAX)
            return error_set(e, ERR_INVALID_ARGUMENT, "more than %d server keys are given", ROUTERS_MAX);
        snprintf(word, sizeof word, "%.*s", (int)len, at);
        if (len > 0) TRY(read_server(word, s->servers[s->n_servers++], e));
        at += len + (at[len] == ',');
    }
    return ERR_NONE;
}

static bool server_key(void *ctx, uint32_t at, uint8_t key[NET_KEY_BYTES]) {
    const struct shoal *s = ctx;
    if (at >= s->n_servers) return false;
    memcpy(key, s->servers[at], NET_KEY_BYTES);
    return true;
}

err_id keys_open(const struct shoal_options *o, struct shoal *s, struct error *e) {
    struct net_security_options net = {.loop = &s->loop, .ctx = s, .server = server_key};
    struct certificate own = {0};
    if (o->key == NULL && o->server_key == NULL && !o->plaintext_anywhere) return ERR_NONE;
    if ((o->key == NULL) != (o->server_key == NULL))
        return error_set(e, ERR_INVALID_ARGUMENT,
                         "an encrypted link needs both keys: this client's own (key) and the routers' "
                         "public one (server_key)");
    if (o->key) {
        TRY(read_servers(o->server_key, s, e));
        if (s->n_servers == 0) return error_set(e, ERR_INVALID_ARGUMENT, "server_key names no key");
        TRY(certificate_load_secret(o->key, &own, e));
        net.public_key = own.public_key;
        net.secret_key = own.secret_key;
    }
    err_id id = net_security_create(&net, &s->security, e);
    explicit_bzero(&own, sizeof own);
    return id;
}
