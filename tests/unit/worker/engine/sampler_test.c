// The sampler: right distributions, exact cuts, and nothing but its inputs in its answers.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "common/base/scalar_math.h"
#include "worker/engine/backend.h"
#include "worker/engine/sampler.h"

enum { V = 50 };

struct setup {
    struct sampler_work *work;
    float logits[V];
    struct sampling_params params;
    struct sampler_input in;
    uint32_t tokens[8];
};

static void setup(struct setup *s) {
    *s = (struct setup){.work = sampler_work_create(V)};
    for (uint32_t i = 0; i < V; i++)
        s->logits[i] = (float)(philox4x32((struct philox){{i, 0, 0, 0}}, 3).v[0] % 1000) * 0.004f;
    sampling_params_default(&s->params);
    s->in = (struct sampler_input){.logits = s->logits,
                                   .vocab = V,
                                   .params = &s->params,
                                   .tokens = s->tokens,
                                   .n_prompt = 2,
                                   .n_tokens = 4,
                                   .forced = ENGINE_NO_TOKEN};
    memcpy(s->tokens, (uint32_t[]){7, 7, 9, 9}, 16);
}

static uint32_t pick(struct setup *s) {
    struct engine_token t;
    assert_true(sampler_pick(s->work, &s->in, &t));
    return t.token;
}

static void count_draws(struct setup *s, uint32_t n, uint32_t *counts) {
    memset(counts, 0, V * sizeof *counts);
    for (uint32_t i = 0; i < n; i++) {
        s->params.seed = i;
        counts[pick(s)]++;
    }
}

// Of draws against the softmax of logits/temperature over the tokens with keep set; ~ degrees of freedom when they agree.
static double chi_square(const struct setup *s, const uint32_t *counts, uint32_t n, const bool *keep, uint32_t *degrees) {
    double p[V], sum = 0, chi = 0;
    *degrees = 0;
    for (uint32_t i = 0; i < V; i++) sum += p[i] = keep[i] ? exp((double)s->logits[i] / (double)s->params.temperature) : 0;
    for (uint32_t i = 0; i < V; i++) {
        if (!keep[i]) {
            assert_int_equal(counts[i], 0);
            continue;
        }
        double expected = p[i] / sum * n;
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
        (*degrees)++;
    }
    (*degrees)--;
    return chi;
}

static uint32_t rank_of(const struct setup *s, uint32_t t) { // by (logit descending, id ascending)
    uint32_t rank = 0;
    for (uint32_t i = 0; i < V; i++) rank += s->logits[i] > s->logits[t] || (s->logits[i] == s->logits[t] && i < t);
    return rank;
}

static void expect_distribution(struct setup *s, const bool *keep) {
    enum { N = 40000 };
    uint32_t counts[V], degrees;
    count_draws(s, N, counts);
    double chi = chi_square(s, counts, N, keep, &degrees);
    double limit = degrees + 5 * sqrt(2.0 * degrees + 1); // five standard deviations; the seeds are fixed
    if (chi > limit) fail_msg("chi square %.1f with %u degrees of freedom", chi, degrees);
}

static void draws_follow_the_softmax(void **state) {
    struct setup s;
    bool keep[V];
    memset(keep, 1, sizeof keep);
    setup(&s);
    const float temperatures[] = {1, 0.5f, 2};
    for (int i = 0; i < 3; i++) {
        s.params.temperature = temperatures[i];
        expect_distribution(&s, keep);
    }
    sampler_work_destroy(&s.work);
}

static void top_k_keeps_exactly_k(void **state) {
    struct setup s;
    bool keep[V];
    setup(&s);
    s.logits[3] = s.logits[4] = s.logits[5] = 9; // a tie across the cut: the lowest ids stay
    s.logits[6] = 10;
    s.params.temperature = 3;
    for (uint32_t k = 1; k < 8; k++) {
        s.params.top_k = k;
        for (uint32_t i = 0; i < V; i++) keep[i] = rank_of(&s, i) < k;
        expect_distribution(&s, keep);
    }
    sampler_work_destroy(&s.work);
}

static void top_p_keeps_the_shortest_prefix(void **state) {
    struct setup s;
    bool keep[V];
    setup(&s);
    const float cuts[] = {0.01f, 0.3f, 0.9f, 0.999f};
    for (int c = 0; c < 4; c++) {
        s.params.top_p = cuts[c];
        double total = 0, before[V] = {0};
        for (uint32_t i = 0; i < V; i++) total += exp((double)s.logits[i]);
        for (uint32_t i = 0; i < V; i++) {
            for (uint32_t k = 0; k < V; k++)
                before[i] += rank_of(&s, k) < rank_of(&s, i) ? exp((double)s.logits[k]) / total : 0;
            keep[i] = before[i] < (double)cuts[c];
        }
        expect_distribution(&s, keep);
    }
    sampler_work_destroy(&s.work);
}

static void min_p_is_relative_to_the_likeliest(void **state) {
    struct setup s;
    bool keep[V];
    setup(&s);
    s.params.min_p = 0.2f;
    float max = 0;
    for (uint32_t i = 0; i < V; i++) max = s.logits[i] > max ? s.logits[i] : max;
    for (uint32_t i = 0; i < V; i++) keep[i] = exp((double)(s.logits[i] - max)) >= 0.2;
    expect_distribution(&s, keep);
    sampler_work_destroy(&s.work);
}

// The set by the definition: surprise nearest to the entropy first, ties to the lowest id, until typical_p is held.
static void typical_set(const struct setup *s, double typical_p, bool *keep) {
    double p[V], total = 0, entropy = 0, held = 0;
    for (uint32_t i = 0; i < V; i++) total += exp((double)s->logits[i]);
    for (uint32_t i = 0; i < V; i++) p[i] = exp((double)s->logits[i]) / total;
    for (uint32_t i = 0; i < V; i++) entropy -= p[i] * log(p[i]);
    memset(keep, 0, V * sizeof *keep);
    while (held < typical_p) {
        uint32_t best = V;
        for (uint32_t i = 0; i < V; i++) {
            if (!keep[i] && (best == V || fabs(-log(p[i]) - entropy) < fabs(-log(p[best]) - entropy) - 1e-9)) best = i;
        }
        keep[best] = true;
        held += p[best];
    }
}

static void typical_p_keeps_what_surprises_as_expected(void **state) {
    struct setup s;
    bool keep[V];
    setup(&s);
    const float cuts[] = {0.05f, 0.4f, 0.9f};
    for (int c = 0; c < 3; c++) {
        s.params.typical_p = cuts[c];
        typical_set(&s, (double)cuts[c], keep);
        expect_distribution(&s, keep);
    }
    s.logits[11] = 30; // so likely that nothing else is typical
    s.params.typical_p = 0.9f;
    memset(keep, 0, sizeof keep);
    keep[11] = true;
    expect_distribution(&s, keep);
    sampler_work_destroy(&s.work);
}

static void what_is_banned_or_not_allowed_is_never_drawn(void **state) {
    struct setup s;
    bool keep[V];
    setup(&s);
    memcpy(s.params.banned, (uint32_t[]){3, 44, 3}, 12);
    s.params.n_banned = 3;
    for (uint32_t i = 0; i < V; i++) keep[i] = i != 3 && i != 44;
    expect_distribution(&s, keep);
    memcpy(s.params.allowed, (uint32_t[]){44, 5, 6, 5, 20}, 20);
    s.params.n_allowed = 5;
    for (uint32_t i = 0; i < V; i++) keep[i] = i == 5 || i == 6 || i == 20;
    expect_distribution(&s, keep);
    s.params.n_allowed = 1; // and that one is banned
    struct engine_token t;
    assert_false(sampler_pick(s.work, &s.in, &t));
    sampler_work_destroy(&s.work);
}

// Draws against the softmax of these logits, which the parameters should have made.
static void expect_logits(struct setup *s, const float *changed, const bool *keep) {
    struct setup same = *s;
    memcpy(same.logits, changed, sizeof same.logits);
    enum { N = 40000 };
    uint32_t counts[V], degrees;
    count_draws(s, N, counts);
    double chi = chi_square(&same, counts, N, keep, &degrees), limit = degrees + 5 * sqrt(2.0 * degrees + 1);
    if (chi > limit) fail_msg("chi square %.1f with %u degrees of freedom", chi, degrees);
}

static void draws_follow_bias_penalties_and_min_tokens(void **state) {
    struct setup s;
    bool keep[V];
    float want[V];
    setup(&s); // the prompt is 7 7, the output 9 9
    s.in.logits = s.logits;
    s.logits[7] = -1, s.logits[9] = 3;
    memcpy(want, s.logits, sizeof want);
    memset(keep, 1, sizeof keep);
    s.params.n_bias = 2;
    s.params.bias[0] = (struct sampling_bias){30, 1.5f}, s.params.bias[1] = (struct sampling_bias){9, -0.5f};
    want[30] += 1.5f, want[9] -= 0.5f;
    expect_logits(&s, want, keep);
    s.params.repetition_penalty = 1.25f; // divides what is positive, multiplies what is not
    want[7] *= 1.25f, want[9] /= 1.25f;
    expect_logits(&s, want, keep);
    s.params.frequency_penalty = 0.3f; // of the output alone
    want[9] -= 2 * 0.3f;
    expect_logits(&s, want, keep);
    s.params.presence_penalty = -0.7f;
    want[9] += 0.7f;
    expect_logits(&s, want, keep);
    s.params.n_eos = 1, s.params.eos[0] = 12, s.params.min_tokens = 3;
    keep[12] = false;
    expect_logits(&s, want, keep);
    s.params.min_tokens = 2; // there are two
    keep[12] = true;
    expect_logits(&s, want, keep);
    s.params.temperature = 0.6f; // after all of them
    expect_logits(&s, want, keep);
    sampler_work_destroy(&s.work);
}

static void cuts_come_in_the_order_of_the_header(void **state) {
    struct setup s;
    bool keep[V], typical[V];
    setup(&s);
    s.params.top_k = 20, s.params.typical_p = 0.6f, s.params.top_p = 0.7f;
    struct setup cut = s;
    for (uint32_t i = 0; i < V; i++) cut.logits[i] = rank_of(&s, i) < 20 ? s.logits[i] : -60; // without mass
    typical_set(&cut, 0.6, typical);
    double total = 0;
    for (uint32_t i = 0; i < V; i++) total += typical[i] ? exp((double)s.logits[i]) : 0;
    for (uint32_t i = 0; i < V; i++) {
        double before = 0;
        for (uint32_t k = 0; k < V; k++)
            before += typical[k] && rank_of(&s, k) < rank_of(&s, i) ? exp((double)s.logits[k]) : 0;
        keep[i] = typical[i] && before < 0.7 * total;
    }
    expect_distribution(&s, keep);
    sampler_work_destroy(&s.work);
}

static void a_mask_bans_what_it_does_not_name(void **state) {
    struct setup s;
    bool keep[V] = {false};
    uint32_t mask[2] = {0, 0};
    setup(&s);
    for (uint32_t i = 0; i < V; i += 7) {
        keep[i] = true;
        mask[i / 32] |= 1u << i % 32;
    }
    s.in.mask = mask;
    expect_distribution(&s, keep);
    mask[0] = mask[1] = 0;
    struct engine_token t;
    assert_false(sampler_pick(s.work, &s.in, &t));
    sampler_work_destroy(&s.work);
}

static void the_answer_depends_on_nothing_but_the_inputs(void **state) {
    struct setup a, b;
    setup(&a);
    setup(&b);
    uint32_t differ[4] = {0};
    for (uint32_t i = 0; i < 300; i++) {
        a.params.seed = b.params.seed = 1000 + i;
        uint32_t t = pick(&a);
        for (uint32_t k = 0; k < i % 3; k++) pick(&b); // other work in between
        assert_int_equal(pick(&b), t);
        b.params.seed++;
        differ[0] += pick(&b) != t;
        b.params.seed--;
        b.params.choice = 1;
        differ[1] += pick(&b) != t;
        b.params.choice = 0;
        b.in.n_tokens = 3;
        differ[2] += pick(&b) != t;
        b.in.n_tokens = 4;
    }
    for (int i = 0; i < 3; i++) assert_true(differ[i] > 200);
    sampler_work_destroy(&a.work);
    sampler_work_destroy(&b.work);
}

static void temperature_zero_takes_the_largest_and_the_lowest_id_of_equals(void **state) {
    struct setup s;
    setup(&s);
    s.params.temperature = 0;
    s.logits[17] = s.logits[31] = 5;
    assert_int_equal(pick(&s), 17);
    s.logits[31] = nextafterf(5, 6);
    assert_int_equal(pick(&s), 31);
    sampler_work_destroy(&s.work);
}

static void penalties_follow_their_formulas(void **state) {
    struct setup s;
    setup(&s);
    s.params.temperature = 0;
    for (uint32_t i = 0; i < V; i++) s.logits[i] = 0;
    s.logits[7] = 3; // twice in the prompt
    s.logits[9] = 4; // twice in the output
    s.logits[20] = 2.5f;
    assert_int_equal(pick(&s), 9);
    s.params.frequency_penalty = 0.6f; // 4 - 1.2 = 2.8
    assert_int_equal(pick(&s), 7);
    s.params.frequency_penalty = 0;
    s.params.presence_penalty = 0.9f; // 4 - 0.9 = 3.1, once however often
    assert_int_equal(pick(&s), 9);
    s.params.presence_penalty = 1.1f;
    assert_int_equal(pick(&s), 7);
    s.params.presence_penalty = 0;
    s.params.repetition_penalty = 1.5f; // 4 / 1.5 = 2.67 > 2.5, 3 / 1.5 = 2
    assert_int_equal(pick(&s), 9);
    s.params.repetition_penalty = 1.7f;
    assert_int_equal(pick(&s), 20);
    s.params.repetition_penalty = 1;
    s.params.n_bias = 1;
    s.params.bias[0] = (struct sampling_bias){33, 4.5f};
    assert_int_equal(pick(&s), 33);
    assert_int_equal(pick(&s), 33); // the counts of the last call are gone
    s.params.bias[0].token = 9;
    s.params.min_tokens = 3;
    s.params.n_eos = 1;
    s.params.eos[0] = 9;
    assert_int_equal(pick(&s), 7); // two tokens of output are fewer than three
    s.params.min_tokens = 2;
    assert_int_equal(pick(&s), 9);
    sampler_work_destroy(&s.work);
}

static void logprobs_are_the_models_own(void **state) {
    struct setup s;
    setup(&s);
    s.params.want_logprob = 1;
    s.params.logprobs = 5;
    s.params.temperature = 0.3f;
    s.logits[8] = s.logits[12] = 5; // the two likeliest
    struct engine_token t;
    assert_true(sampler_pick(s.work, &s.in, &t));
    double sum = 0;
    for (uint32_t i = 0; i < V; i++) sum += exp((double)s.logits[i]);
    assert_true(fabs((double)t.logprob - ((double)s.logits[t.token] - log(sum))) < 1e-6);
    assert_int_equal(t.n_top, 5);
    assert_int_equal(t.top[0].token, 8);
    assert_int_equal(t.top[1].token, 12);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(rank_of(&s, t.top[i].token), i);
        assert_true(fabs((double)t.top[i].logprob - ((double)s.logits[t.top[i].token] - log(sum))) < 1e-6);
    }
    s.in.forced = 44;
    assert_true(sampler_pick(s.work, &s.in, &t));
    assert_int_equal(t.token, 44);
    sampler_work_destroy(&s.work);
}

static void values_that_are_not_numbers_are_told(void **state) {
    const float bad[] = {NAN, INFINITY, -INFINITY, 1e31f};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct setup s;
        struct engine_token t;
        setup(&s);
        s.logits[V - 1] = bad[i];
        assert_false(sampler_pick(s.work, &s.in, &t));
        sampler_work_destroy(&s.work);
    }
}

static double ulps(double got, double want) { return fabs(got - want) / (nextafter(fabs(want), INFINITY) - fabs(want)); }

static void our_functions_are_within_two_ulps_of_libm(void **state) {
    for (uint32_t i = 0; i < 20000; i++) {
        struct philox r = philox4x32((struct philox){{i, 1, 0, 0}}, 9);
        double u = (double)r.v[0] * 0x1p-32;
        assert_true(ulps(math_exp((u - 0.5) * 1300), exp((u - 0.5) * 1300)) <= 2);
        double x = ldexp(1 + u, (int)(r.v[1] % 200) - 100);
        assert_true(ulps(math_log(x), log(x)) <= 2);
        double s, c, angle = u * 600000;
        math_sincos(angle, &s, &c);
        assert_true(fabs(s - sin(angle)) < 4e-16 && fabs(c - cos(angle)) < 4e-16);
    }
    assert_true(math_exp(-701) == 0 && math_exp(0) == 1 && math_log(1) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(top_k_keeps_exactly_k),
        cmocka_unit_test(top_p_keeps_the_shortest_prefix),
        cmocka_unit_test(min_p_is_relative_to_the_likeliest),
        cmocka_unit_test(typical_p_keeps_what_surprises_as_expected),
        cmocka_unit_test(what_is_banned_or_not_allowed_is_never_drawn),
        cmocka_unit_test(draws_follow_bias_penalties_and_min_tokens),
        cmocka_unit_test(cuts_come_in_the_order_of_the_header),
        cmocka_unit_test(a_mask_bans_what_it_does_not_name),
        cmocka_unit_test(the_answer_depends_on_nothing_but_the_inputs),
        cmocka_unit_test(temperature_zero_takes_the_largest_and_the_lowest_id_of_equals),
        cmocka_unit_test(penalties_follow_their_formulas),
        cmocka_unit_test(logprobs_are_the_models_own),
        cmocka_unit_test(values_that_are_not_numbers_are_told),
        cmocka_unit_test(our_functions_are_within_two_ulps_of_libm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
