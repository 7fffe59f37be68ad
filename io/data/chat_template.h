/* chat_template.h - templates as Hugging Face's `chat_template`, which is a program of Jinja: ours written as one, and one that
 * says the same as one of ours known by its text. Nothing is rendered here. All local. */
#ifndef GD_IO_DATA_CHAT_TEMPLATE_H
#define GD_IO_DATA_CHAT_TEMPLATE_H

#include "io/data/template.h"
#include "shard/spec.h"

/* Appends the table as Jinja. bos: text of the token that begins a text, NULL: none. transformers makes of it and its
 * tokenizer the ids that gd_template_encode makes, but where a response and what stands before it are cut otherwise as one
 * text, and where a turn says the text of a special token. */
GD_CHECKED gd_status gd_chat_template_write(const gd_template *layout, const char *bos, gd_bytes *out);

/* The name of the one of ours that the text says, however it is spaced, quoted and put together; NULL: of none. Local. */
GD_CHECKED gd_status gd_chat_template_name(const char *text, size_t count, const char **out);

/* The chat_template of a model folder, appended: chat_template.jinja, else that of tokenizer_config.json (of several the one
 * called "default"). where: the file it stands in, "" where there is none. GD_IO, GD_BAD_DATA. */
GD_CHECKED gd_status gd_chat_template_read(const char *folder, char where[GD_PATH_BYTES], gd_bytes *out);

/* The template of a model folder: *out all zeros where it has none, or one that is none of ours (then `where` says where that
 * stands, and stranger has its text). gd_template_free and gd_bytes_free in any case. */
GD_CHECKED gd_status gd_chat_template_find(const char *folder, char where[GD_PATH_BYTES], gd_bytes *stranger, gd_template *out);

/* GD_USAGE: a chat_template that is none of ours, and that one must be chosen; more: what else --template takes, "" for
 * nothing. */
GD_CHECKED gd_status gd_chat_template_refuse(const char *where, const gd_bytes *stranger, const char *more);

/* A text of Jinja in one form for all that say the same in other words: no comments, one spacing, one kind of quotes, `a.b` as
 * a["b"], what is printed in as few pieces as it can be (jinja.c). Appended. */
GD_CHECKED gd_status gd_jinja_normal(const char *text, size_t count, gd_bytes *out);

#endif
