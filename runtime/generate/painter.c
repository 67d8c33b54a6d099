// Pictures from codes: see painter.h.
#include "generate/painter.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

struct LvPainter {
    LvEntryProgram entry;
    int64_t batch, codes;
    int side;
    int32_t *tokens;  // [B, N]
    float *pictures;  // [B, 3, R, R]
};

static size_t floats_of(const LvPainter *painter) {
    return (size_t)3 * (size_t)painter->side * (size_t)painter->side;
}

static bool find_side(LvPainter *p, LvError *error) {
    const LvPlan *plan = p->entry.plan;
    for (int i = 0; i < plan->result_count; i++) {
        const LvPort *port = &plan->results[i];
        const int64_t *dim = port->shape.dim;
        bool square = port->dtype == LV_F32 && port->shape.rank == 4 && dim[0] == p->batch && dim[1] == 3 && dim[2] == dim[3];
        if (square && !strcmp(port->name, "image")) p->side = (int)dim[2];
    }
    return p->side > 0 || lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry 'decode' gives no 'image' f32[B, 3, R, R]");
}

bool lv_painter_create(const LvNetwork *network, int64_t batch, LvPainter **out, LvError *error) {
    LvPainter *p = lv_calloc(1, sizeof *p);
    p->batch = batch;
    bool good = lv_entry_open(&p->entry, network, "decode", batch, error) && find_side(p, error) &&
                (p->codes = lv_entry_row(&p->entry, "tokens", LV_I32, false, error)) > 0;
    if (!good) {
        lv_painter_destroy(p);
        return false;
    }
    p->tokens = lv_calloc((size_t)(batch * p->codes), sizeof *p->tokens);
    p->pictures = lv_calloc((size_t)batch * floats_of(p), sizeof *p->pictures);
    *out = p;
    return true;
}

void lv_painter_destroy(LvPainter *painter) {
    if (!painter) return;
    lv_entry_close(&painter->entry);
    free(painter->tokens);
    free(painter->pictures);
    free(painter);
}

int lv_painter_side(const LvPainter *painter) {
    return painter->side;
}

int64_t lv_painter_codes(const LvPainter *painter) {
    return painter->codes;
}

bool lv_painter_run(LvPainter *p, const int32_t *codes, int64_t count, float *pictures, LvError *error) {
    size_t picture = floats_of(p) * sizeof(float), row = (size_t)p->codes * sizeof(int32_t);
    bool good = true;
    for (int64_t at = 0; good && at < count; at += p->batch) {
        int64_t n = count - at < p->batch ? count - at : p->batch;
        for (int64_t i = 0; i < p->batch; i++)  // what is left of the last batch is filled up with its first
            memcpy(p->tokens + i * p->codes, codes + (at + (i < n ? i : 0)) * p->codes, row);
        good = lv_program_set_input(p->entry.program, "tokens", p->tokens, (size_t)p->batch * row, error) &&
               lv_program_run(p->entry.program, error) &&
               lv_program_get_result(p->entry.program, "image", p->pictures, (size_t)p->batch * picture, error);
        if (good) memcpy(pictures + (size_t)at * floats_of(p), p->pictures, (size_t)n * picture);
    }
    return good;
}
