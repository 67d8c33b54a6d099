// A data set: an index of samples, each a picture and perhaps captions, in one fixed order. Opened from
//   DIR                folders of pictures of any depth, sorted; `name.txt` beside `name.png` holds its captions, a line each
//   DIR of *.tar, FILE.tar, shard-{000..012}.tar, .tar.gz      WebDataset shards: KEY.jpg, KEY.txt ...
//   LIST.tsv           a picture's path (relative to the list), a tab, its caption; several lines per picture are fine
//   CAPTIONS.json      COCO captions; pictures beside the file, or in DIR of `CAPTIONS.json:DIR`
//   fake:N             N made-up pictures with made-up captions, for trying things without data
//   text:PATH          text for language models: a file, or all text files under a folder. What is hidden, or no text (in the
//                      first KiB a zero byte, or bytes that are not UTF-8), is passed over. Samples are windows: lv_dataset_cut.
//   text:PATH:0-90%    of each file the part between these percents; text:PATH:90-100% beside it is text to validate with
// The index is built once; reading is thread-safe after that.
#ifndef LV_DATA_DATASET_H
#define LV_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "data/picture.h"
#include "text/tokenizer.h"

typedef struct LvDataset LvDataset;

bool lv_dataset_open(LvDataset **dataset, const char *spec, LvError *error);
void lv_dataset_close(LvDataset *dataset);

size_t lv_dataset_count(const LvDataset *dataset);
const char *lv_dataset_spec(const LvDataset *dataset);
const char *lv_dataset_name(const LvDataset *dataset, size_t sample);  // relative to the data set: "smileys/1f600.png"
const char *lv_dataset_class(const LvDataset *dataset, size_t sample, size_t *length);  // first folder of the name, or ""
bool lv_dataset_has_captions(const LvDataset *dataset);                // at least one sample has one
// Leaves out the samples that are known to have no caption (files are not read for it), which a warning names, and gives how many
// they were. Before the data set is used by anyone else.
size_t lv_dataset_need_captions(LvDataset *dataset);
uint64_t lv_dataset_fingerprint(const LvDataset *dataset);             // of all names in order: tells whether a resume sees the same data
size_t lv_dataset_warnings(const LvDataset *dataset);                  // what was passed over while indexing, a line each
const char *lv_dataset_warning(const LvDataset *dataset, size_t i);

const char *lv_dataset_unit(const LvDataset *dataset);                 // what its samples are: "pictures", "windows"

bool lv_dataset_picture(const LvDataset *dataset, size_t sample, LvPicture *picture, LvError *error);
// A number that changes when the files do: of all names, sizes and times of change. A look at each file.
uint64_t lv_dataset_signature(const LvDataset *dataset);
// All captions of a sample, a line each, empty lines dropped; "" when it has none. Free with free().
bool lv_dataset_captions(const LvDataset *dataset, size_t sample, char **text, LvError *error);

// ---- text alone (corpus.c)

bool lv_dataset_is_text(const LvDataset *dataset);
// Reads the text as ids, its bytes or those of a tokenizer, files one after the other with the id 0 or the tokenizer's end between.
// Before that it has no samples. These are windows of `length` ids that overlap by one: as all but the first id of a window are
// there to be predicted, each id of the text is so once. Refuses ids that are not below `vocabulary` (0: any will do). Once, before
// the data set is used by anyone else; the fingerprint is then that of the ids.
bool lv_dataset_cut(LvDataset *dataset, int64_t length, const LvTokenizer *tokenizer, int64_t vocabulary, LvError *error);
int64_t lv_dataset_window_length(const LvDataset *dataset);  // 0: it has none
// The ids of a window. It begins at its own place in the text, or, with a random word, somewhere in the share that is its own of
// all places where a window can begin.
void lv_dataset_window(const LvDataset *dataset, size_t sample, const uint32_t *draw, int32_t *ids);

#endif
