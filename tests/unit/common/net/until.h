// Runs a loop until a condition holds; fails the test when that takes longer than the deadline. Nothing sleeps and hopes.
#pragma once
#include <stdbool.h>
#include <uv.h>

enum { UNTIL_MS = 20000 }; // generous: sanitizers on a busy machine
// condition is looked at after every turn of the loop.
void run_until(uv_loop_t *loop, bool (*condition)(void *ctx), void *ctx, const char *what);
// Runs the loop for about this long (for "nothing happens" checks).
void run_for(uv_loop_t *loop, unsigned ms);
// Lets closed handles go, checks that nothing else is open, and closes the loop.
void loop_finish(uv_loop_t *loop);
