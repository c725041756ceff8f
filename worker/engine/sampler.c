// Design notes. top_k and top_p need no sort: a radix select over order-preserving integer keys finds the key of the last
// survivor in four passes; tokens equal to it are taken by ascending id until the target is met. Counts and masses are
// integers, so every order of adding gives the same sum.
#include "worker/engine/sampler.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "worker/engine/backend.h"
#include "common/base/scalar_math.h"

struct sampler_work {
    float *w;         // [vocab] logits as changed by the parameters; -inf = out
    uint64_t *mass;   // [vocab] exp(w - max) in units of 2^-40
    float *order;     // [vocab] by which the tail is cut; -inf = out
    uint32_t *counts; // [vocab] all zero between calls
};

struct sampler_work *sampler_work_create(uint32_t vocab) {
    struct sampler_work *k = xcalloc(1, sizeof *k);
    k->w = xmalloc(vocab * sizeof *k->w);
    k->mass = xmalloc(vocab * sizeof *k->mass);
    k->order = xmalloc(vocab * sizeof *k->order);
    k->counts = xcalloc(vocab, sizeof *k->counts);
    return k;
}

void sampler_work_destroy(struct sampler_work **work) {
    if (*work == NULL) return;
    free((*work)->w);
    free((*work)->mass);
    free((*work)->order);
    free((*work)->counts);
    free(*work);
    *work = NULL;
}

// ---- what the model itself said ----

// NaN, infinite or beyond 2^100, where a temperature could still carry it to infinity.
static bool all_finite(const float *l, uint32_t n) {
    uint32_t bad = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &l[i], sizeof bits);
        bad |= (bits & 0x7f800000) >= (127u + 100) << 23;
    }
    return bad == 0;
}

static double log_sum_exp(const float *l, uint32_t n) {
    float max = l[0];
    for (uint32_t i = 1; i < n; i++) max = l[i] > max ? l[i] : max;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += math_exp((double)l[i] - max);
    return max + math_log(sum);
}

static void report_logprobs(const struct sampler_input *in, struct engine_token *out) {
    out->logprob = 0;
    out->n_top = 0;
    if (!in->params->want_logprob) return;
    double total = log_sum_exp(in->logits, in->vocab);
    out->logprob = (float)(in->logits[out->token] - total);
    uint32_t want = in->params->logprobs < in->vocab ? in->params->logprobs : in->vocab;
    for (uint32_t t = 0; t < in->vocab && want > 0; t++) {
        float l = in->logits[t];
        if (out->n_top == want && l <= out->top[want - 1].logprob) continue;
        uint32_t at = out->n_top < want ? out->n_top++ : want - 1;
        for (; at > 0 && out->top[at - 1].logprob < l; at--) out->top[at] = out->top[at - 1];
        out->top[at] = (struct engine_top){t, l};
    }
    for (uint32_t i = 0; i < out->n_top; i++) out->top[i].logprob = (float)(out->top[i].logprob - total);
}

// ---- bias, penalties, bans ----

static void penalize(struct sampler_work *k, const struct sampler_input *in) {
    const struct sampling_params *p = in->params;
    bool repetition = p->repetition_penalty != 1, counted = p->presence_penalty != 0 || p->frequency_penalty != 0;
    if (!repetition && !counted) return;
    const uint32_t SEEN = 1u << 31; // repetition is done for this token; below it, the count in the output
    for (uint32_t i = 0; i < in->n_tokens; i++) {
        uint32_t t = in->tokens[i];
        if (t >= in->vocab) continue;
        if (repetition && !(k->counts[t] & SEEN)) {
            k->w[t] = k->w[t] > 0 ? k->w[t] / p->repetition_penalty : k->w[t] * p->repetition_penalty;
            k->counts[t] |= SEEN;
        }
        if (i >= in->n_prompt) k->counts[t]++;
    }
    for (uint32_t i = 0; i < in->n_tokens; i++) { // once per distinct token: its count is cleared when it was used
        uint32_t t = in->tokens[i];
        if (t >= in->vocab) continue;
        uint32_t n = k->counts[t] & ~SEEN;
        if (n > 0) k->w[t] -= (float)n * p->frequency_penalty + p->presence_penalty;
        k->counts[t] = 0;
    }
}

// counts marks them for as long as this takes.
static void allow_only(struct sampler_work *k, const struct sampler_input *in) {
    const struct sampling_params *p = in->params;
    for (uint32_t i = 0; i < p->n_allowed; i++) k->counts[p->allowed[i]] = 1;
    for (uint32_t t = 0; t < in->vocab; t++) k->w[t] = k->counts[t] != 0 ? k->w[t] : -INFINITY;
    for (uint32_t i = 0; i < p->n_allowed; i++) k->counts[p->allowed[i]] = 0;
}

static void prepare(struct sampler_work *k, const struct sampler_input *in) {
    const struct sampling_params *p = in->params;
    memcpy(k->w, in->logits, in->vocab * sizeof *k->w);
    for (uint32_t i = 0; i < p->n_bias; i++) k->w[p->bias[i].token] += p->bias[i].bias;
    penalize(k, in);
    if (in->n_tokens - in->n_prompt < p->min_tokens) {
        for (uint32_t i = 0; i < p->n_eos; i++) k->w[p->eos[i]] = -INFINITY;
    }
    for (uint32_t i = 0; i < p->n_banned; i++) k->w[p->banned[i]] = -INFINITY;
    if (p->n_allowed > 0) allow_only(k, in);
    if (in->mask != NULL) {
        for (uint32_t t = 0; t < in->vocab; t++) {
            if (!(in->mask[t / 32] >> (t % 32) & 1)) k->w[t] = -INFINITY;
        }
    }
}

static uint32_t largest(const float *w, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t t = 1; t < n; t++) best = w[t] > w[best] ? t : best;
    return best;
}

// ---- cutting the tail ----

// Rises with the float; 0 only for what is out.
static uint32_t key_of(float w) {
    if (w == -INFINITY) return 0;
    uint32_t bits;
    w += 0.0f; // -0 and +0 are equal
    memcpy(&bits, &w, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000;
}

// Keeps the shortest prefix, in the order (order descending, id ascending), whose weights reach target; unit = every token
// weighs 1, else its mass. Everything else is set to -inf. order: k->w or k->order.
static void keep_prefix(struct sampler_work *k, const float *order, uint32_t vocab, bool unit, uint64_t target) {
    uint32_t prefix = 0, known = 0; // the bits of the last survivor's key found so far, and their mask
    uint64_t above = 0;             // weight of the keys above all that still match
    for (int shift = 24; shift >= 0; shift -= 8) {
        uint64_t bucket[256] = {0};
        for (uint32_t t = 0; t < vocab; t++) {
            uint32_t key = key_of(order[t]);
            if (key != 0 && (key & known) == prefix) bucket[key >> shift & 255] += unit ? 1 : k->mass[t];
        }
        uint32_t b = 255;
        while (b > 0 && above + bucket[b] < target) above += bucket[b--];
        prefix |= b << shift;
        known |= 255u << shift;
    }
    for (uint32_t t = 0; t < vocab; t++) {
        uint32_t key = key_of(order[t]);
        if (key > prefix) continue;
        if (key == prefix && above < target) {
            above += unit ? 1 : k->mass[t];
        } else {
            k->w[t] = -INFINITY;
        }
    }
}

// Fills in the masses; their sum.
static uint64_t weigh(struct sampler_work *k, float max, uint32_t vocab) {
    uint64_t total = 0;
    for (uint32_t t = 0; t < vocab; t++) {
        double d = (double)k->w[t] - max;
        k->mass[t] = k->w[t] == -INFINITY ? 0 : (uint64_t)(math_exp(d) * 0x1p40);
        total += k->mass[t];
    }
    return total;
}

// At least 1.
static uint64_t part_of(uint64_t total, float part) {
    uint64_t target = (uint64_t)((unsigned __int128)total * (uint64_t)((double)part * 0x1p32) >> 32);
    return target > 0 ? target : 1;
}

// Surprise minus entropy is the mean logit minus the token's own: what normalises both falls out. The mean is summed in
// fixed point (2^-20) like the masses; a token without mass adds nothing to it.
static void order_by_surprise(struct sampler_work *k, float max, uint64_t total, uint32_t vocab) {
    unsigned __int128 sum = 0;
    for (uint32_t t = 0; t < vocab; t++) {
        if (k->mass[t] > 0) sum += (unsigned __int128)k->mass[t] * (uint64_t)(((double)max - (double)k->w[t]) * 0x1p20);
    }
    double mean = total > 0 ? (double)sum / (double)total * 0x1p-20 : 0; // below max
    for (uint32_t t = 0; t < vocab; t++) {
        double below = (double)max - (double)k->w[t];
        k->order[t] = k->w[t] == -INFINITY ? -INFINITY : (float)-fabs(mean - below);
    }
}

static void cut_tail(struct sampler_work *k, const struct sampling_params *p, uint32_t vocab) {
    float max = k->w[largest(k->w, vocab)];
    if (p->min_p > 0) {
        float floor = max + (float)math_log(p->min_p);
        for (uint32_t t = 0; t < vocab; t++) k->w[t] = k->w[t] < floor ? -INFINITY : k->w[t];
    }
    if (p->top_k > 0 && p->top_k < vocab) keep_prefix(k, k->w, vocab, true, p->top_k);
    if (p->typical_p < 1) {
        uint64_t total = weigh(k, max, vocab);
        order_by_surprise(k, max, total, vocab);
        keep_prefix(k, k->order, vocab, false, part_of(total, p->typical_p));
    }
    if (p->top_p < 1) keep_prefix(k, k->w, vocab, false, part_of(weigh(k, max, vocab), p->top_p));
}

// ---- the draw ----

// -log(-log u), u = (r + 1/2) / 2^32: in (-3.2, 22.9).
static double gumbel(uint32_t r) { return -math_log(-math_log(((double)r + 0.5) * 0x1p-32)); }

static uint32_t draw(const struct sampler_work *k, const struct sampler_input *in) {
    const double GUMBEL_MAX = 23;
    uint32_t best = 0, block = UINT32_MAX;
    double best_score = -INFINITY;
    struct philox r = {{0}};
    for (uint32_t t = 0; t < in->vocab; t++) {
        double w = k->w[t];
        if (w == -INFINITY || w + GUMBEL_MAX < best_score) continue; // can't win any more
        if (t / 4 != block) {
            block = t / 4;
            r = philox4x32((struct philox){{block, in->params->choice, in->n_tokens, 0}}, in->params->seed);
        }
        double score = w + gumbel(r.v[t % 4]);
        if (score > best_score) {
            best_score = score;
            best = t;
        }
    }
    return best;
}

bool sampler_pick(struct sampler_work *k, const struct sampler_input *in, struct engine_token *out) {
    if (!all_finite(in->logits, in->vocab)) return false;
    if (in->forced != ENGINE_NO_TOKEN) {
        out->token = in->forced;
        report_logprobs(in, out);
        return true;
    }
    prepare(k, in);
    out->token = largest(k->w, in->vocab);
    if (k->w[out->token] == -INFINITY) return false;
    if (in->params->temperature > 0) {
        for (uint32_t t = 0; t < in->vocab; t++) k->w[t] /= in->params->temperature;
        cut_tail(k, in->params, in->vocab);
        out->token = draw(k, in);
    }
    report_logprobs(in, out);
    return true;
}

// ---- checking what a request asks for ----

static err_id out_of_range(struct error *e, const char *field, double got, const char *want) {
    return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s is %g but must be %s", field, got, want);
}

static err_id check_list(const char *field, const uint32_t *tokens, uint32_t n, uint32_t vocab, struct error *e) {
    if (n > SAMPLING_LIST_MAX) return out_of_range(e, field, n, "at most 300 tokens");
    for (uint32_t i = 0; i < n; i++) {
        if (tokens[i] >= vocab) return out_of_range(e, field, tokens[i], "a token of the vocabulary");
    }
    return ERR_NONE;
}

err_id sampler_check(const struct sampling_params *p, uint32_t vocab, struct error *e) {
    if (!(p->temperature >= 0 && p->temperature <= 100))
        return out_of_range(e, "temperature", p->temperature, "from 0 to 100");
    if (p->temperature > 0 && p->temperature < 1e-3f)
        return out_of_range(e, "temperature", p->temperature, "0 or at least 0.001");
    if (!(p->top_p > 0 && p->top_p <= 1)) return out_of_range(e, "top_p", p->top_p, "above 0 and at most 1");
    if (!(p->min_p >= 0 && p->min_p <= 1)) return out_of_range(e, "min_p", p->min_p, "from 0 to 1");
    if (!(p->repetition_penalty >= 0.01f && p->repetition_penalty <= 100)) {
        return out_of_range(e, "repetition_penalty", p->repetition_penalty, "from 0.01 to 100");
    }
    if (!(fabsf(p->presence_penalty) <= 100))
        return out_of_range(e, "presence_penalty", p->presence_penalty, "from -100 to 100");
    if (!(fabsf(p->frequency_penalty) <= 100))
        return out_of_range(e, "frequency_penalty", p->frequency_penalty, "from -100 to 100");
    if (p->logprobs > SAMPLING_TOP_LOGPROBS_MAX) return out_of_range(e, "top_logprobs", p->logprobs, "from 0 to 20");
    if (p->n_eos > SAMPLING_EOS_MAX) return out_of_range(e, "eos", p->n_eos, "at most 80 tokens");
    for (uint32_t i = 0; i < p->n_eos; i++) {
        if (p->eos[i] >= vocab) return out_of_range(e, "eos", p->eos[i], "a token of the vocabulary");
    }
    if (!(p->typical_p > 0 && p->typical_p <= 1)) return out_of_range(e, "typical_p", p->typical_p, "above 0 and at most 1");
    TRY(check_list("allowed_token_ids", p->allowed, p->n_allowed, vocab, e));
    TRY(check_list("banned_token_ids", p->banned, p->n_banned, vocab, e));
    if (p->n_bias > SAMPLING_BIAS_MAX) return out_of_range(e, "logit_bias", p->n_bias, "at most 300 tokens");
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].token >= vocab) return out_of_range(e, "logit_bias", p->bias[i].token, "a token of the vocabulary");
        if (!(fabsf(p->bias[i].bias) <= 100)) return out_of_range(e, "logit_bias", p->bias[i].bias, "from -100 to 100");
    }
    return ERR_NONE;
}
