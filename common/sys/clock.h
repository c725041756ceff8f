// Time as the operating system tells it: the shells read it here and hand it to the pure cores. Thread-safe.
#pragma once
#include "common/base/ids.h"

#include <stddef.h>

ms_t clock_ms(void);         // monotonic milliseconds, since an arbitrary point of this boot
int64_t clock_us(void);      // monotonic microseconds, same origin
int64_t clock_ns(void);      // monotonic nanoseconds, same origin
int64_t clock_wall_ms(void); // milliseconds since 1970, UTC; may jump: for people and HTTP fields, never for deadlines

enum { CLOCK_TEXT = 25 };                                    // "2026-01-31T23:59:59.123Z" and NUL
void clock_wall_text(int64_t wall_ms, char out[CLOCK_TEXT]); // RFC 3339, UTC
