// Bump allocator: many small objects that live and die together. Nothing is freed singly.
// Running out of memory is not an error to recover from here: the arena prints one line and exits with 1.
#ifndef LV_BASE_ARENA_H
#define LV_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

typedef struct LvArena LvArena;

LvArena *lv_arena_create(void);
void lv_arena_destroy(LvArena *arena);
void *lv_arena_alloc(LvArena *arena, size_t size);                 // zeroed, 16-byte aligned
void *lv_arena_array(LvArena *arena, size_t count, size_t size);   // count * size, overflow checked
char *lv_arena_copy(LvArena *arena, const char *text, size_t length);  // adds the closing zero
char *lv_arena_strdup(LvArena *arena, const char *text);
char *lv_arena_printf(LvArena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *lv_arena_vprintf(LvArena *arena, const char *format, va_list args);
size_t lv_arena_used(const LvArena *arena);

#define LV_NEW(arena, Type) ((Type *)lv_arena_alloc((arena), sizeof(Type)))
#define LV_NEW_ARRAY(arena, Type, count) ((Type *)lv_arena_array((arena), (size_t)(count), sizeof(Type)))

// malloc family that never returns NULL (one line, exit 1), for containers that outlive any arena.
void *lv_malloc(size_t size);
void *lv_calloc(size_t count, size_t size);
void *lv_realloc(void *old, size_t count, size_t size);
char *lv_strdup(const char *text);

#endif
