// Whole compilations on random graphs for a GPU or the stand-ins of tests/cuda_sim: what test_whole.c does, on that device.
#define TEST_DEVICE "cuda"
#include "test_whole.c"
