// The end of a run: everything has been answered, nothing may be left anywhere, and then, with nothing to do, every process
// knows the truth of every other and keeps quiet but for its heartbeats.
#pragma once
struct world;

void rest_begin(struct world *w); // when no more requests come
