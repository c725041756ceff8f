// What the files of the HTTP server share: http_server.c (listening, accepting, time), http_conn.c (bytes in and out, the
// life of a connection), http_request.c (from bytes to a request), http_response.c (from an answer to bytes).
#pragma once
#include "common/base/buf.h"
#include "common/base/ids.h"
#include "common/sys/endpoint.h"
#include "common/net/http_server.h"

#include <http_parser.h>

enum {
    HTTP_READ_BYTES = 64 << 10,     // one read
    HTTP_PIPELINE_BYTES = 64 << 10, // kept of later requests while one is answered; then reading stops
    HTTP_OUT_HIGH = 256 << 10,      // bytes waiting on a connection above which no further request is taken from it
    HTTP_KEPT_BYTES = 16 << 10,     // an empty buffer keeps no more than this
    HTTP_HEADERS_MAX = 100,         // header fields of one request
    HTTP_LINGER_MS = 2000,          // after the last answer, until the client closes
    HTTP_REFUSED_MAX = 64,          // connections over the maximum that get a 503; those beyond are just closed
};

struct http_list { // a circular list; an element points to itself when it is in none
    struct http_list *prev, *next;
};

union http_handle {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

enum http_conn_state {
    CONN_READING,   // between requests or in the middle of one
    CONN_BUSY,      // the handler has the exchange
    CONN_DRAINING,  // the last bytes go out; what comes in is thrown away
    CONN_LINGERING, // all is out and our side is shut down; waiting for the client to close, so that no reset eats the
                    // answer
    CONN_CLOSED,    // waiting for libuv's callback
};

struct http_conn {
    union http_handle socket;
    struct http_server *server;
    struct http_list all, dirty; // in the server's lists
    enum http_conn_state state;
    http_parser parser;
    struct http_exchange *x; // being received, or the handler's
    struct buf in;           // received, not parsed
    struct buf out, flying;  // to be written; being written by `write`
    uv_write_t write;
    uv_shutdown_t shutdown;
    bool writing, read_stopped;
    bool eof;           // the client closed its side
    bool close_at_once; // when drained: no lingering
    bool reset;         // when drained: a reset, so that an answer without length is seen to be broken
    int refusal;        // HTTP status of the error that a parser callback found; 0: none
    struct error error; // its sentence
    ms_t deadline;      // MS_NEVER: none
    ms_t progress_at;   // the client last took bytes
    size_t queue_seen;  // bytes in libuv's queue then
};

struct http_header_field {
    uint32_t name, value; // offsets in text
};

struct http_exchange {
    struct http_conn *conn;
    struct buf text; // url, then names and values, each ended by a zero byte
    struct buf body;
    struct buf added; // headers of the answer
    struct http_header_field headers[HTTP_HEADERS_MAX];
    uint32_t n_headers, path, query; // offsets in text
    bool in_value, headers_done, keep_alive, http10;
    unsigned method; // enum http_method
    bool begun, chunked, above_low_water;
    struct http_watch watch;
};

struct http_server {
    struct http_server_options options; // with defaults filled in
    char *headers;                      // of every answer
    union http_handle listener;
    uv_timer_t tick;
    uv_prepare_t flush;
    uv_idle_t wake;
    int handles; // of these four, not yet closed
    struct http_list conns, dirty;
    uint64_t held_bytes;       // of bodies, in all exchanges
    uint32_t n_conns, n_dirty; // n_conns: memory not yet freed
    bool listening, leaving, stopping, destroyed;
    void (*on_stopped)(void *ctx);
    struct http_stats stats;
    char address[ADDRESS_SIZE + 16];
    char date[32]; // as the Date header says it, for date_at
    int64_t date_at;
    char read_buffer[HTTP_READ_BYTES];
};

static inline void http_list_init(struct http_list *l) { l->prev = l->next = l; }
static inline bool http_list_empty(const struct http_list *l) { return l->next == l; }
static inline void http_list_add(struct http_list *head, struct http_list *l) {
    l->prev = head->prev, l->next = head;
    head->prev->next = l, head->prev = l;
}
static inline void http_list_remove(struct http_list *l) {
    l->prev->next = l->next, l->next->prev = l->prev;
    http_list_init(l);
}

// http_server.c
void http_server_wake(struct http_server *s); // the loop comes round without waiting
ms_t http_now(const struct http_server *s);
void http_server_conn_gone(struct http_server *s); // a connection's memory was freed

// http_conn.c
void http_conn_start(struct http_conn *c); // accepted: reads
void http_conn_touch(struct http_conn *c); // there is something to write or to parse: this turn of the loop
void http_conn_turn(struct http_conn *c);  // writes what waits, parses what waits
void http_conn_close(struct http_conn *c); // at once; an exchange with the handler must be gone before
void http_conn_lose(struct http_conn *c);  // the client is gone: tells the handler, closes
void http_conn_drain(struct http_conn *c); // no more requests; closes when all bytes are out
void http_conn_exchange_done(struct http_conn *c, bool keep_alive); // the exchange is freed; on to the next request
void http_conn_refuse(struct http_conn *c, int status, const struct error *e); // the server's own error answer, then drain
size_t http_conn_pending(const struct http_conn *c);                           // bytes not yet taken by the kernel
bool http_conn_is_idle(const struct http_conn *c);                             // between requests

// http_request.c
extern const http_parser_settings http_request_settings; // fills conn->x; pauses at the end of a request
void http_exchange_free(struct http_exchange **x);

// http_response.c
struct http_head {
    int status;
    const char *content_type; // NULL: none
    int64_t length;           // -1: chunked, or until the connection closes
    bool keep_alive, http10;
    const struct buf *added; // NULL: none
};
void http_head_write(struct http_server *s, const struct http_head *head, struct buf *out);
