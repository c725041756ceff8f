// One value at a time: from text into the struct, and back.
#include "common/sys/config_keys.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/endpoint.h"
#include "common/sys/parse.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool config_is_name(const char *text) {
    size_t len = strlen(text);
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c)) return false;
    return len > 0 && len <= NAME_MAX_BYTES;
}

static void *at(const struct config_key *key, void *base) { return (char *)base + key->offset; }
static const void *at_const(const struct config_key *key, const void *base) { return (const char *)base + key->offset; }

static err_id refuse(const char *shown, const char *expected, const char *text, struct error *e) {
    return error_set(e, ERR_CONFIG, "%s expects %s, not \"%.80s\"", shown, expected, text);
}

static bool is_number(enum config_type type) {
    return type == CONFIG_NUMBER || type == CONFIG_PERCENT || type == CONFIG_DURATION || type == CONFIG_SIZE ||
           type == CONFIG_COUNT;
}

static void number_text(enum config_type type, uint64_t value, char out[PARSE_TEXT]) {
    switch (type) {
    case CONFIG_DURATION:
        format_duration(value, out);
        break;
    case CONFIG_SIZE:
        format_size(value, out);
        break;
    case CONFIG_COUNT:
        format_count(value, out);
        break;
    default:
        snprintf(out, PARSE_TEXT, "%" PRIu64, value);
    }
}

static bool parse_number(enum config_type type, const char *text, uint64_t *value) {
    uint32_t percent;
    switch (type) {
    case CONFIG_DURATION:
        return parse_duration(text, value);
    case CONFIG_SIZE:
        return parse_size(text, value);
    case CONFIG_COUNT:
        return parse_count(text, value);
    case CONFIG_PERCENT:
        return parse_percent(text, &percent) ? *value = percent, true : false;
    default:
        return parse_u64(text, value);
    }
}

static const char *number_expected(enum config_type type) {
    switch (type) {
    case CONFIG_DURATION:
        return "a duration such as 300ms, 2s or 10m";
    case CONFIG_SIZE:
        return "a size such as 64KB or 8MB";
    case CONFIG_COUNT:
        return "a count such as 4096, 64k or 4M";
    case CONFIG_PERCENT:
        return "a whole number such as 40 or 40%";
    default:
        return "a whole number";
    }
}

static err_id set_number(const struct config_key *key, void *base, const char *shown, const char *text, struct error *e) {
    uint64_t value;
    char low[PARSE_TEXT], high[PARSE_TEXT];
    if (!parse_number(key->type, text, &value)) return refuse(shown, number_expected(key->type), text, e);
    if (value < key->min || value > key->max) {
        number_text(key->type, key->min, low);
        number_text(key->type, key->max, high);
        if (key->min == key->max) return error_set(e, ERR_CONFIG, "%s must be %s, not %.80s", shown, low, text);
        return error_set(e, ERR_CONFIG, "%s must lie between %s and %s, not %.80s", shown, low, high, text);
    }
    if (key->type == CONFIG_SIZE || key->type == CONFIG_COUNT)
        *(uint64_t *)at(key, base) = value;
    else
        *(uint32_t *)at(key, base) = (uint32_t)value;
    return ERR_NONE;
}

static uint64_t get_number(const struct config_key *key, const void *base) {
    if (key->type == CONFIG_SIZE || key->type == CONFIG_COUNT) return *(const uint64_t *)at_const(key, base);
    return *(const uint32_t *)at_const(key, base);
}

static err_id set_word(const struct config_key *key, void *base, const char *shown, const char *text, struct error *e) {
    char expected[120] = "";
    for (int i = 0; key->words[i]; i++) {
        if (strcmp(key->words[i], text) == 0) return *(int *)at(key, base) = i, ERR_NONE;
        size_t n = strlen(expected);
        snprintf(expected + n, sizeof expected - n, "%s%s", i == 0 ? "" : key->words[i + 1] ? ", " : " or ", key->words[i]);
    }
    return refuse(shown, expected, text, e);
}

static err_id set_text(char *to, size_t size, const char *shown, const char *text, struct error *e) {
    if (strlen(text) >= size) return error_set(e, ERR_CONFIG, "%s has at most %zu bytes", shown, size - 1);
    memcpy(to, text, strlen(text) + 1);
    return ERR_NONE;
}

static err_id check_address(const char *shown, const char *text, struct error *e) {
    struct endpoint p;
    struct error why = {0};
    if (endpoint_parse(text, &p, &why) != ERR_NONE) return error_set(e, ERR_CONFIG, "%s: %s", shown, error_text(&why));
    return ERR_NONE;
}

static err_id set_address(const struct config_key *key, void *base, const char *shown, const char *text, struct error *e) {
    if (text[0]) TRY(check_address(shown, text, e));
    return set_text(at(key, base), ADDRESS_SIZE, shown, text, e);
}

err_id config_value_add_router(const struct config_key *key, void *base, const char *shown, const char *text,
                               struct error *e) {
    struct config_discover *d = at(key, base);
    if (d->n_entries == ROUTERS_MAX) return error_set(e, ERR_CONFIG, "%s has at most %d routers", shown, ROUTERS_MAX);
    TRY(check_address(shown, text, e));
    TRY(set_text(d->entries[d->n_entries], ADDRESS_SIZE, shown, text, e));
    d->kind = DISCOVER_LIST;
    d->n_entries++;
    return ERR_NONE;
}

static err_id set_discover(const struct config_key *key, void *base, const char *shown, const char *text, struct error *e) {
    struct config_discover *d = at(key, base);
    *d = (struct config_discover){.kind = DISCOVER_NONE};
    if (text[0] == '\0') return ERR_NONE;
    bool dns = strncmp(text, "dns:", 4) == 0, file = strncmp(text, "file:", 5) == 0;
    if (!dns && !file) return config_value_add_router(key, base, shown, text, e);
    const char *rest = text + (dns ? 4 : 5);
    if (dns) TRY(check_address(shown, rest, e));
    if (file && rest[0] != '/') return refuse(shown, "file: and an absolute path", text, e);
    TRY(set_text(d->entries[0], ADDRESS_SIZE, shown, rest, e));
    d->kind = dns ? DISCOVER_DNS : DISCOVER_FILE;
    d->n_entries = 1;
    return ERR_NONE;
}

static err_id check_name(const char *shown, const char *text, struct error *e) {
    if (config_is_name(text)) return ERR_NONE;
    return error_set(e, ERR_CONFIG, "%s: \"%.80s\" is no name: expected 1 to %d letters, digits, '.', '_' or '-'", shown,
                     text, NAME_MAX_BYTES);
}

err_id config_value_add_name(const struct config_key *key, void *base, const char *shown, const char *text,
                             struct error *e) {
    uint32_t *n = (uint32_t *)((char *)base + key->offset_n);
    if (*n == key->max) return error_set(e, ERR_CONFIG, "%s has at most %d names", shown, (int)key->max);
    TRY(check_name(shown, text, e));
    snprintf((char *)at(key, base) + *n * NAME_SIZE, NAME_SIZE, "%s", text);
    ++*n;
    return ERR_NONE;
}

err_id config_value_set(const struct config_key *key, void *base, const char *shown, const char *text, struct error *e) {
    if (is_number(key->type)) return set_number(key, base, shown, text, e);
    switch (key->type) {
    case CONFIG_WORD:
        return set_word(key, base, shown, text, e);
    case CONFIG_ADDRESS:
        return set_address(key, base, shown, text, e);
    case CONFIG_FILE:
        return set_text(at(key, base), CONFIG_PATH_SIZE, shown, text, e);
    case CONFIG_DISCOVER:
        return set_discover(key, base, shown, text, e);
    case CONFIG_NAME:
        break;
    default:
        return refuse(shown, key->type == CONFIG_MAP ? "named entries below it" : "a list", text, e);
    }
    TRY(check_name(shown, text, e));
    return set_text(at(key, base), NAME_SIZE, shown, text, e);
}

static void put_list(const char *first, size_t stride, uint32_t n, struct buf *out) {
    buf_char(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        if (i) buf_str(out, ", ");
        config_put_text(first + i * stride, out);
    }
    buf_char(out, ']');
}

static void put_discover(const struct config_discover *d, struct buf *out) {
    char text[ADDRESS_SIZE + 8];
    if (d->kind == DISCOVER_LIST) {
        put_list(d->entries[0], ADDRESS_SIZE, d->n_entries, out);
        return;
    }
    const char *prefix = d->kind == DISCOVER_DNS ? "dns:" : d->kind == DISCOVER_FILE ? "file:" : "";
    snprintf(text, sizeof text, "%s%s", prefix, d->kind == DISCOVER_NONE ? "" : d->entries[0]);
    config_put_text(text, out);
}

void config_value_print(const struct config_key *key, const void *base, struct buf *out) {
    char number[PARSE_TEXT];
    if (is_number(key->type)) {
        number_text(key->type, get_number(key, base), number);
        buf_str(out, number);
    } else if (key->type == CONFIG_WORD) {
        buf_str(out, key->words[*(const int *)at_const(key, base)]);
    } else if (key->type == CONFIG_DISCOVER) {
        put_discover(at_const(key, base), out);
    } else if (key->type == CONFIG_NAMES) {
        put_list(at_const(key, base), NAME_SIZE, *(const uint32_t *)((const char *)base + key->offset_n), out);
    } else {
        config_put_text(at_const(key, base), out);
    }
}

uint32_t config_element_count(const struct config_key *map, const void *base) {
    return *(const uint32_t *)((const char *)base + map->offset_n);
}

void *config_element(const struct config_key *map, const void *base, uint32_t index) {
    return (char *)base + map->offset + index * map->stride;
}

void *config_element_add(const struct config_key *map, void *base, const char *name) {
    char prefix[CONFIG_KEY_PATH_SIZE], word[NAME_SIZE], path[CONFIG_KEY_PATH_SIZE];
    uint32_t *n = (uint32_t *)((char *)base + map->offset_n);
    if (*n == map->max) return NULL;
    void *element = config_element(map, base, (*n)++);
    memset(element, 0, map->stride);
    snprintf(element, NAME_SIZE, "%s", name); // every element begins with its name
    config_key_join(map->path, "*", prefix);
    for (size_t i = 0; config_key_child(prefix, &i, word);) {
        config_key_join(prefix, word, path);
        const struct config_key *key = config_key_find(path);
        if (key && key->fallback) CHECK(config_value_set(key, element, path, key->fallback, NULL) == ERR_NONE);
    }
    return element;
}
