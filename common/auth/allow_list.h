// The public certificates of everybody who may speak: all *.cert files of one folder. A list is immutable; reloading makes a
// new one.
#pragma once
#include "common/auth/certificate.h"

enum { ALLOW_MAX = 16384 };

struct allow_list {
    uint32_t n;
    struct certificate *entries; // sorted by public key, no secrets
};

// One unreadable file fails the whole list: a typing mistake must not shut somebody out or in quietly. Two certificates with
// one key likewise. ERR_CONFIG, ERR_SYSTEM.
err_id allow_list_load(const char *folder, struct allow_list *out, struct error *e);
void allow_list_free(struct allow_list *list);
// NULL: nobody with this key may speak.
const struct certificate *allow_list_find(const struct allow_list *list, const uint8_t key[CERTIFICATE_KEY_BYTES]);
