// shoal bench: the command around client/bench.
#include "client/bench/report.h"
#include "client/cli/cli.h"

#include "common/base/check.h"
#include "common/sys/progress_bar.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bench {
    // flags
    struct cli_where where;
    const char *http, *api_key, *model, *trace_path, *prompt, *output, *json_path, *html_path;
    double rate, speed;
    uint32_t concurrency, requests, duration_ms, warmup_ms, timeout_ms, prefix_tokens, prefixes;
    uint32_t ttft_ms, itl_ms, e2e_ms;
    uint64_t seed;
    bool chat;
    // the run
    uv_loop_t loop;
    uv_signal_t interrupt;
    struct trace trace;
    struct load_options load_options;
    struct load *load;
    struct target target;
    struct progress_bar bar;
    char target_text[512], shape[256];
    bool failed_to_write;
};

// --- reading the flags

static err_id read_shape(struct bench *b, struct error *e) {
    struct workload_options *w = &b->load_options.workload;
    int ways = (b->rate > 0) + (b->concurrency > 0) + (b->trace_path != NULL);
    if (ways != 1)
        return error_set(e, ERR_INVALID_ARGUMENT, "give one of --rate, --concurrency and --trace: how the load is to come");
    if (!workload_range_parse(b->prompt, &w->prompt_tokens))
        return error_set(e, ERR_INVALID_ARGUMENT, "--prompt-tokens is '%s'; expected a number, or two like 64-512",
                         b->prompt);
    if (!workload_range_parse(b->output, &w->output_tokens))
        return error_set(e, ERR_INVALID_ARGUMENT, "--output-tokens is '%s'; expected a number, or two like 64-512",
                         b->output);
    if (b->requests == 0 && b->duration_ms == 0 && b->trace_path == NULL) b->duration_ms = 30000;
    w->seed = b->seed, w->rate = b->rate, w->speed = b->speed;
    w->prefix_tokens = b->prefix_tokens, w->prefixes = b->prefixes;
    struct load_options *o = &b->load_options;
    o->concurrency = b->concurrency, o->requests = b->requests;
    o->duration_s = b->duration_ms / 1000.0, o->warmup_s = b->warmup_ms / 1000.0;
    o->objective = (struct load_objective){b->ttft_ms, b->itl_ms, b->e2e_ms};
    if (b->trace_path == NULL) return ERR_NONE;
    w->trace = &b->trace;
    return trace_load(b->trace_path, &b->trace, e);
}

static void tell_shape(struct bench *b) {
    char how[128];
    if (b->trace_path)
        snprintf(how, sizeof how, "%u requests of %.60s at %g times its speed", b->trace.n, b->trace_path, b->speed);
    else if (b->rate > 0)
        snprintf(how, sizeof how, "open loop, Poisson, %g requests/s", b->rate);
    else
        snprintf(how, sizeof how, "closed loop, %u at once", b->concurrency);
    if (b->trace_path)
        snprintf(b->shape, sizeof b->shape, "%s", how);
    else
        snprintf(b->shape, sizeof b->shape, "%s, prompts of %s words, answers of %s tokens, seed %llu", how, b->prompt,
                 b->output, (unsigned long long)b->seed);
}

// --- the run

static void on_progress(void *ctx) {
    struct bench *b = ctx;
    const struct load_result *r = load_result(b->load);
    snprintf(b->bar.detail, sizeof b->bar.detail, "%llu ended, %llu in progress", (unsigned long long)r->ended_all,
             (unsigned long long)r->running);
    progress_bar_update(&b->bar, (uint64_t)(load_share_done(b->load) * 1000), 1000);
}

static void on_over(void *ctx) {
    struct bench *b = ctx;
    progress_bar_end(&b->bar);
    uv_close((uv_handle_t *)&b->interrupt, NULL);
    uv_stop(&b->loop);
}

static void on_interrupt(uv_signal_t *handle, int number) { load_interrupt(((struct bench *)handle->data)->load); }

static int open_target(struct bench *b, const char *model) {
    struct target_listener listener = load_listener(b->load);
    struct error e = {0};
    if (b->http) {
        struct target_http_options o = {b->http, b->api_key, model, b->chat, b->timeout_ms};
        snprintf(b->target_text, sizeof b->target_text, "%.200s, model %.200s, HTTP%s", b->http, model,
                 b->chat ? ", chat" : "");
        if (target_http(&b->loop, &o, &listener, &b->target, &e) == ERR_NONE) return 0;
        fprintf(stderr, "shoal: %s\n", error_text(&e));
        return EXIT_USAGE;
    }
    struct shoal *s;
    int code = cli_open(&b->where, &s);
    if (code != 0) return code;
    snprintf(b->target_text, sizeof b->target_text, "%.200s, model %.200s, ZeroMQ",
             b->where.routers ? b->where.routers : "the cluster file's routers", model);
    target_zmq(&b->loop, s, model, b->timeout_ms, &listener, &b->target);
    return 0;
}

static bool write_file(const char *path, const struct buf *text) {
    FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    bool ok = f && fwrite(text->data, 1, text->len, f) == text->len;
    if (f && f != stdout) ok = fclose(f) == 0 && ok;
    if (!ok) fprintf(stderr, "shoal: cannot write %s: %s\n", path, strerror(errno));
    return ok;
}

static int tell(struct bench *b) {
    struct load_result *r = load_result(b->load);
    struct report_about about = {b->target_text, b->shape, &b->load_options.objective};
    struct buf table = {0}, json = {0}, html = {0};
    bool ok = true;
    report_table(&table, r, &about);
    report_json(&json, r, &about);
    report_html(&html, r, &about);
    fwrite(table.data, 1, table.len, b->json_path && strcmp(b->json_path, "-") == 0 ? stderr : stdout);
    if (b->json_path) ok = write_file(b->json_path, &json) && ok;
    if (b->html_path) ok = write_file(b->html_path, &html) && ok;
    buf_free(&table), buf_free(&json), buf_free(&html);
    return !ok ? EXIT_USAGE : r->complete == 0 || r->failed > 0 ? EXIT_ANSWER : 0;
}

static int run(struct bench *b, const char *model) {
    CHECK(uv_loop_init(&b->loop) == 0);
    b->load_options.loop = &b->loop;
    b->load_options.on_progress = on_progress, b->load_options.ctx = b;
    b->load = load_create(&b->load_options);
    uv_signal_init(&b->loop, &b->interrupt);
    b->interrupt.data = b;
    int code = open_target(b, model);
    if (code == 0) {
        progress_bar_init(&b->bar, stderr, "load");
        uv_signal_start(&b->interrupt, on_interrupt, SIGINT);
        load_run(b->load, &b->target, on_over);
        uv_run(&b->loop, UV_RUN_DEFAULT);
        code = tell(b);
        b->target.destroy(b->target.self);
    } else {
        uv_close((uv_handle_t *)&b->interrupt, NULL);
    }
    load_destroy(&b->load);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    uv_loop_close(&b->loop);
    return code;
}

// With HTTP the model must be named; else the cluster is asked.
static int with_model(struct bench *b) {
    if (b->model) return run(b, b->model);
    if (b->http) {
        fprintf(stderr, "shoal: --http needs --model NAME\n");
        return EXIT_USAGE;
    }
    struct shoal *s;
    int code = cli_open(&b->where, &s);
    if (code != 0) return code;
    char *model = cli_model(s, NULL);
    shoal_close(s);
    code = model ? run(b, model) : EXIT_USAGE;
    free(model);
    return code;
}

static const char examples[] =
    "  shoal bench --rate 20 --duration 60s --ttft 500ms --itl 50ms\n"
    "  shoal bench --concurrency 64 --requests 1000 --prompt-tokens 64-512 --output-tokens 128 --html report.html\n"
    "  shoal bench --http http://127.0.0.1:8080 --model tiny --rate 5\n"
    "  shoal bench --trace azure_conv_2023.csv --speed 10 --json result.json\n"
    "\n"
    "Open loop (--rate, --trace) sends when it is time, whatever the answers do, and latencies count from that time: a "
    "server\n"
    "that stalls can't slow the load down and so hide its stall (\"coordinated omission\"). A closed loop (--concurrency) "
    "sends\n"
    "when an answer has ended: it finds the highest throughput, but its latencies flatter a server that stalls.\n";

#define TEXT(n, t, v, h)                                                                                                    \
    { .name = n, .kind = FLAG_STRING, .target = &(t), .value = v, .help = h }
#define TIME(n, t, h)                                                                                                       \
    { .name = n, .kind = FLAG_DURATION, .target = &(t), .value = "TIME", .help = h }
#define COUNT(n, t, h)                                                                                                      \
    { .name = n, .kind = FLAG_U32, .target = &(t), .value = "N", .help = h }

int cmd_bench(int argc, char **argv) {
    struct bench *b = xcalloc(1, sizeof *b);
    b->prompt = "128", b->output = "64", b->speed = 1, b->timeout_ms = 120000, b->seed = 1, b->prefixes = 0;
    const struct flag flags[] = {
        CLI_WHERE_FLAGS(b->where),
        TEXT("http", b->http, "URL", "a server of OpenAI's API instead of the routers over ZeroMQ, http://host:port[/path]"),
        TEXT("api-key", b->api_key, "KEY", "for --http: sent as a bearer key"),
        {.name = "chat", .kind = FLAG_BOOL, .target = &b->chat, .help = "for --http: chat/completions, not completions"},
        TEXT("model", b->model, "NAME", "the model to ask; default: the only one that the cluster serves"),
        {.name = "rate",
         .kind = FLAG_DOUBLE,
         .target = &b->rate,
         .value = "N",
         .help = "open loop: requests per second, as a Poisson process; default: none"},
        COUNT("concurrency", b->concurrency, "closed loop: requests at once; default: none"),
        TEXT("trace", b->trace_path, "FILE", "open loop: a recorded load, Azure's CSV or Mooncake's JSONL"),
        {.name = "speed",
         .kind = FLAG_DOUBLE,
         .target = &b->speed,
         .value = "N",
         .help = "how many times faster than recorded a trace is played"},
        COUNT("requests", b->requests, "stop sending after so many; default: no limit"),
        TIME("duration", b->duration_ms, "stop sending after this; default: 30s without --requests and --trace"),
        TIME("warmup", b->warmup_ms, "requests of this time at the beginning are sent but not measured"),
        TIME("timeout", b->timeout_ms, "a request that takes longer (HTTP: is silent for longer) has failed"),
        TEXT("prompt-tokens", b->prompt, "N[-M]", "length of prompts in common words, about a token each"),
        TEXT("output-tokens", b->output, "N[-M]", "length of answers; the end of text is ignored"),
        COUNT("prefix-tokens", b->prefix_tokens, "so many of a prompt's words are a beginning that others share"),
        COUNT("prefixes", b->prefixes, "how many such beginnings there are; 0: none is shared"),
        TIME("ttft", b->ttft_ms, "objective: first token within; default: none"),
        TIME("itl", b->itl_ms, "objective: mean time between a request's tokens; default: none"),
        TIME("e2e", b->e2e_ms, "objective: answer complete within; default: none"),
        {.name = "seed",
         .kind = FLAG_U64,
         .target = &b->seed,
         .value = "N",
         .help = "of lengths, words and times: the same seed asks the same"},
        TEXT("json", b->json_path, "FILE", "write the result as JSON; -: on stdout"),
        TEXT("html", b->html_path, "FILE", "write a report with plots, in one file"),
    };
    const struct flag_spec spec = {
        .program = "shoal bench",
        .summary =
            "Puts a load on a cluster, or on any server of OpenAI's API, and tells latencies, throughput and goodput.",
        .examples = examples,
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    struct error e = {0};
    enum flags_next next = flags_parse(&spec, argc, argv, NULL);
    int code = next == FLAGS_EXIT ? 0 : EXIT_USAGE;
    if (next == FLAGS_RUN && read_shape(b, &e) != ERR_NONE) {
        fprintf(stderr, "shoal: %s\n", error_text(&e));
    } else if (next == FLAGS_RUN) {
        tell_shape(b);
        code = with_model(b);
    }
    trace_free(&b->trace);
    free(b);
    return code;
}
