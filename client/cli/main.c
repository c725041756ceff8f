// shoal: talk to a cluster from the command line.
#include "client/cli/cli.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/sys/version.h"

#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct command commands[] = {
    {"chat", cmd_chat, "talk to a model, line by line"},
    {"generate", cmd_generate, "one answer to one prompt"},
    {"bench", cmd_bench, "put a load on the cluster, or on any server of OpenAI's API, and measure"},
    {"proxy", cmd_proxy, "an endpoint on this host for OpenAI clients, that survives the routers' deaths"},
    {"status", cmd_status, "routers, replicas and workers of the cluster"},
    {"drain", cmd_drain, "tell a worker that it will be taken away, and watch it go"},
    {"key", cmd_key, "API keys: add, list, revoke"},
    {"keygen", cmd_keygen, "make a CURVE certificate"},
    {"demo", cmd_demo, "kill, notice, router: hit a process in the middle of an answer, and see that nothing is lost"},
};

static void print_help(FILE *to) {
    fprintf(to, "usage: shoal COMMAND [FLAGS]\n\nTalk to a Shoal cluster.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) fprintf(to, "  %-10s  %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\nexamples:\n"
                "  shoal chat\n"
                "  shoal generate --chat '12+30'\n"
                "  shoal status --json\n"
                "  shoal COMMAND --help\n");
}

static int unknown(const char *word) {
    const char *names[] = {"chat", "generate", "bench", "proxy", "status", "drain", "key", "keygen", "demo"};
    const char *near = error_nearest(word, names, ARRAY_LEN(names));
    fprintf(stderr, "shoal: there is no command '%s'%s%s%s; shoal --help lists them\n", word, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("shoal %s\n", shoal_version());
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    return unknown(argv[1]);
}
