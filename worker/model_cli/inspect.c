// shoal-model inspect: what a model folder holds and what it would take to run it, without loading its weights.
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "common/sys/flags.h"
#include "worker/engine/table.h"
#include "worker/model/model.h"
#include "worker/model/split.h"
#include "worker/model_cli/commands.h"
#include "worker/model_cli/runner.h"

enum { ROWS_MAX = 64 }; // of a step, for the work buffers

struct inspect {
    const char *path, *device;
    uint32_t context, sequences;
    bool json;
    struct model *model;
    const struct model_spec *spec;
    struct {
        uint64_t tensors, parameters, bytes;
    } dtype[DTYPE_COUNT], all; // of what the model uses, scales of FP8 not counted as parameters
    double active;             // parameters that one token is multiplied with
    struct engine_mem memory;
    uint64_t kv_bytes, needed, available;
    uint32_t mla, moe;
};

static enum flags_next parse(int argc, char **argv, struct inspect *o) {
    const struct flag flags[] = {
        {.name = "model",
         .kind = FLAG_STRING,
         .target = &o->path,
         .value = "DIR",
         .help = "Hugging Face model folder",
         .required = true},
        {.name = "context",
         .kind = FLAG_U32,
         .target = &o->context,
         .value = "N",
         .help = "tokens of a sequence that memory is reckoned for; 0: the model's longest"},
        {.name = "sequences",
         .kind = FLAG_U32,
         .target = &o->sequences,
         .value = "N",
         .help = "how many such sequences",
         .min = 1,
         .max = 4096},
        {.name = "device", .kind = FLAG_STRING, .target = &o->device, .value = "NAME", .help = "what would compute"},
        {.name = "json", .kind = FLAG_BOOL, .target = &o->json, .help = "print it as JSON"},
    };
    const struct flag_spec spec = {
        .program = "shoal-model inspect",
        .summary = "Prints a model's architecture, parameters, bytes per type, and the memory it needs; loads no weights.",
        .examples = "  shoal-model inspect --model deploy/local/model --context 2048 --sequences 8\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    return flags_parse(&spec, argc, argv, NULL);
}

static void count(void *context, const struct tensor_need *n) {
    struct inspect *o = context;
    const struct tensor *t = model_tensor(o->model, n->role, n->layer, n->expert);
    uint64_t parameters = (uint64_t)n->rows * (n->cols > 0 ? n->cols : 1);
    o->dtype[t->dtype].tensors++;
    o->dtype[t->dtype].parameters += parameters;
    o->dtype[t->dtype].bytes += t->bytes;
    o->all.tensors++;
    o->all.parameters += parameters;
    o->all.bytes += t->bytes;
    if (t->scale == NULL) return;
    o->dtype[t->scale->dtype].tensors++;
    o->dtype[t->scale->dtype].bytes += t->scale->bytes;
    o->all.tensors++;
    o->all.bytes += t->scale->bytes;
}

static void count_all(struct inspect *o) {
    struct layer_costs costs;
    spec_needs(o->spec, 0, o->spec->layers, count, o);
    split_costs(o->spec, &costs);
    o->active = costs.embed + costs.head;
    for (uint32_t l = 0; l < o->spec->layers; l++) {
        o->active += costs.layer[l];
        o->mla += o->spec->layer[l].attention.kind == ATTENTION_MLA;
        o->moe += o->spec->layer[l].mlp.kind == MLP_MOE;
    }
}

static err_id reckon_memory(struct inspect *o, struct error *e) {
    const struct backend *backend;
    struct engine_device device;
    struct error too_much = {0}; // that it doesn't fit is what is to be told, no failure
    TRY(backend_find(o->device, &backend, e));
    TRY(backend->probe(&device, e));
    if (o->context == 0) o->context = o->spec->context;
    struct engine_opts opts = {.model = o->model, .context = o->context, .slots = o->sequences};
    opts.rows = o->sequences < ROWS_MAX ? o->sequences : ROWS_MAX;
    if (backend->mem_plan(&opts, &o->memory, &too_much) != ERR_NONE && o->memory.weights_bytes == 0) {
        return error_set(e, too_much.id, "%s", error_text(&too_much));
    }
    o->kv_bytes = o->memory.kv_bytes_per_token * o->context * o->sequences;
    o->needed = o->memory.weights_bytes + o->memory.workspace_bytes + o->kv_bytes;
    o->available = device.memory_bytes;
    return ERR_NONE;
}

// ---- printing ----

static const struct mlp_spec *experts_of(const struct inspect *o) {
    for (uint32_t l = 0; l < o->spec->layers; l++) {
        if (o->spec->layer[l].mlp.kind == MLP_MOE) return &o->spec->layer[l].mlp;
    }
    return NULL;
}

static const char *short_number(double n, char text[24]) {
    static const char units[] = " kMGT";
    int unit = 0;
    for (; n >= 999.5 && unit < 4; unit++) n /= 1000;
    snprintf(text, 24, n < 10 ? "%.2f %c" : n < 100 ? "%.1f %c" : "%.0f %c", n, units[unit]);
    if (unit == 0) text[strlen(text) - 2] = '\0';
    return text;
}

static void print_layers(const struct inspect *o) {
    const struct attention_spec *a = &o->spec->layer[0].attention;
    printf("layers       %u: ", o->spec->layers);
    if (o->mla > 0) {
        printf("latent attention, %u heads, %u + %u floats a token in the cache; ", a->heads, a->kv_lora, a->rope_dim);
    } else {
        printf("attention with %u heads over %u of keys and values, %u each; ", a->heads, a->kv_heads, a->head_dim);
    }
    const struct mlp_spec *m = experts_of(o);
    printf("%u dense", o->spec->layers - o->moe);
    if (m != NULL)
        printf(", %u of %u experts with %u for a token%s", o->moe, m->experts, m->top_k,
               m->shared_inter > 0 ? " and a shared one" : "");
    printf("\n");
}

static void print_text(const struct inspect *o) {
    char a[24], b[24], c[24];
    printf("model        %s: hidden %u, vocabulary %u, context %u%s\n", o->spec->architecture, o->spec->hidden,
           o->spec->vocab, o->spec->context, o->spec->tied ? ", head tied to the embedding" : "");
    print_layers(o);
    printf("parameters   %s", short_number((double)o->all.parameters, a));
    printf(", of which a token meets %s\n", short_number(o->active, a));
    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (o->dtype[d].tensors == 0) continue;
        printf("%-12s %" PRIu64 " tensors, %sB\n", dtype_name((enum dtype)d), o->dtype[d].tensors,
               short_number((double)o->dtype[d].bytes, a));
    }
    printf("memory       %sB of weights + %sB of work buffers + ", short_number((double)o->memory.weights_bytes, a),
           short_number((double)o->memory.workspace_bytes, b));
    printf("%sB of KV for %u x %u tokens", short_number((double)o->kv_bytes, c), o->sequences, o->context);
    printf(" (%sB each) = %sB", short_number((double)o->memory.kv_bytes_per_token, a), short_number((double)o->needed, b));
    printf("; this machine has %sB%s\n", short_number((double)o->available, a),
           o->needed > o->available ? ": IT DOES NOT FIT" : "");
    if (model_note(o->model) != NULL) printf("note         %s\n", model_note(o->model));
}

static void print_json(const struct inspect *o) {
    const struct mlp_spec *m = experts_of(o);
    json_t *dtypes = json_object();
    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (o->dtype[d].tensors == 0) continue;
        json_object_set_new(dtypes, dtype_name((enum dtype)d),
                            json_pack("{s:I,s:I,s:I}", "tensors", (json_int_t)o->dtype[d].tensors, "parameters",
                                      (json_int_t)o->dtype[d].parameters, "bytes", (json_int_t)o->dtype[d].bytes));
    }
    json_t *memory = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "context", (json_int_t)o->context, "sequences",
                               (json_int_t)o->sequences, "weights_bytes", (json_int_t)o->memory.weights_bytes,
                               "workspace_bytes", (json_int_t)o->memory.workspace_bytes, "kv_bytes_per_token",
                               (json_int_t)o->memory.kv_bytes_per_token, "kv_bytes", (json_int_t)o->kv_bytes, "needed_bytes",
                               (json_int_t)o->needed, "machine_bytes", (json_int_t)o->available);
    json_t *all =
        json_pack("{s:s,s:i,s:i,s:i,s:i,s:b,s:s,s:i,s:i,s:I,s:I,s:I,s:o,s:o,s:s*}", "architecture", o->spec->architecture,
                  "layers", (int)o->spec->layers, "hidden", (int)o->spec->hidden, "vocabulary", (int)o->spec->vocab,
                  "context", (int)o->spec->context, "tied", o->spec->tied, "attention", o->mla > 0 ? "mla" : "gqa",
                  "moe_layers", (int)o->moe, "experts", m == NULL ? 0 : (int)m->experts, "parameters",
                  (json_int_t)o->all.parameters, "parameters_per_token", (json_int_t)o->active, "bytes",
                  (json_int_t)o->all.bytes, "dtypes", dtypes, "memory", memory, "note", model_note(o->model));
    json_dumpf(all, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(all);
}

static err_id inspect(struct inspect *o, struct error *e) {
    TRY(model_open(o->path, &o->model, e));
    o->spec = model_spec(o->model);
    count_all(o);
    TRY(reckon_memory(o, e));
    (o->json ? print_json : print_text)(o);
    return ERR_NONE;
}

int shoal_model_inspect(int argc, char **argv) {
    struct inspect o = {.device = "cpu", .sequences = 1};
    enum flags_next next = parse(argc, argv, &o);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : 2;
    struct error e = {0};
    err_id id = inspect(&o, &e);
    model_close(&o.model);
    return id == ERR_NONE ? 0 : runner_fail("inspect", &e);
}
