// Bump allocator in chunks that double up to 1 MiB; larger objects get a chunk of their own.
#include "base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CHUNK = 4096, LARGEST_CHUNK = 1 << 20, ALIGNMENT = 16 };

typedef struct Chunk {
    struct Chunk *next;
    size_t used, size;
    _Alignas(ALIGNMENT) char data[];
} Chunk;

struct LvArena {
    Chunk *chunk;
    size_t used, next_size;
};

static void out_of_memory(size_t size) {
    fprintf(stderr, "lverse: error: out of memory (%zu bytes asked)\n", size);
    exit(1);
}

void *lv_malloc(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (!memory) out_of_memory(size);
    return memory;
}

void *lv_calloc(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory) out_of_memory(size);
    return memory;
}

void *lv_realloc(void *old, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) out_of_memory(SIZE_MAX);
    void *memory = realloc(old, bytes ? bytes : 1);
    if (!memory) out_of_memory(bytes);
    return memory;
}

char *lv_strdup(const char *text) {
    size_t size = strlen(text) + 1;
    return memcpy(lv_malloc(size), text, size);
}

LvArena *lv_arena_create(void) {
    LvArena *arena = lv_calloc(1, sizeof *arena);
    arena->next_size = FIRST_CHUNK;
    return arena;
}

void lv_arena_destroy(LvArena *arena) {
    if (!arena) return;
    for (Chunk *chunk = arena->chunk, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(arena);
}

void *lv_arena_alloc(LvArena *arena, size_t size) {
    if (size > SIZE_MAX / 2) out_of_memory(size);
    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (!arena->chunk || arena->chunk->size - arena->chunk->used < size) {
        size_t room = size > arena->next_size ? size : arena->next_size;
        if (arena->next_size < LARGEST_CHUNK) arena->next_size *= 2;
        Chunk *chunk = lv_calloc(1, sizeof *chunk + room);
        chunk->size = room;
        chunk->next = arena->chunk;
        arena->chunk = chunk;
    }
    void *memory = arena->chunk->data + arena->chunk->used;
    arena->chunk->used += size;
    arena->used += size;
    return memory;
}

void *lv_arena_array(LvArena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) out_of_memory(SIZE_MAX);
    return lv_arena_alloc(arena, bytes);
}

char *lv_arena_copy(LvArena *arena, const char *text, size_t length) {
    char *copy = lv_arena_alloc(arena, length + 1);
    if (length) memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

char *lv_arena_strdup(LvArena *arena, const char *text) {
    return lv_arena_copy(arena, text, strlen(text));
}

char *lv_arena_vprintf(LvArena *arena, const char *format, va_list args) {
    char small[256];
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(small, sizeof small, format, args);
    char *text = lv_arena_alloc(arena, (size_t)length + 1);
    if ((size_t)length < sizeof small) memcpy(text, small, (size_t)length + 1);
    else vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

char *lv_arena_printf(LvArena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = lv_arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}

size_t lv_arena_used(const LvArena *arena) { return arena->used; }
