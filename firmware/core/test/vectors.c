/* Start-up of run_cases on an emulated Cortex-M: newlib's start-up code behind a vector table. Files are the
 * host's, through semihosting. A fault ends the program with exit code 1. */
extern void _start(void); /* newlib's */
extern unsigned stack_top[]; /* from the linker script */

static void fault(void) {
    __asm__ volatile("movs r0, #0x18\n ldr r1, =0x20023\n bkpt 0xAB\n" ::: "r0", "r1");
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (const void *)_start, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
    (const void *)fault,
};
