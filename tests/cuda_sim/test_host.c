#include "test.h"
const TestCase test_host[] = {{NULL, {NULL}, NULL}};
