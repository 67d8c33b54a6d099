// UTF-8, and the letters that byte-level tokenizers write bytes as.
#ifndef LV_TEXT_UTF8_H
#define LV_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

// One code point of whole UTF-8; moves *at past it.
static inline uint32_t utf8_next(const char *text, size_t *at) {
    const unsigned char *p = (const unsigned char *)text + *at;
    if (p[0] < 0x80) return *at += 1, p[0];
    if (p[0] < 0xE0) return *at += 2, (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    if (p[0] < 0xF0) return *at += 3, (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    return *at += 4, (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}

static inline size_t utf8_size(char first) {  // of the character that starts with this byte
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

static inline bool utf8_is_start(char c) { return ((unsigned char)c & 0xC0) != 0x80; }

size_t utf8_put(uint32_t code, char out[4]);  // bytes written
void utf8_append(LvText *text, uint32_t code);
bool utf8_is_whole(const char *bytes, size_t length);
// Adds the bytes, each longest beginning of a character that goes wrong as one U+FFFD (the Unicode standard's "maximal
// subpart", which is also what Rust does).
void utf8_append_lossy(LvText *text, const char *bytes, size_t length);
bool utf8_is_space(uint32_t code);  // the property White_Space
bool utf8_is_word(uint32_t code);   // what \w is in Rust's regular expressions

// GPT-2's alphabet: printable bytes stand for themselves (as Latin-1), the others for U+0100 and up, in order.
uint32_t byte_letter(unsigned char byte);
int letter_byte(uint32_t letter);  // -1: no letter of that alphabet

#endif
