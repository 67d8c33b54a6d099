// CLIP's vocabulary as its authors published it: a head line, then a merge a line in order of rank. The tokens are the 256
// letters of the byte alphabet, the same with `</w>`, what each merge makes, and the two special ones; only as many merges
// count as CLIP's 49,408 tokens have room for.
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "text/internal.h"
#include "text/utf8.h"
#include "text/write.h"

enum { CLIP_MERGES = 49152 - 256 - 2 };

// Letters in the order of their bytes where the letter is the byte, the others after.
static void add_letters(WrittenTokenizer *clip, LvArena *arena, const char *suffix) {
    for (int others = 0; others < 2; others++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t letter = byte_letter((unsigned char)byte);
            char text[4];
            if ((letter != (uint32_t)byte) != others) continue;
            size_t size = utf8_put(letter, text);
            lv_vec_push(&clip->tokens, lv_arena_printf(arena, "%.*s%s", (int)size, text, suffix));
        }
    }
}

static bool bad_line(size_t line, const char *why, LvError *error) {
    return lv_error_set(error, LV_ERROR_FORMAT, "line %zu of CLIP's merges %s", line, why);
}

// `line`: "left right". `ids` maps a token to its id + 1.
static bool add_merge(WrittenTokenizer *clip, LvMap *ids, LvArena *arena, char *line, size_t number, LvError *error) {
    char *space = strchr(line, ' ');
    if (!space || space == line || !space[1] || strchr(space + 1, ' ')) return bad_line(number, "is not 'left right'", error);
    *space = 0;
    size_t left = (size_t)lv_map_get(ids, line), right = (size_t)lv_map_get(ids, space + 1);
    if (!left || !right) return bad_line(number, "merges what no line before it makes", error);
    const char *token = lv_arena_printf(arena, "%s%s", line, space + 1);
    if (lv_map_has(ids, token)) return bad_line(number, "makes a token that is there", error);
    lv_vec_push(&clip->tokens, token);
    lv_map_set(ids, token, (void *)clip->tokens.count);
    lv_vec_push(&clip->merges, (struct WrittenMerge){(int32_t)left - 1, (int32_t)right - 1});
    return true;
}

static bool add_merges(WrittenTokenizer *clip, LvMap *ids, LvArena *arena, char *text, LvError *error) {
    size_t number = 1;
    for (char *line = text, *next; line && clip->merges.count < CLIP_MERGES; line = next, number++) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        size_t length = strlen(line);
        if (length && line[length - 1] == '\r') line[--length] = 0;
        if (number == 1 || !length) continue;  // the head; the end
        if (!add_merge(clip, ids, arena, line, number, error)) return false;
    }
    return clip->merges.count > 0 || bad_line(2, "is not there", error);
}

bool clip_to_json(const char *text, size_t length, LvText *json, LvError *error) {
    WrittenTokenizer clip = {.clip = true, .lowercase = true};
    LvArena *arena = lv_arena_create();
    LvMap ids = {0};
    char *copy = lv_arena_copy(arena, text, length);
    bool good = strlen(copy) == length && utf8_is_whole(text, length);
    if (!good) lv_error_set(error, LV_ERROR_FORMAT, "CLIP's merges are not UTF-8 text");
    add_letters(&clip, arena, "");
    add_letters(&clip, arena, "</w>");
    for (size_t i = 0; i < clip.tokens.count; i++) lv_map_set(&ids, clip.tokens.data[i], (void *)(i + 1));
    good = good && add_merges(&clip, &ids, arena, copy, error);
    if (good) {
        clip.first_special = (int32_t)clip.tokens.count;
        lv_vec_push(&clip.tokens, "<|startoftext|>");
        lv_vec_push(&clip.tokens, "<|endoftext|>");
        write_tokenizer(&clip, json);
    }
    lv_vec_free(&clip.tokens);
    lv_vec_free(&clip.merges);
    lv_map_free(&ids);
    lv_arena_destroy(arena);
    return good;
}
