/* The digit classifier on its own, as it would stand in a firmware: no operating system, no heap, no floats. Prints
 * the digit that it sees in an image of 8 x 8 pixels. `make` exports the model and builds this. */
#include <stdio.h>
#include <string.h>

#include "digits_model.h"

/* A handwritten 3, a pixel each: '.' is paper, '#' ink. */
static const char image[] = "..####.."
                            ".##..##."
                            ".....##."
                            "...###.."
                            ".....##."
                            "......##"
                            ".##..##."
                            "..####..";

static uint32_t memory[(DIGITS_MEMORY_BYTES + 3) / 4];

int main(void) {
    thimble_model model;
    thimble_port input, output;
    int32_t error = thimble_load(&model, &digits_registry, digits_model, DIGITS_MODEL_BYTES);
    if (error < 0 || (error = thimble_input(&model, 0, &input)) < 0 ||
        (error = thimble_output(&model, 0, &output)) < 0) {
        printf("error %d of thimble_format.h\n", (int)error);
        return 1;
    }
    int8_t *samples = (int8_t *)memory + input.offset;
    for (uint32_t i = 0; i < input.bytes; i++) {
        samples[i] = image[i] == '#' ? 127 : -128; /* 1 and 0, see digits_model.h */
    }
    if ((error = thimble_run(&model, memory, DIGITS_MEMORY_BYTES)) < 0) {
        printf("error %d of thimble_format.h\n", (int)error);
        return 1;
    }
    const int8_t *logits = (const int8_t *)memory + output.offset;
    uint32_t best = 0;
    for (uint32_t i = 0; i < output.bytes; i++) {
        printf("%u: %d\n", (unsigned)i, logits[i]);
        best = logits[i] > logits[best] ? i : best;
    }
    printf("it is a %u\n", (unsigned)best);
    return 0;
}
