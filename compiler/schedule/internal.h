// Shared by the files of schedule/: the stages between a graph and its units, in order.
//   mark.c    which values are stored, which are recomputed inside their consumers; which share another's storage
//   prepare.c which stored values are computed once, from variables alone
//   domain.c  which shapes can be walked as one
//   group.c   which stored values are computed by one kernel
//   lower.c   one group -> one nest of loop IR; value.c an expression at an index
//   rows.c    several kernels over the same rows -> one
//   build.c   groups -> units, small ones taken together; units.c one unit
#ifndef LV_SCHEDULE_INTERNAL_H
#define LV_SCHEDULE_INTERNAL_H

#include "ops/op.h"
#include "schedule/loop.h"
#include "schedule/unit.h"

_Noreturn void schedule_internal_error(const char *stage, const Node *node, const char *what);

typedef enum {
    PLACE_NONE,    // fused away
    PLACE_GIVEN,   // input, variable, literal: storage that is given
    PLACE_ALIAS,   // another value's storage
    PLACE_STORED,  // written by a unit
} Place;

typedef struct {
    Graph *graph;
    LvArena *arena;
    bool no_fuse;
    bool cuda;
    int value_count;
    Place *place;          // by value id
    int *uses;             // by value id
    int *position;         // by value id: where its node stands
    int *last_use;         // by value id: where the last node that reads it stands
    int *level;            // by value id: reductions and calls on the longest path to it
    int *unit_of;          // by value id: group that stores it, -1
    bool *reaches;         // by value id: this slice is of its stored input's expression, not of its memory
    const Node **packed;   // by value id: the pack into which this member is written right away, NULL if none
    bool *prepared;        // by value id: stored, and computed once
    Value **alias_of;      // by value id, resolved: never an alias itself
    int64_t *alias_offset; // elements
} Plan;

// What computes a value, seen from the fuser.
typedef enum {
    ROLE_GIVEN,      // input, state_read, literal
    ROLE_POINT,      // an expression of its inputs at computed indices: elementwise, movement, constant, iota, random
    ROLE_REDUCTION,
    ROLE_CALL,       // by the backend's library
    ROLE_TEMPLATE,   // by a printed template
    ROLE_PACK,
    ROLE_EFFECT,     // all_reduce, state_write
} Role;
Role node_role(const Node *node);
// A concatenation into which passes/views.c laid its parts: who makes them writes them there, and nothing is left to copy.
bool is_made_in_place(const Node *node);

void plan_mark(Plan *plan);
void plan_prepare(Plan *plan);
Value *plan_owner(const Plan *plan, Value *value);  // whose storage the value is read from

// domain.c. Is each dimension of `coarse` a run of those of `fine`? of[i]: in which of them the fine dimension i lies.
bool domain_nests(LvShape fine, LvShape coarse, int of[LV_MAX_RANK]);
unsigned domain_reduced(const Value *root, LvShape domain);  // the dimensions of the domain that the root's reduction, if it is one, sums over

typedef struct {
    int id;
    Role role;
    LV_VEC(Value *) roots;   // values it stores, in graph order
    LV_VEC(Node *) nodes;
    LV_VEC(Value *) reads;   // stored or given values (aliases resolved) that it reads
    LvShape domain;          // logical shape of the iteration
    LvLayout layout;         // and the order in which it is walked
    int level;
    double cost;
    int order;               // where it stands among the groups
    bool prepared;           // all its roots are
} Group;

typedef struct {
    LV_VEC(Group *) list;
} Groups;

void plan_group(const Plan *plan, Groups *groups);

// One nest over the group's domain that stores its roots. Buffers are added to the kernel as needed.
void lower_group(const Plan *plan, const Group *group, Kernel *kernel);
void lower_pack(const Plan *plan, const Node *node, Kernel *kernel);

// rows.c
int64_t rows_of(const Kernel *kernel);  // rows that a row-wise kernel could begin with this one; 0: none
bool rows_append(const Plan *plan, Kernel *kernel, Kernel *next);  // true: its nests and buffers are now in `kernel`
void rows_make_local(Kernel *kernel, int buffer);

int kernel_buffer(const Plan *plan, Kernel *kernel, Value *value);

#endif
