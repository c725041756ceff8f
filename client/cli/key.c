// shoal key: API keys. shoal keygen: CURVE certificates. Both only write files; nothing talks to a cluster.
#include "client/cli/cli.h"

#include "common/auth/api_keys.h"
#include "common/auth/certificate.h"
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const struct error *e) {
    fprintf(stderr, "shoal: %s\n", error_text(e));
    return EXIT_USAGE;
}

// --- shoal key

struct key_settings {
    const char *file, *config, *name, *tenant, *role;
};

static const char *const key_roles[] = {"user", "operator", NULL};

// --file, or what the cluster file says.
static err_id find_file(const struct key_settings *s, char out[CONFIG_PATH_SIZE], struct error *e) {
    if (s->file) return snprintf(out, CONFIG_PATH_SIZE, "%s", s->file), ERR_NONE;
    if (s->config == NULL) return error_set(e, ERR_CONFIG, "which file? give --file FILE, or --config FILE of the cluster");
    struct cluster_config *c = xcalloc(1, sizeof *c);
    err_id id = config_load(c, s->config, NULL, e);
    snprintf(out, CONFIG_PATH_SIZE, "%s", c->security.api_keys);
    free(c);
    if (id == ERR_NONE && out[0] == '\0')
        return error_set(e, ERR_CONFIG, "%s says no security.api_keys; give --file FILE", s->config);
    return id;
}

// What is there already; a file that does not exist has no keys.
static err_id load_keys(const char *path, bool may_miss, struct api_keys *out, struct error *e) {
    if (may_miss && access(path, F_OK) != 0 && errno == ENOENT) return api_keys_parse(path, "", 0, out, e);
    return api_keys_load(path, out, e);
}

static struct api_key *key_named(const struct api_keys *keys, const char *name) {
    for (uint32_t i = 0; i < keys->n; i++)
        if (strcmp(keys->keys[i].name, name) == 0) return &keys->keys[i];
    return NULL;
}

static err_id add_key(const struct key_settings *s, const char *path, struct api_keys *keys, struct error *e) {
    char text[API_KEY_SIZE];
    if (s->name == NULL || s->tenant == NULL)
        return error_set(e, ERR_CONFIG, "shoal key add needs --name NAME (which key this is) and --tenant NAME (whose)");
    if (!config_is_name(s->name) || !config_is_name(s->tenant))
        return error_set(e, ERR_CONFIG, "names have 1 to %d letters, digits, '.', '_' or '-'", NAME_MAX_BYTES);
    if (key_named(keys, s->name))
        return error_set(e, ERR_CONFIG, "%s has a key named %s already; choose another name, or revoke it first", path,
                         s->name);
    if (keys->n == API_KEYS_MAX) return error_set(e, ERR_CONFIG, "%s is full: at most %d keys", path, API_KEYS_MAX);
    struct api_key *key = &keys->keys[keys->n++];
    snprintf(key->name, sizeof key->name, "%s", s->name);
    snprintf(key->tenant, sizeof key->tenant, "%s", s->tenant);
    CHECK(api_role_parse(s->role, &key->role));
    api_key_draw(key, text);
    TRY(api_keys_save(path, keys, e));
    puts(text);
    fflush(stdout);
    fprintf(
        stderr,
        "This is the key %s of tenant %s, shown this once; %s holds only its hash. Routers whose security.api_keys is that "
        "file take it within a second. Clients send it as Authorization: Bearer KEY (api_key in OpenAI's clients).\n",
        s->name, s->tenant, path);
    return ERR_NONE;
}

static err_id revoke_key(const struct key_settings *s, const char *path, struct api_keys *keys, struct error *e) {
    if (s->name == NULL) return error_set(e, ERR_CONFIG, "shoal key revoke needs --name NAME; shoal key list shows them");
    struct api_key *key = key_named(keys, s->name);
    if (key == NULL) return error_set(e, ERR_CONFIG, "%s has no key named %s", path, s->name);
    *key = keys->keys[--keys->n];
    TRY(api_keys_save(path, keys, e));
    fprintf(stderr, "The key %s is revoked. Routers refuse it within a second; answers that are running finish.\n", s->name);
    return ERR_NONE;
}

static err_id list_keys(const struct key_settings *s, const char *path, struct api_keys *keys, struct error *e) {
    (void)s, (void)path, (void)e;
    printf("%-24s %-24s %s\n", "NAME", "TENANT", "ROLE");
    for (uint32_t i = 0; i < keys->n; i++)
        printf("%-24s %-24s %s\n", keys->keys[i].name, keys->keys[i].tenant, api_role_name(keys->keys[i].role));
    return ERR_NONE;
}

struct key_verb {
    const char *name, *title, *summary;
    err_id (*run)(const struct key_settings *s, const char *path, struct api_keys *keys, struct error *e);
    bool makes_file;
};

static const struct key_verb key_verbs[] = {
    {"add", "shoal key add", "Makes an API key, prints it once, and puts its hash into the file.", add_key, true},
    {"list", "shoal key list", "Lists the keys of the file by name; what they are is not known.", list_keys, false},
    {"revoke", "shoal key revoke", "Takes a key out of the file.", revoke_key, false},
};

static int run_verb(const struct key_verb *verb, int argc, char **argv) {
    struct key_settings s = {.role = "user"};
    const struct flag flags[] = {
        {"file", FLAG_STRING, &s.file, "FILE", "the file of hashes (default: security.api_keys of --config)", NULL, 0, 0,
         false},
        {"config", FLAG_STRING, &s.config, "FILE", "the cluster's configuration file", NULL, 0, 0, false},
        {"name", FLAG_STRING, &s.name, "NAME", "which key: unique in the file", NULL, 0, 0, false},
        {"tenant", FLAG_STRING, &s.tenant, "NAME", "whose requests it makes", NULL, 0, 0, false},
        {"role", FLAG_STRING, &s.role, "ROLE", "user: requests; operator: also /metrics", key_roles, 0, 0, false},
    };
    const struct flag_spec spec = {.program = verb->title,
                                   .summary = verb->summary,
                                   .examples = "  shoal key add --file /etc/shoal/api-keys --name laptop --tenant shop\n"
                                               "  shoal key list --config cluster.yaml\n"
                                               "  shoal key revoke --file /etc/shoal/api-keys --name laptop\n",
                                   .flags = flags,
                                   .n_flags = ARRAY_LEN(flags)};
    enum flags_next next = flags_parse(&spec, argc, argv, NULL);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : EXIT_USAGE;
    char path[CONFIG_PATH_SIZE] = "";
    struct api_keys keys = {0};
    struct error e = {0};
    err_id id = find_file(&s, path, &e);
    if (id == ERR_NONE) id = load_keys(path, verb->makes_file, &keys, &e);
    if (id == ERR_NONE) id = verb->run(&s, path, &keys, &e);
    api_keys_free(&keys);
    return id == ERR_NONE ? 0 : fail(&e);
}

int cmd_key(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(key_verbs); i++)
        if (strcmp(argv[1], key_verbs[i].name) == 0) return run_verb(&key_verbs[i], argc - 1, argv + 1);
    bool help = argc > 1 && strcmp(argv[1], "--help") == 0;
    fprintf(help ? stdout : stderr,
            "usage: shoal key add|list|revoke [FLAGS]\n\n"
            "API keys of the HTTP side. The file holds only their hashes. `shoal key add --help` tells the "
            "flags.\n");
    return help ? 0 : EXIT_USAGE;
}

// --- shoal keygen

struct keygen_settings {
    const char *out, *name, *role, *tenant;
};

static const char *const certificate_roles[] = {"client", "worker", "router", "operator", NULL};

static void tell_next_steps(const struct certificate *c, const char *path) {
    static const char *const use[] = {"--key of `shoal`, shoal_options.key of libshoal", "--key of shoal-worker",
                                      "--key of shoal-router; one for all routers will do",
                                      "--key of `shoal`, for draining workers"};
    printf("%s         public: copy it into the folder security.allow of every machine that shall know %s\n", path, c->name);
    printf("%s_secret  SECRET: only for the machine of %s, beside the public one (%s)\n", path, c->name, use[c->role]);
    printf("Running processes take new certificates within a second, and refuse removed ones.\n");
}

static err_id keygen(const struct keygen_settings *s, struct error *e) {
    struct certificate c = {0};
    char path[CONFIG_PATH_SIZE];
    const char *name = s->name ? s->name : s->role;
    if (!config_is_name(name) || (s->tenant && !config_is_name(s->tenant)))
        return error_set(e, ERR_CONFIG, "names have 1 to %d letters, digits, '.', '_' or '-'", NAME_MAX_BYTES);
    CHECK(certificate_role_parse(s->role, &c.role));
    if (s->tenant && (c.role == CERTIFICATE_WORKER || c.role == CERTIFICATE_ROUTER))
        return error_set(e, ERR_CONFIG, "only a client belongs to a tenant: leave --tenant away, or say --role client");
    snprintf(c.name, sizeof c.name, "%s", name);
    if (s->tenant) snprintf(c.tenant, sizeof c.tenant, "%s", s->tenant);
    if (snprintf(path, sizeof path, "%s/%s.cert", s->out, name) >= (int)sizeof path)
        return error_set(e, ERR_CONFIG, "the path %.80s… is too long", s->out);
    if (mkdir(s->out, 0755) != 0 && errno != EEXIST)
        return error_set(e, ERR_SYSTEM, "cannot make the folder %s: %s", s->out, strerror(errno));
    TRY(certificate_draw(&c, e));
    TRY(certificate_save(path, &c, e));
    tell_next_steps(&c, path);
    return ERR_NONE;
}

int cmd_keygen(int argc, char **argv) {
    struct keygen_settings s = {.out = ".", .role = "client"};
    const struct flag flags[] = {
        {"out", FLAG_STRING, &s.out, "DIR", "folder to write into; made if it isn't there; default: this one", NULL, 0, 0,
         false},
        {"name", FLAG_STRING, &s.name, "NAME", "whose certificate: NAME.cert; default: the role", NULL, 0, 0, false},
        {"role", FLAG_STRING, &s.role, "ROLE", "what its owner may say on a link", certificate_roles, 0, 0, false},
        {"tenant", FLAG_STRING, &s.tenant, "NAME", "of a client: whose requests it makes", NULL, 0, 0, false},
    };
    const struct flag_spec spec = {.program = "shoal keygen",
                                   .summary = "Makes a CURVE certificate: a public and a secret file.",
                                   .examples = "  shoal keygen --out keys --role router\n"
                                               "  shoal keygen --out keys --role worker\n"
                                               "  shoal keygen --out keys --role client --name shop-1 --tenant shop\n",
                                   .flags = flags,
                                   .n_flags = ARRAY_LEN(flags)};
    enum flags_next next = flags_parse(&spec, argc, argv, NULL);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : EXIT_USAGE;
    struct error e = {0};
    return keygen(&s, &e) == ERR_NONE ? 0 : fail(&e);
}
