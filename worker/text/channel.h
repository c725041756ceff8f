// Splits a model's thinking from its answer: text up to "</think>" is reasoning, what follows is content. The marks
// themselves and the newlines right after them belong to neither. A text may start inside (the prompt ended with "<think>")
// or open its thinking itself (its first visible characters are "<think>"). There is one stretch of reasoning at most. Text
// that could be part of a mark is held. State is a function of the text pushed. One owner.
#pragma once
#include "common/base/buf.h"
#include "common/base/record.h"
#include <stdbool.h>
#include <stddef.h>

enum channel_state { CHANNEL_STATE_START, CHANNEL_STATE_REASONING, CHANNEL_STATE_CONTENT };

struct channel_splitter {
    enum channel_state state;
    bool skip_newlines; // right behind a mark
    struct buf held;
};

extern const char CHANNEL_OPEN[];  // "<think>"
extern const char CHANNEL_CLOSE[]; // "</think>"

// Does the text that follows this rendered prompt start inside the reasoning?
bool channel_starts_inside(const char *prompt, size_t len);

void channel_init(struct channel_splitter *c, bool starts_inside);
void channel_fini(struct channel_splitter *c);
// Appends what is certain: reasoning first, then content, because the text crosses from one to the other at most once.
void channel_push(struct channel_splitter *c, const char *text, size_t len, struct buf *reasoning, struct buf *content);
void channel_finish(struct channel_splitter *c, struct buf *reasoning, struct buf *content);
