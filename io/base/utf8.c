/* utf8.c - UTF-8: what is valid, how long a character is, and back. */
#include "io/base/utf8.h"

#include <string.h>

size_t gd_utf8_length(const char *text, size_t count, uint32_t *code_point) {
  if (!count) return 0;
  const unsigned char *byte = (const unsigned char *)text;
  uint32_t value = byte[0];
  size_t length = value < 0x80 ? 1 : (value & 0xe0) == 0xc0 ? 2 : (value & 0xf0) == 0xe0 ? 3 : (value & 0xf8) == 0xf0 ? 4 : 0;
  if (!length || length > count) return 0;
  static const uint32_t lead_mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07}, smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  value &= lead_mask[length];
  for (size_t i = 1; i < length; i++) {
    if ((byte[i] & 0xc0) != 0x80) return 0;
    value = value << 6 | (byte[i] & 0x3f);
  }
  if (value < smallest[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return 0;
  if (code_point) *code_point = value;
  return length;
}

size_t gd_utf8_run(const char *text, size_t count, bool *valid) {
  *valid = gd_utf8_length(text, count, NULL) > 0;
  size_t at = 0;
  while (at < count) {
    if (*valid && count - at >= 8) {
      uint64_t eight;
      memcpy(&eight, text + at, 8);
      if (!(eight & 0x8080808080808080u)) {
        at += 8;
        continue;
      }
    }
    size_t length = gd_utf8_length(text + at, count - at, NULL);
    if ((length > 0) != *valid) break;
    at += length ? length : 1;
  }
  return at;
}

gd_status gd_utf8_append(gd_bytes *out, uint32_t c) {
  char bytes[4];
  size_t count = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (size_t i = count - 1; i > 0; i--, c >>= 6) bytes[i] = (char)(0x80 | (c & 0x3f));
  bytes[0] = (char)(lead[count] | c);
  return gd_bytes_append(out, bytes, count);
}

const char *gd_utf8_fault(const char *text, size_t count) {
  bool valid = true;
  if (count && (gd_utf8_run(text, count, &valid) < count || !valid)) return "bytes that are no UTF-8";
  return count && memchr(text, 0, count) ? "a zero byte" : NULL;
}

size_t gd_utf8_unfinished(const char *text, size_t count) {
  for (size_t back = 1; back <= 3 && back <= count; back++) {
    unsigned char byte = (unsigned char)text[count - back];
    if ((byte & 0xc0) == 0x80) continue; /* belongs to what stands before */
    size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

bool gd_utf8_is_space(uint32_t code_point) {
  static const uint16_t others[] = {0x20, 0x85, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
  if ((code_point >= 9 && code_point <= 13) || (code_point >= 0x2000 && code_point <= 0x200a)) return true;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (others[i] == code_point) return true;
  return false;
}
