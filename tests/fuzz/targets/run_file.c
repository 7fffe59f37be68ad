/* run_file.c - a run file, and a second one that it may include (other.yaml). What was accepted and written out again gives the
 * same spec, byte for byte. */
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static gd_spec spec, again;
  static gd_config_origins origins;
  static char text[GD_CONFIG_TEXT_BYTES];
  fuzz_part parts[2];
  char path[GD_PATH_BYTES], other[GD_PATH_BYTES];
  fuzz_parts(data, size, parts, 2);
  fuzz_write("other.yaml", parts[1].bytes, parts[1].count, other);
  fuzz_must(gd_config_load(NULL, NULL, 0, &again, NULL));
  snprintf(path, sizeof path, "%s/run.yaml", fuzz_folder());
  if (parts[0].count && memmem(parts[0].bytes, parts[0].count, "/dev/", 5)) return 0; /* an include that waits for a keyboard */
  if (!fuzz_accepted(gd_config_load_text(path, parts[0].bytes, parts[0].count, NULL, 0, &spec, &origins), GD_USAGE)) return 0;
  size_t length = gd_config_write(&spec, text, sizeof text);
  fuzz_check(length < sizeof text, "a resolved run file is longer than GD_CONFIG_TEXT_BYTES");
  fuzz_must(gd_config_load_text("written", text, length, NULL, 0, &again, NULL));
  fuzz_check(memcmp(&spec, &again, sizeof spec) == 0, "a run file that was written and read again is another one");
  (void)fuzz_accepted(gd_spec_resolve(&spec, 4), GD_USAGE);
  return 0;
}
