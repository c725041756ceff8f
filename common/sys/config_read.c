// From YAML to the struct, led by the table. The document is read into libyaml's tree first, so that every node has its
// line; the tree is then walked as deep as the table goes and no deeper, which also settles anchors that point to their
// parents. Problems are gathered, not thrown: one run names them all.
#include "common/sys/config_keys.h"

#include "common/base/buf.h"
#include "common/base/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { PROBLEMS_MAX = 32, SIBLINGS_MAX = 64 };

struct reader {
    yaml_document_t document;
    const char *name; // of the file
    struct buf *problems;
    struct error *first;
    unsigned n_problems;
};

// line 0: none in particular.
static void problem(struct reader *r, size_t line, const struct error *what) {
    char place[32] = "";
    if (r->n_problems++ >= PROBLEMS_MAX) return;
    if (line) snprintf(place, sizeof place, "%zu:", line);
    if (r->n_problems == 1) error_set(r->first, ERR_CONFIG, "%s:%s %s", r->name, place, error_text(what));
    if (r->problems) buf_printf(r->problems, "%s:%s %s\n", r->name, place, error_text(what));
}

__attribute__((format(printf, 3, 4))) static void complain(struct reader *r, size_t line, const char *format, ...) {
    struct error e = {.id = ERR_CONFIG};
    va_list ap;
    va_start(ap, format);
    vsnprintf(e.text, sizeof e.text, format, ap);
    va_end(ap);
    problem(r, line, &e);
}

static size_t line_of(const yaml_node_t *node) { return node->start_mark.line + 1; }

// The text of a scalar; NULL when it has zero bytes inside or is no scalar.
static const char *scalar(const yaml_node_t *node) {
    if (node->type != YAML_SCALAR_NODE || strlen((char *)node->data.scalar.value) != node->data.scalar.length) return NULL;
    return (char *)node->data.scalar.value;
}

static bool is_nothing(const yaml_node_t *node) { // `key:` and `key: ~`
    const char *text = scalar(node);
    return text && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static void unknown(struct reader *r, size_t line, const char *prefix, const char *shown, const char *word) {
    static const char *const nothing = "";
    char names[SIBLINGS_MAX][NAME_SIZE];
    const char *siblings[SIBLINGS_MAX];
    size_t n = 0;
    for (size_t at = 0; n < SIBLINGS_MAX && config_key_child(prefix, &at, names[n]); n++) siblings[n] = names[n];
    const char *near = error_nearest(word, n ? siblings : &nothing, n);
    const char *where = shown[0] ? shown : "the top level";
    if (near)
        complain(r, line, "unknown key \"%.60s\" in %s; did you mean \"%s\"?", word, where, near);
    else
        complain(r, line, "unknown key \"%.60s\" in %s", word, where);
}

static void read_list(struct reader *r, const struct config_key *key, const yaml_node_t *node, const char *shown,
                      void *base) {
    struct error e = {0};
    bool names = key->type == CONFIG_NAMES;
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(&r->document, *i);
        const char *text = scalar(item);
        if (text == NULL)
            complain(r, line_of(item), "%s expects a list of %s", shown, names ? "names" : "addresses");
        else if ((names ? config_value_add_name : config_value_add_router)(key, base, shown, text, &e) != ERR_NONE)
            problem(r, line_of(item), &e);
    }
}

static void read_value(struct reader *r, const struct config_key *key, const yaml_node_t *node, const char *shown,
                       void *base) {
    struct error e = {0};
    bool list = key->type == CONFIG_NAMES || key->type == CONFIG_DISCOVER;
    const char *text = scalar(node);
    if (list && node->type == YAML_SEQUENCE_NODE)
        read_list(r, key, node, shown, base);
    else if (text == NULL || is_nothing(node))
        complain(r, line_of(node), "%s expects a value, not %s", shown,
                 node->type == YAML_SCALAR_NODE     ? "nothing"
                 : node->type == YAML_SEQUENCE_NODE ? "a list"
                                                    : "keys below it");
    else if (config_value_set(key, base, shown, text, &e) != ERR_NONE)
        problem(r, line_of(node), &e);
}

static void read_pairs(struct reader *r, const yaml_node_t *node, const char *prefix, const char *shown, void *base);

// The elements of a map: every key is a name.
static void read_element(struct reader *r, const struct config_key *map, const char *name, const yaml_node_t *key,
                         const yaml_node_t *value, const char *shown, void *base) {
    char prefix[CONFIG_KEY_PATH_SIZE];
    if (!config_is_name(name)) {
        complain(r, line_of(key), "%s: \"%.80s\" is no name: expected 1 to %d letters, digits, '.', '_' or '-'", map->path,
                 name, NAME_MAX_BYTES);
        return;
    }
    void *element = config_element_add(map, base, name);
    if (element == NULL) {
        complain(r, line_of(key), "%s has at most %d entries", map->path, (int)map->max);
        return;
    }
    config_key_join(map->path, "*", prefix);
    read_pairs(r, value, prefix, shown, element);
}

static bool is_section(const char *path) {
    size_t at = 0;
    char name[NAME_SIZE];
    return config_key_child(path, &at, name);
}

static bool is_repeated(struct reader *r, const yaml_node_t *node, const yaml_node_pair_t *pair, const char *word) {
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start; p < pair; p++) {
        const yaml_node_t *before = yaml_document_get_node(&r->document, p->key);
        const char *text = scalar(before);
        if (text == NULL || strcmp(text, word) != 0) continue;
        const yaml_node_t *key = yaml_document_get_node(&r->document, pair->key);
        complain(r, line_of(key), "\"%.60s\" stands here twice, first in line %zu", word, line_of(before));
        return true;
    }
    return false;
}

// One pair below `prefix` (a path of the table); shown is the same path with the names filled in.
static void read_pair(struct reader *r, const yaml_node_t *node, const yaml_node_pair_t *pair, const char *prefix,
                      const char *shown, void *base) {
    char path[CONFIG_KEY_PATH_SIZE], below[CONFIG_KEY_PATH_SIZE];
    const yaml_node_t *key_node = yaml_document_get_node(&r->document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(&r->document, pair->value);
    const char *word = scalar(key_node);
    if (word == NULL) {
        complain(r, line_of(key_node), "a key in %s is no plain text", shown[0] ? shown : "the top level");
        return;
    }
    if (is_repeated(r, node, pair, word)) return;
    const struct config_key *map = config_key_find(prefix);
    config_key_join(shown, word, below);
    if (map && map->type == CONFIG_MAP) {
        read_element(r, map, word, key_node, value, below, base);
        return;
    }
    config_key_join(prefix, word, path);
    const struct config_key *key = config_key_find(path);
    if (key && key->type != CONFIG_MAP)
        read_value(r, key, value, below, base);
    else if (strcmp(word, "*") != 0 && (key || is_section(path)))
        read_pairs(r, value, path, below, base);
    else
        unknown(r, line_of(key_node), prefix, shown, word);
}

static void read_pairs(struct reader *r, const yaml_node_t *node, const char *prefix, const char *shown, void *base) {
    if (is_nothing(node)) return; // `models:` with nothing below it yet
    if (node->type != YAML_MAPPING_NODE) {
        complain(r, line_of(node), "%s expects keys below it, not %s", shown[0] ? shown : "the file",
                 node->type == YAML_SEQUENCE_NODE ? "a list" : "a value");
        return;
    }
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++)
        if (r->n_problems < PROBLEMS_MAX) read_pair(r, node, p, prefix, shown, base);
}

static void read_document(struct reader *r, yaml_parser_t *parser, struct cluster_config *c) {
    if (!yaml_parser_load(parser, &r->document)) {
        complain(r, parser->problem_mark.line + 1, "this is no valid YAML: %s",
                 parser->problem ? parser->problem : "unreadable");
        return;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&r->document);
    size_t schema = 0;
    if (root) {
        read_pairs(r, root, "", "", c);
        for (yaml_node_pair_t *p = root->data.mapping.pairs.start;
             root->type == YAML_MAPPING_NODE && p < root->data.mapping.pairs.top; p++) {
            const char *word = scalar(yaml_document_get_node(&r->document, p->key));
            if (word && strcmp(word, "schema") == 0) schema = 1;
        }
    }
    if (!schema) complain(r, 1, "the line \"schema: 1\" is missing");
    yaml_document_delete(&r->document);
    if (!yaml_parser_load(parser, &r->document)) {
        complain(r, parser->problem_mark.line + 1, "this is no valid YAML: %s",
                 parser->problem ? parser->problem : "unreadable");
        return;
    }
    root = yaml_document_get_root_node(&r->document);
    if (root) complain(r, line_of(root), "the file holds a second document");
    yaml_document_delete(&r->document);
}

err_id config_parse(struct cluster_config *c, const char *name, const char *text, size_t len, struct buf *problems,
                    struct error *e) {
    struct error first = {0}, check = {0};
    struct reader r = {.name = name, .problems = problems, .first = &first};
    yaml_parser_t parser;
    config_defaults(c);
    if (!yaml_parser_initialize(&parser)) return error_set(e, ERR_SYSTEM, "%s: no memory to read it", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    read_document(&r, &parser, c);
    yaml_parser_delete(&parser);
    if (r.n_problems == 0 && config_check(c, &check) != ERR_NONE) problem(&r, 0, &check);
    if (r.n_problems == 0) return ERR_NONE;
    if (e) *e = first;
    return ERR_CONFIG;
}

err_id config_load(struct cluster_config *c, const char *path, struct buf *problems, struct error *e) {
    err_id id = ERR_NONE;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        error_set(e, ERR_SYSTEM, "cannot read the configuration %s: %s", path, strerror(errno));
    } else {
        char *text = xmalloc(CONFIG_FILE_BYTES_MAX + 1);
        size_t n = fread(text, 1, CONFIG_FILE_BYTES_MAX + 1, file);
        if (ferror(file))
            id = error_set(e, ERR_SYSTEM, "cannot read the configuration %s: %s", path, strerror(errno));
        else if (n > CONFIG_FILE_BYTES_MAX)
            id = error_set(e, ERR_CONFIG, "%s: a configuration has at most %d bytes", path, CONFIG_FILE_BYTES_MAX);
        fclose(file);
        if (id == ERR_NONE) {
            id = config_parse(c, path, text, n, problems, e);
            free(text);
            return id;
        }
        free(text);
    }
    if (problems && e) buf_printf(problems, "%s\n", error_text(e));
    return file == NULL ? ERR_SYSTEM : id;
}
