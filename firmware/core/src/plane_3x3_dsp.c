/* 3 x 3 windows with SMLAD: six windows of a line are summed at a time, in machine code, since the fourteen registers are
 * all taken all the time. And pixels that a pointwise convolution of eight channels makes.
 * The latter's sums are twice what they should be, for SMMLAR: see thimble_scale_doubled. */
#include "plane_3x3.h"

#if THIMBLE_PLANE_DSP

#define MACHINE_CODE __attribute__((naked))

/* A line of the window. r0 to r5: sums. r10, r11: weights of the line. lr: pixels. */
#define LINE_OF_STRIDE_1                                                                                               \
    "ldm lr, {r6-r9}\n\t"                                                                                              \
    "smlad r0, r6, r10, r0\n\t"                                                                                        \
    "smlatb r1, r6, r10, r1\n\t"                                                                                       \
    "smlad r2, r7, r10, r2\n\t"                                                                                        \
    "smlatb r3, r7, r10, r3\n\t"                                                                                       \
    "smlad r4, r8, r10, r4\n\t"                                                                                        \
    "smlatb r5, r8, r10, r5\n\t"                                                                                       \
    "smlabt r0, r7, r11, r0\n\t"                                                                                       \
    "smlad r1, r7, r11, r1\n\t"                                                                                        \
    "smlabt r2, r8, r11, r2\n\t"                                                                                       \
    "smlad r3, r8, r11, r3\n\t"                                                                                        \
    "smlabt r4, r9, r11, r4\n\t"                                                                                       \
    "smlad r5, r9, r11, r5\n\t"

#define LINE_OF_STRIDE_2                                                                                               \
    "ldm lr!, {r6-r9}\n\t"                                                                                             \
    "smlad r0, r6, r10, r0\n\t"                                                                                        \
    "smlad r1, r7, r10, r1\n\t"                                                                                        \
    "smlad r2, r8, r10, r2\n\t"                                                                                        \
    "smlad r3, r9, r10, r3\n\t"                                                                                        \
    "smlabt r0, r7, r11, r0\n\t"                                                                                       \
    "smlabt r1, r8, r11, r1\n\t"                                                                                       \
    "smlabt r2, r9, r11, r2\n\t"                                                                                       \
    "ldm lr, {r6-r8}\n\t"                                                                                              \
    "smlad r4, r6, r10, r4\n\t"                                                                                        \
    "smlad r5, r7, r10, r5\n\t"                                                                                        \
    "smlabt r3, r6, r11, r3\n\t"                                                                                       \
    "smlabt r4, r7, r11, r4\n\t"                                                                                       \
    "smlabt r5, r8, r11, r5\n\t"

MACHINE_CODE void thimble_sum_windows(__attribute__((unused)) const thimble_pixel *x,
                                      __attribute__((unused)) int32_t line_bytes,
                                      __attribute__((unused)) const uint32_t pairs[6],
                                      __attribute__((unused)) uint32_t sums[THIMBLE_PLANE_BLOCK],
                                      __attribute__((unused)) uint32_t start, __attribute__((unused)) int32_t stride) {
    __asm__(".syntax unified\n\t"
            "push {r1-r11, lr}\n\t"
            "mov lr, r0\n\t"
            "mov r12, r2\n\t"
            "ldr r0, [sp, #48]\n\t" /* start */
            "mov r1, r0\n\t"
            "mov r2, r0\n\t"
            "mov r3, r0\n\t"
            "mov r4, r0\n\t"
            "mov r5, r0\n\t"
            "1:\n\t"
            "ldm r12!, {r10, r11}\n\t"
            "ldr r6, [sp, #52]\n\t" /* stride */
            "cmp r6, #1\n\t"
            "beq 2f\n\t" LINE_OF_STRIDE_2
            "sub lr, lr, #16\n\t"
            "b 3f\n\t"
            "2:\n\t" LINE_OF_STRIDE_1
            "3:\n\t"
            "ldrd r6, r7, [sp]\n\t" /* line_bytes and pairs */
            "add lr, lr, r6\n\t"
            "adds r7, r7, #24\n\t"
            "cmp r12, r7\n\t"
            "bne 1b\n\t"
            "ldr r6, [sp, #8]\n\t"
            "stm r6, {r0-r5}\n\t"
            "add sp, #12\n\t"
            "pop {r4-r11, pc}\n\t");
}

/* Whether the machine code can do it: no sum is too large to be doubled, and the clamp is that to 8 bits. */
static int is_for_dsp(const thimble_output_stage *stage, uint32_t start) {
    return thimble_is_usual(stage) && start + THIMBLE_DOUBLED_END / 2 < THIMBLE_DOUBLED_END && stage->low + stage->zero_point == -128 &&
           stage->high + stage->zero_point == 127;
}

/* Twice two weights. */
static uint32_t weight_pair(int32_t low, int32_t high) {
    return ((uint32_t)(2 * low) & 0xFFFF) | (uint32_t)(2 * high) << 16;
}

/* Eight channels of each pixel become one, in this order. */
typedef struct {
    uint32_t start;
    uint32_t w[4]; /* weights 0 and 2, 1 and 3, 4 and 6, 5 and 7 */
    int32_t multiplier, rounding, shift;
    const int8_t *x;
    thimble_pixel *to;
    int32_t span;           /* of a line's activations */
    int32_t skip, to_skip;  /* from the end of a line to the next */
    int32_t lines;
} pointwise_job;

static MACHINE_CODE void run_pointwise(__attribute__((unused)) const pointwise_job *job) {
    __asm__(".syntax unified\n\t"
            "push {r4-r11, lr}\n\t"
            "add r1, r0, #40\n\t"
            "ldm r1, {r4-r7}\n\t"
            "push {r4-r7}\n\t"
            "ldm r0, {r3-r12}\n\t"
            "1:\n\t" /* a line */
            "ldr lr, [sp]\n\t"
            "add lr, lr, r11\n\t"
            "2:\n\t" /* a pixel */
            "ldrd r0, r1, [r11], #8\n\t"
            "sxtb16 r2, r0\n\t"
            "smlad r2, r2, r4, r3\n\t"
            "sxtb16 r0, r0, ror #8\n\t"
            "smlad r2, r0, r5, r2\n\t"
            "sxtb16 r0, r1\n\t"
            "smlad r2, r0, r6, r2\n\t"
            "sxtb16 r1, r1, ror #8\n\t"
            "smlad r2, r1, r7, r2\n\t"
            "add r0, r9, r2, asr #31\n\t"
            "smmlar r2, r2, r8, r0\n\t"
            "asr r2, r2, r10\n\t"
            "ssat r2, #8, r2\n\t"
            "strh r2, [r12], #2\n\t"
            "cmp r11, lr\n\t"
            "bne 2b\n\t"
            "ldrd r0, r1, [sp, #4]\n\t"
            "add r11, r11, r0\n\t"
            "add r12, r12, r1\n\t"
            "ldr r0, [sp, #12]\n\t"
            "subs r0, r0, #1\n\t"
            "str r0, [sp, #12]\n\t"
            "bne 1b\n\t"
            "add sp, #16\n\t"
            "pop {r4-r11, pc}\n\t");
}

int thimble_plane_from_eight(const thimble_eight *eight, const int8_t *w, uint32_t start,
                             const thimble_output_stage *stage) {
    if (!is_for_dsp(stage, start)) {
        return 0;
    }
    const pointwise_job job = {
        2 * start,
        {
            weight_pair(w[0], w[2]), weight_pair(w[1], w[3]),
            weight_pair(w[4], w[6]), weight_pair(w[5], w[7]),
        },
        stage->multiplier,
        thimble_rounding_of(stage),
        -stage->shift,
        eight->x,
        eight->to,
        8 * eight->count,
        eight->line_step - 8 * eight->count,
        2 * (eight->to_line_step - eight->count),
        eight->lines,
    };
    run_pointwise(&job);
    return 1;
}

#endif
