/* 3 x 3 windows on a Cortex-M0: four windows of a line at a time. The eight low registers hold all that is loaded,
 * the high ones the sums, and pixels are unsigned halfwords since those can be loaded at an offset.
 *
 * There are products of 32 bits only: a sum below 2^19 times a multiplier of 31 bits is made from 10, 10 and 11 bits of
 * the multiplier, the lowest first, where what an intermediate is shifted to the right by does not change the floor
 * of the whole. Rounding, sign, zero point and the 128 that a byte is made from are added before the last shift. */
#include "plane_3x3.h"

#if THIMBLE_PLANE_THUMB1

/* r0: pixels. r1 to r3: weights of a line. r5: the next weights. r7: the job. r8 to r11: sums. r12: pitch. */
#define PRODUCT(place, weight, sum)                                                                                    \
    "ldrh r4, [r0, #" #place "]\n\t"                                                                                   \
    "muls r4, r4, " #weight "\n\t"                                                                                     \
    "add " #sum ", " #sum ", r4\n\t"
#define WINDOW(a, b, c, sum) PRODUCT(a, r1, sum) PRODUCT(b, r2, sum) PRODUCT(c, r3, sum)
#define LINE_1                                                                                                         \
    "ldm r5!, {r1-r3}\n\t" WINDOW(0, 2, 4, r8) WINDOW(2, 4, 6, r9) WINDOW(4, 6, 8, r10) WINDOW(6, 8, 10, r11)          \
    "add r0, r0, r12\n\t"
#define LINE_2                                                                                                         \
    "ldm r5!, {r1-r3}\n\t" WINDOW(0, 2, 4, r8) WINDOW(4, 6, 8, r9) WINDOW(8, 10, 12, r10) WINDOW(12, 14, 16, r11)      \
    "add r0, r0, r12\n\t"

/* r1, to be shifted: sum r0 times the multiplier, and what is added. r7: the job, the multiplier in its second word. */
#define SCALE                                                                                                          \
    "ldr r1, [r7, #4]\n\t"                                                                                             \
    "muls r1, r1, r0\n\t"                                                                                              \
    "asrs r1, r1, #10\n\t"                                                                                             \
    "ldr r2, [r7, #8]\n\t"                                                                                             \
    "muls r2, r2, r0\n\t"                                                                                              \
    "adds r1, r1, r2\n\t"                                                                                              \
    "asrs r1, r1, #10\n\t"                                                                                             \
    "ldr r2, [r7, #12]\n\t"                                                                                            \
    "muls r2, r2, r0\n\t"                                                                                              \
    "adds r1, r1, r2\n\t"                                                                                              \
    "asrs r0, r0, #31\n\t"                                                                                             \
    "lsls r0, r0, #11\n\t"                                                                                             \
    "adds r1, r1, r0\n\t"                                                                                              \
    "add r1, r1, lr\n\t"

/* 42 bytes, on which `absent` relies. r4: out_step, r5: shift, r6: out. */
#define STORE(sum, number)                                                                                             \
    "mov r0, " #sum "\n\t" SCALE                                                                                       \
    "asrs r1, r1, r5\n\t"                                                                                              \
    "lsrs r2, r1, #8\n\t"                                                                                              \
    "bne 1" #number "b\n\t"                                                                                            \
    "2" #number ":\n\t"                                                                                                \
    "subs r1, r1, #128\n\t"                                                                                            \
    "strb r1, [r6]\n\t"                                                                                                \
    "adds r6, r6, r4\n\t"
/* Below 0 becomes 0, above 255 becomes 255. */
#define SATURATE(number)                                                                                               \
    "1" #number ":\n\t"                                                                                                \
    "asrs r1, r1, #31\n\t"                                                                                             \
    "mvns r1, r1\n\t"                                                                                                  \
    "b 2" #number "f\n\t"

__attribute__((naked, aligned(4))) static void run_job(__attribute__((unused)) thimble_plane_job *job) {
    __asm__(".syntax unified\n\t"
            "push {r4-r7, lr}\n\t"
            "mov r4, r8\n\t"
            "mov r5, r9\n\t"
            "mov r6, r10\n\t"
            "mov r7, r11\n\t"
            "push {r4-r7}\n\t"
            "mov r7, r0\n\t"
            "ldr r0, [r7, #64]\n\t"
            "mov r12, r0\n\t"
            "ldr r0, [r7, #68]\n\t"
            "mov lr, r0\n\t"
            "ldr r6, [r7, #72]\n\t"
            "adr r1, 4f\n\t" /* where `absent` windows are passed over */
            "movs r2, #42\n\t"
            "ldr r0, [r7, #92]\n\t"
            "muls r2, r2, r0\n\t"
            "adds r1, r1, r2\n\t"
            "str r1, [r7, #116]\n\t"
            "adr r1, 1f\n\t"
            "ldr r0, [r7, #24]\n\t"
            "cmp r0, #1\n\t"
            "beq 9f\n\t"
            "adr r1, 2f\n\t"
            "9:\n\t"
            "str r1, [r7, #112]\n\t"
            "ldr r0, [r7, #76]\n\t"
            "b 5f\n\t"
            ".balign 4\n\t"
            "1:\n\t" /* stride 1 */
            LINE_1 LINE_1 LINE_1
            "b 3f\n\t"
            ".balign 4\n\t"
            "2:\n\t" /* stride 2 */
            LINE_2 LINE_2 LINE_2
            "3:\n\t"
            "ldr r4, [r7, #80]\n\t"
            "adds r3, r0, r4\n\t" /* the next block */
            "ldr r4, [r7, #16]\n\t"
            "ldr r5, [r7, #20]\n\t"
            "ldr r2, [r7, #84]\n\t"
            "cmp r3, r2\n\t"
            "bne 4f\n\t"
            "ldr r2, [r7, #116]\n\t" /* the last block of a line */
            "mov pc, r2\n\t"
            SATURATE(1) SATURATE(2) SATURATE(3) SATURATE(4)
            ".balign 4\n\t"
            "4:\n\t"
            STORE(r8, 1) STORE(r9, 2) STORE(r10, 3) STORE(r11, 4)
            "mov r0, r3\n\t"
            "ldr r2, [r7, #88]\n\t"
            "cmp r0, r2\n\t"
            "bhi 6f\n\t"
            "5:\n\t" /* a block */
            "ldr r4, [r7]\n\t"
            "mov r8, r4\n\t"
            "mov r9, r4\n\t"
            "mov r10, r4\n\t"
            "mov r11, r4\n\t"
            "mov r5, r7\n\t"
            "adds r5, r5, #28\n\t"
            "ldr r4, [r7, #112]\n\t"
            "mov pc, r4\n\t"
            "6:\n\t"
            "ldr r1, [r7, #84]\n\t"
            "mov r0, r2\n\t"
            "cmp r3, r1\n\t"
            "bne 5b\n\t"
            /* The next line. */
            "ldr r0, [r7, #96]\n\t"
            "adds r1, r1, r0\n\t"
            "str r1, [r7, #84]\n\t"
            "adds r2, r2, r0\n\t"
            "str r2, [r7, #88]\n\t"
            "ldr r1, [r7, #108]\n\t"
            "subs r0, r2, r1\n\t"
            "ldr r1, [r7, #100]\n\t"
            "adds r6, r6, r1\n\t"
            "ldr r1, [r7, #104]\n\t"
            "subs r1, r1, #1\n\t"
            "str r1, [r7, #104]\n\t"
            "bne 5b\n\t"
            "pop {r4-r7}\n\t"
            "mov r8, r4\n\t"
            "mov r9, r5\n\t"
            "mov r10, r6\n\t"
            "mov r11, r7\n\t"
            "pop {r4-r7, pc}\n\t");
}

/* Eight channels of each pixel become one. */
typedef struct {
    uint32_t start;
    int32_t multiplier[3];
    int32_t shift;
    int32_t w[8];
    int32_t rounding;
    const int8_t *x;
    thimble_pixel *to;
    const int8_t *last, *line_end; /* the last block of a line, and behind it */
    int32_t skip, to_skip;         /* from there to the next line */
    int32_t lines;
    int32_t line_step;
} pointwise_job;

/* r0 to r3: four pixels. r4: the channel. */
#define ACTIVATION(pixel, sum)                                                                                         \
    "ldrsb r6, [" #pixel ", r4]\n\t"                                                                                   \
    "muls r6, r6, r5\n\t"                                                                                              \
    "add " #sum ", " #sum ", r6\n\t"
#define CHANNEL(place)                                                                                                 \
    "ldr r5, [r7, #" #place "]\n\t" ACTIVATION(r0, r8) ACTIVATION(r1, r9) ACTIVATION(r2, r10) ACTIVATION(r3, r11)
#define NEXT_CHANNEL "adds r4, r4, #1\n\t"

/* A pixel has the bias of 128 that an activation loses. */
#define STORE_PIXEL(sum, number, place)                                                                                \
    "mov r0, " #sum "\n\t" SCALE                                                                                       \
    "asrs r1, r1, r5\n\t"                                                                                              \
    "lsrs r2, r1, #8\n\t"                                                                                              \
    "bne 1" #number "b\n\t"                                                                                            \
    "2" #number ":\n\t"                                                                                                \
    "strh r1, [r6, #" #place "]\n\t"
#define SATURATE_PIXEL(number)                                                                                         \
    "1" #number ":\n\t"                                                                                                \
    "asrs r1, r1, #31\n\t"                                                                                             \
    "mvns r1, r1\n\t"                                                                                                  \
    "uxtb r1, r1\n\t"                                                                                                  \
    "b 2" #number "f\n\t"

/* Four pixels at a time; the last four of a line may include some of those before. */
__attribute__((naked, aligned(4))) static void run_pointwise(__attribute__((unused)) pointwise_job *job) {
    __asm__(".syntax unified\n\t"
            "push {r4-r7, lr}\n\t"
            "mov r4, r8\n\t"
            "mov r5, r9\n\t"
            "mov r6, r10\n\t"
            "mov r7, r11\n\t"
            "push {r4-r7}\n\t"
            "mov r7, r0\n\t"
            "ldr r0, [r7, #52]\n\t"
            "mov lr, r0\n\t"
            "ldr r0, [r7, #56]\n\t"
            "b 2f\n\t"
            SATURATE_PIXEL(1) SATURATE_PIXEL(2)
            SATURATE_PIXEL(3) SATURATE_PIXEL(4)
            "1:\n\t"
            "ldr r6, [r7, #60]\n\t"
            "ldr r5, [r7, #16]\n\t"
            STORE_PIXEL(r8, 1, 0) STORE_PIXEL(r9, 2, 2) STORE_PIXEL(r10, 3, 4) STORE_PIXEL(r11, 4, 6)
            "adds r6, r6, #8\n\t"
            "mov r0, r12\n\t"
            "adds r0, r0, #32\n\t"
            "ldr r2, [r7, #64]\n\t"
            "cmp r0, r2\n\t"
            "bhi 4f\n\t"
            "3:\n\t"
            "str r6, [r7, #60]\n\t"
            "2:\n\t" /* a block */
            "mov r12, r0\n\t"
            "ldr r4, [r7]\n\t"
            "mov r8, r4\n\t"
            "mov r9, r4\n\t"
            "mov r10, r4\n\t"
            "mov r11, r4\n\t"
            "mov r1, r0\n\t"
            "adds r1, r1, #8\n\t"
            "mov r2, r0\n\t"
            "adds r2, r2, #16\n\t"
            "mov r3, r0\n\t"
            "adds r3, r3, #24\n\t"
            "movs r4, #0\n\t"
            CHANNEL(20) NEXT_CHANNEL CHANNEL(24) NEXT_CHANNEL CHANNEL(28) NEXT_CHANNEL CHANNEL(32) NEXT_CHANNEL
            CHANNEL(36) NEXT_CHANNEL CHANNEL(40) NEXT_CHANNEL CHANNEL(44) NEXT_CHANNEL CHANNEL(48)
            "b 1b\n\t"
            "4:\n\t"
            "ldr r3, [r7, #68]\n\t"
            "cmp r0, r3\n\t"
            "beq 5f\n\t"
            "subs r0, r0, r2\n\t"
            "lsrs r0, r0, #2\n\t"
            "subs r6, r6, r0\n\t"
            "mov r0, r2\n\t"
            "b 3b\n\t"
            "5:\n\t" /* the next line */
            "ldr r1, [r7, #72]\n\t"
            "adds r0, r0, r1\n\t"
            "ldr r1, [r7, #76]\n\t"
            "adds r6, r6, r1\n\t"
            "ldr r1, [r7, #84]\n\t"
            "adds r2, r2, r1\n\t"
            "str r2, [r7, #64]\n\t"
            "adds r3, r3, r1\n\t"
            "str r3, [r7, #68]\n\t"
            "ldr r1, [r7, #80]\n\t"
            "subs r1, r1, #1\n\t"
            "str r1, [r7, #80]\n\t"
            "beq 6f\n\t"
            "b 3b\n\t"
            "6:\n\t"
            "pop {r4-r7}\n\t"
            "mov r8, r4\n\t"
            "mov r9, r5\n\t"
            "mov r10, r6\n\t"
            "mov r11, r7\n\t"
            "pop {r4-r7, pc}\n\t");
}

void thimble_plane_open(const thimble_plane *plane) {
    thimble_plane_job *job = plane->job;
    int32_t before_last = (plane->count - THIMBLE_PLANE_BLOCK) * plane->stride * 2;
    job->out_step = plane->out_step;
    job->stride = plane->stride;
    job->pitch = 2 * plane->pitch;
    job->back = THIMBLE_PLANE_BLOCK * plane->stride * 2 - 3 * job->pitch;
    job->absent = (THIMBLE_PLANE_BLOCK - plane->count) & (THIMBLE_PLANE_BLOCK - 1);
    if (plane->count < THIMBLE_PLANE_BLOCK) {
        job->absent = THIMBLE_PLANE_BLOCK - plane->count;
    }
    job->line_step = plane->stride * job->pitch;
    job->out_skip = plane->out_line_step - plane->count * plane->out_step;
    job->first = before_last < 0 ? 0 : before_last;
}

/* Sums stay below 2^19, and what is added before the shift below 2^30. */
static int is_for_thumb1(const thimble_output_stage *stage, uint32_t start) {
    const uint32_t limit = (1u << 19) - 9 * 128 * 255;
    return thimble_is_usual(stage) && stage->shift >= -11 && start + limit < 2 * limit &&
           stage->low + stage->zero_point == -128 && stage->high + stage->zero_point == 127;
}

static void split_multiplier(const thimble_output_stage *stage, int32_t parts[3]) {
    parts[0] = stage->multiplier & 0x3FF;
    parts[1] = stage->multiplier >> 10 & 0x3FF;
    parts[2] = stage->multiplier >> 20;
}

static int32_t rounding_of(const thimble_output_stage *stage) {
    return (1 + 2 * (stage->zero_point + 128)) * (1 << (10 - stage->shift)) + (1 << 10);
}

int thimble_plane_from_eight(const thimble_eight *eight, const int8_t *w, uint32_t start,
                             const thimble_output_stage *stage) {
    if (!is_for_thumb1(stage, start) || eight->count < THIMBLE_PLANE_BLOCK) {
        return 0;
    }
    pointwise_job job;
    job.start = start;
    split_multiplier(stage, job.multiplier);
    job.shift = 11 - stage->shift;
    for (int32_t i = 0; i < 8; i++) {
        job.w[i] = w[i];
    }
    job.rounding = rounding_of(stage);
    job.x = eight->x;
    job.to = eight->to;
    job.line_end = eight->x + 8 * eight->count;
    job.last = job.line_end - 8 * THIMBLE_PLANE_BLOCK;
    job.skip = eight->line_step - 8 * eight->count;
    job.to_skip = 2 * (eight->to_line_step - eight->count);
    job.lines = eight->lines;
    job.line_step = eight->line_step;
    run_pointwise(&job);
    return 1;
}

int thimble_plane_run(const thimble_plane *plane, uint32_t start, const thimble_output_stage *stage, int8_t *out) {
    thimble_plane_job *job = plane->job;
    if (!is_for_thumb1(stage, start)) {
        return 0;
    }
    job->start = start;
    split_multiplier(stage, job->multiplier);
    job->shift = 11 - stage->shift;
    job->rounding = rounding_of(stage);
    job->out = out;
    job->last = (const int8_t *)plane->x + (plane->count - THIMBLE_PLANE_BLOCK) * plane->stride * 2;
    job->x = job->last - job->first;
    job->line_end = job->last + THIMBLE_PLANE_BLOCK * plane->stride * 2;
    job->lines = plane->lines;
    run_job(job);
    return 1;
}

#endif
