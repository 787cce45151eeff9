/* Counts the instructions of one inference under QEMU with `-icount shift=0`, where an instruction takes 1 ns:
 * SysTick, at 25 MHz, moves every 40 of them. Inputs are those of the model's GOLDEN section, and so is the checksum
 * that the outputs must have. Prints, through semihosting, one line for each step of the program and one for the whole.
 *
 * Compile with -DMODEL="path"; benchmarks/core_counts.py does. */
#include "../src/program.h"
#include "stack_paint.h"

#ifndef MEMORY_BYTES
#define MEMORY_BYTES (1u << 20)
#endif

__asm__(".section .model, \"a\"\n.balign 4\n.global model_start\nmodel_start:\n.incbin \"" MODEL
        "\"\n.global model_end\nmodel_end:\n.previous\n");
extern const uint8_t model_start[], model_end[];
extern uint32_t stack_bottom[], stack_top[]; /* from the linker script */
int main(void);
void fault(void); /* in the place of that of firmware/platform/cortex_m/startup.c */

static uint32_t memory[MEMORY_BYTES / 4];
static volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010u; /* control, reload, current */

static int32_t semihost(int32_t operation, const void *argument) {
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void finish(int ok) {
    static const uint32_t reasons[2] = {0x20023 /* run-time error */, 0x20026 /* application exit */};
    semihost(0x18, (const void *)reasons[ok]);
    for (;;) {
    }
}

static void print(const char *label, const uint32_t *numbers, uint32_t count) {
    char line[120], digits[12];
    uint32_t at = 0;
    while (*label) {
        line[at++] = *label++;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t value = numbers[i], length = 0;
        do {
            digits[length++] = (char)('0' + value % 10);
            value /= 10;
        } while (value);
        line[at++] = ' ';
        while (length) {
            line[at++] = digits[--length];
        }
    }
    line[at++] = '\n';
    line[at] = 0;
    semihost(4, line);
}

static void require(int32_t result, const char *what) {
    if (result < 0) {
        uint32_t code = (uint32_t)-result;
        print(what, &code, 1);
        finish(0);
    }
}

static uint32_t now(void) {
    return 0xFFFFFF - systick[2];
}

/* Instructions since `start`; the counter wraps after 671 million. */
static uint32_t since(uint32_t start) {
    return ((now() - start) & 0xFFFFFF) * 40;
}

/* Bytes of stack in use; stack_used then finds how deep a call went beyond them. */
static uint32_t paint_stack(void) {
    return (uint32_t)(stack_top - thimble_paint_stack(stack_bottom)) * 4;
}

static uint32_t stack_used(uint32_t before) {
    const uint32_t *p = stack_bottom;
    while (*p == STACK_PAINT) {
        p++;
    }
    /* cppcheck-suppress comparePointers ; both lie in the stack of the linker script */
    return (uint32_t)(stack_top - p) * 4 - before;
}

static const uint8_t *golden_section(void) {
    for (const uint8_t *entry = model_start + THIMBLE_HEADER_BYTES;; entry += THIMBLE_SECTION_ENTRY_BYTES) {
        if (*entry == THIMBLE_SECTION_GOLDEN) {
            return model_start + thimble_read_u32(entry + THIMBLE_SECTION_ENTRY_OFFSET_OFFSET);
        }
    }
}

static void fill_inputs(thimble_model *model, uint32_t x) {
    thimble_port port;
    for (uint32_t i = 0; i < model->input_count; i++) {
        thimble_input(model, i, &port);
        for (uint32_t j = 0; j < port.bytes; j++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            ((uint8_t *)memory)[port.offset + j] = (uint8_t)x;
        }
    }
}

static uint32_t output_crc(thimble_model *model) {
    thimble_port port;
    uint32_t crc = 0;
    for (uint32_t i = 0; i < model->output_count; i++) {
        thimble_output(model, i, &port);
        crc = thimble_crc32(crc, (const uint8_t *)memory + port.offset, port.bytes);
    }
    return crc;
}

/* 1000 times two instructions and a few around them. */
static void check_counter(void) {
    uint32_t turns = 1000, start = now();
    __asm__ volatile(".syntax unified\n1: subs %0, %0, #1\n bne 1b" : "+l"(turns)::"cc");
    uint32_t count = since(start);
    print("loop-of-2000", &count, 1);
}

static void run(void) {
    static thimble_model model;
    uint32_t painted = paint_stack(), start = now();
    /* cppcheck-suppress comparePointers ; both are symbols of the linker script */
    uint32_t length = (uint32_t)(model_end - model_start);
    require(thimble_load(&model, &thimble_registry_all, model_start, length), "load failed");
    uint32_t load_count = since(start), load_stack = stack_used(painted);
    const uint8_t *golden = golden_section();
    fill_inputs(&model, thimble_read_u32(golden + THIMBLE_GOLDEN_SEED_OFFSET));
    thimble_progress progress;
    uint32_t total = 0;
    painted = paint_stack();
    require(thimble_begin(&progress, &model, memory, model.memory_bytes), "begin failed");
    for (;;) {
        uint32_t step[3] = {progress.index, 0, 0};
        start = now();
        int32_t result = thimble_step(&progress);
        step[1] = since(start);
        require(result, "step failed");
        if (result == 0) {
            break;
        }
        total += step[1];
        step[2] = (uint32_t)result;
        print("step", step, 3);
    }
    uint32_t whole[6] = {total, model.memory_bytes, model.arena_bytes, stack_used(painted), load_count, load_stack};
    int ok = output_crc(&model) == thimble_read_u32(golden + THIMBLE_GOLDEN_OUTPUT_CRC32_OFFSET);
    print(ok ? "golden" : "different", whole, 6);
    finish(ok);
}

int main(void) {
    systick[1] = 0xFFFFFF;
    systick[2] = 0;
    systick[0] = 5; /* on, processor's clock, no interrupt */
    check_counter();
    run();
    return 0;
}

void fault(void) {
    uint32_t none = 0;
    print("fault", &none, 0);
    finish(0);
}
