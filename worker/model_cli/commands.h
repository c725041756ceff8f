// The subcommands of shoal-model: each takes its own arguments (argv[0] is its name) and returns the exit code: 0, or 2 with
// one sentence on stderr.
#pragma once

int shoal_model_inspect(int argc, char **argv);
int shoal_model_logits(int argc, char **argv);
int shoal_model_generate(int argc, char **argv);
int shoal_model_bench(int argc, char **argv);
int shoal_model_quantize(int argc, char **argv);
int shoal_model_replay(int argc, char **argv);
int shoal_model_tokenize(int argc, char **argv);
int shoal_model_template(int argc, char **argv);
