#include "tests/sim/request.h"

#include "tests/sim/chain.h"

#include <stdio.h>

// One in ten is above the others, one below.
int32_t request_priority(const struct request *r) { return r->number % 10 == 0 ? 3 : r->number % 10 == 1 ? -3 : 0; }

uint32_t request_prompt_token(const struct request *r, uint32_t index) {
    uint64_t of = index < r->prefix_tokens ? r->family : (uint64_t)r->number + 1000000;
    return (uint32_t)(hash_mix(of << 20 | index) >> 34);
}

size_t request_body(const struct request *r, uint8_t out[BODY_BYTES + 255]) {
    size_t len = BODY_BYTES + r->extra;
    memset(out, (int)(r->number & 255), len);
    memcpy(out + 8, &r->number, sizeof r->number);
    uint64_t sum = hash_bytes(out + 8, len - 8, 3);
    memcpy(out, &sum, sizeof sum);
    return len;
}

bool request_body_number(const uint8_t *body, size_t len, uint32_t *number) {
    uint64_t sum;
    if (len < BODY_BYTES) return false;
    memcpy(&sum, body, sizeof sum);
    memcpy(number, body + 8, sizeof *number);
    return sum == hash_bytes(body + 8, len - 8, 3);
}

void model_name(uint32_t model, char out[NAME_SIZE]) { snprintf(out, NAME_SIZE, "model-%u", model); }

void model_alias(uint32_t model, char out[NAME_SIZE]) { snprintf(out, NAME_SIZE, "alias-%u", model); }

void request_model(const struct request *r, char out[NAME_SIZE]) {
    if (r->alias)
        model_alias(r->model, out);
    else
        model_name(r->model, out);
}

void fingerprint_text(uint32_t model, uint32_t deployment, char out[FINGERPRINT_SIZE]) {
    snprintf(out, FINGERPRINT_SIZE, "%032x", 0xf0000u + model * 16 + deployment);
}
