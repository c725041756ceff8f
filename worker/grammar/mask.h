// Which tokens may come next. A token is allowed if its bytes lead somewhere from any of the matcher's ways. The tokens of
// one way depend on its node and, of its stack, on as many frames as a token can return through; what was found once is
// kept, under a budget of bytes, so that a mask is mostly an OR of kept ones. One owner (the loop thread): not for two
// threads.
#pragma once
#include "worker/grammar/matcher.h"
#include "worker/grammar/vocabulary.h"

struct mask_cache;

struct mask_cache *mask_cache_create(const struct vocabulary *v, size_t bytes_max);
void mask_cache_destroy(struct mask_cache *c); // NULL is fine
size_t mask_cache_bytes(const struct mask_cache *c);
// Sets mask (v->words words). The end of the text is not in it: see matcher_complete(). False: more ways than are followed.
bool mask_fill(struct mask_cache *c, struct matcher *m, uint32_t *mask);
