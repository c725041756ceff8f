// The table of the configuration file. Private to common/sys: everybody else sees struct cluster_config (config.h).
#pragma once
#include "common/sys/config.h"

#include <stddef.h>

enum config_type {
    CONFIG_MAP,      // named elements (regions, models, deployments); the keys below it have ".*." in their path
    CONFIG_NAME,     // char[NAME_SIZE]: letters, digits, '.', '_' and '-'
    CONFIG_FILE,     // char[CONFIG_PATH_SIZE]
    CONFIG_ADDRESS,  // char[ADDRESS_SIZE]: endpoint.h, or empty
    CONFIG_NUMBER,   // uint32_t
    CONFIG_PERCENT,  // uint32_t
    CONFIG_DURATION, // uint32_t, milliseconds
    CONFIG_SIZE,     // uint64_t, bytes
    CONFIG_COUNT,    // uint64_t
    CONFIG_WORD,     // an enum of int's size: the index in words
    CONFIG_NAMES,    // char[max][NAME_SIZE]; its count is at offset_n
    CONFIG_DISCOVER, // struct config_discover
};

struct config_key {
    const char *path; // "regions.*.weight"
    enum config_type type;
    const char *fallback; // the default, as it is written in the file; NULL: empty
    uint64_t min, max;    // numbers; for a map, max elements
    const char *const *words;
    bool reloadable;
    size_t offset;           // in cluster_config, or in the element that the last '*' stands for
    size_t offset_n, stride; // maps and aliases: where the count is; the size of an element, which begins with its name
    const char *help;
};

extern const struct config_key CONFIG_KEYS[];
extern const size_t CONFIG_KEYS_N;

// The entry of exactly this path (with '*' for names); NULL: none.
const struct config_key *config_key_find(const char *path);
// The next thing that may stand below `prefix` ("" is the top; "regions.*"), in table order: its last word goes to name.
// *at is the place in the table, 0 to begin. False: no more.
bool config_key_child(const char *prefix, size_t *at, char name[NAME_SIZE]);
// prefix + "." + word.
enum { CONFIG_KEY_PATH_SIZE = 256 };
void config_key_join(const char *prefix, const char *word, char out[CONFIG_KEY_PATH_SIZE]);

// config_value.c: one value of one key, as text. base is the struct that the key's offset refers to.
// ERR_CONFIG with "<path> expects <what>, not <text>"; shown is the path with names filled in.
err_id config_value_set(const struct config_key *key, void *base, const char *shown, const char *text, struct error *e);
err_id config_value_add_name(const struct config_key *key, void *base, const char *shown, const char *text, struct error *e);
err_id config_value_add_router(const struct config_key *key, void *base, const char *shown, const char *text,
                               struct error *e);
void config_value_print(const struct config_key *key, const void *base, struct buf *out); // as it would stand in the file
// A new element of a map, with its name and its keys' defaults; NULL: the map is full.
void *config_element_add(const struct config_key *map, void *base, const char *name);
uint32_t config_element_count(const struct config_key *map, const void *base);
void *config_element(const struct config_key *map, const void *base, uint32_t index);

// config.c
err_id config_check(const struct cluster_config *c, struct error *e); // what must hold between several keys

// config_print.c: a YAML double-quoted scalar, or plain when that is safe.
void config_put_text(const char *text, struct buf *out);
