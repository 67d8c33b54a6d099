// A run's logs: see journal.h.
#include "train/journal.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "io/tensorboard.h"

struct LvJournal {
    LvLog *log;
    LvEvents *events;  // NULL: not wanted
    LvText row;
    const char *group;
    int64_t step;
    LvError error;     // of an event of this row; told at its end
    time_t flushed;
};

bool lv_journal_open(const char *out, int64_t step, bool tensorboard, LvJournal **result, LvError *error) {
    LvJournal *journal = lv_calloc(1, sizeof *journal);
    LvText path = {0};
    lv_text_printf(&path, "%s/log.jsonl", out);
    bool good = lv_log_open(path.data, step, &journal->log, error) &&
                (!tensorboard || lv_events_open(out, step + 1, &journal->events, error));
    lv_text_free(&path);
    if (good) *result = journal;
    else lv_journal_close(journal);
    return good;
}

void lv_journal_close(LvJournal *journal) {
    if (!journal) return;
    lv_log_close(journal->log);
    lv_events_close(journal->events);
    lv_text_free(&journal->row);
    lv_error_clear(&journal->error);
    free(journal);
}

void lv_journal_begin(LvJournal *journal, const char *group, int64_t step) {
    journal->row.length = 0;
    journal->group = group;
    journal->step = step;
    lv_row_integer(&journal->row, "step", step);
}

void lv_journal_integer(LvJournal *journal, const char *name, int64_t value) {
    lv_row_integer(&journal->row, name, value);
}

void lv_journal_text(LvJournal *journal, const char *name, const char *value) {
    lv_row_text(&journal->row, name, value);
}

void lv_journal_number(LvJournal *journal, const char *name, double value) {
    lv_row_number(&journal->row, name, value);
    if (!journal->events || journal->error.kind != LV_OK || !isfinite(value)) return;
    LvText tag = {0};
    lv_text_printf(&tag, "%s/%s", journal->group, name);
    lv_events_scalar(journal->events, journal->step, tag.data, value, &journal->error);
    lv_text_free(&tag);
}

bool lv_journal_end(LvJournal *journal, LvError *error) {
    if (journal->error.kind != LV_OK) {
        *error = journal->error;
        journal->error = (LvError){0};
        return false;
    }
    if (!lv_log_write(journal->log, &journal->row, error)) return false;
    time_t now = time(NULL);
    if (!journal->events || now == journal->flushed) return true;
    journal->flushed = now;
    return lv_events_flush(journal->events, error);
}

bool lv_journal_picture(LvJournal *journal, const char *tag, int64_t step, const LvPicture *picture, LvError *error) {
    return !journal->events || lv_events_picture(journal->events, step, tag, picture, error);
}
