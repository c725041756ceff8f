#include "worker/text/tool_style.h"

#include "common/base/check.h"

#include <string.h>

const struct tool_marks tool_marks[TOOL_STYLE_COUNT] = {
    [TOOL_STYLE_NONE] = {"none", "", "", "", "", "", ""},
    [TOOL_STYLE_HERMES] = {.name = "hermes",
                           .begin = "",
                           .open = TOOL_CALL_OPEN "\n{\"name\": \"",
                           .middle = "\", \"arguments\": ",
                           .close = "}\n" TOOL_CALL_CLOSE,
                           .gap = "\n",
                           .end = ""},
    [TOOL_STYLE_LLAMA3] = {.name = "llama3",
                           .begin = "",
                           .open = "{\"name\": \"",
                           .middle = "\", \"parameters\": ",
                           .close = "}",
                           .gap = "; ",
                           .end = ""},
    [TOOL_STYLE_DEEPSEEK_V3] = {.name = "deepseek_v3",
                                .begin = TOOL_CALLS_BEGIN,
                                .open = TOOL_CALL_BEGIN "function" TOOL_SEP,
                                .middle = "\n```json\n",
                                .close = "\n```" TOOL_CALL_END,
                                .gap = "\n",
                                .end = TOOL_CALLS_END},
    [TOOL_STYLE_DEEPSEEK_V31] = {.name = "deepseek_v31",
                                 .begin = TOOL_CALLS_BEGIN,
                                 .open = TOOL_CALL_BEGIN,
                                 .middle = TOOL_SEP,
                                 .close = TOOL_CALL_END,
                                 .gap = "",
                                 .end = TOOL_CALLS_END},
};

static const char *const shown[TOOL_STYLE_COUNT][TOOL_SHOWN_MAX] = {
    [TOOL_STYLE_HERMES] = {TOOL_CALL_OPEN, TOOL_CALL_CLOSE},
    [TOOL_STYLE_LLAMA3] = {TOOL_PYTHON_TAG},
    [TOOL_STYLE_DEEPSEEK_V3] = {TOOL_CALLS_BEGIN, TOOL_CALLS_END, TOOL_CALL_BEGIN, TOOL_CALL_END, TOOL_SEP},
    [TOOL_STYLE_DEEPSEEK_V31] = {TOOL_CALLS_BEGIN, TOOL_CALLS_END, TOOL_CALL_BEGIN, TOOL_CALL_END, TOOL_SEP},
};

const char *tool_style_shown(enum tool_style style, size_t n) { return n < TOOL_SHOWN_MAX ? shown[style][n] : NULL; }

static bool holds(const char *source, size_t len, const char *word) {
    return memmem(source, len, word, strlen(word)) != NULL;
}

enum tool_style tool_style_of_template(const char *source, size_t len) {
    if (holds(source, len, TOOL_CALL_BEGIN))
        return holds(source, len, "```json") ? TOOL_STYLE_DEEPSEEK_V3 : TOOL_STYLE_DEEPSEEK_V31;
    if (holds(source, len, TOOL_CALL_OPEN)) return TOOL_STYLE_HERMES;
    if (holds(source, len, TOOL_PYTHON_TAG)) return TOOL_STYLE_LLAMA3;
    bool parameters = holds(source, len, "\"parameters\": ") || holds(source, len, "\\\"parameters\\\": ");
    return holds(source, len, "tool_call") && parameters ? TOOL_STYLE_LLAMA3 : TOOL_STYLE_NONE;
}

bool tool_style_by_name(const char *name, enum tool_style *out) {
    for (size_t i = 0; i < ARRAY_LEN(tool_marks); i++) {
        if (strcmp(tool_marks[i].name, name) != 0) continue;
        *out = (enum tool_style)i;
        return true;
    }
    return false;
}
