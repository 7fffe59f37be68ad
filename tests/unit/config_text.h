/* config_text.h - what the tests of run files share: a text is accepted, or refused with a message to the letter. */
#ifndef GD_TESTS_CONFIG_TEXT_H
#define GD_TESTS_CONFIG_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "io/config/config.h"

static gd_spec spec;
static gd_config_origins origins;

static inline gd_status load(const char *text) {
  return gd_config_load_text("run.yaml", text, strlen(text), 0, 0, &spec, &origins);
}

static inline void accepts(const char *text) {
  gd_status status = load(text);
  if (status != GD_OK) fail_msg("%s\n%s", text, gd_error_text());
}

static inline void refuses(const char *text, const char *message) {
  gd_status status = load(text);
  if (status != GD_USAGE || strcmp(gd_error_text(), message) != 0) {
    fail_msg("status %d for\n%s\nsaid     %s\nexpected %s", status, text, status ? gd_error_text() : "", message);
  }
}

static inline void refuses_override(const char *option, const char *key, const char *value, const char *message) {
  gd_config_override override = {option, key, value};
  assert_int_equal(gd_config_load(0, &override, 1, &spec, &origins), GD_USAGE);
  assert_string_equal(gd_error_text(), message);
}

#endif
