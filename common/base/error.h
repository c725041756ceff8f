// The one error catalogue: every failure that Shoal reports, to a person, an HTTP client or a peer, is one of these ids plus
// a sentence. An id carries its gRPC status name, its HTTP status, whether trying again can help, and OpenAI's type and
// code. Functions that can fail return an err_id (ERR_NONE = 0 = success) and take a last parameter `struct error *`, which
// they fill when they fail and leave alone when they don't. The sentence names the thing and what was expected, no full
// stop.
#pragma once
#include <stdbool.h>
#include <stddef.h>

// X(id, grpc name, http status, retryable, openai type, openai code or NULL, default sentence). Ids travel on the wire:
// append only.
#define ERROR_CATALOGUE(X)                                                                                                  \
    X(ERR_NONE, "OK", 200, false, "", NULL, "no error")                                                                     \
    X(ERR_INVALID_ARGUMENT, "INVALID_ARGUMENT", 400, false, "invalid_request_error", "invalid_value",                       \
      "the request is not valid")                                                                                           \
    X(ERR_CONTEXT_LENGTH, "INVALID_ARGUMENT", 400, false, "invalid_request_error", "context_length_exceeded",               \
      "the prompt is longer than the model's context")                                                                      \
    X(ERR_UNAUTHENTICATED, "UNAUTHENTICATED", 401, false, "invalid_request_error", "invalid_api_key",                       \
      "no valid API key was given")                                                                                         \
    X(ERR_NOT_FOUND, "NOT_FOUND", 404, false, "invalid_request_error", NULL, "there is no such thing here")                 \
    X(ERR_MODEL_NOT_FOUND, "NOT_FOUND", 404, false, "invalid_request_error", "model_not_found", "the model does not exist") \
    X(ERR_METHOD_NOT_ALLOWED, "UNIMPLEMENTED", 405, false, "invalid_request_error", NULL, "the method is not allowed here") \
    X(ERR_TOO_LARGE, "INVALID_ARGUMENT", 413, false, "invalid_request_error", "request_too_large",                          \
      "the request is too large")                                                                                           \
    X(ERR_HEADERS_TOO_LARGE, "INVALID_ARGUMENT", 431, false, "invalid_request_error", NULL,                                 \
      "the request's headers are too large")                                                                                \
    X(ERR_UNSUPPORTED_MEDIA, "INVALID_ARGUMENT", 415, false, "invalid_request_error", NULL,                                 \
      "the content type is not supported")                                                                                  \
    X(ERR_OVERLOADED, "RESOURCE_EXHAUSTED", 429, true, "rate_limit_error", "overloaded",                                    \
      "the cluster is at capacity and the request could not be served in time")                                             \
    X(ERR_DEADLINE, "DEADLINE_EXCEEDED", 504, true, "server_error", "deadline_exceeded", "the request's deadline passed")   \
    X(ERR_CANCELLED, "CANCELLED", 499, false, "server_error", "cancelled", "the request was cancelled")                     \
    X(ERR_UNAVAILABLE, "UNAVAILABLE", 503, true, "server_error", "unavailable", "no replica of the model is ready")         \
    X(ERR_WORKER_LOST, "UNAVAILABLE", 503, true, "server_error", "worker_lost",                                             \
      "the worker that served the request was lost")                                                                        \
    X(ERR_POISON_REQUEST, "ABORTED", 500, false, "server_error", "request_killed_workers",                                  \
      "the request was refused because two workers died while serving it")                                                  \
    X(ERR_SUPERSEDED, "ABORTED", 409, false, "server_error", "superseded", "a later attempt took the request over")         \
    X(ERR_UNKNOWN_STREAM, "NOT_FOUND", 404, false, "server_error", "unknown_stream", "the stream is not known here")        \
    X(ERR_NUMERIC, "INTERNAL", 500, false, "server_error", "numeric_error",                                                 \
      "the model produced values that are not numbers")                                                                     \
    X(ERR_INTERNAL, "INTERNAL", 500, false, "server_error", "internal_error", "an internal error happened")                 \
    X(ERR_PROTOCOL, "INVALID_ARGUMENT", 400, false, "invalid_request_error", "protocol_error", "the message is not valid")  \
    X(ERR_CONFIG, "FAILED_PRECONDITION", 500, false, "server_error", "config_error", "the configuration is not valid")      \
    X(ERR_MODEL_FILES, "FAILED_PRECONDITION", 500, false, "server_error", "model_files_error",                              \
      "the model's files are not valid")                                                                                    \
    X(ERR_SYSTEM, "INTERNAL", 500, false, "server_error", "system_error", "the operating system refused a call")            \
    X(ERR_UNSUPPORTED, "UNIMPLEMENTED", 400, false, "invalid_request_error", "unsupported", "this is not supported")        \
    X(ERR_DRAINING, "UNAVAILABLE", 503, true, "server_error", "draining", "this process is shutting down")                  \
    X(ERR_RESUME_LOST, "DATA_LOSS", 410, false, "server_error", "resume_lost", "the stream cannot go on where it stopped")  \
    X(ERR_KEY_REUSED, "INVALID_ARGUMENT", 422, false, "invalid_request_error", "idempotency_key_reused",                    \
      "the key was used before with another request")                                                                       \
    X(ERR_FORBIDDEN, "PERMISSION_DENIED", 403, false, "invalid_request_error", "permission_denied",                         \
      "the key does not allow this")

typedef enum err_id {
#define X(id, grpc, http, retryable, type, code, sentence) id,
    ERROR_CATALOGUE(X)
#undef X
        ERR_COUNT
} err_id;

enum { ERROR_TEXT_MAX = 512, ERROR_PARAM_MAX = 64 };

struct error {
    err_id id;
    char text[ERROR_TEXT_MAX];   // the sentence for the human
    char param[ERROR_PARAM_MAX]; // the offending field ("messages[0].role"), or empty
};

struct error_info {
    const char *name; // "ERR_OVERLOADED"
    const char *grpc; // "RESOURCE_EXHAUSTED"
    int http_status;
    bool retryable;
    const char *openai_type;
    const char *openai_code; // may be NULL
    const char *sentence;
};

// Never NULL: an id out of range is described as ERR_INTERNAL.
const struct error_info *error_info(err_id id);

// Fills *e (may be NULL) and returns id, so that `return error_set(e, ERR_X, "…", …);` reads well.
err_id error_set(struct error *e, err_id id, const char *format, ...) __attribute__((format(printf, 3, 4)));
err_id error_set_param(struct error *e, err_id id, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// Puts "prefix: " before the sentence already there; returns e->id.
err_id error_wrap(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The sentence: e->text, or the catalogue's when empty.
const char *error_text(const struct error *e);

// The candidate nearest to word by edit distance, or NULL when none is near enough to be meant: for "did you mean".
const char *error_nearest(const char *word, const char *const *candidates, size_t n);

#define TRY(call)                                                                                                           \
    do {                                                                                                                    \
        err_id try_id_ = (call);                                                                                            \
        if (try_id_ != ERR_NONE) return try_id_;                                                                            \
    } while (0)
#define TRY_GOTO(call, label)                                                                                               \
    do {                                                                                                                    \
        if ((call) != ERR_NONE) goto label;                                                                                 \
    } while (0)
