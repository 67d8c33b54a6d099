// Private to sema/ and driver/model.c: evaluating parts of a model outside of an entry.
#ifndef LV_SEMA_ELABORATE_H
#define LV_SEMA_ELABORATE_H

#include "sema/sema.h"
#include "sema/value.h"

typedef void ModelRule(Elaborator *e, void *user);

// Runs `rule` in a throw-away elaboration. False: it reported errors.
bool model_evaluate(LvModel *model, LvDiagnostics *diagnostics, ModelRule *rule, void *user);
Val model_instance(Elaborator *e);
bool entry_trains(const Stmt *entry);
bool entry_input(Elaborator *e, const Param *param, int64_t batch, LvDType *dtype, LvShape *shape);

#endif
