// What binds an answer to a form: the grammar that its request asks for, and where the answer stands in it. Grammars are
// compiled on the pool, once per text, and shared; a constraint belongs to one stream. Its state is a function of the
// stream's tokens.
#pragma once
#include "common/base/prompt.h"
#include "worker/text/tokenizer.h"

struct grammars; // of one worker
struct constraint;

enum { GRAMMARS_KEPT = 64, GRAMMAR_MASKS_BYTES = 32 << 20 };

// tokenizer NULL: tokens are bytes (the mock's). It must outlive the grammars.
struct grammars *grammars_create(const struct tokenizer *tokenizer, uint32_t vocab);
void grammars_destroy(struct grammars *g); // after all constraints; NULL is fine

// Any thread. *out: NULL when the prompt asks for no form. inside: the answer starts in the reasoning, which is free.
err_id constraint_create(struct grammars *g, const struct prompt *p, bool inside, struct constraint **out, struct error *e);
void constraint_destroy(struct constraint *c); // any thread; NULL is fine
// The loop thread (or, before the stream is there, the pool's job).
void constraint_push(struct constraint *c, uint32_t token);
bool constraint_ended(const struct constraint *c); // the answer is whole, and nothing can follow
// Sets mask ((vocab + 31) / 32 words) to what may follow; *complete: the answer may end here. False: anything may. Loop
// thread.
bool constraint_mask(struct constraint *c, uint32_t *mask, bool *complete);
