// Private to sema/ and driver/model.c: what can be told of a program without running it.
#ifndef LV_SEMA_CHECK_H
#define LV_SEMA_CHECK_H

#include "sema/imports.h"

// Names that nothing defines, things defined twice, types there are none of, arguments that do not fit: in every file, also
// where no entry would come by. Adds to the diagnostics.
void check_files(LvModel *model, LvDiagnostics *diagnostics);

// Whether the arguments of a call go to parameters: each to one, all that are needed. `report` says what is wrong.
typedef void ArgumentReport(void *user, LvSpan span, const char *message);
bool check_call(const ParamList *params, int count, const Name *names, const LvSpan *spans, LvSpan call, const char *what,
                ArgumentReport *report, void *user);

#endif
