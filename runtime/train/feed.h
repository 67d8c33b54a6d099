// From the loader's batches to an entry's inputs, bound by name and shape.
//   u8 [B, 3, R, R]   any name: the pictures, as bytes; f32: what the bytes stand for, in [-1, 1]
//   i32 [B, T] `text`: the captions, as ids of the tokenizer; ended and filled up by the end id
//   i32 [B, N] `image`: the pictures, as codes of the frozen picture tokenizer
//   i32 [B, T] `tokens`: windows of a text, as its bytes or as ids of the tokenizer
//   i32 [B] `direction`: drawn for each sample, 0 text to picture, 1 picture to text
#ifndef LV_TRAIN_FEED_H
#define LV_TRAIN_FEED_H

#include "data/loader.h"
#include "exec/program.h"
#include "text/tokenizer.h"
#include "train/codes.h"

// What samples are made into numbers with, besides the loader. Shared by all feeds of a run.
typedef struct {
    const LvTokenizer *tokenizer;  // NULL: there is none for `text`, and `tokens` are bytes
    int32_t end_id;
    LvCoder *coder;                // NULL: there is none for `image`
    int64_t code_vocabulary;       // codes are below it
    double text_to_image;          // share of samples with direction 0
    int64_t window;                // T of `tokens`; 0: there are none
    int64_t token_vocabulary;      // ids of `tokens` are below it; 0: it is not known
} LvFeedSources;

typedef struct {
    const LvPort *picture;                           // the input that takes these, NULL: the entry has none
    const char *text, *tokens, *codes, *direction;   // likewise, its name
    int resolution;                                  // of the pictures that the loader gives, for `picture` or `codes`; 0: none
    int64_t batch, text_length, code_count, window;
    const LvFeedSources *sources;
    const LvCodes *known;                            // codes of the loader's data set; NULL: pictures are encoded as they come
} LvFeed;

// The data set of a spec as models of `sources` (may be NULL) need it: of pairs those with a caption (*left_out, may be NULL: how
// many had none), text cut into windows. Refuses one of another kind.
bool lv_feed_open_data(LvDataset **data, const char *spec, const LvFeedSources *sources, size_t *left_out, LvError *error);
// Which of the plan's inputs takes what; an error names an input that nothing fills. `sources` may be NULL.
bool lv_feed_bind(LvFeed *feed, const LvPlan *plan, const LvFeedSources *sources, LvError *error);
// Whether it feeds tokens; then how many positions a sample has.
int64_t lv_feed_positions(const LvFeed *feed);
// What the loader must read for this feed.
void lv_feed_loader(const LvFeed *feed, LvLoaderOptions *options);
bool lv_feed_batch(const LvFeed *feed, LvProgram *program, const LvBatch *batch, LvError *error);
// Over a batch that is fed: directions in turns, 0 and 1 the other way round for an odd `turn`.
bool lv_feed_turns(const LvFeed *feed, LvProgram *program, int turn, LvError *error);
// Whether pictures may be given to an input, as bytes or as f32; and the input set to [B, 3, R, R] of a loader.
bool lv_feed_takes_pictures(const LvPort *port);
bool lv_feed_pictures(LvProgram *program, const LvPort *port, const uint8_t *pictures, LvError *error);
// $seed, $step, $lr, where the entry has them.
bool lv_feed_scalars(LvProgram *program, int64_t seed, int32_t step, float rate, LvError *error);

#endif
