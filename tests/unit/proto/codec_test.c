// The codec against golden frames, random messages, and everything that a peer should not have sent.
#include "tests/unit/proto/messages.h"

#include "common/base/check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *const golden[] = {"hello",        "status",
                                     "status_empty", "generate",
                                     "accepted",     "rejected",
                                     "tokens",       "ack",
                                     "resend",       "done",
                                     "done_error",   "sync",
                                     "unknown",      "superseded",
                                     "cancel",       "query",
                                     "cluster",      "generate_restore",
                                     "hello_store",  "move_offer",
                                     "move_commit",  "move_commit_none",
                                     "notice",       "attach",
                                     "attach_held",  "generate_priority"};

static size_t load(const char *name, uint8_t *out, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "tests/fixtures/frames/%s.bin", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(out, 1, size, f);
    assert_true(n > 0 && n < size);
    fclose(f);
    return n;
}

static void golden_frames_decode_and_encode_to_the_same_bytes(void **state) {
    (void)state;
    struct codec_arena arena = {0};
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        uint8_t frame[1024];
        size_t n = load(golden[i], frame, sizeof frame);
        struct msg m;
        struct error e = {0};
        if (codec_decode(frame, n, &arena, &m, &e) != ERR_NONE) fail_msg("%s: %s", golden[i], e.text);
        struct buf again = {0};
        assert_true(codec_encode(&m, &again));
        assert_int_equal(again.len, n);
        assert_memory_equal(again.data, frame, n);
        buf_free(&again);
        codec_arena_reset(&arena);
    }
    codec_arena_free(&arena);
}

static void golden_frames_mean_what_their_text_says(void **state) {
    (void)state;
    struct codec_arena arena = {0};
    uint8_t frame[1024];
    struct msg m;
    assert_int_equal(codec_decode(frame, load("tokens", frame, sizeof frame), &arena, &m, NULL), ERR_NONE);
    assert_int_equal(m.kind, MSG_TOKENS);
    assert_int_equal(m.tokens.key.request.bytes[15], 16);
    assert_true(m.tokens.attempt.counter == 2 && m.tokens.attempt.router == 81985529216486895u);
    assert_true(m.tokens.offset == 2 && m.tokens.records.count == 3);
    struct record r = records_get(&m.tokens.records, 2);
    assert_true(r.token == 4 && r.text_len == 4 && r.has_logprob && r.logprob == -2 && r.channel == CHANNEL_CONTENT);
    assert_memory_equal(r.text, "🐟", 4);
    assert_true(r.n_top == 2 && r.top[1].token == 9 && r.top[1].logprob == -3);
    assert_false(records_get(&m.tokens.records, 1).has_logprob);

    assert_int_equal(codec_decode(frame, load("generate", frame, sizeof frame), &arena, &m, NULL), ERR_NONE);
    assert_true(m.generate.has_seed && m.generate.seed == 0 && m.generate.keep && m.generate.hops == 1);
    assert_true(m.generate.deadline_ms == 30000 && m.generate.max_tokens == 100 && m.generate.body_len == 4);
    assert_string_equal(m.generate.pin, "a2");
    assert_int_equal(m.generate.records.count, 2);

    assert_int_equal(codec_decode(frame, load("status", frame, sizeof frame), &arena, &m, NULL), ERR_NONE);
    assert_true(m.status.seq == 7 && m.status.full && m.status.has_life && m.status.state == LIFECYCLE_NOTICED);
    const struct deployment_status *d = &m.status.deployments[0];
    assert_int_equal(d->groups, STATUS_ALL & ~STATUS_LIFE);
    assert_true(d->queued_tokens == 300 && d->generates_seen == 12 && d->prefill_rate == 1500.5f);
    assert_true(d->decoded_total == 123456789012u);

    assert_int_equal(codec_decode(frame, load("done_error", frame, sizeof frame), &arena, &m, NULL), ERR_NONE);
    assert_true(m.done.finish == FINISH_ERROR && m.done.error.id == ERR_NUMERIC && m.done.tail_len == 0);

    assert_int_equal(codec_decode(frame, load("hello", frame, sizeof frame), &arena, &m, NULL), ERR_NONE);
    assert_true(m.hello.n_members == 2 && m.hello.members[1].rank == 3 && m.hello.info.n_aliases == 1);
    assert_string_equal(m.hello.info.aliases[0], "deepseek-reasoner");
    codec_arena_free(&arena);
}

static void every_message_comes_back_as_it_was_sent(void **state) {
    (void)state;
    struct sampler s = {.state = 1};
    struct codec_arena arena = {0};
    struct buf frame = {0}, sent = {0}, got = {0};
    for (int round = 0; round < 300; round++) {
        for (int kind = MSG_HELLO; kind < MSG_KIND_COUNT; kind++) {
            struct msg m, back;
            struct error e = {0};
            buf_reset(&frame), buf_reset(&sent), buf_reset(&got), codec_arena_reset(&arena);
            sample_msg(&s, (enum msg_kind)kind, &m);
            assert_true(codec_encode(&m, &frame));
            if (codec_decode((uint8_t *)frame.data, frame.len, &arena, &back, &e) != ERR_NONE)
                fail_msg("round %d, %s: %s", round, msg_kind_name(m.kind), e.text);
            dump_msg(&m, &sent), dump_msg(&back, &got);
            assert_string_equal(sent.data, got.data);
        }
    }
    buf_free(&frame), buf_free(&sent), buf_free(&got), codec_arena_free(&arena), sample_free(&s);
}

static void records_from_a_log_are_sent_like_records_from_an_array(void **state) {
    (void)state;
    struct sampler s = {.state = 5};
    struct msg m;
    sample_msg(&s, MSG_TOKENS, &m);
    struct record_log *log = record_log_create();
    struct record first = {.token = 99, .text = "x", .text_len = 1};
    record_log_append(log, &first);
    for (uint32_t i = 0; i < m.tokens.records.count; i++) record_log_append(log, &m.tokens.records.array[i]);
    struct buf a = {0}, b = {0};
    assert_true(codec_encode(&m, &a));
    m.tokens.records = (struct records){.log = log, .from = 1, .count = m.tokens.records.count};
    assert_true(codec_encode(&m, &b));
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    buf_free(&a), buf_free(&b), record_log_destroy(log), sample_free(&s);
}

static void every_prompt_comes_back_as_it_was_sent(void **state) {
    (void)state;
    struct sampler s = {.state = 2};
    struct codec_arena arena = {0};
    struct buf body = {0}, sent = {0}, got = {0};
    for (int round = 0; round < 500; round++) {
        struct prompt p, back;
        struct error e = {0};
        buf_reset(&body), buf_reset(&sent), buf_reset(&got), codec_arena_reset(&arena);
        sample_prompt(&s, &p);
        assert_true(codec_prompt_encode(&p, &body));
        if (codec_prompt_decode((uint8_t *)body.data, body.len, &arena, &back, &e) != ERR_NONE)
            fail_msg("round %d: %s", round, e.text);
        dump_prompt(&p, &sent), dump_prompt(&back, &got);
        assert_string_equal(sent.data, got.data);
    }
    buf_free(&body), buf_free(&sent), buf_free(&got), codec_arena_free(&arena), sample_free(&s);
}

// ---- what is refused

static void refused(const struct msg *m, const char *why) {
    struct buf frame = {0};
    struct codec_arena arena = {0};
    struct msg back;
    struct error e = {0};
    assert_true(codec_encode(m, &frame));
    assert_int_not_equal(codec_decode((uint8_t *)frame.data, frame.len, &arena, &back, &e), ERR_NONE);
    if (strstr(e.text, why) == NULL) fail_msg("'%s' does not say '%s'", e.text, why);
    assert_int_equal(back.kind, m->kind);
    buf_free(&frame), codec_arena_free(&arena);
}

static void refused_bytes(const char *bytes, size_t n, const char *why) {
    struct codec_arena arena = {0};
    struct msg back;
    struct error e = {0};
    assert_int_equal(codec_decode((const uint8_t *)bytes, n, &arena, &back, &e), ERR_PROTOCOL);
    if (strstr(e.text, why) == NULL) fail_msg("'%s' does not say '%s'", e.text, why);
    codec_arena_free(&arena);
}
#define REFUSED_BYTES(literal, why) refused_bytes(literal, sizeof(literal) - 1, why)

static const struct stream_key some_key = {.request = {.bytes = {1}}};

static void numbers_past_their_limits_are_refused(void **state) {
    (void)state;
    struct msg m = {.kind = MSG_ACK, .ack = {.key = some_key}};
    m.ack.key.choice = CHOICES_MAX;
    refused(&m, "choice is 32");
    m.ack.key.choice = 0, m.ack.next = OUTPUT_TOKENS_MAX + 1;
    refused(&m, "next is 1048577");
    memset(&m.ack.key, 0, sizeof m.ack.key);
    refused(&m, "stream.request");
    m = (struct msg){.kind = MSG_GENERATE, .generate = {.key = some_key, .hops = HOPS_MAX + 1}};
    refused(&m, "hops is 2");
    m.generate.hops = 0, m.generate.priority = PRIORITY_MAX + 1;
    refused(&m, "priority is 1001");
    m.generate.priority = 0;
    m.generate.hops = 0, m.generate.max_tokens = OUTPUT_TOKENS_MAX + 1;
    refused(&m, "max_tokens is");
    m = (struct msg){.kind = MSG_TOKENS, .tokens = {.key = some_key}};
    refused(&m, "no tokens");
    struct record all[RECORDS_PER_FRAME + 1];
    for (size_t i = 0; i < ARRAY_LEN(all); i++) all[i] = (struct record){.text = ""};
    m.tokens.records = (struct records){.array = all, .count = ARRAY_LEN(all)};
    refused(&m, "257 tokens");
    m.tokens.records.count = 2, m.tokens.offset = OUTPUT_TOKENS_MAX - 1;
    refused(&m, "offset and number of tokens is 1048577");
    m = (struct msg){.kind = MSG_DONE, .done = {.key = some_key, .finish = (enum finish)5}};
    refused(&m, "finish is 5");
    m = (struct msg){.kind = MSG_STATUS, .status = {.has_life = true, .state = (enum lifecycle)6}};
    refused(&m, "lifecycle state is 6");
    m.status.state = LIFECYCLE_LOADING, m.status.progress = NAN;
    refused(&m, "progress is nan");
    m.status.progress = 1.5f;
    refused(&m, "progress is 1.5");
    m = (struct msg){.kind = MSG_HELLO, .hello = {.protocol_min = 2, .protocol_max = 3, .name = "x", .incarnation = 1}};
    refused(&m, "speaks protocol 2 to 3");
    m.hello.protocol_min = 1, m.hello.incarnation = 0;
    refused(&m, "incarnation is 0");
    m.hello.incarnation = 1, m.hello.role = (enum role)3;
    refused(&m, "role is 3");
    struct member members[MEMBERS_MAX + 1];
    memset(members, 0, sizeof members);
    m.hello.role = ROLE_WORKER, m.hello.n_members = MEMBERS_MAX + 1, m.hello.members = members;
    refused(&m, "65 members");
    m = (struct msg){.kind = MSG_MOVE_OFFER, .move_offer = {.key = some_key, .handle = "00", .store = ""}};
    refused(&m, "names a checkpoint and no store");
    m.move_offer = (struct msg_move_offer){.key = some_key, .n_tokens = OUTPUT_TOKENS_MAX + 1};
    refused(&m, "n_tokens is 1048577");
    m = (struct msg){.kind = MSG_NOTICE};
    refused(&m, "names no replica");
}

static void records_that_contradict_themselves_are_refused(void **state) {
    (void)state;
    struct top_logprob top[TOP_LOGPROBS_MAX + 1] = {{0}};
    struct record r = {.text = "", .n_top = TOP_LOGPROBS_MAX + 1, .top = top};
    struct msg m = {.kind = MSG_TOKENS, .tokens = {.key = some_key, .records = {.array = &r, .count = 1}}};
    refused(&m, "top_count says 21");
    r.n_top = 1, top[0].text_len = TOP_TEXT_MAX + 1;
    refused(&m, "top_text has 28 bytes");
    top[0].text_len = 0;
    r = (struct record){.text = "\xff", .text_len = 1};
    refused(&m, "not valid UTF-8");
    struct record cut[2] = {{.text = "\xc3", .text_len = 1}, {.text = "\xa9", .text_len = 1}};
    m.tokens.records = (struct records){.array = cut, .count = 2};
    refused(&m, "cuts a UTF-8 sequence");
    m.tokens.records = (struct records){.array = &r, .count = 1};
    r = (struct record){.text = "", .channel = CHANNEL_TOOL + 1};
    refused(&m, "channel is 3");
    r = (struct record){.text = "", .has_logprob = true, .logprob = NAN};
    refused(&m, "logprob is not a number");
#define STREAM                                                                                                              \
    "\x0a\x12\x0a\x10"                                                                                                      \
    "0123456789abcdef"
    REFUSED_BYTES("\x08\x01\x3a\x1d" STREAM "\x22\x07\x0a\x01\x05\x12\x02"
                  "ab",
                  "2 bytes of text"); // text without text_bytes
    REFUSED_BYTES("\x08\x01\x3a\x1d" STREAM "\x22\x07\x0a\x01\x05\x1a\x02\x00\x00", "text_bytes has 2"); // two for one token
    REFUSED_BYTES("\x08\x01\x3a\x1c" STREAM "\x22\x06\x0a\x01\x05\x1a\x01\x09", "text_bytes says 9"); // more than there is
}

static void words_that_are_not_words_are_refused(void **state) {
    (void)state;
    struct msg m = {.kind = MSG_ACCEPTED, .accepted = {.key = some_key, .replica = "a\nb"}};
    refused(&m, "replica holds the control character 0x0a");
    strcpy(m.accepted.replica, "a\xc0\x80");
    refused(&m, "replica is not valid UTF-8");
    memset(m.accepted.replica, 'x', NAME_MAX_BYTES); // at the limit
    struct buf frame = {0};
    struct codec_arena arena = {0};
    struct msg back;
    assert_true(codec_encode(&m, &frame));
    assert_int_equal(codec_decode((uint8_t *)frame.data, frame.len, &arena, &back, NULL), ERR_NONE);
    assert_string_equal(back.accepted.replica, m.accepted.replica);
    buf_free(&frame), codec_arena_free(&arena);
}

static void a_name_with_a_nul_or_too_long_is_refused(void **state) {
    (void)state;
    REFUSED_BYTES("\x08\x01\x2a\x19" STREAM "\x2a\x03"
                  "a\0b",
                  "replica holds the control character 0x00");
    char frame[128] = "\x08\x01\x2a\x56" STREAM "\x2a\x40"; // a replica of 64 bytes
    memset(frame + 26, 'n', 64);
    refused_bytes(frame, 90, "replica has 64 bytes; at most 63");
}

static void an_envelope_of_another_time_is_refused(void **state) {
    (void)state;
    REFUSED_BYTES("\x08\x02\x7a\x00", "protocol version 2");
    REFUSED_BYTES("\x7a\x00", "protocol version 0");
    REFUSED_BYTES("\x08\x01\x9a\x06\x00", "kind 99");
    REFUSED_BYTES("\x08\x01", "empty");
    REFUSED_BYTES("\x08", "not a valid Envelope");
    REFUSED_BYTES("", "protocol version 0");
    REFUSED_BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "not a valid Envelope");
    struct codec_arena arena = {0};
    struct msg m;
    uint8_t *large = calloc(1, FRAME_BYTES_MAX + 1);
    struct error e = {0};
    assert_int_equal(codec_decode(large, FRAME_BYTES_MAX + 1, &arena, &m, &e), ERR_PROTOCOL);
    assert_non_null(strstr(e.text, "at most 16777216"));
    free(large);
}

static void a_refused_generate_can_be_answered(void **state) {
    (void)state;
    struct msg m = {.kind = MSG_GENERATE, .generate = {.key = some_key, .attempt = {0, 3, 9}, .model = "\x01"}}, back;
    struct buf frame = {0};
    struct codec_arena arena = {0};
    assert_true(codec_encode(&m, &frame));
    assert_int_equal(codec_decode((uint8_t *)frame.data, frame.len, &arena, &back, NULL), ERR_PROTOCOL);
    assert_int_equal(back.kind, MSG_GENERATE);
    assert_true(stream_key_equal(&back.generate.key, &some_key) &&
                attempt_equal(&back.generate.attempt, &m.generate.attempt));
    buf_free(&frame), codec_arena_free(&arena);
}

static void a_frame_of_many_empty_things_takes_bounded_memory(void **state) {
    (void)state;
    size_t n = 15 << 20;
    uint8_t *frame = malloc(n), *at = frame;
    memcpy(frame, "\x08\x01\x5a", 3); // Sync of empty entries
    at += 3;
    size_t body = n - 3 - 4;
    for (int i = 0; i < 4; i++) *at++ = (uint8_t)((body >> 7 * i & 0x7f) | (i < 3 ? 0x80 : 0));
    for (size_t i = 0; i + 1 < body; i += 2) at[i] = 0x0a, at[i + 1] = 0;
    at[body - 1] = 0;
    struct codec_arena arena = {0};
    struct msg m;
    assert_int_equal(codec_decode(frame, n, &arena, &m, NULL), ERR_PROTOCOL);
    assert_true(arena.total <= CODEC_ARENA_MAX);
    codec_arena_free(&arena);
    free(frame);
}

static void a_frame_that_would_be_too_large_is_not_made(void **state) {
    (void)state;
    uint8_t *body = calloc(1, FRAME_BYTES_MAX);
    struct msg m = {.kind = MSG_GENERATE, .generate = {.key = some_key, .body = body, .body_len = FRAME_BYTES_MAX}};
    struct buf out = {0};
    buf_str(&out, "before");
    assert_false(codec_encode(&m, &out));
    assert_string_equal(out.data, "before");
    m.generate.body_len = BODY_BYTES_MAX;
    assert_true(codec_encode(&m, &out));
    buf_free(&out);
    free(body);
}

static void an_unknown_error_id_keeps_its_sentence(void **state) {
    (void)state;
    static const char frame[] = "\x08\x01\x32\x1e" STREAM "\x1a\x08\x08\xe7\x07\x2a\x03"
                                "a\xff"
                                "b";
    struct codec_arena arena = {0};
    struct msg m;
    assert_int_equal(codec_decode((const uint8_t *)frame, sizeof frame - 1, &arena, &m, NULL), ERR_NONE);
    assert_int_equal(m.rejected.error.id, ERR_INTERNAL);
    assert_string_equal(m.rejected.error.text, "a?b");
    codec_arena_free(&arena);
}

static void prompt_refused(const struct prompt *p, const char *param) {
    struct buf body = {0};
    struct codec_arena arena = {0};
    struct prompt back;
    struct error e = {0};
    assert_true(codec_prompt_encode(p, &body));
    assert_int_equal(codec_prompt_decode((uint8_t *)body.data, body.len, &arena, &back, &e), ERR_INVALID_ARGUMENT);
    assert_string_equal(e.param, param);
    buf_free(&body), codec_arena_free(&arena);
}

static void a_prompt_out_of_range_is_refused_with_its_field(void **state) {
    (void)state;
    const struct prompt good = {.kind = PROMPT_TEXT, .text = "a", .text_len = 1};
    struct prompt p = {.kind = PROMPT_CHAT};
    prompt_refused(&p, "messages");
    p = good, p.text = "\xf0\x9f", p.text_len = 2;
    prompt_refused(&p, "prompt");
    p = good, p.kind = (enum prompt_kind)3;
    prompt_refused(&p, "kind");
    p = good, p.sampling.has_temperature = true, p.sampling.temperature = NAN;
    prompt_refused(&p, "temperature");
    p = good, p.sampling.has_top_p = true;
    prompt_refused(&p, "top_p");
    p = good, p.sampling.has_top_k = true, p.sampling.top_k = -2;
    prompt_refused(&p, "top_k");
    p = good, p.top_logprobs = TOP_LOGPROBS_MAX + 1;
    prompt_refused(&p, "top_logprobs");
    const char *empty[] = {""};
    p = good, p.n_stop = 1, p.stop = empty;
    prompt_refused(&p, "stop");
    struct logit_bias bias = {.bias = 101};
    p = good, p.n_logit_bias = 1, p.logit_bias = &bias;
    prompt_refused(&p, "logit_bias");
    p = good, p.n_bad_words = 1, p.bad_words = empty;
    prompt_refused(&p, "bad_words");
    p = good, p.tool_choice = TOOL_CHOICE_REQUIRED;
    prompt_refused(&p, "tool_choice");
    p = good, p.tools_json = "[]", p.tool_choice = TOOL_CHOICE_NAMED;
    prompt_refused(&p, "tool_choice");
    p = good, p.tool_name = "f";
    prompt_refused(&p, "tool_choice");
    p = good, p.response_format = RESPONSE_JSON_SCHEMA;
    prompt_refused(&p, "response_format");
    p = good, p.response_regex = "a*";
    prompt_refused(&p, "response_format");
    p = good, p.task = (enum prompt_task)3;
    prompt_refused(&p, "task");
}

static void a_prompt_field_that_is_not_known_is_refused(void **state) {
    (void)state;
    static const char body[] = "\x08\x01\x2a\x01"
                               "a"
                               "\xf8\x07\x01"; // field 127
    struct codec_arena arena = {0};
    struct prompt p;
    struct error e = {0};
    assert_int_equal(codec_prompt_decode((const uint8_t *)body, sizeof body - 1, &arena, &p, &e), ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(e.text, "field 127"));
    assert_int_equal(codec_prompt_decode((const uint8_t *)body, sizeof body - 4, &arena, &p, &e), ERR_NONE);
    assert_string_equal(p.text, "a");
    codec_arena_free(&arena);
}

static void decoding_the_same_size_again_takes_no_new_memory(void **state) {
    (void)state;
    struct sampler s = {.state = 3};
    struct buf frame = {0};
    struct msg m;
    sample_msg(&s, MSG_TOKENS, &m);
    assert_true(codec_encode(&m, &frame));
    struct codec_arena arena = {0};
    for (int i = 0; i < 3; i++) {
        codec_arena_reset(&arena);
        assert_int_equal(codec_decode((uint8_t *)frame.data, frame.len, &arena, &m, NULL), ERR_NONE);
    }
    struct codec_arena settled = arena;
    for (int i = 0; i < 100; i++) {
        codec_arena_reset(&arena);
        assert_int_equal(codec_decode((uint8_t *)frame.data, frame.len, &arena, &m, NULL), ERR_NONE);
        assert_ptr_equal(arena.current, settled.current);
        assert_int_equal(arena.total, settled.total);
    }
    buf_free(&frame), codec_arena_free(&arena), sample_free(&s);
}

// ---- garbage

static void mutate(struct sampler *s, uint8_t *bytes, size_t *n) {
    for (uint32_t k = 1 + sample_below(s, 4); k > 0 && *n > 0; k--) {
        size_t at = sample_below(s, (uint32_t)*n);
        switch (sample_below(s, 4)) {
        case 0:
            bytes[at] ^= (uint8_t)(1u << sample_below(s, 8));
            break;
        case 1:
            bytes[at] = (uint8_t)sample_below(s, 256);
            break;
        case 2:
            *n = at;
            break;
        case 3:
            memmove(bytes + at, bytes + at + 1, --*n - at);
            break;
        }
    }
}

// Whatever still decodes must be a message that can be sent on, and mean the same to the next receiver.
static bool survives(const uint8_t *frame, size_t n) {
    struct codec_arena arena = {0};
    struct msg m, back;
    bool ok = codec_decode(frame, n, &arena, &m, NULL) == ERR_NONE;
    if (ok) {
        struct buf again = {0}, a = {0}, b = {0};
        struct codec_arena second = {0};
        assert_true(codec_encode(&m, &again));
        assert_int_equal(codec_decode((uint8_t *)again.data, again.len, &second, &back, NULL), ERR_NONE);
        dump_msg(&m, &a), dump_msg(&back, &b);
        assert_string_equal(a.data, b.data);
        buf_free(&again), buf_free(&a), buf_free(&b), codec_arena_free(&second);
    }
    codec_arena_free(&arena);
    return ok;
}

static void ten_thousand_garbled_frames_are_refused_or_understood(void **state) {
    (void)state;
    struct sampler s = {.state = 4};
    int understood = 0;
    for (int i = 0; i < 10000; i++) {
        uint8_t bytes[1024];
        size_t n = load(golden[(size_t)i % ARRAY_LEN(golden)], bytes, sizeof bytes);
        mutate(&s, bytes, &n);
        uint8_t *exact = malloc(n + 1); // so that reading past the end is seen
        memcpy(exact, bytes, n);
        understood += survives(exact, n);
        free(exact);
    }
    assert_in_range(understood, 100, 9000); // else the mutations are too tame, or too wild
}

static void garbled_prompts_are_refused_or_understood(void **state) {
    (void)state;
    struct sampler s = {.state = 6};
    struct codec_arena arena = {0};
    struct buf body = {0};
    for (int i = 0; i < 3000; i++) {
        struct prompt p;
        sample_prompt(&s, &p);
        buf_reset(&body), codec_arena_reset(&arena);
        assert_true(codec_prompt_encode(&p, &body));
        size_t n = body.len;
        mutate(&s, (uint8_t *)body.data, &n);
        uint8_t *exact = malloc(n + 1);
        memcpy(exact, body.data, n);
        codec_prompt_decode(exact, n, &arena, &p, NULL);
        free(exact);
    }
    buf_free(&body), codec_arena_free(&arena), sample_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_frames_decode_and_encode_to_the_same_bytes),
        cmocka_unit_test(golden_frames_mean_what_their_text_says),
        cmocka_unit_test(every_message_comes_back_as_it_was_sent),
        cmocka_unit_test(records_from_a_log_are_sent_like_records_from_an_array),
        cmocka_unit_test(every_prompt_comes_back_as_it_was_sent),
        cmocka_unit_test(numbers_past_their_limits_are_refused),
        cmocka_unit_test(records_that_contradict_themselves_are_refused),
        cmocka_unit_test(words_that_are_not_words_are_refused),
        cmocka_unit_test(a_name_with_a_nul_or_too_long_is_refused),
        cmocka_unit_test(an_envelope_of_another_time_is_refused),
        cmocka_unit_test(a_refused_generate_can_be_answered),
        cmocka_unit_test(a_frame_of_many_empty_things_takes_bounded_memory),
        cmocka_unit_test(a_frame_that_would_be_too_large_is_not_made),
        cmocka_unit_test(an_unknown_error_id_keeps_its_sentence),
        cmocka_unit_test(a_prompt_out_of_range_is_refused_with_its_field),
        cmocka_unit_test(a_prompt_field_that_is_not_known_is_refused),
        cmocka_unit_test(decoding_the_same_size_again_takes_no_new_memory),
        cmocka_unit_test(ten_thousand_garbled_frames_are_refused_or_understood),
        cmocka_unit_test(garbled_prompts_are_refused_or_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
