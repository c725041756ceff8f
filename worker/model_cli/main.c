// shoal-model: a model without the network, for tests and for people who check a model. Each subcommand is one file.
#include "worker/model_cli/commands.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"inspect", shoal_model_inspect, "what a model folder holds, and the memory that it needs"},
    {"logits", shoal_model_logits, "the likeliest next tokens after a prompt, with their logits"},
    {"generate", shoal_model_generate, "a greedy answer"},
    {"bench", shoal_model_bench, "how fast a device prefills and decodes"},
    {"quantize", shoal_model_quantize, "a model folder with its matrices in int8 or int4"},
    {"replay", shoal_model_replay, "a recording of a worker's engine, run again and compared"},
    {"tokenize", shoal_model_tokenize, "text to token ids, and back with --decode"},
    {"template", shoal_model_template, "chat messages to the prompt that the model's template makes of them"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *f) {
    fputs("usage: shoal-model COMMAND --model DIR [options]    (shoal-model COMMAND --help tells more)\n", f);
    for (int i = 0; i < N_COMMANDS; i++) fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (argc > 1) fprintf(stderr, "shoal-model: there is no command \"%s\"\n", name);
    print_usage(stderr);
    return 2;
}
