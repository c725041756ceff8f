#include "worker/group/comm.h"

#include "common/base/check.h"

#include <stdlib.h>

enum { OUTBOX_MAX = 1 << 16, INBOX_MAX = 64 };

void comm_init(struct comm *c, const struct backend *inner, uint32_t stages) {
    *c = (struct comm){.inner = inner, .stages = stages};
    mailbox_init(&c->inbox, INBOX_MAX);
    mailbox_init(&c->outbox, OUTBOX_MAX);
}

static void free_message(void *item) { group_msg_free(item); }
static void free_outgoing(void *item) { outgoing_free(item); }

void comm_fini(struct comm *c) {
    mailbox_fini(&c->inbox, free_message);
    mailbox_fini(&c->outbox, free_outgoing);
}

bool comm_send(struct comm *c, uint32_t stage, uint32_t epoch, const struct group_msg *m) {
    struct outgoing *o = xcalloc(1, sizeof *o);
    o->stage = stage;
    o->epoch = epoch;
    group_encode(m, &o->frame);
    bool sent = mailbox_push(&c->outbox, o);
    if (!sent) outgoing_free(o);
    c->wake(c->wake_ctx);
    return sent;
}

void comm_nudge(struct comm *c) { mailbox_nudge(&c->inbox); }

void comm_complain(struct comm *c, uint32_t stage) {
    atomic_store(&c->complaint, stage);
    c->wake(c->wake_ctx);
}

void outgoing_free(struct outgoing *o) {
    if (o == NULL) return;
    buf_free(&o->frame);
    free(o);
}
