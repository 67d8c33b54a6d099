// One header at a time, 512 bytes; extension headers ('x', 'g', 'L') change the name or size of the next member.
#include "data/tar.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/text.h"

enum { BLOCK = 512, MAX_EXTENSION = 1 << 20 };  // a longer name or pax header is damage or malice

typedef struct {
    const LvTarInput *input;
    uint64_t at;
    LvText long_name;   // from 'L' or pax, for the next member
    bool has_name, has_size;
    uint64_t size;
} Reader;

// Octal with spaces and zeros around, or base 256 when the first bit is set. False when neither, or over 63 bits.
static bool parse_number(const uint8_t *field, size_t length, uint64_t *value) {
    uint64_t v = 0;
    size_t i = 0;
    if (field[0] & 0x80) {
        if (field[0] != 0x80) return false;  // negative, or beyond what a file can be
        for (i = 1; i < length; i++) {
            if (v >> 55) return false;
            v = v << 8 | field[i];
        }
        return *value = v, true;
    }
    while (i < length && field[i] == ' ') i++;
    for (; i < length && field[i] >= '0' && field[i] <= '7'; i++) {
        if (v >> 60) return false;
        v = v << 3 | (uint64_t)(field[i] - '0');
    }
    if (i < length && field[i] != 0 && field[i] != ' ') return false;
    return *value = v, true;
}

// The sum of all bytes, the checksum's own taken as spaces; some old writers summed signed bytes.
static bool checksum_good(const uint8_t *header) {
    uint64_t want;
    int64_t plain = 0, with_sign = 0;
    for (int i = 0; i < BLOCK; i++) {
        uint8_t byte = i >= 148 && i < 156 ? ' ' : header[i];
        plain += byte, with_sign += (int8_t)byte;
    }
    return parse_number(header + 148, 8, &want) && ((int64_t)want == plain || (int64_t)want == with_sign);
}

static bool all_zero(const uint8_t *block) {
    for (int i = 0; i < BLOCK; i++) {
        if (block[i]) return false;
    }
    return true;
}

static bool damaged(const Reader *reader, const char *what, LvError *error) {
    return lv_error_set(error, LV_ERROR_FORMAT, "tar: %s at byte %llu", what, (unsigned long long)reader->at);
}

// "27 path=some/long/name.png\n", again and again. A record that lies about its length is damage.
static bool parse_pax(Reader *reader, const char *text, size_t length, LvError *error) {
    while (length) {
        char *end;
        size_t size = strtoul(text, &end, 10), head = (size_t)(end - text) + 1;
        if (end == text || *end != ' ' || size <= head || size > length || text[size - 1] != '\n') {
            return damaged(reader, "damaged pax header", error);
        }
        const char *key = text + head, *equals = memchr(key, '=', size - head);
        if (!equals) return damaged(reader, "damaged pax header", error);
        const char *value = equals + 1;
        size_t key_length = (size_t)(equals - key), value_length = (size_t)(text + size - 1 - value);
        if (key_length == 4 && !memcmp(key, "path", 4)) {
            lv_text_free(&reader->long_name);
            lv_text_append(&reader->long_name, value, value_length);
            reader->has_name = true;
        } else if (key_length == 4 && !memcmp(key, "size", 4)) {
            char *stop;
            reader->size = strtoull(value, &stop, 10);
            if (stop != value + value_length || *value == '-' || reader->size >> 62) return damaged(reader, "damaged pax size", error);
            reader->has_size = true;
        }
        text += size, length -= size;
    }
    return true;
}

static bool read_extension(Reader *reader, char type, uint64_t size, LvError *error) {
    if (size > MAX_EXTENSION) return damaged(reader, "absurdly long extension header", error);
    char *text = lv_calloc((size_t)size + 1, 1);
    bool good = reader->input->read(reader->input->context, reader->at, text, (size_t)size);
    if (!good) damaged(reader, "ends too early", error);
    else if (type == 'L') {
        lv_text_free(&reader->long_name);
        lv_text_puts(&reader->long_name, text);
        reader->has_name = true;
    } else if (type == 'x') good = parse_pax(reader, text, (size_t)size, error);
    free(text);
    return good;
}

// ustar: prefix / name; older formats have the name alone.
static void header_name(const uint8_t *header, char out[260]) {
    size_t prefix = !memcmp(header + 257, "ustar", 6) ? strnlen((const char *)header + 345, 155) : 0, name = strnlen((const char *)header, 100);
    memcpy(out, header + 345, prefix);
    if (prefix) out[prefix++] = '/';
    memcpy(out + prefix, header, name);
    out[prefix + name] = 0;
}

static bool read_member(Reader *reader, const uint8_t *header, bool (*visit)(void *, const LvTarMember *), void *user, bool *more,
                        LvError *error) {
    uint64_t size, left = reader->input->length - reader->at;
    char type = (char)header[156];
    if (!parse_number(header + 124, 12, &size)) return damaged(reader, "damaged size", error);
    bool extension = type == 'x' || type == 'g' || type == 'L' || type == 'K';
    if (!extension && reader->has_size) size = reader->size;
    if (size > left) return damaged(reader, "ends too early: a member is cut off", error);
    if (extension) {
        if ((type == 'x' || type == 'L') && !read_extension(reader, type, size, error)) return false;
    } else {
        char name[260];
        header_name(header, name);
        const char *full = reader->has_name ? lv_text_get(&reader->long_name) : name;
        LvTarMember member = {full, reader->at, size};
        size_t length = strlen(full);
        if ((type == '0' || type == 0 || type == '7') && length && full[length - 1] != '/') *more = visit(user, &member);
        reader->has_name = reader->has_size = false;
    }
    reader->at += size;
    uint64_t padding = (BLOCK - size % BLOCK) % BLOCK, rest = left - size;
    reader->at += padding < rest ? padding : rest;
    return true;
}

bool lv_tar_list(const LvTarInput *input, bool (*visit)(void *, const LvTarMember *), void *user, LvError *error) {
    Reader reader = {.input = input};
    uint8_t header[BLOCK];
    bool good = true, more = true;
    while (good && more && reader.at < input->length) {
        if (input->length - reader.at < BLOCK) {
            good = damaged(&reader, "ends too early", error);
        } else if (!input->read(input->context, reader.at, header, BLOCK)) {
            good = damaged(&reader, "cannot be read", error);
        } else if (all_zero(header)) {
            break;  // the end mark
        } else if (!checksum_good(header)) {
            good = damaged(&reader, reader.at ? "damaged header" : "is no tar file: damaged header", error);
        } else {
            reader.at += BLOCK;
            good = read_member(&reader, header, visit, user, &more, error);
        }
    }
    lv_text_free(&reader.long_name);
    return good;
}

static bool read_memory(void *context, uint64_t offset, void *out, size_t size) {
    memcpy(out, *(const uint8_t *const *)context + offset, size);
    return true;
}

LvTarInput lv_tar_memory(const void *bytes, size_t length, const void **holder) {
    *holder = bytes;
    return (LvTarInput){holder, length, read_memory};
}
