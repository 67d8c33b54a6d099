// Between a store and checkpoints: a run's state saved and taken up again, and weights taken from other runs' files.
#ifndef LV_TRAIN_RESTORE_H
#define LV_TRAIN_RESTORE_H

#include "data/loader.h"
#include "exec/loss_scale.h"
#include "exec/weights.h"
#include "train/rate.h"

// What a run must know, besides its variables, to go on with the same bits.
typedef struct {
    int64_t step, seed;
    LvPosition position;
    uint64_t data;       // the data set's fingerprint
    LvPlateau plateau;
    double best_loss;    // NAN before the first validation
    int64_t best_step;
    bool pending;        // the validation of this step is still to be done
    LvLossScaling scaling;  // in f16
} LvRunState;

// What checkpoints carry for others, so that one file suffices to use the model: frozen companions, and texts about them.
typedef struct {
    const LvTensor *tensors;  // under names that the model's own variables do not have
    int tensor_count;
    const LvMetadata *metadata;
    int metadata_count;
} LvCarried;

enum {
    LV_ALL_VARIABLES =
        1u << LV_VARIABLE_PARAM | 1u << LV_VARIABLE_FROZEN | 1u << LV_VARIABLE_STATE | 1u << LV_VARIABLE_OPTIMIZER
};

// Writes all variables; refuses where one is not finite, naming it: what is saved can be gone on from.
bool lv_run_save(const LvStore *store, const LvRunState *state, const char *model, const LvCarried *carried, const char *path,
                 LvError *error);
bool lv_run_restore(LvStore *store, const LvTensorFile *file, LvRunState *state, LvError *error);

// Whether the file's tensors are the model's: all that are missing or of another shape are counted, the first ones named.
bool lv_weights_check(const LvStore *store, const LvTensorFile *file, bool optimizer, LvError *error);
// Takes the tensors of equal name and shape (optimizer states aside); `report` gets what was and was not taken, in words.
// `taken` [store count] is set true where a variable was.
bool lv_weights_take(LvStore *store, const LvTensorFile *file, const char *prefix, bool *taken, LvText *report, LvError *error);

// The first variable that holds NaN or infinity; NULL: none. `index`: which element.
const char *lv_store_find_bad(const LvStore *store, int64_t *index);

#endif
