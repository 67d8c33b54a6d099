// A frozen picture tokenizer at work: a model of its own, whose entry `encode(image) -> {tokens}`
// makes pictures into codes.
#ifndef LV_TRAIN_CODER_H
#define LV_TRAIN_CODER_H

#include "generate/network.h"
#include "io/safetensors.h"

typedef struct LvCoder LvCoder;

typedef struct {
    LvPlanSource plans;           // of the picture tokenizer
    const LvTensorFile *weights;  // must outlive the coder
    const char *model;            // says which model and settings these are
    const char *name;             // for messages: the file it came from
    int64_t batch;                // pictures a run
} LvCoderOptions;

// Its kernels are compiled when the first picture comes.
bool lv_coder_create(LvDevice *device, const LvCoderOptions *options, LvCoder **coder,
                     LvError *error);
void lv_coder_destroy(LvCoder *coder);
int lv_coder_resolution(const LvCoder *coder);
int64_t lv_coder_codes(const LvCoder *coder);  // of one picture
bool lv_coder_has(const LvCoder *coder,
                  const char *name);  // a variable of the model, the optimizer's aside
void lv_coder_hash(const LvCoder *coder,
                   uint64_t hash[2]);              // of all that decides what codes come out
int64_t lv_coder_bytes(const LvCoder *coder);      // memory that it takes
LvNetwork lv_coder_network(const LvCoder *coder);  // the picture tokenizer, for its other entries
// `count` pictures, [count, 3, R, R] in [-1, 1], to [count, codes].
bool lv_coder_encode(LvCoder *coder, const uint8_t *pictures, int64_t count, int32_t *codes,
                     LvError *error);

#endif
