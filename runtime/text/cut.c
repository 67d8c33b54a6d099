// Every step takes a piece and hands smaller ones to the next; no list of pieces is ever made.
#include "text/cut.h"

#include <string.h>

#include "text/utf8.h"

typedef struct {
    const Cut *cuts;
    size_t count;
    LvText *rooms;
    PatternBudget *budget;
    WordTaker taker;
    LvError *error;
} Cutter;

static bool run(const Cutter *cutter, size_t step, const char *text, size_t length);

// What a split has decided on so far: a piece that may still grow.
typedef struct {
    bool any, match;  // whether there is a piece, and whether it (its last part) is a match
    size_t begin, end;
} Pending;

static bool hand_on(const Cutter *cutter, size_t step, const char *text, Pending *pending) {
    if (!pending->any) return true;
    pending->any = false;
    if (pending->match && cutter->cuts[step].behavior == SPLIT_REMOVED) return true;
    return run(cutter, step + 1, text + pending->begin, pending->end - pending->begin);
}

// A part of the text, a match of the pattern or what stands between two; together they are the whole text, in order.
static bool add_part(const Cutter *cutter, size_t step, const char *text, Pending *pending, bool match, size_t begin,
                     size_t end) {
    bool joins = false;
    switch (cutter->cuts[step].behavior) {
        case SPLIT_REMOVED:
        case SPLIT_ISOLATED: break;
        case SPLIT_WITH_PREVIOUS: joins = match && !pending->match; break;
        case SPLIT_WITH_NEXT: joins = !match && pending->match; break;
        case SPLIT_CONTIGUOUS: joins = match == pending->match; break;
    }
    if (!joins || !pending->any) {
        if (!hand_on(cutter, step, text, pending)) return false;
        *pending = (Pending){true, match, begin, end};
    }
    pending->end = end;
    pending->match = match;
    return true;
}

static bool split(const Cutter *cutter, size_t step, const char *text, size_t length) {
    const Cut *cut = &cutter->cuts[step];
    PatternSearch search;
    Pending pending = {0};
    size_t told = 0, begin, end;
    bool found, good;
    pattern_search(&search, cut->pattern, text, length, cutter->budget);
    while ((good = pattern_next(&search, &found, &begin, &end, cutter->error)) && found) {
        if (told < begin) good = add_part(cutter, step, text, &pending, cut->invert, told, begin);
        good = good && add_part(cutter, step, text, &pending, !cut->invert, begin, end);
        told = end;
        if (!good) break;
    }
    pattern_done(&search);
    if (good && told < length) good = add_part(cutter, step, text, &pending, cut->invert, told, length);
    return good && hand_on(cutter, step, text, &pending);
}

static bool run(const Cutter *cutter, size_t step, const char *text, size_t length) {
    if (!length) return true;
    if (step == cutter->count) return cutter->taker.word(cutter->taker.context, text, length, cutter->error);
    if (cutter->cuts[step].kind == CUT_SPLIT) return split(cutter, step, text, length);
    LvText *room = &cutter->rooms[step];
    room->length = 0;
    if (cutter->cuts[step].kind == CUT_BYTES) {
        for (size_t i = 0; i < length; i++) utf8_append(room, byte_letter((unsigned char)text[i]));
    } else {
        if (*text == ' ') return run(cutter, step + 1, text, length);
        lv_text_putc(room, ' ');
        lv_text_append(room, text, length);
    }
    return run(cutter, step + 1, room->data, room->length);
}

bool cut_text(const Cut *cuts, size_t count, LvText *rooms, const char *text, size_t length, PatternBudget *budget,
              WordTaker taker, LvError *error) {
    Cutter cutter = {cuts, count, rooms, budget, taker, error};
    return run(&cutter, 0, text, length);
}
