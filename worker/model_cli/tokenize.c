// shoal-model tokenize: {"text": …} lines to {"ids": …} lines, or with --decode the other way round.
#include "worker/model_cli/commands.h"
#include "worker/model_cli/json_lines.h"
#include "worker/text/model_text.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] = "usage: shoal-model tokenize --model DIR [--special] [--plain] < lines of {\"text\": …}\n"
                            "       shoal-model tokenize --model DIR --decode [--skip-special] < lines of {\"ids\": …}\n"
                            "  --special        put BOS and the like around each text, as the model's tokenizer does\n"
                            "  --plain          don't recognise added tokens (\"<s>\") in the text\n"
                            "  --decode         ids to text; special tokens are shown\n"
                            "  --skip-special   … but not special tokens\n";

struct tokenize {
    struct tokenizer *tokenizer;
    unsigned flags;
    bool decode, skip_special;
};

static err_id encode_line(void *context, const json_t *line, json_t **answer, struct error *e) {
    const struct tokenize *t = context;
    const json_t *text = json_object_get(line, "text");
    if (!json_is_string(text)) return error_set(e, ERR_INVALID_ARGUMENT, "\"text\" must be a string");
    struct ids ids = {0};
    err_id id = tokenizer_encode(t->tokenizer, json_string_value(text), json_string_length(text), t->flags, &ids, e);
    if (id == ERR_NONE) {
        json_t *array = json_array();
        for (size_t i = 0; i < ids.len; i++) json_array_append_new(array, json_integer(ids.data[i]));
        *answer = json_pack("{s:o}", "ids", array);
    }
    ids_free(&ids);
    return id;
}

static err_id decode_line(void *context, const json_t *line, json_t **answer, struct error *e) {
    const struct tokenize *t = context;
    uint32_t *ids;
    size_t n;
    TRY(json_lines_ids(line, &ids, &n, e));
    struct buf text = {0};
    tokenizer_decode(t->tokenizer, ids, n, t->skip_special, &text);
    *answer = json_pack("{s:o}", "text", json_stringn(text.data ? text.data : "", text.len));
    buf_free(&text);
    free(ids);
    return ERR_NONE;
}

int shoal_model_tokenize(int argc, char **argv) {
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"special", no_argument, NULL, 's'},
                                            {"plain", no_argument, NULL, 'p'},
                                            {"decode", no_argument, NULL, 'd'},
                                            {"skip-special", no_argument, NULL, 'k'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct tokenize t = {.flags = ENCODE_PARSE_ADDED};
    const char *folder = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (c) {
        case 'm':
            folder = optarg;
            break;
        case 's':
            t.flags |= ENCODE_ADD_SPECIAL;
            break;
        case 'p':
            t.flags &= ~(unsigned)ENCODE_PARSE_ADDED;
            break;
        case 'd':
            t.decode = true;
            break;
        case 'k':
            t.skip_special = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (folder == NULL || optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    struct error e = {0};
    if (model_text_load_tokenizer(folder, &t.tokenizer, &e) != ERR_NONE) {
        fprintf(stderr, "shoal-model tokenize: %s\n", error_text(&e));
        return 2;
    }
    int exit_code = json_lines_run(t.decode ? decode_line : encode_line, &t);
    tokenizer_destroy(t.tokenizer);
    return exit_code;
}
