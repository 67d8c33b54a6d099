// What the two walks of the pass `remat` share: remat.c, remat_contractions.c.
#ifndef LV_PASSES_REMAT_H
#define LV_PASSES_REMAT_H

#include "ops/op.h"
#include "passes/pass.h"

enum { MAX_CONE = 48, MAX_MADE = 64, LEAST_BYTES = 1 << 14 };

typedef struct {
    Node *user;
    int input;
} RematUse;

typedef struct {
    Value *value;
    int64_t bytes;
    int late;        // in the value's uses: this one and all after it are late
} RematCandidate;

// What waits and is dear. Positions are those of nodes.
typedef struct {
    Value *value;
    double cost;             // operations for each byte
    int made;                // where it is computed
    int early, late;         // the last use before the wait, the first behind it
    int until;               // where it is made again, if `chosen`: at the first late use, or where another needs it that is made of it
    bool chosen, refused;
    LV_VEC(int) made_of;     // others of them, by their place in the list
} RematWaiting;

typedef struct {
    Graph *graph;
    int *position;   // by value id, of the node that computes it; nodes without results have none
    Node **at;       // by position
    int *last_use;   // by value id: the last node that needs it, itself or through expressions that are not in memory
    bool *joins;     // by value id: see remat_is_dear; none in the first walk
    RematUse **uses;      // by value id, in order
    int *use_count;
    int *user_position;  // by number of the use, in one array: uses[id] - all
    RematUse *all;
    int nodes, values;
    int shares;      // of all nodes: a gap of one of them is a wait
    LV_VEC(RematCandidate) found;
    LV_VEC(RematWaiting) waiting;
    int *waiting_of; // by value id: 1 + its place in `waiting`
    Value **again;   // by value id: the dear value, made again
    int64_t *held;   // by position: the bytes in memory
    // what is made of the dear value at hand without ever being in memory, the result first; and what the late uses of it read
    Value *made[MAX_MADE], *made_again[MAX_MADE];
    int made_count;
    // the expression at hand, and the waiting dear values that it is made of
    const Value *top;
    Value *cone[MAX_CONE], *copies[MAX_CONE];
    int cone_count;
    LV_VEC(int) leaves;
    bool fits;
} Remat;

// ---- remat.c

bool remat_is_cheap(const Node *node);
bool remat_is_contraction(const Node *node);  // of the forward pass
// The result of a contraction, or what kernels make of several values in memory (a sum along residual blocks) and that waits: whoever reads it
// late does not make it of all of these again, so it is in memory too. The second walk's.
bool remat_is_dear(const Remat *r, const Value *value);
int remat_use_position(const Remat *r, const Value *value, int use);
bool remat_is_stored(const Remat *r, const Value *value);
bool remat_is_small_part(const Value *part, const Value *of);
bool remat_is_wait(const Remat *r, int gap);
bool remat_find_cone(Remat *r, Value *value, int late);
Value *remat_copy_of(const Remat *r, Value *value);  // the value itself where it has no copy
Value *remat_copy_node(Remat *r, const Value *from, Value *const *inputs);
void remat_copy_cone(Remat *r, Node *user);

// ---- remat_contractions.c

void remat_contractions(Remat *r, double weight, LvArena *arena);  // `weight`: context->remat - 1

#endif
