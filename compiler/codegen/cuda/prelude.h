// Private to codegen/cuda: the parts of the prelude.
#ifndef LV_CODEGEN_CUDA_PRELUDE_H
#define LV_CODEGEN_CUDA_PRELUDE_H

extern const char *const cuda_prelude_instructions;  // wrappers of instructions: prelude_instructions.c
extern const char *const cuda_prelude_functions;     // arithmetic, elementary functions, Philox, sums: prelude.c

#endif
