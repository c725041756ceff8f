#include "common/sys/config.h"

#include "common/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>

static const char full[] = "schema: 1\n"
                           "cluster: prod\n"
                           "routers: {discover: \"dns:routers.shoal.internal:7700\"}\n"
                           "listen: {http: \":8080\", zmq: \"127.0.0.1:7701\", admin: \"unix:/run/shoal/admin.sock\"}\n"
                           "regions:\n"
                           "  us-east-1:      {weight: 40, spill_after: 1500ms}\n"
                           "  ap-northeast-1: {weight: 30%}\n"
                           "models:\n"
                           "  r1:\n"
                           "    aliases: [deepseek-reasoner, deepseek-chat]\n"
                           "    deployments:\n"
                           "      blue:  {path: \"/models/r1 #1\", share: 95}\n"
                           "      green: {share: 5}\n"
                           "limits: {queue_tokens: 3M, body: 4MB}\n"
                           "timers: {heartbeat: 50ms}\n"
                           "security: {curve: required, keys: /etc/shoal/keys, api_keys: /etc/shoal/api}\n"
                           "tenants: {shop: {models: [r1]}, lab: {}}\n"
                           "log: {format: json, level: debug}\n";

static err_id parse(struct cluster_config *c, const char *text, struct buf *problems, struct error *e) {
    return config_parse(c, "f.yaml", text, strlen(text), problems, e);
}

static void a_whole_file_is_read(void **state) {
    struct cluster_config c;
    struct error e = {0};
    if (parse(&c, full, NULL, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    assert_string_equal(c.cluster, "prod");
    assert_int_equal(c.routers.kind, DISCOVER_DNS);
    assert_string_equal(c.routers.entries[0], "routers.shoal.internal:7700");
    assert_string_equal(c.listen.admin, "unix:/run/shoal/admin.sock");
    assert_string_equal(c.listen.metrics, "");
    assert_int_equal(c.n_regions, 2);
    assert_int_equal(c.regions[0].weight, 40);
    assert_int_equal(c.regions[0].spill_after_ms, 1500);
    assert_int_equal(c.regions[1].weight, 30);
    assert_int_equal(c.regions[1].spill_after_ms, 2000); // the default
    assert_int_equal(c.models[0].n_aliases, 2);
    assert_int_equal(c.models[0].n_deployments, 2);
    assert_string_equal(c.models[0].deployments[0].path, "/models/r1 #1");
    assert_int_equal(c.models[0].deployments[1].share, 5);
    assert_int_equal(c.limits.queue_tokens, 3000000);
    assert_int_equal(c.limits.body_bytes, 4 << 20);
    assert_int_equal(c.timers.heartbeat_ms, 50);
    assert_int_equal(c.security.curve, CURVE_REQUIRED);
    assert_int_equal(c.security.plaintext, PLAINTEXT_LOOPBACK);
    assert_string_equal(c.security.keys, "/etc/shoal/keys");
    assert_string_equal(config_find_tenant(&c, "shop")->models[0], "r1");
    assert_int_equal(config_find_tenant(&c, "lab")->n_models, 0);
    assert_null(config_find_tenant(&c, "r1"));
    assert_int_equal(c.log.format, LOG_FORMAT_JSON);
    assert_int_equal(c.log.level, LEVEL_DEBUG);
    assert_ptr_equal(config_find_model(&c, "deepseek-chat"), &c.models[0]);
    assert_ptr_equal(config_find_model(&c, "r1"), &c.models[0]);
    assert_null(config_find_model(&c, "r2"));
    assert_ptr_equal(config_find_region(&c, "ap-northeast-1"), &c.regions[1]);
    assert_ptr_equal(config_find_deployment(&c.models[0], "green"), &c.models[0].deployments[1]);
}

static void silence_means_the_defaults(void **state) {
    struct cluster_config c, d;
    assert_int_equal(parse(&c, "schema: 1\nmodels:\nregions: {}\n", NULL, NULL), ERR_NONE);
    config_defaults(&d);
    assert_memory_equal(&c, &d, sizeof c);
    assert_int_equal(d.timers.suspect_ms, 300);
    assert_int_equal(d.timers.dead_ms, 1000);
    assert_string_equal(d.listen.zmq, "127.0.0.1:7700");
}

static void what_is_printed_reads_back_the_same(void **state) {
    static const char *const routers[] = {"[\"tcp://127.0.0.1:7700\", \"10.0.0.1:7700\"]", "\"file:/etc/shoal/routers\"",
                                          "\"\"", "\"tcp://[::1]:1\""};
    for (size_t i = 0; i < sizeof routers / sizeof *routers; i++) {
        struct cluster_config c, again;
        struct error e = {0};
        struct buf text = {0}, changed = {0};
        buf_str(&changed, full);
        char *line = strstr(changed.data, "{discover");
        struct buf file = {0};
        buf_append(&file, changed.data, (size_t)(line - changed.data));
        buf_printf(&file, "{discover: %s}%s", routers[i], strchr(line, '\n'));
        if (parse(&c, file.data, NULL, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
        config_print(&c, &text);
        if (parse(&again, text.data, NULL, &e) != ERR_NONE) fail_msg("%s in:\n%s", error_text(&e), text.data);
        assert_memory_equal(&c, &again, sizeof c);
        buf_free(&text);
        buf_free(&changed);
        buf_free(&file);
    }
}

// Each text follows "schema: 1\n", so its first line is line 2.
static void every_mistake_is_one_sentence_with_its_line(void **state) {
    static const struct {
        const char *text, *sentence;
    } bad[] = {
        {"regoins: {}", "f.yaml:2: unknown key \"regoins\" in the top level; did you mean \"regions\"?"},
        {"zzzzzzzzzzzz: 1", "f.yaml:2: unknown key \"zzzzzzzzzzzz\" in the top level"},
        {"regions:\n  a:\n    wieght: 1", "f.yaml:4: unknown key \"wieght\" in regions.a; did you mean \"weight\"?"},
        {"models: {m: {deployments: {d: {paht: x}}}}",
         "f.yaml:2: unknown key \"paht\" in models.m.deployments.d; did you mean \"path\"?"},
        {"limits: {quue: 1}", "f.yaml:2: unknown key \"quue\" in limits; did you mean \"queue\"?"},
        {"limits: {\"*\": 1}", "f.yaml:2: unknown key \"*\" in limits"},
        {"regions: {\"*\": {}}", "f.yaml:2: regions: \"*\" is no name: expected 1 to 63 letters, digits, '.', '_' or '-'"},
        {"regions: {a b: {}}", "f.yaml:2: regions: \"a b\" is no name: expected 1 to 63 letters, digits, '.', '_' or '-'"},
        {"regions: {a: {weight: -1}}", "f.yaml:2: regions.a.weight expects a whole number such as 40 or 40%, not \"-1\""},
        {"regions: {a: {weight: 1000001}}", "f.yaml:2: regions.a.weight must lie between 0 and 1000000, not 1000001"},
        {"regions: {a: {spill_after: 5}}",
         "f.yaml:2: regions.a.spill_after expects a duration such as 300ms, 2s or 10m, not \"5\""},
        {"regions: {a: {weight: 0}}", "f.yaml: regions: at least one weight must be above 0"},
        {"regions: [a, b]", "f.yaml:2: regions expects keys below it, not a list"},
        {"regions: {a: 3}", "f.yaml:2: regions.a expects keys below it, not a value"},
        {"limits: {body: 9MB}", "f.yaml:2: limits.body must lie between 1KB and 8MB, not 9MB"},
        {"limits: {body: 4M}", "f.yaml:2: limits.body expects a size such as 64KB or 8MB, not \"4M\""},
        {"limits: {queue_tokens: 4MB}",
         "f.yaml:2: limits.queue_tokens expects a count such as 4096, 64k or 4M, not \"4MB\""},
        {"limits: {queue: 0}", "f.yaml:2: limits.queue must lie between 1 and 1000000, not 0"},
        {"limits: {queue: }", "f.yaml:2: limits.queue expects a value, not nothing"},
        {"limits: {queue: [1]}", "f.yaml:2: limits.queue expects a value, not a list"},
        {"limits: {queue: {a: 1}}", "f.yaml:2: limits.queue expects a value, not keys below it"},
        {"listen: {http: \"8080\"}",
         "f.yaml:2: listen.http: \"8080\" is no address: expected host:port, :port, [ipv6]:port or unix:/path"},
        {"log: {format: xml}", "f.yaml:2: log.format expects kv or json, not \"xml\""},
        {"log: {level: loud}", "f.yaml:2: log.level expects debug, info, warn or error, not \"loud\""},
        {"cluster: a b", "f.yaml:2: cluster: \"a b\" is no name: expected 1 to 63 letters, digits, '.', '_' or '-'"},
        {"routers: {discover: [\"x\"]}",
         "f.yaml:2: routers.discover: \"x\" is no address: expected host:port, :port, [ipv6]:port or unix:/path"},
        {"routers: {discover: \"file:rel\"}",
         "f.yaml:2: routers.discover expects file: and an absolute path, not \"file:rel\""},
        {"routers: {discover: [[a]]}", "f.yaml:2: routers.discover expects a list of addresses"},
        {"models: {m: {aliases: x, deployments: {d: {}}}}", "f.yaml:2: models.m.aliases expects a list, not \"x\""},
        {"models: {m: {aliases: [a, a], deployments: {d: {}}}}", "f.yaml: models.m names the alias a twice"},
        {"models: {m: {aliases: [m], deployments: {d: {}}}}", "f.yaml: models.m: the alias m already means the model m"},
        {"models: {m: {deployments: {d: {}}}, n: {aliases: [m], deployments: {d: {}}}}",
         "f.yaml: models.n: the alias m already means the model m"},
        {"models: {m: {}}", "f.yaml: models.m needs at least one entry under deployments"},
        {"models: {m: {deployments: {d: {share: 0}}}}", "f.yaml: models.m: at least one share must be above 0"},
        {"security: {curve: on}", "f.yaml:2: security.curve expects off or required, not \"on\""},
        {"security: {curve: required}",
         "f.yaml: security.curve: required needs security.keys, the folder of the certificates"},
        {"security: {keys: /k}", "f.yaml: security.keys does nothing without security.curve: required"},
        {"security: {allow: /k}", "f.yaml: security.allow does nothing without security.curve: required"},
        {"tenants: {a: {}}",
         "f.yaml: tenants does nothing without security.api_keys or security.curve: nobody proves who they are"},
        {"security: {api_keys: /k}\nmodels: {m: {aliases: [o], deployments: {d: {}}}}\ntenants: {a: {models: [n]}}",
         "f.yaml: tenants.a.models: models has no \"n\""},
        {"security: {api_keys: /k}\nmodels: {m: {aliases: [o], deployments: {d: {}}}}\ntenants: {a: {models: [o]}}",
         "f.yaml: tenants.a.models: \"o\" is an alias; name the model itself, m"},
        {"timers: {suspect: 100ms}", "f.yaml: timers.suspect (100 ms) must be longer than timers.heartbeat (100 ms)"},
        {"timers: {dead: 300ms}", "f.yaml: timers.dead (300 ms) must be longer than timers.suspect (300 ms)"},
        {"cluster: a\ncluster: b", "f.yaml:3: \"cluster\" stands here twice, first in line 2"},
        {"regions: {a: {}, a: {}}", "f.yaml:2: \"a\" stands here twice, first in line 2"},
        {"---\nschema: 1", "f.yaml:3: the file holds a second document"},
        {"cluster: [", "f.yaml:3: this is no valid YAML: did not find expected node content"},
        {"cluster: \"a\\0b\"", "f.yaml:2: cluster expects a value, not nothing"},
        {"? [a]\n: b", "f.yaml:2: a key in the top level is no plain text"},
        {"models: &m {x: *m}", "f.yaml:2: unknown key \"x\" in models.x"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cluster_config c;
        struct error e = {0};
        char text[300];
        snprintf(text, sizeof text, "schema: 1\n%s\n", bad[i].text);
        if (parse(&c, text, NULL, &e) != ERR_CONFIG) fail_msg("accepted: %s", bad[i].text);
        assert_string_equal(error_text(&e), bad[i].sentence);
    }
}

static void the_schema_must_be_named_and_known(void **state) {
    struct cluster_config c;
    struct error e = {0};
    assert_int_equal(parse(&c, "", NULL, &e), ERR_CONFIG);
    assert_string_equal(error_text(&e), "f.yaml:1: the line \"schema: 1\" is missing");
    assert_int_equal(parse(&c, "- a\n", NULL, &e), ERR_CONFIG);
    assert_string_equal(error_text(&e), "f.yaml:1: the file expects keys below it, not a list");
    assert_int_equal(parse(&c, "schema: 2\n", NULL, &e), ERR_CONFIG);
    assert_string_equal(error_text(&e), "f.yaml:1: schema must be 1, not 2");
}

static void all_problems_are_named_at_once_but_not_without_end(void **state) {
    struct cluster_config c;
    struct error e = {0};
    struct buf problems = {0}, text = {0};
    assert_int_equal(parse(&c, "schema: 1\nlimits: {queue: x}\nlog: {level: y}\n", &problems, &e), ERR_CONFIG);
    assert_string_equal(problems.data, "f.yaml:2: limits.queue expects a whole number, not \"x\"\n"
                                       "f.yaml:3: log.level expects debug, info, warn or error, not \"y\"\n");
    buf_reset(&problems);
    for (int i = 0; i < 20000; i++) buf_printf(&text, "k%d: 1\n", i);
    assert_int_equal(parse(&c, text.data, &problems, &e), ERR_CONFIG);
    unsigned lines = 0;
    for (const char *p = problems.data; (p = strchr(p, '\n')); p++) lines++;
    assert_int_equal(lines, 32);
    buf_free(&problems);
    buf_free(&text);
}

static void every_limit_holds_at_and_past_it(void **state) {
    for (unsigned over = 0; over <= 1; over++) {
        struct cluster_config c;
        struct error e = {0};
        struct buf text = {0};
        buf_str(&text, "schema: 1\nregions:\n");
        for (unsigned i = 0; i < REGIONS_MAX + over; i++) buf_printf(&text, "  r%u: {}\n", i);
        err_id id = parse(&c, text.data, NULL, &e);
        assert_int_equal(id, over ? ERR_CONFIG : ERR_NONE);
        if (over) assert_string_equal(error_text(&e), "f.yaml:19: regions has at most 16 entries");
        buf_reset(&text);
        buf_str(&text, "schema: 1\nmodels: {m: {deployments: {d: {}}, aliases: [");
        for (unsigned i = 0; i < ALIASES_MAX + over; i++) buf_printf(&text, "a%u,", i);
        buf_str(&text, "]}}\nrouters: {discover: [");
        for (unsigned i = 0; i < ROUTERS_MAX; i++) buf_printf(&text, "\"tcp://127.0.0.1:%u\",", i + 1);
        buf_str(&text, "]}\n");
        id = parse(&c, text.data, NULL, &e);
        assert_int_equal(id, over ? ERR_CONFIG : ERR_NONE);
        if (over) assert_string_equal(error_text(&e), "f.yaml:2: models.m.aliases has at most 8 names");
        buf_reset(&text);
        buf_str(&text, "schema: 1\ncluster: ");
        for (unsigned i = 0; i < NAME_MAX_BYTES + over; i++) buf_char(&text, 'x');
        assert_int_equal(parse(&c, text.data, NULL, &e), over ? ERR_CONFIG : ERR_NONE);
        buf_free(&text);
    }
}

static void files_that_cannot_be_read_are_one_sentence(void **state) {
    struct cluster_config c;
    struct error e = {0};
    char path[64];
    assert_int_equal(config_load(&c, "/nonexistent/x.yaml", NULL, &e), ERR_SYSTEM);
    assert_string_equal(error_text(&e), "cannot read the configuration /nonexistent/x.yaml: No such file or directory");
    assert_int_equal(config_load(&c, "/tmp", NULL, &e), ERR_SYSTEM);
    assert_string_equal(error_text(&e), "cannot read the configuration /tmp: Is a directory");
    snprintf(path, sizeof path, "/tmp/config_test.%d", (int)getpid());
    FILE *file = fopen(path, "w");
    fputs(full, file);
    fclose(file);
    assert_int_equal(config_load(&c, path, NULL, &e), ERR_NONE);
    file = fopen(path, "a");
    for (int i = 0; i <= CONFIG_FILE_BYTES_MAX; i++) fputc('\n', file);
    fclose(file);
    assert_int_equal(config_load(&c, path, NULL, &e), ERR_CONFIG);
    assert_non_null(strstr(error_text(&e), "a configuration has at most 1048576 bytes"));
    unlink(path);
}

static void a_running_configuration_takes_what_needs_no_restart(void **state) {
    struct cluster_config live, next;
    struct error e = {0};
    assert_int_equal(parse(&live, full, NULL, &e), ERR_NONE);
    next = live;
    next.regions[0].weight = 7;
    next.log.level = LEVEL_ERROR;
    next.models[0].deployments[1].share = 50;
    assert_int_equal(config_apply(&live, &next, &e), ERR_NONE);
    assert_int_equal(live.regions[0].weight, 7);
    next.timers.dead_ms = 2000;
    strcpy(next.listen.http, ":9090");
    strcpy(next.models[0].deployments[0].name, "red");
    struct cluster_config before = live;
    assert_int_equal(config_apply(&live, &next, &e), ERR_CONFIG);
    assert_string_equal(error_text(&e),
                        "these keys changed and need a restart: listen.http, models.*.deployments, timers.dead");
    assert_memory_equal(&live, &before, sizeof live);
}

static void the_reference_names_every_key(void **state) {
    struct buf out = {0};
    config_reference(&out);
    assert_non_null(strstr(out.data, "| `regions.*.weight` | number | `1` | 0 to 1000000 | yes | Long-run share"));
    assert_non_null(strstr(out.data, "| `limits.body` | size | `8MB` | 1KB to 8MB | no | "));
    assert_non_null(strstr(out.data, "| `timers.http_stall` | duration | `60s` | 100ms to 1h | no | "));
    buf_free(&out);
}

static void the_reference_in_the_docs_is_this_one(void **state) {
    static char docs[64 << 10];
    struct buf out = {0};
    FILE *file = fopen("docs/configuration.md", "r");
    if (file == NULL) fail_msg("docs/configuration.md is not there: run this test in the root of the source");
    size_t n = fread(docs, 1, sizeof docs - 1, file);
    fclose(file);
    assert_true(n > 0);
    config_reference(&out);
    if (strstr(docs, out.data) == NULL)
        fail_msg("docs/configuration.md is old: put in it what shoal-router --config-reference says");
    buf_free(&out);
}

// Bytes changed, cut and doubled at random, from a seed: nothing crashes, and what is accepted can be printed and read
// again.
static void damaged_files_never_crash_the_reader(void **state) {
    uint64_t random = 1;
    unsigned accepted = 0;
    for (int run = 0; run < 3000; run++) {
        char text[2 * sizeof full];
        size_t len = sizeof full - 1;
        memcpy(text, full, len);
        for (int change = 0; change < 1 + run % 8; change++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t at = (random >> 33) % len;
            static const char bytes[] = "{}[]:,\"'&*!|>%@\n\t -#\\0129aZ\xff\xc3";
            if (random >> 60 < 12)
                text[at] = bytes[(random >> 20) % (sizeof bytes - 1)];
            else
                len = at + 1;
        }
        struct cluster_config c;
        struct error e = {0};
        struct buf problems = {0}, out = {0};
        if (config_parse(&c, "f.yaml", text, len, &problems, &e) == ERR_NONE) {
            accepted++;
            config_print(&c, &out);
            if (config_parse(&c, "f.yaml", out.data, out.len, NULL, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
        } else {
            assert_true(problems.len > 0 && e.text[0]);
        }
        buf_free(&problems);
        buf_free(&out);
    }
    assert_true(accepted > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_is_read),
        cmocka_unit_test(silence_means_the_defaults),
        cmocka_unit_test(what_is_printed_reads_back_the_same),
        cmocka_unit_test(every_mistake_is_one_sentence_with_its_line),
        cmocka_unit_test(the_schema_must_be_named_and_known),
        cmocka_unit_test(all_problems_are_named_at_once_but_not_without_end),
        cmocka_unit_test(every_limit_holds_at_and_past_it),
        cmocka_unit_test(files_that_cannot_be_read_are_one_sentence),
        cmocka_unit_test(a_running_configuration_takes_what_needs_no_restart),
        cmocka_unit_test(the_reference_names_every_key),
        cmocka_unit_test(the_reference_in_the_docs_is_this_one),
        cmocka_unit_test(damaged_files_never_crash_the_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
