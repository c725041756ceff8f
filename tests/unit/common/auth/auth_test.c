// Keys on disk: what is read, what is refused, what is written, and what a reload changes.
#include "common/auth/guard.h"
#include "common/base/buf.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define HASH                                                                                                                \
    "blake2b:0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8" // BLAKE2b-256 of nothing, as published

static char folder[64];

static int make_folder(void **state) {
    snprintf(folder, sizeof folder, "/tmp/auth_test.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *at) { return remove(path); }

static int remove_folder(void **state) { return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text, mode_t mode) {
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(in_folder(name), mode), 0);
}

// --- API keys

static void a_hash_is_blake2b_256(void **state) {
    uint8_t hash[API_KEY_HASH_BYTES];
    api_key_hash("", 0, hash);
    assert_int_equal(hash[0], 0x0e);
    assert_int_equal(hash[31], 0xa8);
    api_key_hash("abc", 3, hash); // as published: bddd813c…5319
    assert_int_equal(hash[0], 0xbd);
    assert_int_equal(hash[31], 0x19);
}

static void a_key_that_was_drawn_is_found_and_no_other(void **state) {
    struct api_keys keys;
    struct error e = {0};
    char text[3][API_KEY_SIZE];
    assert_int_equal(api_keys_parse("f", "", 0, &keys, &e), ERR_NONE);
    for (int i = 0; i < 3; i++) {
        struct api_key *k = &keys.keys[keys.n++];
        snprintf(k->name, sizeof k->name, "k%d", i);
        snprintf(k->tenant, sizeof k->tenant, "t%d", i);
        k->role = i == 2 ? API_OPERATOR : API_USER;
        api_key_draw(k, text[i]);
        assert_int_equal(strlen(text[i]), API_KEY_SIZE - 1);
    }
    assert_int_equal(api_keys_save(in_folder("keys"), &keys, &e), ERR_NONE);
    api_keys_free(&keys);
    if (api_keys_load(in_folder("keys"), &keys, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    assert_int_equal(keys.n, 3);
    for (int i = 0; i < 3; i++) {
        const struct api_key *k = api_keys_find(&keys, text[i], strlen(text[i]));
        assert_ptr_equal(k, &keys.keys[i]);
        assert_int_equal(k->role, i == 2 ? API_OPERATOR : API_USER);
        assert_null(api_keys_find(&keys, text[i], strlen(text[i]) - 1));
        text[i][20] ^= 1;
        assert_null(api_keys_find(&keys, text[i], strlen(text[i])));
    }
    assert_null(api_keys_find(&keys, "", 0));
    api_keys_free(&keys);
}

static void the_file_of_keys_does_not_hold_them_and_is_not_for_everybody(void **state) {
    struct api_keys keys;
    struct error e = {0};
    char text[API_KEY_SIZE];
    struct buf file = {0};
    struct stat s;
    assert_int_equal(api_keys_parse("f", "", 0, &keys, &e), ERR_NONE);
    keys.n = 1;
    strcpy(keys.keys[0].name, "a");
    strcpy(keys.keys[0].tenant, "t");
    api_key_draw(&keys.keys[0], text);
    assert_int_equal(api_keys_save(in_folder("fresh"), &keys, &e), ERR_NONE);
    assert_int_equal(stat(in_folder("fresh"), &s), 0);
    assert_int_equal(s.st_mode & 07777, 0640);
    assert_int_equal(chmod(in_folder("fresh"), 0600), 0);
    assert_int_equal(api_keys_save(in_folder("fresh"), &keys, &e), ERR_NONE); // keeps what the operator chose
    assert_int_equal(stat(in_folder("fresh"), &s), 0);
    assert_int_equal(s.st_mode & 07777, 0600);
    FILE *f = fopen(in_folder("fresh"), "r");
    file.len = fread(buf_reserve(&file, 4096), 1, 4096, f);
    fclose(f);
    buf_str(&file, "");
    assert_null(strstr(file.data, text + 9));
    assert_int_equal(api_keys_save("/nonexistent/keys", &keys, &e), ERR_SYSTEM);
    buf_free(&file);
    api_keys_free(&keys);
}

static void every_mistake_in_a_key_file_is_named_with_its_line(void **state) {
    static const struct {
        const char *text, *sentence;
    } bad[] = {
        {"a b user", "f:1: expected NAME TENANT ROLE HASH; this line has 3 words"},
        {"# c\n\na b user " HASH " x", "f:3: expected NAME TENANT ROLE HASH; this line has 5 words"},
        {"a/b t user " HASH, "f:1: \"a/b\" is no name: expected 1 to 63 letters, digits, '.', '_' or '-'"},
        {"a t:t user " HASH, "f:1: \"t:t\" is no name: expected 1 to 63 letters, digits, '.', '_' or '-'"},
        {"a t root " HASH, "f:1: the role is user or operator, not \"root\""},
        {"a t user sha1:00", "f:1: expected blake2b: and 64 hex digits at the end; `shoal key add` writes such lines"},
        {"a t user " HASH "00", "f:1: expected blake2b: and 64 hex digits at the end; `shoal key add` writes such lines"},
        {"a t user blake2b:zz", "f:1: expected blake2b: and 64 hex digits at the end; `shoal key add` writes such lines"},
        {"a t user " HASH "\na u user " HASH, "f:2: the name a stands here twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct api_keys keys;
        struct error e = {0};
        assert_int_equal(api_keys_parse("f", bad[i].text, strlen(bad[i].text), &keys, &e), ERR_CONFIG);
        assert_string_equal(error_text(&e), bad[i].sentence);
        assert_null(keys.keys);
    }
    struct api_keys keys;
    struct error e = {0};
    assert_int_equal(api_keys_parse("f", "a\0b", 3, &keys, &e), ERR_CONFIG);
    static const char fine[] = "# all\r\n  a   t\tuser " HASH "  # laptop\r\n\r\n\nb t operator " HASH;
    assert_int_equal(api_keys_parse("f", fine, strlen(fine), &keys, &e), ERR_NONE);
    assert_int_equal(keys.n, 2);
    api_keys_free(&keys);
}

static void a_key_file_has_a_maximum(void **state) {
    for (uint32_t over = 0; over <= 1; over++) {
        struct api_keys keys;
        struct error e = {0};
        struct buf text = {0};
        for (uint32_t i = 0; i < API_KEYS_MAX + over; i++) buf_printf(&text, "k%u t user " HASH "\n", i);
        assert_int_equal(api_keys_parse("f", text.data, text.len, &keys, &e), over ? ERR_CONFIG : ERR_NONE);
        if (over) assert_string_equal(error_text(&e), "f:4097: a file has at most 4096 keys");
        api_keys_free(&keys);
        buf_free(&text);
    }
}

// --- certificates

static void a_certificate_is_written_once_and_read_back(void **state) {
    struct certificate c = {.name = "shop-1", .role = CERTIFICATE_CLIENT, .tenant = "shop"}, back;
    struct error e = {0};
    struct stat s;
    assert_int_equal(certificate_draw(&c, &e), ERR_NONE);
    assert_int_equal(certificate_save(in_folder("c.cert"), &c, &e), ERR_NONE);
    assert_int_equal(certificate_load_secret(in_folder("c.cert"), &back, &e), ERR_NONE);
    assert_memory_equal(&c, &back, sizeof c);
    assert_int_equal(certificate_load(in_folder("c.cert"), &back, &e), ERR_NONE);
    assert_false(back.has_secret);
    assert_memory_equal(back.public_key, c.public_key, sizeof c.public_key);
    assert_string_equal(back.tenant, "shop");
    assert_int_equal(stat(in_folder("c.cert_secret"), &s), 0);
    assert_int_equal(s.st_mode & 07777, 0600);
    assert_int_equal(stat(in_folder("c.cert"), &s), 0);
    assert_int_equal(s.st_mode & 07777, 0644);
    assert_int_equal(certificate_save(in_folder("c.cert"), &c, &e), ERR_CONFIG);
    assert_non_null(strstr(error_text(&e), "is there already"));
}

static void a_secret_that_others_can_read_is_refused(void **state) {
    struct certificate c = {.name = "w", .role = CERTIFICATE_WORKER};
    struct error e = {0};
    assert_int_equal(certificate_draw(&c, &e), ERR_NONE);
    assert_int_equal(certificate_save(in_folder("w.cert"), &c, &e), ERR_NONE);
    assert_int_equal(chmod(in_folder("w.cert_secret"), 0644), 0);
    assert_int_equal(certificate_load_secret(in_folder("w.cert"), &c, &e), ERR_CONFIG);
    assert_non_null(strstr(error_text(&e), "chmod 600"));
    assert_int_equal(chmod(in_folder("w.cert_secret"), 0440), 0);
    assert_int_equal(certificate_load_secret(in_folder("w.cert"), &c, &e), ERR_NONE);
    assert_int_equal(certificate_load_secret(in_folder("nobody.cert"), &c, &e), ERR_SYSTEM);
    assert_non_null(strstr(error_text(&e), "shoal keygen"));
}

#define PUBLIC "    public-key = \"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7\"\n" // of ZeroMQ's RFC 26

static void every_mistake_in_a_certificate_is_named(void **state) {
    static const struct {
        const char *text, *sentence;
    } bad[] = {
        {"", "f is no certificate: it has no curve/public-key"},
        {"metadata\n    name = \"a\"\n    role = \"worker\"\n", "f is no certificate: it has no curve/public-key"},
        {"curve\n" PUBLIC, "f has no metadata/name; `shoal keygen` writes it"},
        {"metadata\n    name = a\ncurve\n" PUBLIC, "f has no metadata/role; `shoal keygen` writes it"},
        {"metadata\n    role = \"boss\"\n", "f:2: the role is client, worker, router or operator, not \"boss\""},
        {"metadata\n    name = \"a b\"\n",
         "f:2: name: \"a b\" is no name: expected 1 to 63 letters, digits, '.', '_' or '-'"},
        {"metadata\n    name = \"a\n", "f:2: the quote does not end"},
        {"metadata\n    name\n", "f:2: expected NAME = \"VALUE\""},
        {"curve\n    public-key = \"short\"\n", "f:2: a key has 40 characters of Z85"},
        {"curve\n    public-key = \"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf\xc3\"\n", "f:2: a key has 40 characters of Z85"},
        {"metadata\n    name = a\n    role = worker\n    tenant = t\ncurve\n" PUBLIC,
         "f: only a client belongs to a tenant, not a worker"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct certificate c;
        struct error e = {0};
        assert_int_equal(certificate_parse("f", bad[i].text, strlen(bad[i].text), &c, &e), ERR_CONFIG);
        assert_string_equal(error_text(&e), bad[i].sentence);
    }
}

static void a_pair_whose_halves_do_not_belong_together_is_refused(void **state) {
    struct certificate a = {.name = "a"}, b = {.name = "b"};
    struct error e = {0};
    assert_int_equal(certificate_draw(&a, &e), ERR_NONE);
    assert_int_equal(certificate_draw(&b, &e), ERR_NONE);
    memcpy(a.secret_key, b.secret_key, sizeof a.secret_key);
    assert_int_equal(certificate_save(in_folder("ab.cert"), &a, &e), ERR_NONE);
    assert_int_equal(certificate_load_secret(in_folder("ab.cert"), &b, &e), ERR_CONFIG);
    assert_non_null(strstr(error_text(&e), "does not belong"));
}

static void save_public(const char *file, struct certificate *c) {
    struct buf text = {0};
    certificate_print(c, false, &text);
    put(file, text.data, 0644);
    buf_free(&text);
}

static void an_allow_list_finds_its_keys(void **state) {
    struct certificate c[20];
    struct allow_list list;
    struct error e = {0};
    char file[32];
    assert_int_equal(mkdir(in_folder("allow"), 0755), 0);
    for (int i = 0; i < 20; i++) {
        c[i] = (struct certificate){.role = (enum certificate_role)(i % 3)};
        snprintf(c[i].name, sizeof c[i].name, "n%d", i);
        assert_int_equal(certificate_draw(&c[i], &e), ERR_NONE);
        snprintf(file, sizeof file, "allow/n%d.cert", i);
        if (i < 19) save_public(file, &c[i]);
    }
    put("allow/.n.cert", "hidden", 0644);
    put("allow/README", "no certificate", 0644);
    if (allow_list_load(in_folder("allow"), &list, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    assert_int_equal(list.n, 19);
    for (int i = 0; i < 20; i++) {
        const struct certificate *found = allow_list_find(&list, c[i].public_key);
        if (i < 19) assert_string_equal(found->name, c[i].name);
        if (i == 19) assert_null(found);
    }
    allow_list_free(&list);
    save_public("allow/again.cert", &c[3]);
    assert_int_equal(allow_list_load(in_folder("allow"), &list, &e), ERR_CONFIG);
    assert_non_null(strstr(error_text(&e), "same key"));
    put("allow/again.cert", "garbage\n", 0644);
    assert_int_equal(allow_list_load(in_folder("allow"), &list, &e), ERR_CONFIG);
    assert_int_equal(allow_list_load("/nonexistent", &list, &e), ERR_SYSTEM);
}

// --- the guard

static void configure(struct cluster_config *c, const char *text) {
    struct error e = {0};
    if (config_parse(c, "f.yaml", text, strlen(text), NULL, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
}

static void only_loopback_is_served_unless_something_protects_the_rest(void **state) {
    static const struct {
        const char *security;
        enum guard_listener kind;
        const char *address, *sentence; // NULL: allowed
    } cases[] = {
        {"", GUARD_API, "127.0.0.1:80", NULL},
        {"", GUARD_API, "[::1]:80", NULL},
        {"", GUARD_API, "unix:/x", NULL},
        {"", GUARD_API, "", NULL},
        {"", GUARD_API, ":80", "security.api_keys"},
        {"", GUARD_API, "10.0.0.1:80", "security.plaintext: anywhere"},
        {"", GUARD_API, "host.example:80", "security.api_keys"},
        {"", GUARD_METRICS, ":80", "security.metrics: open"},
        {"", GUARD_ADMIN, ":80", "unix:/path"},
        {"security: {api_keys: /k}", GUARD_API, ":80", NULL},
        {"security: {api_keys: /k}", GUARD_METRICS, ":80", NULL},
        {"security: {api_keys: /k}", GUARD_ADMIN, ":80", "unix:/path"},
        {"security: {metrics: open}", GUARD_METRICS, ":80", NULL},
        {"security: {metrics: open}", GUARD_API, ":80", "security.api_keys"},
        {"security: {plaintext: anywhere}", GUARD_API, ":80", NULL},
        {"security: {plaintext: anywhere}", GUARD_ADMIN, ":80", "unix:/path"},
    };
    static struct cluster_config c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error e = {0};
        char text[128];
        snprintf(text, sizeof text, "schema: 1\n%s\n", cases[i].security);
        configure(&c, text);
        err_id id = guard_check_listener(&c, cases[i].kind, cases[i].address, &e);
        if (cases[i].sentence == NULL && id != ERR_NONE) fail_msg("case %zu: %s", i, error_text(&e));
        if (cases[i].sentence && (id != ERR_CONFIG || !strstr(error_text(&e), cases[i].sentence)))
            fail_msg("case %zu: %s", i, error_text(&e));
    }
    configure(&c, "schema: 1\nsecurity: {api_keys: /k}\n");
    assert_true(guard_metrics_keyed(&c, GUARD_API, "127.0.0.1:1"));
    assert_false(guard_metrics_keyed(&c, GUARD_METRICS, "127.0.0.1:1"));
    assert_true(guard_metrics_keyed(&c, GUARD_METRICS, ":1"));
    configure(&c, "schema: 1\nsecurity: {api_keys: /k, metrics: open}\n");
    assert_false(guard_metrics_keyed(&c, GUARD_API, ":1"));
}

struct guarded {
    uv_loop_t loop;
    struct cluster_config config;
    struct guard *guard;
    int changed;
};

static void on_changed(void *ctx) { ((struct guarded *)ctx)->changed++; }

static err_id start(struct guarded *g, const char *more, struct error *e) {
    char text[512];
    snprintf(text, sizeof text, "schema: 1\nsecurity: {api_keys: %s/api}\n%s\n", folder, more);
    configure(&g->config, text);
    uv_loop_init(&g->loop);
    struct guard_options o = {.loop = &g->loop, .config = &g->config, .api_keys = true, .ctx = g, .changed = on_changed};
    return guard_create(&o, &g->guard, e);
}

static void stop(struct guarded *g) {
    guard_destroy(&g->guard);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&g->loop), 0);
    free(g);
}

static void write_key(const char *name, const char *tenant, char text[API_KEY_SIZE]) {
    struct api_keys keys = {.n = 1, .keys = calloc(1, sizeof(struct api_key))};
    strcpy(keys.keys[0].name, name);
    strcpy(keys.keys[0].tenant, tenant);
    api_key_draw(&keys.keys[0], text);
    assert_int_equal(api_keys_save(in_folder("api"), &keys, NULL), ERR_NONE);
    api_keys_free(&keys);
}

static err_id ask(struct guarded *g, const char *scheme, const char *key, struct guard_caller *who) {
    char header[128];
    struct error e = {0};
    snprintf(header, sizeof header, "%s%s", scheme, key);
    return guard_identify(g->guard, header, who, &e);
}

static void a_bearer_key_names_its_tenant(void **state) {
    struct guarded *g = calloc(1, sizeof *g);
    struct guard_caller who;
    struct error e = {0};
    char key[API_KEY_SIZE];
    write_key("laptop", "shop", key);
    if (start(g, "", &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    assert_int_equal(ask(g, "Bearer ", key, &who), ERR_NONE);
    assert_string_equal(who.tenant, "shop");
    assert_int_equal(who.role, API_USER);
    assert_int_equal(ask(g, "bearer   ", key, &who), ERR_NONE);
    assert_int_equal(ask(g, "Basic ", key, &who), ERR_UNAUTHENTICATED);
    assert_int_equal(ask(g, "", key, &who), ERR_UNAUTHENTICATED);
    assert_string_equal(who.tenant, "");
    assert_int_equal(ask(g, "Bearer ", "", &who), ERR_UNAUTHENTICATED);
    key[12] ^= 3;
    assert_int_equal(ask(g, "Bearer ", key, &who), ERR_UNAUTHENTICATED);
    assert_int_equal(guard_identify(g->guard, NULL, &who, &e), ERR_UNAUTHENTICATED);
    assert_int_equal(guard_stats(g->guard)->refused_missing, 3);
    assert_int_equal(guard_stats(g->guard)->refused_wrong, 2);
    stop(g);
}

static void a_reload_takes_the_new_keys_and_a_broken_file_leaves_the_old(void **state) {
    struct guarded *g = calloc(1, sizeof *g);
    struct guard_caller who;
    struct error e = {0};
    char first[API_KEY_SIZE], second[API_KEY_SIZE];
    write_key("a", "shop", first);
    if (start(g, "", &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    write_key("b", "shop", second);
    assert_int_equal(ask(g, "Bearer ", first, &who), ERR_NONE); // not yet
    guard_reload(g->guard);
    assert_int_equal(ask(g, "Bearer ", first, &who), ERR_UNAUTHENTICATED);
    assert_int_equal(ask(g, "Bearer ", second, &who), ERR_NONE);
    assert_int_equal(g->changed, 1);
    put("api", "nonsense\n", 0600);
    for (int i = 0; i < 200 && guard_stats(g->guard)->reloads_failed == 0; i++) uv_run(&g->loop, UV_RUN_ONCE); // by itself
    assert_int_equal(guard_stats(g->guard)->reloads_failed, 1);
    assert_int_equal(ask(g, "Bearer ", second, &who), ERR_NONE);
    assert_int_equal(unlink(in_folder("api")), 0);
    guard_reload(g->guard);
    assert_int_equal(ask(g, "Bearer ", second, &who), ERR_NONE);
    assert_int_equal(g->changed, 1);
    stop(g);
}

static void a_key_of_an_unknown_tenant_is_a_mistake(void **state) {
    struct guarded *g = calloc(1, sizeof *g);
    struct error e = {0};
    char key[API_KEY_SIZE];
    write_key("laptop", "shpo", key);
    assert_int_equal(start(g, "tenants: {shop: {}}", &e), ERR_CONFIG);
    assert_non_null(strstr(error_text(&e), "the API key laptop belongs to the tenant shpo"));
    assert_null(g->guard);
    stop(g);
}

static void a_tenant_uses_its_models_under_all_their_names(void **state) {
    struct guarded *g = calloc(1, sizeof *g);
    struct error e = {0};
    char key[API_KEY_SIZE];
    write_key("laptop", "shop", key);
    if (start(g,
              "tenants: {shop: {models: [m]}, all: {}}\nmodels:\n  m: {aliases: [mm], deployments: {d: {}}}\n"
              "  n: {deployments: {d: {}}}\n",
              &e) != ERR_NONE)
        fail_msg("%s", error_text(&e));
    assert_int_equal(guard_check_model(g->guard, "shop", "m", &e), ERR_NONE);
    assert_int_equal(guard_check_model(g->guard, "shop", "mm", &e), ERR_NONE);
    assert_int_equal(guard_check_model(g->guard, "shop", "n", &e), ERR_FORBIDDEN);
    assert_string_equal(error_text(&e), "The tenant shop may not use the model 'n'");
    assert_int_equal(guard_check_model(g->guard, "shop", "unheard-of", &e), ERR_FORBIDDEN);
    assert_int_equal(guard_check_model(g->guard, "all", "n", &e), ERR_NONE);
    assert_int_equal(guard_check_model(g->guard, "", "n", &e), ERR_NONE);
    stop(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hash_is_blake2b_256),
        cmocka_unit_test(a_key_that_was_drawn_is_found_and_no_other),
        cmocka_unit_test(the_file_of_keys_does_not_hold_them_and_is_not_for_everybody),
        cmocka_unit_test(every_mistake_in_a_key_file_is_named_with_its_line),
        cmocka_unit_test(a_key_file_has_a_maximum),
        cmocka_unit_test(a_certificate_is_written_once_and_read_back),
        cmocka_unit_test(a_secret_that_others_can_read_is_refused),
        cmocka_unit_test(every_mistake_in_a_certificate_is_named),
        cmocka_unit_test(a_pair_whose_halves_do_not_belong_together_is_refused),
        cmocka_unit_test(an_allow_list_finds_its_keys),
        cmocka_unit_test(only_loopback_is_served_unless_something_protects_the_rest),
        cmocka_unit_test(a_bearer_key_names_its_tenant),
        cmocka_unit_test(a_reload_takes_the_new_keys_and_a_broken_file_leaves_the_old),
        cmocka_unit_test(a_key_of_an_unknown_tenant_is_a_mistake),
        cmocka_unit_test(a_tenant_uses_its_models_under_all_their_names),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
