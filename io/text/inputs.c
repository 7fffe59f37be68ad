/* inputs.c - words of a command line to the paths of files: folders are walked through, patterns are matched. */
#include "io/text/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/base/files.h"
#include "shard/spec.h"

enum { DEPTH = 64 }; /* of folders: a link to a folder above would never end */

static gd_status add(gd_inputs *inputs, const char *path) {
  if (inputs->count == inputs->capacity) {
    int32_t capacity = inputs->capacity ? 2 * inputs->capacity : 16;
    char **bigger = realloc(inputs->path, (size_t)capacity * sizeof *bigger);
    if (!bigger) return gd_fail(GD_NO_MEMORY, "no memory for %d paths", capacity);
    inputs->path = bigger;
    inputs->capacity = capacity;
  }
  char *copy = strdup(path);
  if (!copy) return gd_fail(GD_NO_MEMORY, "no memory for a path");
  inputs->path[inputs->count++] = copy;
  return GD_OK;
}

static gd_status add_below(gd_inputs *inputs, const char *folder, gd_corpus_format format, int depth) {
  if (depth > DEPTH) return gd_fail_user(GD_USAGE, "%s: more than %d folders deep, is a link a circle?", folder, DEPTH);
  DIR *entries = opendir(folder);
  if (!entries) return gd_fail(GD_IO, "cannot open the folder %s: %s", folder, strerror(errno));
  gd_status status = GD_OK;
  for (struct dirent *entry; status == GD_OK && (entry = readdir(entries));) {
    if (entry->d_name[0] == '.') continue;
    char path[GD_PATH_BYTES];
    struct stat info;
    status = gd_path_join(path, sizeof path, folder, entry->d_name);
    if (status != GD_OK) break;
    if (stat(path, &info)) {
      status = gd_fail(GD_IO, "%s: %s", path, strerror(errno));
    } else if (S_ISDIR(info.st_mode)) {
      status = add_below(inputs, path, format, depth + 1);
    } else if (S_ISREG(info.st_mode) && (format != GD_CORPUS_AUTO || gd_corpus_format_of(path) != GD_CORPUS_AUTO)) {
      status = add(inputs, path);
    } else {
      inputs->skipped++;
      if (!inputs->first_skipped) inputs->first_skipped = strdup(path);
    }
  }
  closedir(entries);
  return status;
}

static int by_path(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static gd_status add_folder(gd_inputs *inputs, const char *folder, gd_corpus_format format) {
  int32_t before = inputs->count;
  GD_TRY(add_below(inputs, folder, format, 0));
  if (inputs->count == before)
    return gd_fail_user(GD_USAGE, "%s: no file in this folder has a name that says its format; see --format", folder);
  qsort(inputs->path + before, (size_t)(inputs->count - before), sizeof *inputs->path, by_path);
  return GD_OK;
}

static gd_status add_word(gd_inputs *inputs, const char *word, gd_corpus_format format) {
  if (strcmp(word, "-") == 0) {
    for (int32_t i = 0; i < inputs->count; i++)
      if (strcmp(inputs->path[i], "-") == 0) return gd_fail_user(GD_USAGE, "-: standard input is named twice");
    return add(inputs, word);
  }
  if (gd_folder_exists(word)) return add_folder(inputs, word, format);
  if (gd_file_exists(word) || !strpbrk(word, "*?[")) return add(inputs, word);
  glob_t found = {0};
  int code = glob(word, GLOB_ERR, NULL, &found);
  gd_status status = code == GLOB_NOMATCH ? gd_fail_user(GD_USAGE, "%s: no file has such a name", word)
                     : code               ? gd_fail(GD_IO, "%s: cannot be read: %s", word, strerror(errno))
                                          : GD_OK;
  for (size_t i = 0; status == GD_OK && i < found.gl_pathc; i++)
    status =
        gd_folder_exists(found.gl_pathv[i]) ? add_folder(inputs, found.gl_pathv[i], format) : add(inputs, found.gl_pathv[i]);
  globfree(&found);
  return status;
}

gd_status gd_inputs_expand(const char *const *words, int32_t count, gd_corpus_format format, gd_inputs *out) {
  *out = (gd_inputs){0};
  for (int32_t i = 0; i < count; i++) GD_TRY(add_word(out, words[i], format));
  return GD_OK;
}

void gd_inputs_free(gd_inputs *inputs) {
  for (int32_t i = 0; i < inputs->count; i++) free(inputs->path[i]);
  free(inputs->path);
  free(inputs->first_skipped);
  *inputs = (gd_inputs){0};
}
