// The artifact (.lvm): a plan in a file. A header, the plan, the constants' bytes; checked by hash and, before
// anything may use it, by lv_plan_check. Kernels are in it as text, never as machine code.
//
//   bytes 0-7   "LVERSE\r\n"          24-31  bytes of constants
//   8-11        LV_PLAN_FILE_VERSION  32-39  xxh64 of bytes 0-31 and of all that follows the header
//   12-15       0                     40-    the plan, then constants
//   16-23       bytes of the plan     (little-endian)
#ifndef LV_BASE_PLAN_FILE_H
#define LV_BASE_PLAN_FILE_H

#include "base/error.h"
#include "base/plan.h"

enum { LV_PLAN_FILE_VERSION = 8 };

bool lv_plan_write(const LvPlan *plan, const char *path, LvError *error);
bool lv_plan_read(const char *path, LvPlan **plan, LvError *error);
bool lv_plan_encode(const LvPlan *plan, LvText *out, LvError *error);                           // the file's bytes
bool lv_plan_decode(const void *data, size_t length, LvPlan **plan, LvError *error);            // from memory

// Whether every index, place, shape and layout of a plan is within bounds and each step's operands fit each other, so that
// running its library calls and copies touches nothing outside the arenas. (Kernels' text is code: whoever runs a model's
// kernels trusts its author.)
bool lv_plan_check(const LvPlan *plan, LvError *error);

#endif
