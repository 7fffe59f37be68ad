/* Tokenizers against published ids, and the round trip of arbitrary bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/text/stream.h"
#include "io/base/json.h"
#include "io/tokenizer/split.h"
#include "io/tokenizer/tokenizer.h"
#include "shard/base/rng.h"

#define DATA GD_SOURCE_DIR "/../shared/data/"

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

static void skip_without_data(void) {
  if (access(DATA "tokenizer/gpt2/vocab.bpe", R_OK) == 0) return;
  puts("skipped: no ../shared/data");
  skip();
}

static void check_vectors(const char *spec, const char *path) {
  skip_without_data();
  gd_tokenizer *tokenizer;
  ok(gd_tokenizer_open(spec, &tokenizer));
  gd_bytes file = {0}, text = {0}, back = {0};
  ok(gd_file_read(path, 1 << 24, &file));
  gd_ids ids = {0};
  int lines = 0;
  for (char *line = file.bytes; *line;) {
    char *end = strchr(line, '\n');
    gd_json *root;
    ok(gd_json_parse(line, (size_t)(end - line), path, lines + 1, &root));
    ids.count = back.count = text.count = 0;
    ok(gd_json_text(gd_json_get(root, "text"), &text));
    ok(gd_tokenizer_encode(tokenizer, text.bytes, text.count, false, &ids));
    size_t at = 0;
    for (const gd_json *id = gd_json_first(gd_json_get(root, "ids")); id; id = gd_json_next(id), at++) {
      int64_t value;
      assert_true(gd_json_integer(id, &value));
      if (at >= ids.count || ids.ids[at] != value) fail_msg("line %d: id %zu differs", lines + 1, at);
    }
    if (at != ids.count) fail_msg("line %d: %zu ids, expected %zu", lines + 1, ids.count, at);
    ok(gd_tokenizer_decode(tokenizer, -1, ids.ids, ids.count, &back));
    assert_int_equal(back.count, text.count);
    if (back.count) assert_memory_equal(back.bytes, text.bytes, back.count);
    gd_json_free(root);
    lines++;
    line = end + 1;
  }
  assert_int_equal(lines, 130);
  gd_ids_free(&ids);
  gd_bytes_free(&file);
  gd_bytes_free(&text);
  gd_bytes_free(&back);
  gd_tokenizer_close(tokenizer);
}

static void gpt2_gives_the_ids_of_all_vectors(void **state) {
  (void)state;
  check_vectors("gpt2:" DATA "tokenizer/gpt2", DATA "tokenizer/vectors_gpt2.jsonl");
}

static void cl100k_gives_the_ids_of_all_vectors(void **state) {
  (void)state;
  check_vectors("tiktoken:" DATA "tokenizer/cl100k_base.tiktoken.gz", DATA "tokenizer/vectors_cl100k.jsonl");
}

static void check_whole(gd_tokenizer *tokenizer, const gd_json *wanted, const char *text, size_t count) {
  gd_ids ids = {0};
  ok(gd_tokenizer_encode(tokenizer, text, count, false, &ids));
  int64_t tokens;
  assert_true(gd_json_integer(gd_json_get(wanted, "gpt2_tokens"), &tokens));
  assert_int_equal(ids.count, tokens);
  uint16_t *small = malloc(ids.count * sizeof *small);
  for (size_t i = 0; i < ids.count; i++) small[i] = (uint16_t)ids.ids[i];
  uint8_t digest[GD_SHA256_BYTES];
  char hex[GD_SHA256_HEX_BYTES];
  ok(gd_sha256_bytes(small, ids.count * sizeof *small, digest));
  gd_sha256_hex(digest, hex);
  assert_string_equal(hex, gd_json_string(gd_json_get(wanted, "sha256_of_ids_as_uint16_le")));
  gd_bytes back = {0};
  ok(gd_tokenizer_decode(tokenizer, -1, ids.ids, ids.count, &back));
  assert_int_equal(back.count, count);
  assert_memory_equal(back.bytes, text, count);
  gd_bytes_free(&back);
  gd_ids_free(&ids);
  free(small);
}

static void gpt2_gives_the_published_counts_and_hashes_of_whole_files(void **state) {
  (void)state;
  skip_without_data();
  gd_tokenizer *tokenizer;
  gd_json *root;
  gd_bytes shakespeare = {0}, wikitext = {0};
  ok(gd_tokenizer_open("gpt2:" DATA "tokenizer/gpt2", &tokenizer));
  ok(gd_json_read(DATA "tokenizer/whole_file_gpt2.json", 1 << 20, &root));
  ok(gd_file_read(DATA "text/tinyshakespeare.txt", 1 << 24, &shakespeare));
  ok(gd_file_read(DATA "text/wikitext2_valid.txt", 1 << 24, &wikitext));
  const char *text = shakespeare.bytes;
  size_t cut = (size_t)((double)shakespeare.count * 0.9);
  check_whole(tokenizer, gd_json_get(root, "text/tinyshakespeare.txt"), text, shakespeare.count);
  check_whole(tokenizer, gd_json_get(root, "text/tinyshakespeare.txt, first 90% of its characters"), text, cut);
  check_whole(tokenizer, gd_json_get(root, "text/tinyshakespeare.txt, last 10% of its characters"), text + cut,
              shakespeare.count - cut);
  check_whole(tokenizer, gd_json_get(root, "text/wikitext2_valid.txt"), wikitext.bytes, wikitext.count);
  gd_bytes_free(&shakespeare);
  gd_bytes_free(&wikitext);
  gd_json_free(root);
  gd_tokenizer_close(tokenizer);
}

static void round_trip(gd_tokenizer *tokenizer, const char *bytes, size_t count) {
  gd_ids ids = {0};
  gd_bytes back = {0};
  ok(gd_tokenizer_encode(tokenizer, bytes, count, false, &ids));
  ok(gd_tokenizer_decode(tokenizer, -1, ids.ids, ids.count, &back));
  assert_int_equal(back.count, count);
  if (count) assert_memory_equal(back.bytes, bytes, count);
  gd_ids_free(&ids);
  gd_bytes_free(&back);
}

/* Random bytes, nearly valid UTF-8, runs of one byte, pieces of every length around the caches' limits. */
static void check_round_trips(const char *spec) {
  enum { MOST = 4096 };
  gd_tokenizer *tokenizer;
  ok(gd_tokenizer_open(spec, &tokenizer));
  char bytes[MOST];
  gd_rng rng = gd_rng_make(7, GD_RNG_DATA, 0, 0, 0);
  uint64_t next = 0;
  for (int trial = 0; trial < 300; trial++) {
    size_t count = gd_rng_word(&rng, next++) % (trial < 200 ? 100 : MOST);
    int style = trial % 4;
    for (size_t i = 0; i < count; i++) {
      uint32_t word = gd_rng_word(&rng, next++);
      static const char pieces[] = "aZ9 '\n\t\r.\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\xff\xed\xa0\x80\xc0";
      bytes[i] = style == 0   ? (char)word
                 : style == 1 ? pieces[word % (sizeof pieces - 1)]
                 : style == 2 ? (char)trial
                              : (char)('a' + word % 3);
    }
    round_trip(tokenizer, bytes, count);
  }
  gd_tokenizer_close(tokenizer);
}

static void any_bytes_come_back_from_bytes(void **state) {
  (void)state;
  check_round_trips("bytes");
}

static void any_bytes_come_back_from_gpt2(void **state) {
  (void)state;
  skip_without_data();
  check_round_trips("gpt2:" DATA "tokenizer/gpt2");
}

static void any_bytes_come_back_from_cl100k(void **state) {
  (void)state;
  skip_without_data();
  check_round_trips("tiktoken:" DATA "tokenizer/cl100k_base.tiktoken.gz");
}

static void a_megabyte_without_a_space_takes_no_quadratic_time(void **state) {
  (void)state;
  skip_without_data();
  gd_tokenizer *tokenizer;
  ok(gd_tokenizer_open("gpt2:" DATA "tokenizer/gpt2", &tokenizer));
  size_t count = 1 << 20;
  char *bytes = malloc(count);
  gd_rng rng = gd_rng_make(1, GD_RNG_DATA, 0, 0, 0);
  for (size_t i = 0; i < count; i++) bytes[i] = (char)('a' + gd_rng_word(&rng, i) % 26);
  alarm(60); /* quadratic would take hours */
  round_trip(tokenizer, bytes, count);
  memset(bytes, ' ', count);
  round_trip(tokenizer, bytes, count);
  alarm(0);
  free(bytes);
  gd_tokenizer_close(tokenizer);
}

static void special_tokens_are_text_unless_asked_for(void **state) {
  (void)state;
  gd_tokenizer *tokenizer;
  gd_ids ids = {0};
  gd_bytes back = {0};
  const char *text = "a<|endoftext|>b<|endoftext|>";
  ok(gd_tokenizer_open("bytes", &tokenizer));
  ok(gd_tokenizer_encode(tokenizer, text, strlen(text), false, &ids));
  assert_int_equal(ids.count, strlen(text));
  ids.count = 0;
  ok(gd_tokenizer_encode(tokenizer, text, strlen(text), true, &ids));
  const int32_t wanted[] = {'a', 256, 'b', 256};
  assert_int_equal(ids.count, 4);
  assert_memory_equal(ids.ids, wanted, sizeof wanted);
  ok(gd_tokenizer_decode(tokenizer, -1, ids.ids, ids.count, &back));
  assert_string_equal(back.bytes, text);
  gd_ids_free(&ids);
  gd_bytes_free(&back);
  gd_tokenizer_close(tokenizer);
}

static void chars_are_numbered_in_code_point_order(void **state) {
  (void)state;
  gd_tokenizer *tokenizer;
  gd_ids ids = {0};
  const char *text = "ca\xc3\xa9 bb\n";
  ok(gd_tokenizer_from_characters(text, strlen(text), &tokenizer));
  assert_int_equal(gd_tokenizer_vocabulary(tokenizer), 6);
  assert_int_equal(gd_tokenizer_eot(tokenizer), -1);
  ok(gd_tokenizer_encode(tokenizer, text, strlen(text), false, &ids));
  const int32_t wanted[] = {4, 2, 5, 1, 3, 3, 0};
  assert_int_equal(ids.count, 7);
  assert_memory_equal(ids.ids, wanted, sizeof wanted);
  round_trip(tokenizer, text, strlen(text));
  assert_int_equal(gd_tokenizer_encode(tokenizer, "z", 1, false, &ids), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "\"z\" (U+007A)"));
  gd_ids_free(&ids);
  gd_tokenizer_close(tokenizer);
}

static void the_small_llama_decodes_to_its_published_text(void **state) {
  (void)state;
  skip_without_data();
  gd_tokenizer *tokenizer;
  gd_json *root;
  gd_ids ids = {0}, again = {0};
  gd_bytes text = {0};
  ok(gd_tokenizer_open("llama2c:" DATA "models/stories260K/tok512.bin", &tokenizer));
  assert_int_equal(gd_tokenizer_vocabulary(tokenizer), 512);
  ok(gd_json_read(DATA "models/stories260K/reference.json", 1 << 24, &root));
  for (const gd_json *id = gd_json_first(gd_json_get(root, "greedy_ids_from_bos")); id; id = gd_json_next(id)) {
    int64_t value = -1;
    assert_true(gd_json_integer(id, &value));
    int32_t small = (int32_t)value;
    ok(gd_ids_append(&ids, &small, 1));
  }
  ok(gd_tokenizer_decode(tokenizer, -1, ids.ids, ids.count, &text));
  const char *wanted = gd_json_string(gd_json_get(root, "text"));
  if (!wanted) wanted = gd_json_string(gd_json_get(root, "greedy_text"));
  assert_non_null(wanted);
  assert_string_equal(text.bytes, wanted);
  /* the sentence that the model wrote is encoded to the ids that it wrote */
  ok(gd_tokenizer_encode(tokenizer, text.bytes, strlen("Once upon a time, there was a little girl"), false, &again));
  assert_memory_equal(again.ids, ids.ids + 1, again.count * sizeof *again.ids);
  gd_ids_free(&ids);
  gd_ids_free(&again);
  gd_bytes_free(&text);
  gd_json_free(root);
  gd_tokenizer_close(tokenizer);
}

static void a_saved_folder_opens_as_the_same_tokenizer(void **state) {
  (void)state;
  skip_without_data();
  static const char *const specs[] = {"bytes", "gpt2:" DATA "tokenizer/gpt2",
                                      "tiktoken:" DATA "tokenizer/cl100k_base.tiktoken.gz",
                                      "llama2c:" DATA "models/stories260K/tok512.bin", "gpt2:" DATA "models/tiny_gpt2"};
  for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
    char folder[] = "/tmp/gptdist-test-XXXXXX", below[64];
    gd_tokenizer *first, *second;
    assert_non_null(mkdtemp(folder));
    snprintf(below, sizeof below, "%s/tokenizer", folder);
    ok(gd_tokenizer_open(specs[i], &first));
    ok(gd_tokenizer_save(first, below));
    ok(gd_tokenizer_open(folder, &second)); /* the dataset's folder, not the tokenizer's */
    assert_string_equal(gd_tokenizer_digest(first), gd_tokenizer_digest(second));
    assert_string_equal(gd_tokenizer_name(first), gd_tokenizer_name(second));
    assert_int_equal(gd_tokenizer_vocabulary(first), gd_tokenizer_vocabulary(second));
    assert_int_equal(gd_tokenizer_eot(first), gd_tokenizer_eot(second));
    gd_tokenizer_close(first);
    gd_tokenizer_close(second);
    ok(gd_folder_remove(folder));
  }
}

static void check_open_fails(const char *spec, gd_status code, const char *text) {
  gd_tokenizer *tokenizer;
  gd_status status = gd_tokenizer_open(spec, &tokenizer);
  if (status != code || !strstr(gd_error_text(), text))
    fail_msg("%s: status %d, text \"%s\"", spec, (int)status, gd_error_text());
}

static void put(const char *folder, const char *name, const char *text, char path[256]) {
  snprintf(path, 256, "%s/%s", folder, name);
  ok(gd_file_write(path, text, strlen(text)));
}

static void bad_tokenizer_files_are_named(void **state) {
  (void)state;
  char folder[] = "/tmp/gptdist-test-XXXXXX", path[256], spec[300];
  assert_non_null(mkdtemp(folder));
  check_open_fails("gtp2:x", GD_USAGE, "\"gtp2:x\" is not known, expected gpt2:DIR");
  check_open_fails("gpt2:/nowhere", GD_USAGE, "/nowhere: No such file or directory");
  check_open_fails("tiktoken:/nowhere", GD_USAGE, "/nowhere: No such file or directory");
  check_open_fails("chars", GD_USAGE, "only gptdist-data prepare can make it");
  put(folder, "vocab.json", "{\"a\": 0, \"b\": 1,", path);
  put(folder, "merges.txt", "#version: 0.2\na b\n", path);
  snprintf(spec, sizeof spec, "gpt2:%s", folder);
  check_open_fails(spec, GD_BAD_DATA, "vocab.json:1:");
  put(folder, "vocab.json", "{\"a\": 0, \"b\": 1}", path);
  check_open_fails(spec, GD_BAD_DATA, "merges:2: merge \"a b\": the result is not in the vocabulary");
  put(folder, "vocab.json", "{\"a\": 0, \"b\": 0}", path);
  check_open_fails(spec, GD_BAD_DATA, "id 0 is given twice");
  put(folder, "ranks", "IQ== 0\nnot a rank\n", path);
  snprintf(spec, sizeof spec, "tiktoken:%s", path);
  check_open_fails(spec, GD_BAD_DATA, "ranks:2: found \"not a rank\"");
  put(folder, "hf.json", "{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}}", path);
  snprintf(spec, sizeof spec, "hf:%s", path);
  check_open_fails(spec, GD_BAD_DATA, "model: found \"WordPiece\", expected BPE");
  put(folder, "tok.bin", "\x07\x00", path);
  snprintf(spec, sizeof spec, "llama2c:%s", path);
  check_open_fails(spec, GD_BAD_DATA, "tok.bin: ");
  /* Every cut of a token is looked up, so one of megabytes would take hours. */
  struct {
    int32_t longest;
    float score;
    int32_t length;
    char text[1025];
  } large = {1025, 1, 1025, {'a'}};
  ok(gd_file_write(path, &large, 12 + sizeof large.text));
  check_open_fails(spec, GD_BAD_DATA, "tok.bin: token 0 is cut off or damaged at byte 4 of 1037");
  ok(gd_folder_remove(folder));
}

/* A tokenizer.json made from GPT-2's own files must give GPT-2's ids. */
/* The system refuses to say what is there: that is no folder without a tokenizer. */
static void a_file_that_cannot_be_looked_at_is_no_missing_file(void **state) {
  (void)state;
  char folder[] = "/tmp/gptdist-test-XXXXXX", path[256];
  gd_tokenizer *tokenizer;
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/tokenizer.json", folder);
  assert_int_equal(symlink(path, path), 0);
  assert_int_equal(gd_tokenizer_open(folder, &tokenizer), GD_IO);
  assert_non_null(strstr(gd_error_text(), path));
  gd_error_clear();
  ok(gd_folder_remove(folder));
}

static void a_hugging_face_file_gives_the_ids_of_its_model(void **state) {
  (void)state;
  char folder[] = "/tmp/gptdist-test-XXXXXX", path[256], spec[300];
  assert_non_null(mkdtemp(folder));
  put(folder, "tokenizer.json",
      "{\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false},\n"
      " \"added_tokens\": [{\"id\": 6, \"content\": \"<|endoftext|>\", \"special\": true}],\n"
      " \"model\": {\"type\": \"BPE\", \"vocab\": {\"l\": 0, \"o\": 1, \"w\": 2, \"\\u0120\": 3, \"lo\": 4, \"low\": 5},\n"
      " \"merges\": [\"l o\", [\"lo\", \"w\"]]}}",
      path);
  snprintf(spec, sizeof spec, "hf:%s", path);
  gd_tokenizer *tokenizer;
  gd_ids ids = {0};
  ok(gd_tokenizer_open(spec, &tokenizer));
  assert_int_equal(gd_tokenizer_vocabulary(tokenizer), 7);
  assert_int_equal(gd_tokenizer_eot(tokenizer), 6);
  ok(gd_tokenizer_encode(tokenizer, "low wol<|endoftext|>", 20, true, &ids));
  const int32_t wanted[] = {5, 3, 2, 1, 0, 6};
  assert_int_equal(ids.count, 6);
  assert_memory_equal(ids.ids, wanted, sizeof wanted);
  assert_int_equal(gd_tokenizer_encode(tokenizer, "x", 1, false, &ids), GD_BAD_DATA);
  gd_ids_free(&ids);
  gd_tokenizer_close(tokenizer);
  ok(gd_folder_remove(folder));
}

static void expect_pieces(const char *pattern, const char *text, const char *wanted) {
  gd_splitter *splitter;
  gd_splitter_state *state;
  gd_bytes found = {0};
  ok(gd_splitter_open(pattern, &splitter));
  ok(gd_splitter_state_open(splitter, &state));
  for (size_t start = 0, end, count = strlen(text); start < count; start = end) {
    bool matched;
    ok(gd_splitter_next(splitter, state, text, count, start, &end, &matched));
    ok(gd_bytes_append(&found, text + start, end - start));
    ok(gd_bytes_append(&found, "|", 1));
  }
  assert_string_equal(found.bytes, wanted);
  gd_bytes_free(&found);
  gd_splitter_state_close(state);
  gd_splitter_close(splitter);
}

/* A space behind a letter, then the character, then a letter: white space parts from the space, anything else joins it. */
static void white_space_is_that_of_unicode(void **state) {
  (void)state;
  static const char *const white[] = {"\t",           "\v",           "\f",           " ",
                                      "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80",
                                      "\xe2\x80\x8a", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
                                      "\xe2\x81\x9f", "\xe3\x80\x80"};
  static const char *const others[] = {"\xe1\xa0\x8e", "\xe2\x80\x8b", "\xef\xbb\xbf", "\xc2\x84", "\xc2\x86", "!"};
  char text[32], wanted[40];
  for (size_t i = 0; i < sizeof white / sizeof *white; i++) {
    bool blank = white[i][0] == ' '; /* goes with the letter behind it */
    snprintf(text, sizeof text, "x %sy", white[i]);
    snprintf(wanted, sizeof wanted, blank ? "x| |%sy|" : "x| |%s|y|", white[i]);
    expect_pieces(gd_splitter_gpt2, text, wanted);
    snprintf(wanted, sizeof wanted, "x| |%sy|", white[i]);
    expect_pieces(gd_splitter_cl100k, text, wanted);
  }
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    snprintf(text, sizeof text, "x %sy", others[i]);
    snprintf(wanted, sizeof wanted, "x| %s|y|", others[i]);
    expect_pieces(gd_splitter_gpt2, text, wanted);
    expect_pieces(gd_splitter_cl100k, text, wanted);
  }
}

/* Where several special tokens begin at one place the longest is meant, whatever their order; else the first in the text. */
static void special_tokens_with_a_common_prefix_are_told_apart(void **state) {
  (void)state;
  static const char *const texts[2][3] = {{"<|a|>", "<|a|>b", "a|>"}, {"a|>", "<|a|>b", "<|a|>"}};
  char folder[] = "/tmp/gptdist-test-XXXXXX", path[256], spec[300];
  assert_non_null(mkdtemp(folder));
  for (int order = 0; order < 2; order++) {
    gd_bytes file = {0};
    ok(gd_bytes_printf(&file,
                       "{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, \"added_tokens\": ["));
    for (int i = 0; i < 3; i++)
      ok(gd_bytes_printf(&file, "%s{\"id\": %d, \"content\": \"%s\"}", i ? ", " : "", 10 + i, texts[order][i]));
    ok(gd_bytes_printf(&file, "], \"model\": {\"type\": \"BPE\", \"vocab\": {\"b\": 0, \"<\": 1, \"|\": 2}, \"merges\": []}}"));
    put(folder, "tokenizer.json", file.bytes, path);
    snprintf(spec, sizeof spec, "hf:%s", path);
    gd_tokenizer *tokenizer;
    gd_ids ids = {0};
    ok(gd_tokenizer_open(spec, &tokenizer));
    ok(gd_tokenizer_encode(tokenizer, "b<|a|>b<|a|><|<|a|>bba|>", 24, true, &ids));
    int32_t short_one = order ? 12 : 10, end = order ? 10 : 12;
    const int32_t wanted[] = {0, 11, short_one, 1, 2, 11, 0, end};
    assert_int_equal(ids.count, 8);
    assert_memory_equal(ids.ids, wanted, sizeof wanted);
    gd_tokenizer_close(tokenizer);
    gd_ids_free(&ids);
    gd_bytes_free(&file);
  }
  ok(gd_folder_remove(folder));
}

static gd_tokenizer *shared;
static gd_bytes shared_text;
static void *encode_shared(void *out) {
  gd_ids *ids = out;
  return gd_tokenizer_encode(shared, shared_text.bytes, shared_text.count, false, ids) == GD_OK ? out : NULL;
}

static void threads_may_share_one_tokenizer(void **state) {
  (void)state;
  skip_without_data();
  ok(gd_tokenizer_open("gpt2:" DATA "tokenizer/gpt2", &shared));
  ok(gd_file_read(DATA "text/tinyshakespeare.txt", 1 << 24, &shared_text));
  pthread_t threads[4];
  gd_ids ids[4] = {{0}};
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, encode_shared, &ids[i]), 0);
  for (int i = 0; i < 4; i++) {
    void *result;
    pthread_join(threads[i], &result);
    assert_non_null(result);
    assert_int_equal(ids[i].count, 338025);
    assert_memory_equal(ids[i].ids, ids[0].ids, ids[0].count * sizeof *ids[0].ids);
  }
  for (int i = 0; i < 4; i++) gd_ids_free(&ids[i]);
  gd_bytes_free(&shared_text);
  gd_tokenizer_close(shared);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gpt2_gives_the_ids_of_all_vectors),
      cmocka_unit_test(cl100k_gives_the_ids_of_all_vectors),
      cmocka_unit_test(gpt2_gives_the_published_counts_and_hashes_of_whole_files),
      cmocka_unit_test(any_bytes_come_back_from_bytes),
      cmocka_unit_test(any_bytes_come_back_from_gpt2),
      cmocka_unit_test(any_bytes_come_back_from_cl100k),
      cmocka_unit_test(a_megabyte_without_a_space_takes_no_quadratic_time),
      cmocka_unit_test(special_tokens_are_text_unless_asked_for),
      cmocka_unit_test(chars_are_numbered_in_code_point_order),
      cmocka_unit_test(the_small_llama_decodes_to_its_published_text),
      cmocka_unit_test(a_saved_folder_opens_as_the_same_tokenizer),
      cmocka_unit_test(bad_tokenizer_files_are_named),
      cmocka_unit_test(a_file_that_cannot_be_looked_at_is_no_missing_file),
      cmocka_unit_test(a_hugging_face_file_gives_the_ids_of_its_model),
      cmocka_unit_test(white_space_is_that_of_unicode),
      cmocka_unit_test(special_tokens_with_a_common_prefix_are_told_apart),
      cmocka_unit_test(threads_may_share_one_tokenizer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
