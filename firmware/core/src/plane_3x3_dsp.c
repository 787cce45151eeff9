/* 3 x 3 windows with SMLAD: six windows of a line are summed, requantised and stored at a time, in machine code, since
 * the fourteen registers are all taken all the time.
 *
 * Sums are twice what they should be, for SMMLAR: see thimble_scale_doubled. */
#include "plane_3x3.h"

#if THIMBLE_PLANE_DSP

/* Sums of nine products that start below it in magnitude can be doubled. */
#define MOST_START (1u << 29)

/* Aligned, since ADR counts from whole words. */
#define MACHINE_CODE __attribute__((naked, aligned(4)))

/* Whether the machine code can do it: no sum is too large to be doubled, and the clamp is that to 8 bits. */
static int is_for_dsp(const thimble_output_stage *stage, uint32_t start) {
    return thimble_is_usual(stage) && start + MOST_START < 2 * MOST_START && stage->low + stage->zero_point == -128 &&
           stage->high + stage->zero_point == 127;
}

/* The machine code's sums are twice what they should be. */
static uint32_t weight_pair(int32_t low, int32_t high) {
    return ((uint32_t)(2 * low) & 0xFFFF) | (uint32_t)(2 * high) << 16;
}

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

/* 20 bytes, on which `absent` relies. r6: multiplier, r7: rounding, r8: shift, r9: out_step, r12: free. */
#define STORE(sum, place)                                                                                              \
    "add.w r12, r7, " sum ", asr #31\n\t"                                                                              \
    "smmlar " sum ", " sum ", r6, r12\n\t"                                                                             \
    "asr.w " sum ", " sum ", r8\n\t"                                                                                   \
    "ssat " sum ", #8, " sum "\n\t"                                                                                    \
    "strb.w " sum ", [" place "]\n\t"

static MACHINE_CODE void run_job(__attribute__((unused)) const thimble_plane_job *job) {
    __asm__(".syntax unified\n\t"
            "push {r4-r11, lr}\n\t"
            "sub sp, #84\n\t"
            "mov r12, sp\n\t"
            "ldm r0!, {r1-r11}\n\t"
            "stm r12!, {r1-r11}\n\t"
            "ldm r0, {r1-r10}\n\t"
            "stm r12, {r1-r10}\n\t"
            "sub lr, r5, r8\n\t"
            "adr.w r0, 5f\n\t" /* where `absent` windows are passed over */
            "movs r1, #20\n\t"
            "mla r0, r10, r1, r0\n\t"
            "orr r0, r0, #1\n\t"
            "str r0, [sp, #80]\n\t"
            "ldr r1, [sp, #36]\n\t"
            "adr.w r0, 2f\n\t"
            "cmp r1, #1\n\t"
            "it ne\n\t"
            "adrne.w r0, 3f\n\t"
            "orr r0, r0, #1\n\t"
            "str r0, [sp, #36]\n\t"
            /* A block. */
            "1:\n\t"
            "ldr r0, [sp]\n\t"
            "mov r1, r0\n\t"
            "mov r2, r0\n\t"
            "mov r3, r0\n\t"
            "mov r4, r0\n\t"
            "mov r5, r0\n\t"
            "add r12, sp, #12\n\t"
            "7:\n\t" /* a line of it */
            "ldm r12!, {r10, r11}\n\t"
            "ldr.w pc, [sp, #36]\n\t"
            "3:\n\t" LINE_OF_STRIDE_2
            "b 4f\n\t"
            "2:\n\t" LINE_OF_STRIDE_1
            "4:\n\t"
            "ldrd r6, r7, [sp, #4]\n\t"
            "add lr, lr, r6\n\t"
            "add r6, sp, #36\n\t"
            "cmp r12, r6\n\t"
            "bne 7b\n\t"
            "add lr, lr, r7\n\t"
            "add r6, sp, #40\n\t"
            "ldm r6, {r6-r11}\n\t"
            "cmp lr, r11\n\t"
            "add.w r11, r10, r9, lsl #1\n\t"
            "add.w r11, r11, r9\n\t"
            "bhs 6f\n\t"
            "5:\n\t"
            STORE("r5", "r11, r9, lsl #1")
            STORE("r4", "r11, r9")
            STORE("r3", "r11")
            STORE("r2", "r10, r9, lsl #1")
            STORE("r1", "r10, r9")
            STORE("r0", "r10")
            "add.w r10, r11, r9, lsl #1\n\t"
            "add.w r10, r10, r9\n\t"
            "str.w r10, [sp, #56]\n\t"
            "blo 1b\n\t"
            /* The next line. */
            "ldrd r0, r1, [sp, #64]\n\t"
            "ldrd r2, r3, [sp, #72]\n\t"
            "add lr, lr, r0\n\t"
            "add r10, r10, r1\n\t"
            "add.w r11, lr, r2\n\t"
            "strd r10, r11, [sp, #56]\n\t"
            "cmp lr, r3\n\t"
            "bne 1b\n\t"
            "add sp, #84\n\t"
            "pop {r4-r11, pc}\n\t"
            "6:\n\t" /* the last block of a line */
            "ldr.w pc, [sp, #80]\n\t");
}

void thimble_plane_open(const thimble_plane *plane) {
    thimble_plane_job *job = plane->job;
    int32_t windows = (plane->count + THIMBLE_PLANE_BLOCK - 1) / THIMBLE_PLANE_BLOCK * THIMBLE_PLANE_BLOCK;
    int32_t pitch_bytes = 2 * plane->pitch, line_bytes = plane->stride * pitch_bytes;
    job->stride = plane->stride;
    job->line_step = plane->stride == 1 ? pitch_bytes : pitch_bytes - 16;
    job->back = 12 * plane->stride - 3 * pitch_bytes;
    job->out_step = plane->out_step;
    job->span = windows * plane->stride * 2;
    job->skip = line_bytes - job->span;
    job->out_skip = plane->out_line_step - windows * plane->out_step;
    job->absent = windows - plane->count;
    job->line_end = (const int8_t *)plane->x + job->span;
    job->end = (const int8_t *)plane->x + plane->lines * line_bytes;
}

int thimble_plane_run(const thimble_plane *plane, uint32_t start, const thimble_output_stage *stage, int8_t *out) {
    thimble_plane_job *job = plane->job;
    const int32_t *w = job->w;
    if (!is_for_dsp(stage, start)) {
        return 0;
    }
    job->start = 2 * start;
    for (uint32_t *pairs = job->pairs; pairs < job->pairs + 6; pairs += 2, w += 3) {
        pairs[0] = weight_pair(w[0], w[1]), pairs[1] = weight_pair(w[1], w[2]);
    }
    job->multiplier = stage->multiplier;
    job->shift = -stage->shift;
    job->rounding = thimble_rounding_of(stage);
    job->out = out;
    run_job(job);
    return 1;
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
    int32_t entry; /* 1: a line has an odd number of pixels; within: where its first one is made */
} pointwise_job;

#define PIXEL_OF_EIGHT                                                                                                 \
    "ldrd r0, r1, [r11], #8\n\t"                                                                                       \
    "sxtb16 r2, r0\n\t"                                                                                                \
    "smlad r2, r2, r4, r3\n\t"                                                                                         \
    "sxtb16 r0, r0, ror #8\n\t"                                                                                        \
    "smlad r2, r0, r5, r2\n\t"                                                                                         \
    "sxtb16 r0, r1\n\t"                                                                                                \
    "smlad r2, r0, r6, r2\n\t"                                                                                         \
    "sxtb16 r1, r1, ror #8\n\t"                                                                                        \
    "smlad r2, r1, r7, r2\n\t"                                                                                         \
    "add r0, r9, r2, asr #31\n\t"                                                                                      \
    "smmlar r2, r2, r8, r0\n\t"                                                                                        \
    "asr r2, r2, r10\n\t"                                                                                              \
    "ssat r2, #8, r2\n\t"                                                                                              \
    "strh r2, [r12], #2\n\t"

static MACHINE_CODE void run_pointwise(__attribute__((unused)) const pointwise_job *job) {
    __asm__(".syntax unified\n\t"
            "push {r4-r11, lr}\n\t"
            "add r1, r0, #40\n\t"
            "ldm r1, {r4-r8}\n\t"
            "adr.w r1, 1f\n\t"
            "cmp r8, #0\n\t"
            "it ne\n\t"
            "adrne.w r1, 2f\n\t"
            "orr r8, r1, #1\n\t"
            "push {r4-r8}\n\t"
            "ldm r0, {r3-r12}\n\t"
            "3:\n\t" /* a line */
            "ldr lr, [sp]\n\t"
            "add lr, lr, r11\n\t"
            "ldr pc, [sp, #16]\n\t"
            "1:\n\t" PIXEL_OF_EIGHT "2:\n\t" PIXEL_OF_EIGHT
            "cmp r11, lr\n\t"
            "bne 1b\n\t"
            "ldrd r0, r1, [sp, #4]\n\t"
            "add r11, r11, r0\n\t"
            "add r12, r12, r1\n\t"
            "ldr r0, [sp, #12]\n\t"
            "subs r0, r0, #1\n\t"
            "str r0, [sp, #12]\n\t"
            "bne 3b\n\t"
            "add sp, #20\n\t"
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
        eight->count & 1,
    };
    run_pointwise(&job);
    return 1;
}

MACHINE_CODE void thimble_load_plane_lines(__attribute__((unused)) thimble_pixel *to,
                                                     __attribute__((unused)) const int8_t *x,
                                                     __attribute__((unused)) const thimble_plane_lines *lines) {
    __asm__(".syntax unified\n\t"
            "push {r4-r11, lr}\n\t"
            "ldm r2, {r2-r7}\n\t"
            "add r9, r2, r2, lsl #1\n\t"
            "1:\n\t" /* a line */
            "tst r4, #4\n\t"
            "beq 2f\n\t"
            "ldrsb r10, [r1]\n\t"
            "strh r10, [r0], #2\n\t"
            "add r1, r1, r2\n\t"
            "2:\n\t"
            "add r8, r0, r3\n\t"
            "cmp r8, r0\n\t"
            "beq 4f\n\t"
            "3:\n\t"
            "ldrsb r10, [r1]\n\t"
            "ldrsb r11, [r1, r2]\n\t"
            "ldrsb r12, [r1, r2, lsl #1]\n\t"
            "ldrsb lr, [r1, r9]\n\t"
            "add r1, r1, r2, lsl #2\n\t"
            "pkhbt r10, r10, r11, lsl #16\n\t"
            "pkhbt r12, r12, lr, lsl #16\n\t"
            "strd r10, r12, [r0], #8\n\t"
            "cmp r0, r8\n\t"
            "bne 3b\n\t"
            "4:\n\t"
            "lsls r8, r4, #31\n\t" /* carry: two pixels, negative: one */
            "bcc 5f\n\t"
            "ldrsb r10, [r1]\n\t"
            "ldrsb r11, [r1, r2]\n\t"
            "add r1, r1, r2, lsl #1\n\t"
            "pkhbt r10, r10, r11, lsl #16\n\t"
            "str r10, [r0], #4\n\t"
            "5:\n\t"
            "bpl 6f\n\t"
            "ldrsb r10, [r1]\n\t"
            "strh r10, [r0], #2\n\t"
            "add r1, r1, r2\n\t"
            "6:\n\t"
            "add r0, r0, r5\n\t"
            "add r1, r1, r6\n\t"
            "subs r7, r7, #1\n\t"
            "bne 1b\n\t"
            "pop {r4-r11, pc}\n\t");
}

#endif
