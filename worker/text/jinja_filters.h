// What the files of filters and methods share.
#pragma once
#include "worker/text/jinja_run.h"

#define FILTER(name) static err_id filter_##name(struct jrun *r, struct jvalue v, const struct jargs *a, struct jvalue *out)

const struct jfilter *jinja_list_filter_find(const char *name);

// str.replace; count < 0: all.
err_id jinja_replace(struct jrun *r, struct jvalue s, struct jvalue old, struct jvalue new, int64_t count,
                     struct jvalue *out);
// Pads s to width characters: side < 0 on the left, > 0 on the right, 0 both as str.center does.
err_id jinja_pad(struct jrun *r, struct jvalue s, int64_t width, struct jvalue fill, int side, struct jvalue *out);
// The strings of items with separator between.
err_id jinja_join(struct jrun *r, const struct jlist *items, struct jvalue separator, struct jvalue *out);
