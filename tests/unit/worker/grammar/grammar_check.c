// For tests in Python: reads lines from standard input. "S" and a JSON schema: answers OK or why it is refused. "T" and a
// text: 1 if the last schema's grammar takes it as a whole, byte by byte, else 0.
#include "worker/grammar/grammar.h"
#include "worker/grammar/matcher.h"
#include <stdio.h>
#include <stdlib.h>

static void compile(const char *schema, size_t len, struct network *net) {
    struct error e = {0};
    network_fini(net);
    err_id id = grammar_compile(GRAMMAR_JSON_SCHEMA, schema, len, net, &e);
    puts(id == ERR_NONE ? "OK" : e.text);
    if (id != ERR_NONE) network_fini(net);
}

static void match(const char *text, size_t len, const struct network *net) {
    struct matcher m;
    if (net->nodes == NULL) {
        puts("no schema");
        return;
    }
    matcher_init(&m, net, 64);
    puts(matcher_push(&m, text, len) && matcher_complete(&m) ? "1" : "0");
    matcher_fini(&m);
}

int main(void) {
    struct network net = {0};
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 1;) {
        size_t len = (size_t)n - 1 - (line[n - 1] == '\n');
        if (line[0] == 'S')
            compile(line + 1, len, &net);
        else
            match(line + 1, len, &net);
        fflush(stdout);
    }
    network_fini(&net);
    free(line);
    return 0;
}
