// The table, written out: as a YAML file with the values in force, and as the reference in Markdown.
#include "common/sys/config_keys.h"

#include "common/base/buf.h"
#include "common/base/check.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

// Plain only when no YAML reader could take it for anything but text: a letter or '/' first, then harmless characters.
static bool is_plain(const char *text) {
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcasecmp(text, words[i]) == 0) return false;
    if (!isalpha((unsigned char)text[0]) && text[0] != '/') return false;
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_-./", *c)) return false;
    return true;
}

void config_put_text(const char *text, struct buf *out) {
    if (is_plain(text)) {
        buf_str(out, text);
        return;
    }
    buf_char(out, '"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            buf_printf(out, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f)
            buf_printf(out, "\\x%02x", *c);
        else
            buf_char(out, (char)*c);
    }
    buf_char(out, '"');
}

static void put_help(const char *help, int indent, struct buf *out) {
    enum { WIDTH = 110 };
    while (*help) {
        size_t n = strlen(help), room = WIDTH - (size_t)indent;
        if (n > room)
            for (n = room; n > 0 && help[n] != ' ';) n--;
        buf_printf(out, "%*s# %.*s\n", indent, "", (int)n, help);
        help += n + (help[n] == ' ');
    }
}

static void put_level(const char *prefix, const void *base, int indent, struct buf *out);

static void put_map(const struct config_key *map, const void *base, int indent, struct buf *out) {
    char prefix[CONFIG_KEY_PATH_SIZE];
    uint32_t n = config_element_count(map, base);
    config_key_join(map->path, "*", prefix);
    buf_str(out, n ? "\n" : " {}\n");
    for (uint32_t i = 0; i < n; i++) {
        const void *element = config_element(map, base, i);
        buf_printf(out, "%*s", indent + 2, "");
        config_put_text(element, out);
        buf_str(out, ":\n");
        put_level(prefix, element, indent + 4, out);
    }
}

static void put_level(const char *prefix, const void *base, int indent, struct buf *out) {
    char word[NAME_SIZE], path[CONFIG_KEY_PATH_SIZE];
    for (size_t at = 0; config_key_child(prefix, &at, word);) {
        config_key_join(prefix, word, path);
        const struct config_key *key = config_key_find(path);
        if (indent == 0 && out->len) buf_char(out, '\n');
        if (key) put_help(key->help, indent, out);
        buf_printf(out, "%*s%s:", indent, "", word);
        if (key == NULL) {
            buf_char(out, '\n');
            put_level(path, base, indent + 2, out);
        } else if (key->type == CONFIG_MAP) {
            put_map(key, base, indent, out);
        } else {
            buf_char(out, ' ');
            config_value_print(key, base, out);
            buf_char(out, '\n');
        }
    }
}

void config_print(const struct cluster_config *c, struct buf *out) { put_level("", c, 0, out); }

static const char *type_text(const struct config_key *key) {
    switch (key->type) {
    case CONFIG_MAP:
        return "names";
    case CONFIG_NAME:
        return "name";
    case CONFIG_FILE:
        return "path";
    case CONFIG_ADDRESS:
        return "address";
    case CONFIG_NUMBER:
    case CONFIG_PERCENT:
        return "number";
    case CONFIG_DURATION:
        return "duration";
    case CONFIG_SIZE:
        return "size";
    case CONFIG_COUNT:
        return "count";
    case CONFIG_WORD:
        return "word";
    case CONFIG_NAMES:
        return "list of names";
    case CONFIG_DISCOVER:
        break;
    }
    return "list or text";
}

// The bound as it would stand in the file: set into a scratch configuration and printed from there.
static void put_bound(const struct config_key *key, uint64_t value, struct buf *out) {
    union {
        uint32_t small;
        uint64_t large;
    } scratch = {.large = value};
    if (key->type != CONFIG_SIZE && key->type != CONFIG_COUNT) scratch.small = (uint32_t)value;
    struct config_key here = *key;
    here.offset = 0;
    config_value_print(&here, &scratch, out);
}

static bool is_bounded(const struct config_key *key) {
    return key->type == CONFIG_NUMBER || key->type == CONFIG_PERCENT || key->type == CONFIG_DURATION ||
           key->type == CONFIG_SIZE || key->type == CONFIG_COUNT;
}

void config_reference(struct buf *out) {
    buf_str(out, "| key | type | default | bounds | without restart | meaning |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < CONFIG_KEYS_N; i++) {
        const struct config_key *key = &CONFIG_KEYS[i];
        buf_printf(out, "| `%s` | %s | ", key->path, type_text(key));
        if (key->fallback) buf_printf(out, "`%s`", key->fallback);
        buf_str(out, " | ");
        if (is_bounded(key)) {
            put_bound(key, key->min, out);
            buf_str(out, " to ");
            put_bound(key, key->max, out);
        } else if (key->type == CONFIG_MAP || key->type == CONFIG_NAMES) {
            buf_printf(out, "at most %d", (int)key->max);
        }
        buf_printf(out, " | %s | %s |\n", key->reloadable ? "yes" : "no", key->help);
    }
}
