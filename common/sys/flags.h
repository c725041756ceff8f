// Command-line flags of a program from one table: parsing, bounds, --help with examples, --version, the nearest name for a
// flag that doesn't exist. Long flags only: --name value or --name=value; "--" ends the flags. Pure but for flags_parse,
// which prints.
#pragma once
#include "common/base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum flag_kind {
    FLAG_BOOL,     // bool: --name, --name=true, --name=false
    FLAG_STRING,   // const char *: points into argv
    FLAG_LIST,     // struct flag_list: may be given several times, in order
    FLAG_U32,      // uint32_t
    FLAG_U64,      // uint64_t
    FLAG_DURATION, // uint32_t milliseconds, "300ms"
    FLAG_SIZE,     // uint64_t bytes, "8MB"
    FLAG_DOUBLE,   // double
};

enum { FLAG_LIST_MAX = 32 };
struct flag_list {
    const char *values[FLAG_LIST_MAX]; // point into argv
    uint32_t n;
};

struct flag {
    const char *name; // without dashes
    enum flag_kind kind;
    void *target;             // holds the default beforehand; set when the flag is given
    const char *value;        // what the value is called in --help, "NAME"; NULL for FLAG_BOOL
    const char *help;         // one sentence; if it says "default: …" itself, the number in target isn't shown
    const char *const *words; // FLAG_STRING: the allowed words, NULL-terminated; NULL: any text
    uint64_t min, max;        // numbers; max 0 means no upper bound
    bool required;
};

struct flag_spec {
    const char *program;  // "shoal-worker", or "shoal chat" for a subcommand
    const char *summary;  // one sentence
    const char *operands; // what follows the flags in the usage line, "[PROMPT]"; NULL: nothing may follow
    const char *examples; // lines shown as they are at the end of --help; NULL: none
    const struct flag *flags;
    uint32_t n_flags;
};

enum flags_next {
    FLAGS_RUN,   // go on
    FLAGS_EXIT,  // --help or --version was asked for and printed on stdout: exit 0
    FLAGS_USAGE, // the sentence was printed on stderr: exit 2
};

// Reads argv[1..argc-1]. On success the operands (arguments that are no flags) are moved to argv[0..*n_operands-1].
// n_operands may be NULL when the spec has no operands. --help and --version are not handled here.
err_id flags_read(const struct flag_spec *spec, int argc, char **argv, int *n_operands, struct error *e);
// flags_read with --help, --version and messages: what a main calls first.
enum flags_next flags_parse(const struct flag_spec *spec, int argc, char **argv, int *n_operands);

struct buf;
void flags_help(const struct flag_spec *spec, struct buf *out);
