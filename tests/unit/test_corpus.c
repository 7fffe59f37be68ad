/* Documents of text, jsonl, csv and tsv files: whole, in ranges, packed, damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/text/corpus.h"
#include "io/text/inputs.h"
#include "io/text/stream.h"
#include "shard/base/rng.h"
#include "tests/own_folder.h"

#define DATA GD_SOURCE_DIR "/../shared/data/"

static char path[300];

static void put(const char *name, const char *text, size_t count) {
  snprintf(path, sizeof path, "%s/%s", folder, name);
  ok(gd_file_write(path, text, count));
}

/* Appends the documents of a range, each closed by a byte 1; an open one is left open. */
static gd_status read_range(const gd_corpus_options *options, int64_t begin, int64_t end, gd_bytes *out) {
  gd_corpus *corpus;
  gd_corpus_part part;
  bool more = true;
  GD_TRY(gd_corpus_open(path, options, begin, end, &corpus));
  gd_status status;
  while ((status = gd_corpus_next(corpus, &part, &more)) == GD_OK && more) {
    ok(gd_bytes_append(out, part.bytes, part.count));
    if (part.ends_document) ok(gd_bytes_append(out, "\1", 1));
  }
  gd_corpus_close(corpus);
  return status;
}

static void expect(const gd_corpus_options *options, const char *wanted) {
  gd_bytes out = {0};
  ok(read_range(options, 0, -1, &out));
  ok(gd_bytes_append(&out, "", 0));
  assert_string_equal(out.bytes, wanted);
  gd_bytes_free(&out);
}

static void expect_fault(const gd_corpus_options *options, gd_status code, const char *text) {
  gd_bytes out = {0};
  gd_status status = read_range(options, 0, -1, &out);
  gd_bytes_free(&out);
  if (status != code || !strstr(gd_error_text(), text))
    fail_msg("status %d, text \"%s\", expected \"%s\"", (int)status, gd_error_text(), text);
}

static void put_text(const char *name, const char *text) {
  put(name, text, strlen(text));
}

static void separator_lines_part_documents(void **state) {
  (void)state;
  const gd_corpus_options options = {.cut = true};
  put_text("a.txt", "one\ntwo\n<|endoftext|>\nthree <|endoftext|>\n<|endoftext|> four\n<|endoftext|>\r\nfive");
  expect(&options, "one\ntwo\n\1three <|endoftext|>\n<|endoftext|> four\n\1five\1");
  put_text("a.txt", "<|endoftext|>\n<|endoftext|>\nx\n<|endoftext|>\n");
  expect(&options, "x\n\1");
  put_text("a.txt", "x\n<|endoftext|>");
  expect(&options, "x\n\1");
  put_text("a.txt", "\xef\xbb\xbfmark\n");
  expect(&options, "mark\n\1");
  put_text("a.txt", "");
  expect(&options, "");
}

static void json_lines_give_their_field(void **state) {
  (void)state;
  gd_corpus_options options = {.drop_empty = true};
  put_text("a.jsonl", "{\"id\": 1, \"text\": \"a\\n\\u00e9\"}\r\n\n{\"text\": \"\"}\n{\"text\": \"b\"}");
  expect(&options, "a\n\xc3\xa9\1b\1");
  options.drop_empty = false;
  expect_fault(&options, GD_BAD_DATA, "a.jsonl:3: column \"text\" is empty; --empty drop leaves out and counts such rows");
  options.text_field = "body";
  expect_fault(&options, GD_BAD_DATA, "a.jsonl:1: no field \"body\" (there are \"id\", \"text\"), see --text-field");
  options.text_field = NULL;
  put_text("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n");
  expect_fault(&options, GD_BAD_DATA, "a.jsonl:2: ");
  put_text("a.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}\n");
  expect_fault(&options, GD_BAD_DATA, "a.jsonl:2: the field \"text\" is no text");
}

static void json_arrays_and_objects_give_their_field(void **state) {
  (void)state;
  const gd_corpus_options options = {0};
  put_text("a.json", " [\n{\"text\": \"a \\\" ] }\\\\\", \"n\": [1, {\"b\": \"]\"}]} ,{\"text\":\"b\"}\n]\n");
  expect(&options, "a \" ] }\\\1b\1");
  put_text("a.json", "{\n \"text\": \"a\"\n}\n{\"text\": \"b\"}");
  expect(&options, "a\1b\1");
  put_text("a.json", "[]");
  expect(&options, "");
  put_text("a.json", "[{\"text\": \"a\"}\n{\"text\": \"b\"}]");
  expect_fault(&options, GD_BAD_DATA, "a.json:2: found \"{\"text\": \"b\"}]\", expected a comma or ]");
  put_text("a.json", "[{\"text\": \"a\"},\n\n");
  expect_fault(&options, GD_BAD_DATA, "a.json:3: the file ends inside its array, expected ]");
  put_text("a.json", "[{\"text\": \"a\"},\n{\"text\": \"b\"");
  expect_fault(&options, GD_BAD_DATA, "a.json:2: the object that begins here is never closed");
  put_text("a.json", "[\"a\"]");
  expect_fault(&options, GD_BAD_DATA, "a.json:1: found \"\"a\"]\", expected a JSON object");
  put_text("a.json", "[{\"text\": \"a\"}] x");
  expect_fault(&options, GD_BAD_DATA, "a.json:1: found \"x\", expected the end of the file behind its array");
  put_text("a.json", "[{\"text\": \"a\"},\n{\"body\": \"b\"}]");
  expect_fault(&options, GD_BAD_DATA, "a.json:2: no field \"text\" (there are \"body\")");
}

/* Every edge of a read falls, in one of the files, between a backslash or quote and what it escapes. A brace follows, which
 * would end the object if the quote before it ended the string. */
static void escapes_at_the_edge_of_a_read_are_seen(void **state) {
  (void)state;
  enum { UNITS = 700000 };
  static const struct {
    const char *name, *head, *unit, *wanted, *tail;
  } files[] = {{"a.csv", "text\n\"", "\"\"", "\"", "\"\nlast\n"},
               {"a.csv", "text,nn\n\"", "\"\"", "\"", "\",1\nlast,2\n"},
               {"a.json", "[{\"text\": \"", "\\\"}", "\"}", "\"}, {\"text\": \"last\"}]"},
               {"a.json", "[ {\"text\": \"", "\\\"}", "\"}", "\"}, {\"text\": \"last\"}]"},
               {"a.json", "[  {\"text\": \"", "\\\"}", "\"}", "\"}, {\"text\": \"last\"}]"}};
  const gd_corpus_options options = {0};
  for (size_t file = 0; file < sizeof files / sizeof *files; file++) {
    gd_bytes text = {0}, wanted = {0}, out = {0};
    ok(gd_bytes_printf(&text, "%s", files[file].head));
    for (int i = 0; i < UNITS; i++) ok(gd_bytes_append(&text, files[file].unit, strlen(files[file].unit)));
    ok(gd_bytes_printf(&text, "%s", files[file].tail));
    for (int i = 0; i < UNITS; i++) ok(gd_bytes_append(&wanted, files[file].wanted, strlen(files[file].wanted)));
    ok(gd_bytes_printf(&wanted, "\1last\1"));
    put(files[file].name, text.bytes, text.count);
    ok(read_range(&options, 0, -1, &out));
    assert_int_equal(out.count, wanted.count);
    assert_memory_equal(out.bytes, wanted.bytes, wanted.count);
    gd_bytes_free(&text);
    gd_bytes_free(&wanted);
    gd_bytes_free(&out);
  }
}

static void a_separator_of_ones_own_parts_documents(void **state) {
  (void)state;
  const gd_corpus_options options = {.cut = true, .separator = "==="};
  put_text("a.txt", "one\n===\ntwo\n<|endoftext|>\n====\n =\n===");
  expect(&options, "one\n\1two\n<|endoftext|>\n====\n =\n\1");
}

/* Lines of Chinese are cut before an ideograph; what may begin a separator still begins a line there. */
static void chinese_comes_in_parts(void **state) {
  (void)state;
  const gd_corpus_options options = {.cut = true, .separator = "\xe7\xab\xa0"};
  gd_bytes text = {0}, found = {0};
  for (int i = 0; i < 300000; i++)
    ok(gd_bytes_printf(&text, i % 3 == 0   ? "\xe7\xab\xa0\xe4\xb8\xad\xe3\x80\x82\n"
                              : i % 3 == 1 ? "\xe7\xab\xa0\xe3\x80\x80\n"
                                           : "\n\xe6\x96\x87\n"));
  ok(gd_bytes_printf(&text, "\xe7\xab\xa0\nx"));
  put("a.txt", text.bytes, text.count);
  gd_corpus *corpus;
  gd_corpus_part part;
  bool more = true;
  int parts = 0, documents = 0;
  ok(gd_corpus_open(path, &options, 0, -1, &corpus));
  for (;; parts++) {
    ok(gd_corpus_next(corpus, &part, &more));
    if (!more) break;
    ok(gd_bytes_append(&found, part.bytes, part.count));
    documents += part.ends_document;
    if (!part.ends_document) assert_true(part.bytes[part.count - 1] == '\n' && (uint8_t)part.bytes[part.count - 2] != 0x80);
  }
  gd_corpus_close(corpus);
  assert_int_equal(documents, 2);
  assert_in_range(parts, 4, 20);
  assert_int_equal(found.count, text.count - 4);
  assert_memory_equal(found.bytes, text.bytes, text.count - 5);
  gd_bytes_free(&text);
  gd_bytes_free(&found);
}

/* Behind an empty line or one that ends in a space, an ideograph begins no part: the white space before it would be split
 * otherwise. */
static void white_space_that_runs_on_is_not_cut(void **state) {
  (void)state;
  static const char *const lines[] = {"\xe6\x96\x87\xe3\x80\x80\n", "\xe6\x96\x87\n\n", "\xe6\x96\x87 \n",
                                      "\xe6\x96\x87\xc2\x85\n", "\xe6\x96\x87\xe2\x80\xa8\n"};
  const gd_corpus_options options = {.cut = true};
  for (size_t k = 0; k < sizeof lines / sizeof *lines; k++) {
    gd_bytes text = {0};
    gd_corpus *corpus;
    gd_corpus_part part;
    bool more;
    while (text.count < 3 << 20) ok(gd_bytes_append(&text, lines[k], strlen(lines[k])));
    put("a.txt", text.bytes, text.count);
    ok(gd_corpus_open(path, &options, 0, -1, &corpus));
    ok(gd_corpus_next(corpus, &part, &more));
    assert_int_equal(part.count, text.count);
    gd_corpus_close(corpus);
    gd_bytes_free(&text);
  }
}

static void a_separator_behind_a_cut_is_seen(void **state) {
  (void)state;
  enum { WINDOW = 1 << 20 }; /* it ends inside the separator, so the cut comes before that is seen */
  const gd_corpus_options options = {.cut = true, .separator = "\xe7\xab\xa0\xe8\x8a\x82"};
  gd_bytes text = {0}, out = {0};
  while (text.count < WINDOW - 4) ok(gd_bytes_append(&text, "\xe6\x96\x87", 3));
  assert_int_equal(text.count, WINDOW - 4);
  ok(gd_bytes_printf(&text, "\n%s\nend", options.separator));
  put("a.txt", text.bytes, text.count);
  ok(read_range(&options, 0, -1, &out));
  assert_int_equal(out.count, WINDOW - 3 + 1 + 4);
  assert_string_equal(out.bytes + WINDOW - 3, "\1end\1");
  gd_bytes_free(&text);
  gd_bytes_free(&out);
}

static void a_name_that_says_no_format_is_refused(void **state) {
  (void)state;
  gd_corpus_options options = {0};
  put_text("a.xyz", "text");
  expect_fault(&options, GD_USAGE, "a.xyz: the name does not say what is in it");
  gd_corpus_unit *units;
  int64_t count;
  const char *paths[] = {path};
  assert_int_equal(gd_corpus_plan(paths, 1, &options, &units, &count), GD_USAGE);
  options.format = GD_CORPUS_TEXT;
  expect(&options, "text\1");
}

static void expect_inputs(const char *const *words, int32_t count, gd_corpus_format format, const char *wanted) {
  gd_inputs inputs;
  gd_bytes found = {0};
  ok(gd_inputs_expand(words, count, format, &inputs));
  for (int32_t i = 0; i < inputs.count; i++) {
    bool below = strncmp(inputs.path[i], folder, strlen(folder)) == 0;
    ok(gd_bytes_printf(&found, "%s ", inputs.path[i] + (below ? strlen(folder) : 0)));
  }
  ok(gd_bytes_printf(&found, "skipped %d", inputs.skipped));
  assert_string_equal(found.bytes, wanted);
  gd_inputs_free(&inputs);
  gd_bytes_free(&found);
}

static void folders_and_patterns_are_inputs(void **state) {
  (void)state;
  static const char *const names[] = {"b.txt",     "a.txt",           "sub/deep/c.jsonl.gz",
                                      "sub/d.csv", "sub/picture.png", "sub/.hidden.txt"};
  char below[128], pattern[160], nothing[160];
  snprintf(below, sizeof below, "%s/tree", folder);
  snprintf(path, sizeof path, "%s/sub/deep", below);
  ok(gd_folder_make(path));
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char name[64];
    snprintf(name, sizeof name, "tree/%s", names[i]);
    put_text(name, "x");
  }
  snprintf(pattern, sizeof pattern, "%s/[ab].t*", below);
  snprintf(nothing, sizeof nothing, "%s/*.json", below);
  const char *const words[] = {"-", below, pattern}, *const twice[] = {"-", "x", "-"}, *const none[] = {nothing};
  expect_inputs(words, 2, GD_CORPUS_AUTO, "- /tree/a.txt /tree/b.txt /tree/sub/d.csv /tree/sub/deep/c.jsonl.gz skipped 1");
  expect_inputs(words + 1, 1, GD_CORPUS_TEXT,
                "/tree/a.txt /tree/b.txt /tree/sub/d.csv /tree/sub/deep/c.jsonl.gz /tree/sub/picture.png skipped 0");
  expect_inputs(words + 2, 1, GD_CORPUS_AUTO, "/tree/a.txt /tree/b.txt skipped 0");
  gd_inputs inputs;
  assert_int_equal(gd_inputs_expand(twice, 3, GD_CORPUS_AUTO, &inputs), GD_USAGE);
  gd_inputs_free(&inputs);
  assert_int_equal(gd_inputs_expand(none, 1, GD_CORPUS_AUTO, &inputs), GD_USAGE);
  gd_inputs_free(&inputs);
}

static void csv_rows_may_hold_commas_quotes_and_line_ends(void **state) {
  (void)state;
  gd_corpus_options options = {.drop_empty = true};
  put_text("a.csv", "label,text\r\n1,plain\r\n2,\"a, \"\"b\"\"\r\nc\"\r\n\r\n3,\r\n4,last");
  expect(&options,
         "plain\1"
         "a, \"b\"\r\nc\1"
         "last\1");
  options.drop_empty = false;
  expect_fault(&options, GD_BAD_DATA, "a.csv:6: column \"text\" is empty");
  put_text("a.csv", "label,body\n1,x\n");
  expect_fault(&options, GD_BAD_DATA, "a.csv:1: no column \"text\" in the header \"label,body\"");
  put_text("a.csv", "label,text\n1,x\n2\n");
  expect_fault(&options, GD_BAD_DATA, "a.csv:3: the row has 1 fields, expected at least 2");
  put_text("a.csv", "label,text\n1,x\n2,\"never\nclosed\n");
  expect_fault(&options, GD_BAD_DATA, "a.csv:3: the quote that opens here is never closed");
  options.text_column = 2;
  put_text("a.tsv", "ham\tsay \"hi\"\nspam\tbuy\n");
  expect(&options,
         "say \"hi\"\1"
         "buy\1");
  options = (gd_corpus_options){0};
  gd_bytes out = {0};
  put("a.csv", "text\n\0a\n \t\r\nb\n", 14);
  ok(read_range(&options, 0, -1, &out));
  assert_int_equal(out.count, 5);
  assert_memory_equal(out.bytes, "\0a\1b\1", 5); /* a row that begins with a zero byte is not blank */
  gd_bytes_free(&out);
}

/* The records of a file, as "LINE|value|value|;". */
static gd_status read_records(const gd_corpus_options *options, gd_bytes *out, int64_t *dropped) {
  gd_corpus *corpus;
  gd_corpus_record record;
  bool more = true;
  GD_TRY(gd_corpus_open(path, options, 0, -1, &corpus));
  gd_status status;
  while ((status = gd_corpus_next_record(corpus, &record, &more)) == GD_OK && more) {
    ok(gd_bytes_printf(out, "%d|", (int)record.line));
    for (int32_t k = 0; k < options->column_count; k++) {
      ok(gd_bytes_append(out, record.values[k].bytes, record.values[k].count));
      ok(gd_bytes_append(out, "|", 1));
    }
    ok(gd_bytes_append(out, ";", 1));
  }
  if (dropped) *dropped = gd_corpus_dropped(corpus);
  gd_corpus_close(corpus);
  return status;
}

static void expect_records(const gd_corpus_options *options, const char *wanted, int64_t wanted_dropped) {
  gd_bytes out = {0};
  int64_t dropped;
  ok(read_records(options, &out, &dropped));
  assert_string_equal(out.bytes, wanted);
  assert_int_equal(dropped, wanted_dropped);
  gd_bytes_free(&out);
}

static void expect_record_fault(const gd_corpus_options *options, gd_status code, const char *text) {
  gd_bytes out = {0};
  gd_status status = read_records(options, &out, NULL);
  gd_bytes_free(&out);
  if (status != code || !strstr(gd_error_text(), text))
    fail_msg("status %d, text \"%s\", expected \"%s\"", (int)status, gd_error_text(), text);
}

static void records_have_the_columns_that_are_asked_for(void **state) {
  (void)state;
  const gd_corpus_column named[] = {{.name = "text"}, {.name = "label", .kind = GD_COLUMN_SCALAR}};
  const gd_corpus_column numbered[] = {{.number = 3}, {.number = 1}};
  const gd_corpus_options by_name = {.columns = named, .column_count = 2}, by_number = {.columns = numbered, .column_count = 2};
  put_text("a.csv", "label,id,text\r\nspam,1,\"buy, \"\"now\"\"\r\ntwice\"\r\n\r\nham,2,hi\r\n");
  expect_records(&by_name, "2|buy, \"now\"\r\ntwice|spam|;5|hi|ham|;", 0);
  put_text("a.tsv", "spam\t1\tsay \"x\"\nham\t2\thi");
  expect_records(&by_number, "1|say \"x\"|spam|;2|hi|ham|;", 0);
  put_text("a.jsonl",
           "{\"text\": \"a\", \"label\": 1}\n\n{\"label\": true, \"text\": \"b\"}\n{\"text\": \"c\", \"label\": \"x\"}\n");
  expect_records(&by_name, "1|a|1|;3|b|true|;4|c|x|;", 0);
  put_text("a.json", "[{\"text\": \"a\",\n \"label\": 0.5},\n {\"text\": \"b\", \"label\": \"\\u00e9\"}]");
  expect_records(&by_name, "1|a|0.5|;3|b|\xc3\xa9|;", 0);
  const gd_corpus_column turns[] = {{.name = "messages", .kind = GD_COLUMN_JSON},
                                    {.name = "system", .optional = true, .empty_ok = true}};
  const gd_corpus_options json = {.columns = turns, .column_count = 2};
  put_text("a.jsonl", "{\"messages\": [ {\"role\": \"user\\u0000\"} ]}\n{\"messages\": [], \"system\": null}\n");
  expect_records(&json, "1|[{\"role\":\"user\\u0000\"}]||;2|[]||;", 0);
}

static void a_record_without_its_columns_is_named_with_those_there(void **state) {
  (void)state;
  const gd_corpus_column columns[] = {{.name = "text"}, {.name = "label"}}, numbers[] = {{.number = 1}, {.number = 3}};
  const gd_corpus_column mixed[] = {{.name = "text"}, {.number = 1}};
  gd_corpus_options options = {.columns = columns, .column_count = 2}, by_number = {.columns = numbers, .column_count = 2};
  put_text("a.csv", "class,text\n1,a\n");
  expect_record_fault(&options, GD_BAD_DATA, "a.csv:1: no column \"label\" in the header \"class,text\", see --columns");
  put_text("a.csv", "label,text,label\n1,a,2\n");
  expect_record_fault(&options, GD_BAD_DATA, "a.csv:1: the column \"label\" stands twice in the header \"label,text,label\"");
  put_text("a.csv", "label,text\n1,a\n2,b,c\n");
  expect_record_fault(&options, GD_BAD_DATA, "a.csv:3: the row has 3 fields, expected 2 as in the first one");
  put_text("a.tsv", "1\t2\nx\ty\n");
  expect_record_fault(&by_number, GD_BAD_DATA, "a.tsv:1: the row has 2 fields, expected at least 3");
  put_text("a.jsonl", "{\"text\": \"a\", \"class\": \"b\"}\n");
  expect_record_fault(&options, GD_BAD_DATA, "a.jsonl:1: no field \"label\" (there are \"text\", \"class\"), see --columns");
  put_text("a.jsonl", "\n{\"text\": \"a\", \"label\": \"b\", \"text\": \"c\"}\n");
  expect_record_fault(&options, GD_BAD_DATA, "a.jsonl:2: the field \"text\" stands there twice");
  put_text("a.jsonl", "{\"text\": \"a\", \"label\": 1}\n");
  expect_record_fault(&options, GD_BAD_DATA, "a.jsonl:1: the field \"label\" is no text");
  expect_record_fault(&by_number, GD_USAGE, "a.jsonl: columns by number are those of csv and tsv");
  put_text("a.csv", "label,text\n1,a\n2, \n3,b\n");
  expect_record_fault(&options, GD_BAD_DATA, "a.csv:3: column \"text\" is empty; --empty drop");
  options.drop_empty = true;
  expect_records(&options, "2|a|1|;4|b|3|;", 1);
  put_text("a.tsv", "a\tb\tc\n");
  options.columns = mixed;
  expect_record_fault(&options, GD_USAGE, "a.tsv: some columns are named and some numbered");
  put_text("a.txt", "x\n");
  options.columns = columns;
  expect_record_fault(&options, GD_USAGE, "a.txt: plain text has no columns");
}

static void halves_of_a_character_in_two_columns_are_no_character(void **state) {
  (void)state;
  const gd_corpus_column columns[] = {{.number = 1}, {.number = 2}};
  gd_corpus_options options = {.columns = columns, .column_count = 2};
  put_text("a.tsv", "x\ty\na\xc3\t\xa9z\n");
  expect_record_fault(&options, GD_BAD_DATA, "a.tsv:2: found the byte 0xc3, expected UTF-8");
  options.replace_invalid = true;
  expect_records(&options, "1|x|y|;2|a\xef\xbf\xbd|\xef\xbf\xbdz|;", 0);
}

static int64_t count_documents(const char *name, const gd_corpus_options *options) {
  gd_bytes out = {0};
  snprintf(path, sizeof path, DATA "%s", name);
  ok(read_range(options, 0, -1, &out));
  int64_t documents = 0;
  for (size_t i = 0; i < out.count; i++) documents += out.bytes[i] == 1;
  gd_bytes_free(&out);
  return documents;
}

static void real_files_have_their_published_numbers_of_rows(void **state) {
  (void)state;
  if (access(DATA "labelled/banking77_train.csv", R_OK)) {
    puts("skipped: no ../shared/data");
    skip();
  }
  gd_corpus_options options = {.cut = true};
  assert_int_equal(count_documents("labelled/banking77_train.csv", &options), 10003);
  assert_int_equal(count_documents("labelled/banking77_test.csv", &options), 3080);
  assert_int_equal(count_documents("eval/lambada_test.jsonl", &options), 5153);
  assert_int_equal(count_documents("text/english_novels.txt.zst", &options), 46);
  options.text_column = 2;
  assert_int_equal(count_documents("labelled/sms_spam.tsv", &options), 5574);
  options.text_field = "question";
  assert_int_equal(count_documents("instruct/gsm8k_train.jsonl.gz", &options), 7473);
}

static void invalid_utf8_is_named_with_its_line_or_replaced(void **state) {
  (void)state;
  gd_corpus_options options = {.cut = true};
  put_text("a.txt", "fine\nalso \xc3\xa9\nbad \xff\xfe here\n");
  expect_fault(&options, GD_BAD_DATA, "a.txt:3: found the byte 0xff, expected UTF-8");
  put_text("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xc3\"}\n");
  expect_fault(&options, GD_BAD_DATA, "a.jsonl:2: found the byte 0xc3");
  put_text("a.csv", "text\nx\n\"y\n\xe4\"\n");
  expect_fault(&options, GD_BAD_DATA, "a.csv:3: found the byte 0xe4");
  options.replace_invalid = true;
  expect(&options, "x\1y\n\xef\xbf\xbd\1");
  put_text("a.txt", "bad \xff here\n");
  expect(&options, "bad \xef\xbf\xbd here\n\1");
}

/* The ranges of a file, read one by one, give what the whole gives: for any length of the ranges. */
static void ranges_of_a_file_give_the_whole(void **state) {
  (void)state;
  gd_bytes text = {0}, whole = {0}, parts = {0};
  gd_rng rng = gd_rng_make(3, GD_RNG_DATA, 0, 0, 0);
  for (int jsonl = 0; jsonl < 2; jsonl++) {
    text.count = whole.count = 0;
    for (uint64_t i = 0; i < 3000; i++) {
      static const char *const pieces[] = {"word",         " ", "\n", "9", "\xc3\xa9", ".", " more text", "\n<|endoftext|>\n",
                                           "<|endoftext|>"};
      uint32_t pick = gd_rng_word(&rng, i) % 9;
      ok(jsonl ? gd_bytes_printf(&text, "{\"text\": \"%u\"}%s", pick, pick ? "\n" : "\n\n")
               : gd_bytes_append(&text, pieces[pick], strlen(pieces[pick])));
    }
    put(jsonl ? "a.jsonl" : "a.txt", text.bytes, text.count);
    gd_corpus_options options = {.cut = true};
    ok(read_range(&options, 0, -1, &whole));
    static const int64_t lengths[] = {1, 2, 7, 64, 1000, 4096, 1 << 20};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
      gd_corpus_unit *units;
      int64_t count;
      const char *paths[] = {path};
      options.unit_bytes = k == 0 ? 11 : lengths[k];
      ok(gd_corpus_plan(paths, 1, &options, &units, &count));
      parts.count = 0;
      for (int64_t u = 0; u < count; u++) ok(read_range(&options, units[u].begin, units[u].end, &parts));
      assert_int_equal(parts.count, whole.count);
      assert_memory_equal(parts.bytes, whole.bytes, whole.count);
      free(units);
    }
  }
  gd_bytes_free(&text);
  gd_bytes_free(&whole);
  gd_bytes_free(&parts);
}

/* A fault in a later range still names the line of the file. */
static void a_fault_in_a_range_names_the_line_of_the_file(void **state) {
  (void)state;
  gd_bytes text = {0}, out = {0};
  for (int i = 1; i < 500; i++) ok(gd_bytes_printf(&text, "line %d\n", i));
  ok(gd_bytes_append(&text, "\xff\n", 2));
  put("a.txt", text.bytes, text.count);
  const gd_corpus_options options = {.cut = true};
  assert_int_equal(read_range(&options, 3000, -1, &out), GD_BAD_DATA);
  if (!strstr(gd_error_text(), "a.txt:500: found the byte 0xff")) fail_msg("%s", gd_error_text());
  gd_bytes_free(&text);
  gd_bytes_free(&out);
}

static void shell(const char *format, const char *a) {
  char command[900];
  snprintf(command, sizeof command, format, folder, a);
  if (system(command) != 0) skip(); /* no gzip or zstd program here */
}

static void packed_files_read_like_plain_ones_and_damage_is_named(void **state) {
  (void)state;
  gd_bytes text = {0}, wanted = {0}, found = {0};
  const gd_corpus_options options = {.cut = true};
  gd_rng rng = gd_rng_make(5, GD_RNG_DATA, 0, 0, 0);
  for (uint64_t i = 0; i < 60000; i++) ok(gd_bytes_printf(&text, "%u ", gd_rng_word(&rng, i)));
  put("a.txt", text.bytes, text.count);
  ok(read_range(&options, 0, -1, &wanted));
  shell(
      "cd %s && gzip -k a.txt && cp a.txt.gz two.txt.gz && cat a.txt.gz >> two.txt.gz && head -c 100000 a.txt.gz > "
      "cut.txt.gz%s",
      "");
  snprintf(path, sizeof path, "%s/a.txt.gz", folder);
  ok(read_range(&options, 0, -1, &found));
  assert_int_equal(found.count, wanted.count);
  assert_memory_equal(found.bytes, wanted.bytes, wanted.count);
  found.count = 0;
  snprintf(path, sizeof path, "%s/two.txt.gz", folder);
  ok(read_range(&options, 0, -1, &found)); /* two members, one behind the other: one text */
  assert_int_equal(found.count, 2 * wanted.count - 1);
  snprintf(path, sizeof path, "%s/cut.txt.gz", folder);
  expect_fault(&options, GD_BAD_DATA, "cut.txt.gz: damaged gzip data near packed byte 100000: the file ends in the middle");
  shell("cd %s && printf 'XXXXXXXX' | dd of=a.txt.gz bs=1 seek=50000 conv=notrunc 2>/dev/null%s", "");
  snprintf(path, sizeof path, "%s/a.txt.gz", folder);
  expect_fault(&options, GD_BAD_DATA, "a.txt.gz: damaged gzip data");
  shell("cd %s && zstd -q a.txt && head -c 100000 a.txt.zst > cut.txt.zst%s", "");
  found.count = 0;
  snprintf(path, sizeof path, "%s/a.txt.zst", folder);
  ok(read_range(&options, 0, -1, &found));
  assert_int_equal(found.count, wanted.count);
  snprintf(path, sizeof path, "%s/cut.txt.zst", folder);
  expect_fault(&options, GD_BAD_DATA, "cut.txt.zst: damaged zstd data near packed byte 100000: the file ends in the middle");
  gd_bytes_free(&text);
  gd_bytes_free(&wanted);
  gd_bytes_free(&found);
}

static void missing_files_and_folders_are_named(void **state) {
  (void)state;
  const char *paths[] = {"/nowhere/x.txt"}, *folders[] = {folder};
  const gd_corpus_options options = {0};
  gd_corpus_unit *units;
  int64_t count;
  assert_int_equal(gd_corpus_plan(paths, 1, &options, &units, &count), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "/nowhere/x.txt: No such file"));
  assert_int_equal(gd_corpus_plan(folders, 1, &options, &units, &count), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "a folder, expected a corpus file"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(separator_lines_part_documents),
      cmocka_unit_test(json_lines_give_their_field),
      cmocka_unit_test(json_arrays_and_objects_give_their_field),
      cmocka_unit_test(escapes_at_the_edge_of_a_read_are_seen),
      cmocka_unit_test(a_separator_of_ones_own_parts_documents),
      cmocka_unit_test(chinese_comes_in_parts),
      cmocka_unit_test(white_space_that_runs_on_is_not_cut),
      cmocka_unit_test(a_separator_behind_a_cut_is_seen),
      cmocka_unit_test(a_name_that_says_no_format_is_refused),
      cmocka_unit_test(folders_and_patterns_are_inputs),
      cmocka_unit_test(csv_rows_may_hold_commas_quotes_and_line_ends),
      cmocka_unit_test(records_have_the_columns_that_are_asked_for),
      cmocka_unit_test(a_record_without_its_columns_is_named_with_those_there),
      cmocka_unit_test(halves_of_a_character_in_two_columns_are_no_character),
      cmocka_unit_test(real_files_have_their_published_numbers_of_rows),
      cmocka_unit_test(invalid_utf8_is_named_with_its_line_or_replaced),
      cmocka_unit_test(ranges_of_a_file_give_the_whole),
      cmocka_unit_test(a_fault_in_a_range_names_the_line_of_the_file),
      cmocka_unit_test(packed_files_read_like_plain_ones_and_damage_is_named),
      cmocka_unit_test(missing_files_and_folders_are_named),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
