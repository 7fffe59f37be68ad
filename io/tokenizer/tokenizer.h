/* tokenizer.h - text to token ids and back. Any bytes go in; decode(encode(bytes)) == bytes for every kind but `chars` (which
 * refuses characters that its vocabulary lacks), `llama2c` (whose format puts a space before the text) and what an `hf` file
 * asks for (NFC, spaces that a token takes, unknown characters).
 *
 * SPEC is one of
 *   gpt2:DIR            byte-level BPE: encoder.json + vocab.bpe, or vocab.json + merges.txt (Radford et al. 2019)
 *   tiktoken:FILE       ranks in base64, plain or .gz, with the pattern and the special tokens of cl100k_base
 *   hf:tokenizer.json   a Hugging Face file whose model is BPE: byte-level with Split and Digits, or with byte_fallback. What
 * ends a turn is read from generation_config.json, config.json and tokenizer_config.json beside it llama2c:FILE SentencePiece
 * BPE as llama2.c stores it bytes               256 bytes and an end-of-text id chars:FILE          the characters listed in
 * the file DIR                 a folder written by gd_tokenizer_save (also DIR/tokenizer below it), or a gpt2 folder
 *
 * A folder written by gd_tokenizer_save says which bytes belong in it: the digest is compared before a file is parsed, and the
 * description must be what gd_tokenizer_save would write for these files.
 */
#ifndef GD_IO_TOKENIZER_TOKENIZER_H
#define GD_IO_TOKENIZER_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "io/base/files.h"
#include "io/base/sha256.h"
#include "shard/base/status.h"

typedef struct gd_tokenizer gd_tokenizer;

/* A growable run of ids; all zeros is empty. */
typedef struct gd_ids {
  int32_t *ids;
  size_t count, capacity;
} gd_ids;

GD_CHECKED gd_status gd_ids_append(gd_ids *buffer, const int32_t *ids, size_t count);
void gd_ids_free(gd_ids *buffer);

/* Local. GD_USAGE for an unknown SPEC or a missing file, GD_BAD_DATA for files that are not what the SPEC says. */
GD_CHECKED gd_status gd_tokenizer_open(const char *spec, gd_tokenizer **out);

/* Whether `folder` holds the tokenizer whose digest is given, whole: GD_BAD_DATA naming the file or folder that is not so;
 * GD_IO. Local. */
GD_CHECKED gd_status gd_tokenizer_check(const char *folder, const char *digest);

/* The `chars` tokenizer over the characters of `text` (count bytes of UTF-8), ids in code point order. */
GD_CHECKED gd_status gd_tokenizer_from_characters(const char *text, size_t count, gd_tokenizer **out);

/* A special token behind the last id; *known: it is one already, and nothing is done. The digest is another then, and a saved
 * folder keeps it. GD_USAGE: an ordinary token, or no text for one. */
GD_CHECKED gd_status gd_tokenizer_add(gd_tokenizer *tokenizer, const char *text, bool *known);

/* Whether `longer` is `base`, to the last byte of its files, with the same or more tokens behind them, or a tokenizer.json that
 * differs in nothing but more added tokens: ids of `base` mean the same to both. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_tokenizer_extends(const gd_tokenizer *longer, const gd_tokenizer *base, bool *out);

/* Whether each id of `inner` is the same text in `outer`, or none in both, whatever their files: they may be two formats of one
 * tokenizer. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_tokenizer_within(const gd_tokenizer *inner, const gd_tokenizer *outer, bool *out);

void gd_tokenizer_close(gd_tokenizer *tokenizer);

const char *gd_tokenizer_name(const gd_tokenizer *tokenizer);   /* "gpt2", "tiktoken", "hf", "llama2c", "bytes", "chars" */
int32_t gd_tokenizer_vocabulary(const gd_tokenizer *tokenizer); /* ids are below this */
int32_t gd_tokenizer_eot(const gd_tokenizer *tokenizer);        /* ends a document; -1: none */
int32_t gd_tokenizer_bos(const gd_tokenizer *tokenizer);        /* begins a text where the model expects it; -1: none */
/* Whether an id ends a text or a turn (eot does); and the ids that do, from index 0 on, -1 behind the last. */
bool gd_tokenizer_ends(const gd_tokenizer *tokenizer, int32_t id);
int32_t gd_tokenizer_end(const gd_tokenizer *tokenizer, int32_t index);
const char *gd_tokenizer_digest(const gd_tokenizer *tokenizer); /* SHA-256 of kind, files and added tokens, hexadecimal */

/* Whether text may be cut where gd_corpus cuts it (between a letter or digit and a space or newline, before an ideograph that
 * begins a line) without changing its ids. */
bool gd_tokenizer_cuts(const gd_tokenizer *tokenizer);

/* Appends the ids of bytes[count] to `out`. allow_special: special tokens written in the text become their ids; without it they
 * are ordinary text. Safe from several threads at once. GD_BAD_DATA where a character or byte has no id. */
GD_CHECKED gd_status gd_tokenizer_encode(gd_tokenizer *tokenizer, const char *bytes, size_t count, bool allow_special,
                                         gd_ids *out);

/* The special token that comes first in bytes[count], the longest of those at the same place: its id, *at and *length in bytes;
 * -1: none is there. */
int32_t gd_tokenizer_find_special(const gd_tokenizer *tokenizer, const char *bytes, size_t count, size_t *at, size_t *length);

/* The text of a special token, NULL: the id is none. Lives as long as the tokenizer. */
const char *gd_tokenizer_special_text(const gd_tokenizer *tokenizer, int32_t id);

/* Appends the bytes of ids[count]. Concatenating pieces decoded one by one gives the whole, but for `llama2c`, where the id
 * after bos loses its leading space: there ids[0] sees `previous` (-1: none). GD_BAD_DATA naming an id beyond the vocabulary.
 */
GD_CHECKED gd_status gd_tokenizer_decode(const gd_tokenizer *tokenizer, int32_t previous, const int32_t *ids, size_t count,
                                         gd_bytes *out);

/* Whether an id has a text (which may be empty, as that of a mark is): gd_tokenizer_decode takes it. */
bool gd_tokenizer_has(const gd_tokenizer *tokenizer, int32_t id);

/* Writes gptdist-tokenizer.json (docs/formats.md) and the tokenizer's own files into the folder, which is made. */
GD_CHECKED gd_status gd_tokenizer_save(const gd_tokenizer *tokenizer, const char *folder);

/* ---- Hugging Face's files (export.c) ---- */

/* Whether a tokenizer.json can say it: every kind but `chars` and `llama2c`. */
bool gd_tokenizer_exports(const gd_tokenizer *tokenizer);
/* tokenizer.json alone, at `path`; and with tokenizer_config.json in a folder that is there, `longest` being the tokens of the
 * longest text and chat_template a text of Jinja (NULL: none). Their ids are ours. GD_IO. */
GD_CHECKED gd_status gd_tokenizer_export_json(const gd_tokenizer *tokenizer, const char *path);
GD_CHECKED gd_status gd_tokenizer_export(const gd_tokenizer *tokenizer, const char *folder, int32_t longest,
                                         const char *chat_template);

#endif
