// A run's log: one JSON object a line, appended and flushed line by line. A log that a killed run left is cut back to what
// its checkpoint knows, so that the log of a run that was resumed is that of one never killed.
#ifndef LV_IO_JSONL_H
#define LV_IO_JSONL_H

#include <stdint.h>

#include "base/text.h"

typedef struct LvLog LvLog;

// Opens `path` for appending. Lines of an earlier run whose "step" is beyond `steps`, and a last line that was cut off, are
// dropped; `steps` 0 empties the log.
bool lv_log_open(const char *path, int64_t steps, LvLog **log, LvError *error);
bool lv_log_write(LvLog *log, const LvText *row, LvError *error);  // `row` as built below, without its closing brace
void lv_log_close(LvLog *log);

// A row is built in a text that starts empty: {"step": 1, "loss": 0.25.
void lv_row_integer(LvText *row, const char *key, int64_t value);
void lv_row_number(LvText *row, const char *key, double value);  // 9 digits, as f32 needs; not finite: null
void lv_row_text(LvText *row, const char *key, const char *value);

#endif
