/* Every file of cluster-configs/ is a valid run file, and the models are the published ones, to the last parameter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"

/* What the papers' own releases count; 0 = only a rounded size was published, see `about`. */
static const struct {
  const char *name;
  int64_t parameters;
  double about; /* and how far a rounded size may be off */
} models[] = {
    {"gpt2-124m", 124439808, 0},    {"gpt2-350m", 354823168, 0},   {"gpt2-774m", 774030080, 0},   {"gpt2-1558m", 1557611200, 0},
    {"gpt3-125m", 0, 125e6},        {"gpt3-350m", 0, 350e6},       {"gpt3-760m", 0, 760e6},       {"gpt3-1.3b", 0, 1.3e9},
    {"gpt3-2.7b", 0, 2.7e9},        {"gpt3-6.7b", 0, 6.7e9},       {"gpt3-13b", 0, 13e9},         {"gpt3-175b", 0, 175e9},
    {"llama-7b", 6738415616, 0},    {"llama-13b", 13015864320, 0}, {"llama-33b", 32528943616, 0}, {"llama-65b", 65285660672, 0},
    {"llama2-70b", 68976648192, 0}, {"llama3-8b", 8030261248, 0},
};

static gd_spec spec;

static void load(const char *folder, const char *name) {
  char path[1200];
  snprintf(path, sizeof path, "%s/cluster-configs/%s/%s", GD_SOURCE_DIR, folder, name);
  if (gd_config_load(path, 0, 0, &spec, 0) != GD_OK) fail_msg("%s", gd_error_text());
}

static void each_file_resolves(const char *folder, int32_t ranks, int at_least) {
  char path[1200];
  snprintf(path, sizeof path, "%s/cluster-configs/%s", GD_SOURCE_DIR, folder);
  DIR *files = opendir(path);
  assert_non_null(files);
  int count = 0;
  for (struct dirent *entry = readdir(files); entry; entry = readdir(files)) {
    if (!strstr(entry->d_name, ".yaml")) continue;
    load(folder, entry->d_name);
    if (spec.model.vocabulary == 0) spec.model.vocabulary = 256;
    if (gd_spec_resolve(&spec, ranks) != GD_OK) fail_msg("%s: %s", entry->d_name, gd_error_text());
    count++;
  }
  closedir(files);
  assert_true(count >= at_least);
}

static void every_model_file_resolves_for_8_ranks(void **state) {
  (void)state;
  each_file_resolves("models", 8, 20);
}

static void every_run_file_resolves_for_4_ranks(void **state) {
  (void)state;
  each_file_resolves("runs", 4, 5);
}

static void models_have_the_published_number_of_parameters(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s.yaml", models[i].name);
    load("models", name);
    if (gd_spec_resolve_model(&spec) != GD_OK) fail_msg("%s: %s", name, gd_error_text());
    int64_t parameters = gd_spec_parameters(&spec);
    bool right =
        models[i].parameters ? parameters == models[i].parameters : fabs((double)parameters / models[i].about - 1.0) < 0.025;
    if (!right) fail_msg("%s: %lld parameters", name, (long long)parameters);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_model_file_resolves_for_8_ranks),
      cmocka_unit_test(every_run_file_resolves_for_4_ranks),
      cmocka_unit_test(models_have_the_published_number_of_parameters),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
