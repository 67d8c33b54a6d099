// Pictures to codes and back by a picture tokenizer's entries
//   encode(image: f32[B, 3, R, R]) -> {tokens: i32[B, N]}
//   decode(tokens: i32[B, N]) -> {image: f32[B, 3, R, R]}
#ifndef LV_GENERATE_CODEC_H
#define LV_GENERATE_CODEC_H

#include "generate/network.h"

typedef enum { LV_CODEC_ENCODE, LV_CODEC_DECODE } LvCodecWay;

typedef struct LvCodec LvCodec;

// `codes`: how many the other network takes for a picture; a tokenizer that gives another number is refused.
bool lv_codec_create(const LvNetwork *network, LvCodecWay way, int64_t batch, int64_t codes, LvCodec **codec, LvError *error);
void lv_codec_destroy(LvCodec *codec);
int lv_codec_side(const LvCodec *codec);  // R
// `count` of any size, a batch at a time. pictures [count, 3, R, R] in [-1, 1], tokens [count, N].
bool lv_codec_encode(LvCodec *codec, const float *pictures, int64_t count, int32_t *tokens, LvError *error);
bool lv_codec_decode(LvCodec *codec, const int32_t *tokens, int64_t count, float *pictures, LvError *error);

#endif
