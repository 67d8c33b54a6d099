// Private to attention and its gradient: what both are made of.
#ifndef LV_CODEGEN_TEMPLATE_ATTENTION_H
#define LV_CODEGEN_TEMPLATE_ATTENTION_H

#include "codegen/c/template_text.h"

// The gradient's input that is f32 whatever the others are; words that a kernel may bring; elements of 32 bits that may stand on a
// thread's stack, made ready by the head.
enum { ATTENTION_LOGSUMEXP = 4, ATTENTION_TEXTS = 16, ATTENTION_READY = 1 << 18 };

// Of functions: parameters that a dropout has more, what is passed as such, and where both come from.
#define ATTENTION_DROPOUT \
    ", int64_t place, int64_t seed, int32_t step", \
    ", head * $tL * $sL, seed, step", \
    "  const int64_t seed = *(const int64_t *)buffers[$y - 2];\n" \
    "  const int32_t step = *(const int32_t *)buffers[$y - 1];\n"

bool attention_tile_takes(const Node *node);
bool attention_is_half(const Node *node);           // bf16
bool attention_has_many_heads(const Node *node);    // enough for the threads there are
int64_t attention_whole_vectors(int64_t channels);  // rounded up to vectors of any machine

// The vector tile, what the parts are made of, and the parts. `texts`: words of theirs whose texts have words of their own.
void attention_tile_print(const Node *node, const char *name, int count, const char *const *parts, int text_count, const TemplateWord *texts,
                     LvText *out);

#endif
