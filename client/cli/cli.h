// What the commands of `shoal` share. Exit codes: 0 all went well, 1 an answer failed, 2 usage or no connection.
#pragma once
#include "client/shoal.h"
#include "common/sys/flags.h"

#include <pthread.h>

enum { EXIT_ANSWER = 1, EXIT_USAGE = 2 };

// Flags that every command has.
struct cli_where {
    const char *routers; // --routers; NULL: from the cluster file
    const char *config;  // --config; NULL: ./.run/cluster.yaml, else deploy/local/cluster.yaml
    const char *key;     // --key; NULL: with security.curve: required in the cluster file, security.keys/client.cert
    const char *servers; // --server-key; NULL: with it, the routers of security.allow
};
#define CLI_WHERE_FLAGS(w)                                                                                                  \
    {.name = "routers",                                                                                                     \
     .kind = FLAG_STRING,                                                                                                   \
     .target = &(w).routers,                                                                                                \
     .value = "LIST",                                                                                                       \
     .help = "routers to talk to, tcp://host:port, separated by commas; default: those of the cluster file"},               \
        {.name = "key",                                                                                                     \
         .kind = FLAG_STRING,                                                                                               \
         .target = &(w).key,                                                                                                \
         .value = "FILE",                                                                                                   \
         .help = "this client's certificate, for encrypted links; default: client.cert of security.keys"},                  \
        {.name = "server-key",                                                                                              \
         .kind = FLAG_STRING,                                                                                               \
         .target = &(w).servers,                                                                                            \
         .value = "LIST",                                                                                                   \
         .help = "the routers' public certificates, separated by commas; default: those in security.allow"},                \
    {                                                                                                                       \
        .name = "config", .kind = FLAG_STRING, .target = &(w).config, .value = "FILE",                                      \
        .help = "cluster file; default: .run/cluster.yaml if it is there, else deploy/local/cluster.yaml"                   \
    }

// 0, or an exit code after the sentence has been printed.
int cli_open(const struct cli_where *where, struct shoal **out);
int cli_fail(int code, const struct shoal_failure *why); // prints the sentence, returns the code
// The model to ask: the one named, or the only one that the cluster serves. NULL after a sentence. The caller frees it.
char *cli_model(struct shoal *s, const char *named);

// Ctrl-C ends the answer in progress; with none in progress, or a second time, the program. Made before shoal_open, so that
// no other thread takes the signal.
struct cli_interrupt {
    pthread_mutex_t lock;
    struct shoal *shoal;
    char request_id[SHOAL_REQUEST_ID_SIZE]; // empty: nothing in progress
    bool interrupted;                       // this answer
};
void cli_interrupt_init(struct cli_interrupt *i);
void cli_interrupt_begin(struct cli_interrupt *i, struct shoal *s, const char *id);
bool cli_interrupt_end(struct cli_interrupt *i); // was it interrupted?

bool cli_colour(void); // stdout is a terminal
extern const char CLI_DIM[], CLI_PLAIN[];

int cmd_bench(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_keygen(int argc, char **argv);
int cmd_proxy(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_drain(int argc, char **argv);
int cmd_demo(int argc, char **argv);
