// The body of a Generate as a plain struct: what to answer and how. Clients and HTTP fronts make it, workers read it,
// routers in between forward its bytes unread. Chat messages stay JSON, because chat templates are programs over JSON
// values. Decoded pointers live as long as the arena they were decoded into.
#pragma once
#include "common/base/limits.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum prompt_kind { PROMPT_CHAT = 0, PROMPT_TEXT = 1, PROMPT_TOKENS = 2 };

// A parameter that was not given takes the model's default (generation_config.json), then Shoal's (in brackets).
struct sampling {
    bool has_temperature, has_top_p, has_top_k, has_min_p, has_typical_p;
    float temperature;       // [1] 0 = greedy
    float top_p;             // [1]
    int32_t top_k;           // [0 = all]
    float min_p;             // [0]
    float typical_p;         // [1]
    float presence_penalty;  // 0 = none
    float frequency_penalty; // 0 = none
    bool has_repetition_penalty;
    float repetition_penalty; // [1]
};

enum tool_choice { TOOL_CHOICE_AUTO = 0, TOOL_CHOICE_NONE = 1, TOOL_CHOICE_REQUIRED = 2, TOOL_CHOICE_NAMED = 3 };
enum response_format { RESPONSE_TEXT = 0, RESPONSE_JSON_OBJECT = 1, RESPONSE_JSON_SCHEMA = 2, RESPONSE_REGEX = 3 };
enum prompt_task { TASK_GENERATE = 0, TASK_TOKENIZE = 1, TASK_EMBED = 2 };

struct logit_bias {
    uint32_t token;
    float bias;
};

struct prompt {
    enum prompt_kind kind;
    const char *messages_json;        // PROMPT_CHAT: array of messages
    const char *tools_json;           // array, or NULL
    const char *template_kwargs_json; // object, or NULL
    const char *text;                 // PROMPT_TEXT
    size_t text_len;
    const uint32_t *tokens; // PROMPT_TOKENS
    uint32_t n_tokens;

    struct sampling sampling;
    uint32_t min_tokens;
    bool ignore_eos;
    bool logprobs;         // of the chosen token
    uint32_t top_logprobs; // ≤ TOP_LOGPROBS_MAX
    uint32_t n_stop;
    const char *const *stop;
    bool include_stop;        // keep the stop string in the text
    bool keep_special_tokens; // show special tokens in the text
    uint32_t n_stop_tokens;
    const uint32_t *stop_tokens;
    uint32_t n_logit_bias;
    const struct logit_bias *logit_bias;
    uint32_t n_allowed, n_banned; // ≤ TOKEN_LIST_MAX; n_allowed 0: all are
    const uint32_t *allowed, *banned;
    uint32_t n_bad_words; // ≤ BAD_WORDS_MAX
    const char *const *bad_words;

    enum tool_choice tool_choice; // PROMPT_CHAT
    const char *tool_name;        // TOOL_CHOICE_NAMED; else NULL
    bool one_tool_call;           // at most one
    enum response_format response_format;
    const char *response_schema; // RESPONSE_JSON_SCHEMA: JSON text; else NULL
    bool response_strict;
    const char *response_regex; // RESPONSE_REGEX; else NULL

    bool no_generation_prompt;   // PROMPT_CHAT: the prompt ends with the last message
    bool continue_final_message; // PROMPT_CHAT: the answer goes on behind the last message's text
    const char *suffix;          // PROMPT_TEXT: what follows the answer, or NULL
    enum prompt_task task;
    bool no_special_tokens; // PROMPT_TEXT: none are put around it
    bool echo;              // the answer's text begins with the prompt's
    uint32_t n_choices;     // answers asked for, each a stream of its own; ≤ CHOICES_MAX; 0 = 1
};
