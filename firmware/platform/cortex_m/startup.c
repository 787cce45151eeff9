/* Start-up of every Cortex-M image: memory as C expects it, then main. The symbols are those of the linker scripts. */
#include <stdint.h>

#include "stack_paint.h"

extern uint32_t __data_load__[], __data_start__[], __data_end__[], __bss_start__[], __bss_end__[];
extern uint32_t stack_bottom[], stack_top[];
int main(void);

/* What no image expects to happen. A device comes back with the model that it has stored; an image for measuring has a
 * handler of its own. */
__attribute__((weak)) void fault(void) {
    *(volatile uint32_t *)0xE000ED0C = 0x05FA0004; /* AIRCR: system reset */
    for (;;) {
    }
}

void reset(void) {
    /* cppcheck-suppress comparePointers ; both are symbols of the linker script */
    for (uint32_t *to = __data_start__, *from = __data_load__; to < __data_end__ && to != from;) {
        *to++ = *from++;
    }
    /* cppcheck-suppress comparePointers */
    for (uint32_t *to = __bss_start__; to < __bss_end__;) {
        *to++ = 0;
    }
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: the compiler may keep integers in the FPU's registers */
#endif
    thimble_paint_stack(stack_bottom);
    main();
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top,
    (const void *)reset,
    (const void *)fault, /* NMI */
    (const void *)fault, /* hard fault; the three below end in it on a Cortex-M0 */
    (const void *)fault,
    (const void *)fault,
    (const void *)fault,
};
