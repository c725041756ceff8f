// What the command line asks of a run.
#pragma once
#include "common/base/ids.h"

typedef int64_t us_t; // virtual time since the start of the run, microseconds

enum fault {
    FAULT_KILL = 1,
    FAULT_LOSE = 2,
    FAULT_LATE = 4,
    FAULT_DOUBLE = 8,
    FAULT_PARTITION = 16,
    FAULT_ODD = 32,
    FAULT_STORE = 64,
    FAULT_GROUP = 128,
    FAULT_ALL = 255
};

enum sim_bug {
    SIM_BUG_NONE,
    SIM_BUG_OFFSET,
    SIM_BUG_STALE,
    SIM_BUG_RESERVATION,
    SIM_BUG_RESEND,
    SIM_BUG_DOUBLE_FREE,
    SIM_BUG_SPLICE,
    SIM_BUG_UNTOLD,
    SIM_BUG_RESTORE,
    SIM_BUG_EPOCH,
    SIM_BUG_PARKED,
    SIM_BUG_ATTEMPT,
    SIM_BUG_COUNT
};

enum { SIM_ROUTERS_MAX = 16, SIM_WORKERS_MAX = 256, SIM_REGIONS_MAX = 8, SIM_CLIENTS_MAX = 64 };

struct sim_options {
    uint64_t seed_first, seed_last;
    double hours;
    uint32_t routers, workers, regions, clients;
    uint32_t faults; // those that a seed may draw: bits of enum fault
    double rate;     // requests per second
    enum sim_bug bug;
    bool unsalted;
    bool trace;
    bool check_all; // the cores' own invariants after every event instead of every 64th
    bool caught;    // a deliberate bug must be caught: success is a broken rule, and the first one ends the range
    bool progress;  // a bar on the terminal
    bool marks;     // every coverage mark must be hit by some seed
};

// false: a sentence was printed to stderr (or --help to stdout, then *exit_code is 0).
bool options_parse(int argc, char **argv, struct sim_options *out, int *exit_code);
const char *bug_name(enum sim_bug bug);
// The command that runs `seed` again.
void options_replay(const struct sim_options *o, uint64_t seed, char *out, size_t size);
