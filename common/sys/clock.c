#include "common/sys/clock.h"

#include "common/base/check.h"

#include <stdio.h>
#include <time.h>

static int64_t read_ns(clockid_t clock) {
    struct timespec t;
    CHECK(clock_gettime(clock, &t) == 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

ms_t clock_ms(void) { return read_ns(CLOCK_MONOTONIC) / 1000000; }
int64_t clock_us(void) { return read_ns(CLOCK_MONOTONIC) / 1000; }
int64_t clock_ns(void) { return read_ns(CLOCK_MONOTONIC); }
int64_t clock_wall_ms(void) { return read_ns(CLOCK_REALTIME) / 1000000; }

void clock_wall_text(int64_t wall_ms, char out[CLOCK_TEXT]) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm t;
    if (wall_ms < 0 || gmtime_r(&seconds, &t) == NULL || t.tm_year > 8099) { // beyond year 9999 the text has no room
        snprintf(out, CLOCK_TEXT, "%s", "0000-00-00T00:00:00.000Z");
        return;
    }
    size_t n = strftime(out, CLOCK_TEXT, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(out + n, CLOCK_TEXT - n, ".%03uZ", (unsigned)(wall_ms % 1000));
}
