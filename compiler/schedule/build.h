// Shared by build.c, which decides what becomes a unit, and units.c, which makes it one.
#ifndef LV_SCHEDULE_BUILD_H
#define LV_SCHEDULE_BUILD_H

#include "base/map.h"
#include "schedule/internal.h"

typedef LV_VEC(Group *) GroupList;

typedef struct {
    Plan *plan;
    Schedule *schedule;
    LV_VEC(Unit) units;
    LvMap texts;  // text without its name -> name
    Value **pack_of;      // by value id: the pack whose memory it is part of
    int64_t *pack_offset;
    int *readers;         // by value id: groups that read it
    bool *outside;        // by value id: something else than groups reads it
    GroupList batch;      // small groups that wait to become one kernel
    GroupList rows;       // groups of the row-wise kernel that is open
    Kernel *rows_kernel;  // NULL: none
} Building;

void unit_add_kernel(Building *b, Kernel *kernel, Node *const *nodes, size_t node_count);  // takes the kernel
void unit_add_call(Building *b, Node *node);
void unit_add_template(Building *b, Node *node);

#endif
