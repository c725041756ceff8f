// Everything about text that a model's folder says: tokenizer.json, tokenizer_config.json, chat_template.jinja and
// generation_config.json, read once at start-up. Wherever a folder is taken, a GGUF file is too. The only file of this room
// that opens files. Immutable afterwards.
#pragma once
#include "common/base/prompt.h"
#include "worker/text/template.h"
#include "worker/text/tokenizer.h"
#include "worker/text/tool_style.h"

enum { EOS_IDS_MAX = 16, MODEL_TEXT_FILE_MAX = 256 << 20 };

struct model_text {
    struct tokenizer *tokenizer;
    struct chat_template *chat; // NULL: the folder has none
    json_t *special_tokens;     // for template_input
    enum tool_style tools;      // as the chat template writes them
    uint32_t eos[EOS_IDS_MAX];  // ids that end a generation: generation_config.json's, and the tokenizer's eos_token
    uint32_t n_eos;
    struct sampling defaults; // from generation_config.json; what it doesn't say is not set
};

// folder needs tokenizer.json; the other files may be absent. ERR_MODEL_FILES names the file and what is wrong with it.
err_id model_text_load(const char *folder, struct model_text **out, struct error *e);
void model_text_destroy(struct model_text *m); // NULL is fine

// Parts of it, for tools. The tokenizer alone; the chat template with its variables (ERR_MODEL_FILES when there is none).
err_id model_text_load_tokenizer(const char *folder, struct tokenizer **out, struct error *e);
err_id model_text_load_chat(const char *folder, struct chat_template **chat, json_t **special_tokens, struct error *e);
