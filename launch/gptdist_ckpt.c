/* gptdist_ckpt.c - gptdist-ckpt: checkpoints without training: what is in one, is it whole, its hash, how two differ; in
 * from and out to Hugging Face's format. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/folder.h"
#include "io/checkpoint/name.h"
#include "io/config/config.h"
#include "io/data/metric.h"
#include "io/data/template.h"
#include "io/base/files.h"
#include "io/base/json.h"
#include "launch/ckpt_diff.h"
#include "launch/ckpt_huggingface.h"
#include "launch/console.h"
#include "launch/options.h"

enum { MOST_LABELS = 16 }; /* that are printed for people */

static const char more[] =
    "  inspect DIR       state, layout, files and tensors (--settings: every key of the run file too)\n"
    "  verify DIR        reads every byte of the checkpoint, or of all checkpoints of a run, and compares the digests\n"
    "  hash DIR          SHA-256 of weights, moments and run state: the same for every layout that saved them\n"
    "  diff DIR DIR      what differs, tensor by tensor\n"
    "  import-hf HF OUT  makes a checkpoint of a Hugging Face folder: GPT-2, Llama, Mistral, Qwen2\n"
    "  export-hf DIR OUT writes the model as a Hugging Face folder, new or empty: config.json, safetensors, tokenizer.json\n"
    "\n"
    "DIR is a checkpoint (RUN/checkpoints/step-00001000, or RUN@1000, RUN@best, RUN@last) or a run directory, whose newest "
    "whole\n"
    "checkpoint is taken; its best, where the run stopped early.";

/* One process, nothing is renamed. */
static gd_status open_one(const char *path, gd_checkpoint **out) {
  GD_TRY(gd_checkpoint_named(path, "a checkpoint or a run directory"));
  GD_TRY(gd_checkpoint_open(NULL, path, false, out));
  if (*out) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s: found no checkpoint there, expected a folder with %s or a run's checkpoints/", path,
                      GD_MANIFEST_NAME);
}

/* ---- inspect ---- */

static const char *kinds_text(uint32_t kinds) {
  return kinds == 7 ? "weights, first and second moments" : kinds == 3 ? "weights and momentum" : "weights";
}

static int32_t frozen_tensors(const gd_manifest *m) {
  int32_t frozen = 0;
  for (int32_t i = 0; i < m->tensor_count; i++) frozen += m->tensors[i].frozen;
  return frozen;
}

static int64_t total_elements(const gd_manifest *m) {
  int64_t elements = 0;
  for (int32_t i = 0; i < m->tensor_count; i++) elements += m->tensors[i].rows * m->tensors[i].cols;
  return elements;
}

static void print_template(const char *text) {
  gd_template layout;
  if (gd_template_parse(text, "template", &layout) == GD_OK) printf(", template %s", layout.name);
  gd_error_clear();
  gd_template_free(&layout);
}

static void print_text(const gd_checkpoint *checkpoint, bool settings) {
  const gd_manifest *m = gd_checkpoint_manifest(checkpoint);
  const gd_run_state *s = &m->state;
  const gd_config_key *keys;
  printf("checkpoint       %s\n", gd_checkpoint_path(checkpoint));
  printf("step             %" PRId64 " (%" PRId64 " applied, %" PRId64 " bad in a row)\n", s->step, s->applied_steps,
         s->bad_steps);
  printf("tokens           %" PRId64 "\ndraws            %" PRId64 "\n", s->tokens, s->draws);
  const char *metric = gd_metric_look((gd_metric)s->metric)->name;
  if (s->best_step >= 0) printf("best validation  %s %.9g at step %" PRId64 "\n", metric, s->best_validation, s->best_step);
  if (gd_run_state_waits(s))
    printf("waits            %" PRId64 " validations without a gain, %" PRId64 " for the learning rate, which is cut to %.6g\n",
           s->wait, s->lr_wait, s->lr_factor);
  printf("model            %d layers, %d heads (%d key/value), width %d, ffn %d, vocabulary %d, context %d\n",
         m->spec.model.layers, m->spec.model.heads, m->spec.model.kv_heads, m->spec.model.width, m->spec.model.ffn,
         m->spec.model.vocabulary, m->spec.model.context);
  if (m->spec.model.classes) printf("classifier       %d outputs\n", m->spec.model.classes);
  if (m->task.kind != GD_TASK_LM) printf("task             %s", gd_data_task_name(m->task.kind));
  if (m->task.label_count) printf(": %d labels,", m->task.label_count);
  for (int32_t i = 0; i < m->task.label_count && i < MOST_LABELS; i++) printf(" %s", m->task.labels[i]);
  if (m->task.layout) print_template(m->task.layout);
  if (m->task.kind != GD_TASK_LM) printf("%s\n", m->task.label_count > MOST_LABELS ? " ..." : "");
  if (m->task.max_tokens)
    printf("texts            cut to %d tokens by their %s\n", m->task.max_tokens, m->task.cut_head ? "heads" : "tails");
  if (m->base.path[0]) {
    char hex[GD_SHA256_HEX_BYTES];
    gd_sha256_hex(m->base.sha256, hex);
    printf("base             %s (%.12s)\n", m->base.path, hex);
  }
  printf("holds            %d tensors of %" PRId64 " elements: %s\n", m->tensor_count, total_elements(m), kinds_text(m->kinds));
  if (frozen_tensors(m)) printf("frozen           %d of them: weights alone\n", frozen_tensors(m));
  printf("written by       %d ranks: data %d, pipeline %d, context %d, tensor %d\n", m->mesh.ranks, m->mesh.size[GD_AXIS_DATA],
         m->mesh.size[GD_AXIS_PIPELINE], m->mesh.size[GD_AXIS_CONTEXT], m->mesh.size[GD_AXIS_TENSOR]);
  printf("made with        gptdist %s on %s (%s), HDF5 %s, numbers version %d\n", m->gptdist_version, m->host, m->isa,
         m->hdf5_version, m->numbers_version);
  printf("files\n");
  for (int32_t i = 0; i < m->file_count; i++) printf("  %-32s %14" PRId64 " bytes\n", m->files[i].name, m->files[i].bytes);
  for (int32_t i = 0; i < m->tokenizer_count; i++)
    printf("  tokenizer/%-22s %14" PRId64 " bytes\n", m->tokenizer[i].name, m->tokenizer[i].bytes);
  printf("tensors\n");
  for (int32_t i = 0; i < m->tensor_count; i++) {
    const gd_tensor *t = &m->tensors[i];
    printf("  %-48s [%" PRId64, t->name, t->rows);
    if (t->dims == 2) printf(", %" PRId64, t->cols);
    printf("]%s\n", t->frozen ? " frozen" : "");
  }
  if (!settings) return;
  printf("settings\n");
  for (int i = 0, count = gd_config_keys(&keys); i < count; i++) {
    static char value[GD_CONFIG_TEXT_BYTES];
    printf("  %-32s %s\n", keys[i].name, gd_config_value(&keys[i], &m->spec, value, sizeof value));
  }
}

/* "task": as in index.json; "base". */
static gd_status put_task(gd_bytes *out, const gd_manifest *m) {
  size_t begin = out->count;
  if (m->task.kind != GD_TASK_LM) GD_TRY(gd_data_task_write(&m->task, out));
  for (size_t i = begin; i < out->count; i++)
    if (out->bytes[i] == '\n') out->bytes[i] = ' '; /* a document a line */
  if (!m->base.path[0]) return GD_OK;
  char hex[GD_SHA256_HEX_BYTES];
  gd_sha256_hex(m->base.sha256, hex);
  GD_TRY(gd_bytes_printf(out, ", \"base\": {\"path\": "));
  GD_TRY(gd_json_quote(out, m->base.path, strlen(m->base.path)));
  return gd_bytes_printf(out, ", \"sha256\": \"%s\"}", hex);
}

static gd_status put_files(gd_bytes *out, const char *name, const gd_manifest_file *files, int32_t count) {
  GD_TRY(gd_bytes_printf(out, ", \"%s\": [", name));
  for (int32_t i = 0; i < count; i++) {
    char hex[GD_SHA256_HEX_BYTES];
    gd_sha256_hex(files[i].sha256, hex);
    GD_TRY(gd_bytes_printf(out, "%s{\"name\": ", i ? ", " : ""));
    GD_TRY(gd_json_quote(out, files[i].name, strlen(files[i].name)));
    GD_TRY(gd_bytes_printf(out, ", \"bytes\": %" PRId64 ", \"sha256\": \"%s\"}", files[i].bytes, hex));
  }
  return gd_bytes_printf(out, "]");
}

static gd_status put_json(gd_bytes *out, const gd_checkpoint *checkpoint, bool settings) {
  const gd_manifest *m = gd_checkpoint_manifest(checkpoint);
  const gd_run_state *s = &m->state;
  const gd_config_key *keys;
  GD_TRY(gd_bytes_printf(out, "{\"path\": "));
  GD_TRY(gd_json_quote(out, gd_checkpoint_path(checkpoint), strlen(gd_checkpoint_path(checkpoint))));
  GD_TRY(gd_bytes_printf(out,
                         ", \"step\": %" PRId64 ", \"tokens\": %" PRId64 ", \"draws\": %" PRId64 ", \"applied_steps\": %" PRId64
                         ", \"bad_steps\": %" PRId64 ", \"metric\": \"%s\", \"best_step\": %" PRId64,
                         s->step, s->tokens, s->draws, s->applied_steps, s->bad_steps,
                         gd_metric_look((gd_metric)s->metric)->name, s->best_step));
  if (s->best_step >= 0) GD_TRY(gd_bytes_printf(out, ", \"best_validation\": %.9g", s->best_validation));
  GD_TRY(gd_bytes_printf(
      out, ", \"validated_step\": %" PRId64 ", \"wait\": %" PRId64 ", \"lr_wait\": %" PRId64 ", \"lr_factor\": %.9g",
      s->validated_step, s->wait, s->lr_wait, s->lr_factor));
  GD_TRY(gd_bytes_printf(out, ", \"numbers_version\": %d", m->numbers_version));
  GD_TRY(gd_bytes_printf(out, ", \"mesh\": {\"data\": %d, \"pipeline\": %d, \"context\": %d, \"tensor\": %d}",
                         m->mesh.size[GD_AXIS_DATA], m->mesh.size[GD_AXIS_PIPELINE], m->mesh.size[GD_AXIS_CONTEXT],
                         m->mesh.size[GD_AXIS_TENSOR]));
  GD_TRY(put_task(out, m));
  GD_TRY(put_files(out, "files", m->files, m->file_count));
  GD_TRY(put_files(out, "tokenizer", m->tokenizer, m->tokenizer_count));
  GD_TRY(gd_bytes_printf(out, ", \"kinds\": ["));
  for (int kind = 0, first = 1; kind < GD_KINDS; kind++) {
    if (!(m->kinds >> kind & 1)) continue;
    GD_TRY(gd_bytes_printf(out, "%s\"%s\"", first ? "" : ", ", gd_checkpoint_kind_name((gd_checkpoint_kind)kind)));
    first = 0;
  }
  GD_TRY(gd_bytes_printf(out, "], \"tensors\": {"));
  for (int32_t i = 0; i < m->tensor_count; i++) {
    const gd_tensor *t = &m->tensors[i];
    GD_TRY(gd_bytes_printf(out, "%s", i ? ", " : ""));
    GD_TRY(gd_json_quote(out, t->name, strlen(t->name)));
    GD_TRY(gd_bytes_printf(out, ": [%" PRId64, t->rows));
    GD_TRY(t->dims == 2 ? gd_bytes_printf(out, ", %" PRId64 "]", t->cols) : gd_bytes_printf(out, "]"));
  }
  GD_TRY(gd_bytes_printf(out, "}, \"frozen\": ["));
  for (int32_t i = 0, first = 1; i < m->tensor_count; i++) {
    if (!m->tensors[i].frozen) continue;
    GD_TRY(gd_bytes_printf(out, "%s", first ? "" : ", "));
    GD_TRY(gd_json_quote(out, m->tensors[i].name, strlen(m->tensors[i].name)));
    first = 0;
  }
  GD_TRY(gd_bytes_printf(out, "]"));
  if (settings) GD_TRY(gd_bytes_printf(out, ", \"settings\": {"));
  for (int i = 0, count = gd_config_keys(&keys); settings && i < count; i++) {
    static char value[GD_CONFIG_TEXT_BYTES];
    (void)gd_config_value(&keys[i], &m->spec, value, sizeof value);
    GD_TRY(gd_bytes_printf(out, "%s\"%s\": ", i ? ", " : "", keys[i].name));
    GD_TRY(gd_json_quote(out, value, strlen(value)));
  }
  return gd_bytes_printf(out, settings ? "}}\n" : "}\n");
}

static gd_status inspect(const char *path, bool json, bool settings) {
  gd_checkpoint *checkpoint;
  gd_bytes text = {0};
  gd_status status = GD_OK;
  GD_TRY(open_one(path, &checkpoint));
  if (json)
    status = put_json(&text, checkpoint, settings);
  else
    print_text(checkpoint, settings);
  if (status == GD_OK && json) fputs(text.bytes, stdout);
  gd_bytes_free(&text);
  gd_checkpoint_close(checkpoint);
  return status;
}

/* ---- verify ---- */

static gd_status say_verdict(const char *path, gd_status verdict, bool json) {
  gd_bytes text = {0};
  const char *reason = verdict == GD_OK ? "whole" : gd_error_text();
  gd_status status = gd_bytes_printf(&text, "{\"path\": ");
  if (status == GD_OK) status = gd_json_quote(&text, path, strlen(path));
  if (status == GD_OK) status = gd_bytes_printf(&text, ", \"whole\": %s, \"reason\": ", verdict == GD_OK ? "true" : "false");
  if (status == GD_OK) status = gd_json_quote(&text, reason, strlen(reason));
  if (status == GD_OK && json)
    printf("%s}\n", text.bytes);
  else if (status == GD_OK)
    printf("%s: %s\n", path, reason);
  gd_bytes_free(&text);
  return status;
}

static gd_status verify_one(const char *path, bool json, int32_t *damaged) {
  gd_checkpoint *checkpoint = NULL;
  gd_status status = gd_checkpoint_open(NULL, path, false, &checkpoint);
  if (status != GD_OK && status != GD_BAD_DATA) return status;
  GD_TRY(say_verdict(path, status, json));
  *damaged += status != GD_OK;
  gd_checkpoint_close(checkpoint);
  return GD_OK;
}

static gd_status verify(const char *path, bool json) {
  char folder[GD_PATH_BYTES], one[GD_PATH_BYTES], name[32];
  int64_t *steps = NULL;
  int32_t count = 0, damaged = 0;
  GD_TRY(gd_checkpoint_named(path, "a checkpoint or a run directory"));
  GD_TRY(gd_checkpoint_folder(path, folder));
  gd_status status = gd_checkpoint_list(folder, &steps, &count, NULL);
  if (status == GD_OK && !count) {
    gd_checkpoint *checkpoint;
    status = open_one(path, &checkpoint);
    if (status == GD_OK) gd_checkpoint_close(checkpoint);
    if (status == GD_OK || status == GD_BAD_DATA) {
      gd_error fault;
      gd_error_take(status, &fault);
      gd_status said = say_verdict(path, status, json);
      status = said == GD_OK ? gd_error_raise(&fault) : said;
    }
  }
  for (int32_t i = 0; status == GD_OK && i < count; i++) {
    gd_checkpoint_step_name(steps[i], name);
    status = gd_path_join(one, sizeof one, folder, name);
    if (status == GD_OK) status = verify_one(one, json, &damaged);
  }
  free(steps);
  if (status == GD_OK && damaged)
    status = gd_fail_user(GD_BAD_DATA, "%s: %d of %d checkpoints are damaged", path, damaged, count);
  return status;
}

/* ---- hash, diff ---- */

static gd_status hash(const char *path, bool json) {
  gd_checkpoint *checkpoint;
  char hex[GD_SHA256_HEX_BYTES];
  GD_TRY(open_one(path, &checkpoint));
  gd_status status = gd_checkpoint_hash(checkpoint, hex);
  if (status == GD_OK && json)
    printf("{\"hash\": \"%s\", \"step\": %" PRId64 "}\n", hex, gd_checkpoint_state(checkpoint)->step);
  else if (status == GD_OK)
    printf("%s\n", hex);
  gd_checkpoint_close(checkpoint);
  return status;
}

static gd_status diff(const char *first, const char *second, bool json) {
  gd_checkpoint *a, *b;
  GD_TRY(open_one(first, &a));
  gd_status status = open_one(second, &b);
  if (status == GD_OK) {
    status = gd_ckpt_diff(a, b, json);
    gd_checkpoint_close(b);
  }
  gd_checkpoint_close(a);
  return status;
}

static gd_status export_one(const char *path, const char *folder, const char *dtype, const char *size, bool json) {
  gd_checkpoint *checkpoint;
  GD_TRY(open_one(path, &checkpoint));
  gd_status status = gd_ckpt_export(checkpoint, folder, dtype, size, json);
  gd_checkpoint_close(checkpoint);
  return status;
}

typedef enum verb { INSPECT, VERIFY, HASH, DIFF, IMPORT, EXPORT, VERBS } verb;

static gd_status find_verb(const gd_command_line *line, verb *out) {
  static const struct {
    const char *name;
    int folders;
  } verbs[VERBS] = {{"inspect", 1}, {"verify", 1}, {"hash", 1}, {"diff", 2}, {"import-hf", 2}, {"export-hf", 2}};
  static const char expected[] = "expected inspect, verify, hash, diff, import-hf or export-hf";
  int at = 0;
  if (!line->arguments) return gd_fail_user(GD_USAGE, "found no verb, %s", expected);
  while (at < VERBS && strcmp(verbs[at].name, line->argument[0]) != 0) at++;
  if (at == VERBS) return gd_fail_user(GD_USAGE, "%s: unknown verb, %s", line->argument[0], expected);
  if (line->arguments - 1 != verbs[at].folders)
    return gd_fail_user(GD_USAGE, "%s: found %d folders, expected %d", verbs[at].name, line->arguments - 1, verbs[at].folders);
  *out = (verb)at;
  return GD_OK;
}

static gd_status run(int argc, char **argv) {
  bool settings = false, no_tokenizer = false, done;
  const char *dtype = NULL, *size = "5GB", *template_name = NULL;
  verb what = VERBS;
  const gd_option options[] = {
      {"--settings", GD_OPTION_FLAG, &settings, NULL, "inspect: every key of the run file too", 0, 0},
      {"--dtype", GD_OPTION_TEXT, &dtype, "fp32|fp16|bf16", "export-hf: of all tensors (the run's)", 0, 0},
      {"--max-shard-size", GD_OPTION_TEXT, &size, "SIZE", "export-hf: most bytes of tensors a file (5GB)", 0, 0},
      {"--no-tokenizer", GD_OPTION_FLAG, &no_tokenizer, NULL, "import-hf: the weights alone", 0, 0},
      {"--template", GD_OPTION_TEXT, &template_name, "NAME",
       "import-hf: plain, alpaca, chatml, llama3, a file or none, in place of the folder's chat template", 0, 0},
      {NULL, GD_OPTION_FLAG, NULL, NULL, NULL, 0, 0},
  };
  const gd_program program = {.name = "gptdist-ckpt",
                              .purpose = "checkpoints without training",
                              .usage = "inspect|verify|hash DIR, diff DIR DIR, import-hf HF OUT, export-hf DIR OUT [--json]",
                              .more = more,
                              .options = options,
                              .takes_arguments = true};
  static gd_command_line line;
  GD_TRY(gd_options_parse(&program, argc, argv, &line, &done));
  if (done) return GD_OK;
  GD_TRY(find_verb(&line, &what));
  switch (what) {
    case INSPECT: return inspect(line.argument[1], line.json, settings);
    case VERIFY: return verify(line.argument[1], line.json);
    case HASH: return hash(line.argument[1], line.json);
    case DIFF: return diff(line.argument[1], line.argument[2], line.json);
    case IMPORT: return gd_ckpt_import(line.argument[1], line.argument[2], !no_tokenizer, template_name, line.json);
    case EXPORT: return export_one(line.argument[1], line.argument[2], dtype, size, line.json);
    case VERBS: break;
  }
  return gd_fail(GD_BUG, "a verb without work");
}

int main(int argc, char **argv) {
  gd_console_open("gptdist-ckpt", 0);
  gd_status status = run(argc, argv);
  int code = gd_console_leave(status, true);
  gd_console_close();
  return code;
}
