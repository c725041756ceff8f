#include "common/sys/flags.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/parse.h"
#include "common/sys/version.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLAGS_MAX = 64 };

static const struct flag *find(const struct flag_spec *spec, const char *name, size_t len, uint32_t *index) {
    for (uint32_t i = 0; i < spec->n_flags; i++)
        if (strlen(spec->flags[i].name) == len && memcmp(spec->flags[i].name, name, len) == 0)
            return *index = i, &spec->flags[i];
    return NULL;
}

static err_id unknown(const struct flag_spec *spec, const char *name, size_t len, struct error *e) {
    char word[64];
    const char *names[FLAGS_MAX + 2] = {"help", "version"};
    snprintf(word, sizeof word, "%.*s", (int)len, name);
    for (uint32_t i = 0; i < spec->n_flags; i++) names[i + 2] = spec->flags[i].name;
    const char *near = error_nearest(word, names, spec->n_flags + 2);
    if (near) return error_set(e, ERR_INVALID_ARGUMENT, "unknown flag --%s; did you mean --%s?", word, near);
    return error_set(e, ERR_INVALID_ARGUMENT, "unknown flag --%s; %s --help lists all flags", word, spec->program);
}

// Says what the flag takes: "a duration such as 300ms or 2s".
static const char *expected(const struct flag *f) {
    switch (f->kind) {
    case FLAG_BOOL:
        return "true or false";
    case FLAG_U32:
    case FLAG_U64:
        return "a whole number";
    case FLAG_DURATION:
        return "a duration such as 300ms or 2s";
    case FLAG_SIZE:
        return "a size such as 64KB or 8MB";
    case FLAG_DOUBLE:
        return "a number";
    case FLAG_STRING:
    case FLAG_LIST:
        break;
    }
    return "text";
}

static err_id refuse(const struct flag *f, const char *value, struct error *e) {
    return error_set(e, ERR_INVALID_ARGUMENT, "--%s expects %s, not \"%s\"", f->name, expected(f), value);
}

static err_id set_word(const struct flag *f, const char *value, struct error *e) {
    struct buf words = {0};
    for (const char *const *w = f->words; w && *w; w++) {
        if (strcmp(*w, value) == 0) break;
        if (w[1] == NULL) {
            for (w = f->words; *w; w++) buf_printf(&words, "%s%s", w == f->words ? "" : w[1] ? ", " : " or ", *w);
            error_set(e, ERR_INVALID_ARGUMENT, "--%s expects %s, not \"%s\"", f->name, words.data, value);
            buf_free(&words);
            return ERR_INVALID_ARGUMENT;
        }
    }
    *(const char **)f->target = value;
    return ERR_NONE;
}

static err_id set_list(const struct flag *f, const char *value, struct error *e) {
    struct flag_list *list = f->target;
    if (list->n >= FLAG_LIST_MAX)
        return error_set(e, ERR_INVALID_ARGUMENT, "--%s may be given at most %d times", f->name, FLAG_LIST_MAX);
    list->values[list->n++] = value;
    return ERR_NONE;
}

static err_id set_double(const struct flag *f, const char *value, struct error *e) {
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end || !isfinite(number)) return refuse(f, value, e);
    if (number < (double)f->min || (f->max && number > (double)f->max))
        return error_set(e, ERR_INVALID_ARGUMENT, "--%s must lie between %" PRIu64 " and %" PRIu64, f->name, f->min, f->max);
    *(double *)f->target = number;
    return ERR_NONE;
}

static err_id set_number(const struct flag *f, const char *value, struct error *e) {
    uint64_t number, type_max = f->kind == FLAG_U32 || f->kind == FLAG_DURATION ? UINT32_MAX : UINT64_MAX;
    uint64_t max = f->max ? f->max : type_max;
    bool ok = f->kind == FLAG_DURATION ? parse_duration(value, &number)
              : f->kind == FLAG_SIZE   ? parse_size(value, &number)
                                       : parse_u64(value, &number);
    if (!ok) return refuse(f, value, e);
    if (number < f->min || number > max) {
        char low[PARSE_TEXT], high[PARSE_TEXT];
        const char *(*text)(uint64_t, char *) = f->kind == FLAG_DURATION ? format_duration : format_size;
        if (f->kind == FLAG_U32 || f->kind == FLAG_U64) {
            snprintf(low, sizeof low, "%" PRIu64, f->min);
            snprintf(high, sizeof high, "%" PRIu64, max);
        } else {
            text(f->min, low), text(max, high);
        }
        return error_set(e, ERR_INVALID_ARGUMENT, "--%s must lie between %s and %s, not %s", f->name, low, high, value);
    }
    if (type_max == UINT32_MAX)
        *(uint32_t *)f->target = (uint32_t)number;
    else
        *(uint64_t *)f->target = number;
    return ERR_NONE;
}

static err_id set_value(const struct flag *f, const char *value, struct error *e) {
    switch (f->kind) {
    case FLAG_BOOL:
        return parse_bool(value, f->target) ? ERR_NONE : refuse(f, value, e);
    case FLAG_STRING:
        return set_word(f, value, e);
    case FLAG_LIST:
        return set_list(f, value, e);
    case FLAG_DOUBLE:
        return set_double(f, value, e);
    case FLAG_U32:
    case FLAG_U64:
    case FLAG_DURATION:
    case FLAG_SIZE:
        break;
    }
    return set_number(f, value, e);
}

// argv[i] begins with "--". Moves *i onto the value when that is an argument of its own.
static err_id read_flag(const struct flag_spec *spec, int argc, char **argv, int *i, uint64_t *given, struct error *e) {
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    uint32_t index;
    const struct flag *f = find(spec, name, len, &index);
    if (f == NULL) return unknown(spec, name, len, e);
    if ((*given >> index & 1) && f->kind != FLAG_LIST)
        return error_set(e, ERR_INVALID_ARGUMENT, "--%s is given twice", f->name);
    *given |= UINT64_C(1) << index;
    if (equals) return set_value(f, equals + 1, e);
    if (f->kind == FLAG_BOOL) return set_value(f, "true", e);
    if (*i + 1 >= argc)
        return error_set(e, ERR_INVALID_ARGUMENT, "--%s expects a value: --%s %s", f->name, f->name, f->value);
    return set_value(f, argv[++*i], e);
}

err_id flags_read(const struct flag_spec *spec, int argc, char **argv, int *n_operands, struct error *e) {
    uint64_t given = 0;
    int n = 0;
    bool flags_over = false;
    CHECK(spec->n_flags <= FLAGS_MAX);
    for (int i = 1; i < argc; i++) {
        if (!flags_over && strcmp(argv[i], "--") == 0)
            flags_over = true;
        else if (!flags_over && strncmp(argv[i], "--", 2) == 0)
            TRY(read_flag(spec, argc, argv, &i, &given, e));
        else if (!flags_over && argv[i][0] == '-' && argv[i][1])
            return error_set(e, ERR_INVALID_ARGUMENT, "unknown flag %s; flags are written --name", argv[i]);
        else if (spec->operands == NULL)
            return error_set(e, ERR_INVALID_ARGUMENT, "unexpected argument \"%s\"", argv[i]);
        else
            argv[n++] = argv[i]; // n <= i: what stood there has been read
    }
    for (uint32_t i = 0; i < spec->n_flags; i++)
        if (spec->flags[i].required && !(given >> i & 1))
            return error_set(e, ERR_INVALID_ARGUMENT, "--%s %s is required: %s", spec->flags[i].name, spec->flags[i].value,
                             spec->flags[i].help);
    if (n_operands) *n_operands = n;
    return ERR_NONE;
}

static void put_default(const struct flag *f, struct buf *out) {
    char text[PARSE_TEXT];
    if (strstr(f->help, "default:")) return; // said in words
    switch (f->kind) {
    case FLAG_STRING:
        if (*(const char **)f->target) buf_printf(out, " (default %s)", *(const char **)f->target);
        break;
    case FLAG_U32:
        buf_printf(out, " (default %" PRIu32 ")", *(uint32_t *)f->target);
        break;
    case FLAG_U64:
        buf_printf(out, " (default %" PRIu64 ")", *(uint64_t *)f->target);
        break;
    case FLAG_DURATION:
        buf_printf(out, " (default %s)", format_duration(*(uint32_t *)f->target, text));
        break;
    case FLAG_SIZE:
        buf_printf(out, " (default %s)", format_size(*(uint64_t *)f->target, text));
        break;
    case FLAG_DOUBLE:
        buf_printf(out, " (default %g)", *(double *)f->target);
        break;
    case FLAG_BOOL:
    case FLAG_LIST:
        break;
    }
}

static void put_flag(const struct flag *f, struct buf *out) {
    size_t start = out->len;
    buf_printf(out, "  --%s%s%s", f->name, f->value ? " " : "", f->value ? f->value : "");
    if (out->len - start > 26) buf_char(out, '\n'), start = out->len;
    buf_printf(out, "%*s%s", (int)(28 - (out->len - start)), "", f->help);
    if (f->words) {
        buf_str(out, ":");
        for (const char *const *w = f->words; *w; w++) buf_printf(out, "%s %s", w == f->words ? "" : ",", *w);
    }
    if (f->required)
        buf_str(out, " (required)");
    else
        put_default(f, out);
    if (f->kind == FLAG_LIST) buf_str(out, " (may be given several times)");
    buf_char(out, '\n');
}

void flags_help(const struct flag_spec *spec, struct buf *out) {
    buf_printf(out, "%s: %s\n\nUsage: %s [flags]%s%s\n\nFlags:\n", spec->program, spec->summary, spec->program,
               spec->operands ? " " : "", spec->operands ? spec->operands : "");
    for (uint32_t i = 0; i < spec->n_flags; i++) put_flag(&spec->flags[i], out);
    put_flag(&(struct flag){.name = "help", .help = "print this text"}, out);
    put_flag(&(struct flag){.name = "version", .help = "print the version"}, out);
    if (spec->examples) buf_printf(out, "\nExamples:\n%s", spec->examples);
}

enum flags_next flags_parse(const struct flag_spec *spec, int argc, char **argv, int *n_operands) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            struct buf text = {0};
            flags_help(spec, &text);
            fwrite(text.data, 1, text.len, stdout);
            buf_free(&text);
            return FLAGS_EXIT;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("%s %s (%s)\n", spec->program, shoal_version(), shoal_compiler());
            return FLAGS_EXIT;
        }
    }
    struct error e = {0};
    if (flags_read(spec, argc, argv, n_operands, &e) == ERR_NONE) return FLAGS_RUN;
    fprintf(stderr, "%s: %s\n", spec->program, error_text(&e));
    return FLAGS_USAGE;
}
