// The logs of a run together: log.jsonl (io/jsonl.h) and TensorBoard events (io/tensorboard.h), fed by the same calls.
#ifndef LV_TRAIN_JOURNAL_H
#define LV_TRAIN_JOURNAL_H

#include <stdint.h>

#include "data/picture.h"
#include "io/jsonl.h"

typedef struct LvJournal LvJournal;

// Opens the logs of folder `out`; what a killed run logged after `step` is void.
bool lv_journal_open(const char *out, int64_t step, bool tensorboard, LvJournal **journal, LvError *error);
void lv_journal_close(LvJournal *journal);

// One row: begin, fields, end. Numbers go to TensorBoard too, as `group`/name.
void lv_journal_begin(LvJournal *journal, const char *group, int64_t step);
void lv_journal_integer(LvJournal *journal, const char *name, int64_t value);
void lv_journal_text(LvJournal *journal, const char *name, const char *value);  // log.jsonl alone
void lv_journal_number(LvJournal *journal, const char *name, double value);
bool lv_journal_end(LvJournal *journal, LvError *error);
bool lv_journal_picture(LvJournal *journal, const char *tag, int64_t step, const LvPicture *picture, LvError *error);

#endif
