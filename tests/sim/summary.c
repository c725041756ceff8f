#include "tests/sim/summary.h"

#include <ctype.h>

void summary_take(struct summary *s, const struct world *w, double wall_s) {
    const struct oracle *o = w->oracle;
    const struct stats *t = &w->stats;
    *s = (struct summary){.seed = w->seed,
                          .requests = w->n_requests,
                          .done = oracle_count(o, OUTCOME_DONE),
                          .failed = oracle_count(o, OUTCOME_FAILED),
                          .cancelled = oracle_count(o, OUTCOME_CANCELLED),
                          .router_died = oracle_count(o, OUTCOME_ROUTER_DIED),
                          .client_died = oracle_count(o, OUTCOME_CLIENT_DIED),
                          .tokens = t->tokens,
                          .attempts = t->attempts,
                          .replacements = t->replacements,
                          .kills = t->kills,
                          .drains = t->drains,
                          .lost = t->lost,
                          .doubled = t->doubled,
                          .resets = t->resets,
                          .partitions = t->partitions,
                          .pauses = t->pauses + t->stalls,
                          .returns = t->returns,
                          .moves = t->moves,
                          .restores = t->restores,
                          .regroups = t->regroups,
                          .innocents = t->innocents,
                          .protocol_errors = t->protocol_errors,
                          .events = w->events,
                          .hash = w->hash,
                          .hours = w->options->hours,
                          .wall_s = wall_s,
                          .ok = !w->failed};
    s->goodput = t->measured ? (double)t->measured_done / (double)t->measured : 1;
    for (int i = 0; i < ERR_COUNT; i++) s->failures[i] = oracle_failed_count(o, (err_id)i);
}

void summary_add(struct summary *total, const struct summary *s) {
    uint64_t *to = &total->requests;
    const uint64_t *from = &s->requests;
    for (; to != &total->hash; to++, from++) *to += *from;
    for (int i = 0; i < ERR_COUNT; i++) total->failures[i] += s->failures[i];
    total->hash = hash_mix(total->hash ^ s->hash);
    total->hours += s->hours;
    total->wall_s += s->wall_s;
    if (s->goodput < total->goodput) total->goodput = s->goodput;
    total->ok &= s->ok;
    total->seed += s->ok;
}

static void print_failures(const struct summary *s, FILE *out) {
    const char *comma = "";
    fprintf(out, "\"failed_by\":{");
    for (int i = 0; i < ERR_COUNT; i++) {
        if (s->failures[i] == 0) continue;
        fprintf(out, "%s\"", comma);
        for (const char *c = error_info((err_id)i)->name + 4; *c; c++) fputc(tolower((unsigned char)*c), out);
        fprintf(out, "\":%llu", (unsigned long long)s->failures[i]);
        comma = ",";
    }
    fprintf(out, "}");
}

void summary_print(const struct summary *s, uint64_t seeds, FILE *out) {
#define N(field) (unsigned long long)s->field
    if (seeds > 1)
        fprintf(out, "{\"seeds\":%llu,\"seeds_ok\":%llu,", (unsigned long long)seeds, N(seed));
    else
        fprintf(out, "{\"seed\":%llu,", N(seed));
    fprintf(out, "\"hours\":%g,\"requests\":%llu,\"done\":%llu,\"failed\":%llu,", s->hours, N(requests), N(done), N(failed));
    print_failures(s, out);
    fprintf(out, ",\"cancelled\":%llu,\"router_died\":%llu,\"client_died\":%llu,\"tokens\":%llu,\"attempts\":%llu",
            N(cancelled), N(router_died), N(client_died), N(tokens), N(attempts));
    fprintf(out, ",\"replacements\":%llu,\"kills\":%llu,\"drains\":%llu,\"lost\":%llu,\"doubled\":%llu,\"resets\":%llu",
            N(replacements), N(kills), N(drains), N(lost), N(doubled), N(resets));
    fprintf(out,
            ",\"partitions\":%llu,\"pauses\":%llu,\"returns\":%llu,\"moves\":%llu,\"restores\":%llu,\"regroups\":%llu,"
            "\"innocents\":%llu,\"protocol_errors\":%llu,\"goodput\":%"
            ".3f,\"events\":%"
            "llu,\"event_hash\":\"%016llx\"",
            N(partitions), N(pauses), N(returns), N(moves), N(restores), N(regroups), N(innocents), N(protocol_errors),
            s->goodput, N(events), N(hash));
    fprintf(out, ",\"wall_s\":%.3f,\"ok\":%s}\n", s->wall_s, s->ok ? "true" : "false");
#undef N
}
