#include "tests/sim/packet.h"

#include "common/base/check.h"

#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define PACKET_PLAIN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PACKET_PLAIN 1
#endif
#endif
#ifndef PACKET_PLAIN
#define PACKET_PLAIN 0
#endif

enum { CHUNK_BYTES = 1 << 20, CLASS_0 = 64 };

#define ARM(arm) (offsetof(struct msg, arm) + sizeof((struct msg *)0)->arm)

static size_t head_size(enum msg_kind kind) {
    static const size_t sizes[MSG_KIND_COUNT] = {
        [MSG_NONE] = offsetof(struct msg, hello),
        [MSG_HELLO] = ARM(hello),
        [MSG_STATUS] = ARM(status),
        [MSG_GENERATE] = ARM(generate),
        [MSG_ACCEPTED] = ARM(accepted),
        [MSG_REJECTED] = ARM(rejected),
        [MSG_TOKENS] = ARM(tokens),
        [MSG_ACK] = ARM(ack),
        [MSG_RESEND] = ARM(resend),
        [MSG_DONE] = ARM(done),
        [MSG_SYNC] = ARM(sync),
        [MSG_UNKNOWN] = ARM(unknown),
        [MSG_SUPERSEDED] = ARM(superseded),
        [MSG_CANCEL] = ARM(cancel),
        [MSG_QUERY] = offsetof(struct msg, hello),
        [MSG_CLUSTER] = ARM(cluster),
        [MSG_MOVE_OFFER] = ARM(move_offer),
        [MSG_MOVE_COMMIT] = ARM(move_commit),
        [MSG_NOTICE] = ARM(notice),
        [MSG_ATTACH] = ARM(attach),
    };
    return PACKET_PLAIN ? sizeof(struct msg) : sizes[kind];
}

static size_t aligned(size_t n) { return (n + 7) / 8 * 8; }

// What a message points to is first measured (at == NULL), then copied.
struct copier {
    char *at;
    size_t used;
};

static void *put(struct copier *c, const void *bytes, size_t n) {
    void *here = c->at ? c->at + c->used : NULL;
    if (here && n) memcpy(here, bytes, n);
    c->used += aligned(n);
    return here;
}

static void put_records(struct copier *c, const struct records *from, struct records *to) {
    struct record *array = put(c, NULL, 0);
    c->used += aligned(from->count * sizeof *array);
    for (uint32_t i = 0; i < from->count; i++) {
        struct record r = records_get(from, i);
        r.text = put(c, r.text, r.text_len);
        r.top = r.n_top ? put(c, r.top, r.n_top * sizeof *r.top) : NULL;
        if (to) array[i] = r;
    }
    if (to) *to = (struct records){.array = array, .count = from->count};
}

// to: the copy's message, or NULL while measuring.
static void put_rest(struct copier *c, const struct msg *m, struct msg *to) {
    const void *p;
    switch (m->kind) {
    case MSG_HELLO:
        p = put(c, m->hello.members, m->hello.n_members * sizeof *m->hello.members);
        if (to) to->hello.members = p;
        break;
    case MSG_STATUS:
        p = put(c, m->status.deployments, m->status.n_deployments * sizeof *m->status.deployments);
        if (to) to->status.deployments = p;
        break;
    case MSG_GENERATE:
        p = put(c, m->generate.body, m->generate.body_len);
        if (to) to->generate.body = p;
        put_records(c, &m->generate.records, to ? &to->generate.records : NULL);
        break;
    case MSG_TOKENS:
        put_records(c, &m->tokens.records, to ? &to->tokens.records : NULL);
        break;
    case MSG_DONE:
        p = put(c, m->done.tail, m->done.tail_len);
        if (to) to->done.tail = p;
        break;
    case MSG_SYNC:
        p = put(c, m->sync.entries, m->sync.n_entries * sizeof *m->sync.entries);
        if (to) to->sync.entries = p;
        break;
    case MSG_CLUSTER: // its views are only looked at by people
        if (to) to->cluster = (struct msg_cluster){.n_routers = 0};
        break;
    default:
        break;
    }
}

static struct packet *take(struct packet_pool *pool, size_t size) {
    uint8_t c = 0;
    while (((size_t)CLASS_0 << c) < size) c++;
    CHECK(c < PACKET_CLASSES);
    struct packet *p = pool->used[c];
    size_t bytes = (size_t)CLASS_0 << c;
    if (p != NULL) {
        pool->used[c] = p->next;
    } else if (PACKET_PLAIN || bytes > CHUNK_BYTES / 4) {
        p = xmalloc(bytes);
    } else {
        if (pool->chunk_left < bytes) {
            pool->chunks = xrealloc(pool->chunks, (pool->n_chunks + 1) * sizeof *pool->chunks);
            pool->chunk = pool->chunks[pool->n_chunks++] = xmalloc(CHUNK_BYTES);
            pool->chunk_left = CHUNK_BYTES - sizeof(struct msg); // a core may read a whole struct msg of the last packet
        }
        p = (struct packet *)pool->chunk;
        pool->chunk += bytes;
        pool->chunk_left -= bytes;
    }
    p->size = c;
    return p;
}

struct packet *packet_copy(struct packet_pool *pool, const struct msg *m) {
    CHECK((unsigned)m->kind < MSG_KIND_COUNT);
    size_t head = head_size(m->kind);
    struct copier c = {0};
    put_rest(&c, m, NULL);
    size_t start = aligned(offsetof(struct packet, msg) + head);
    struct packet *p = take(pool, start + c.used);
    memcpy(&p->msg, m, head);
    c = (struct copier){.at = (char *)p + start};
    put_rest(&c, m, &p->msg);
    p->refs = 1;
    pool->live++;
    return p;
}

void packet_release(struct packet_pool *pool, struct packet *p) {
    if (--p->refs > 0) return;
    pool->live--;
    if (PACKET_PLAIN || ((size_t)CLASS_0 << p->size) > CHUNK_BYTES / 4) {
        free(p);
        return;
    }
    p->next = pool->used[p->size];
    pool->used[p->size] = p;
}

void packet_pool_free(struct packet_pool *pool) {
    for (uint32_t i = 0; i < pool->n_chunks; i++) free(pool->chunks[i]);
    free(pool->chunks);
    *pool = (struct packet_pool){0};
}
