/* All that the example needs of a chip: the vector table, memory as C expects it, and where printf writes to. Here that
 * is ARM's MPS2 board with a Cortex-M3 (AN385), as QEMU emulates it; a project for a real chip has its own. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER(0x40004000)
#define UART_STATE REGISTER(0x40004004)
#define UART_CONTROL REGISTER(0x40004008)
#define UART_BAUD_DIVIDER REGISTER(0x40004010)

enum { CLOCK_HZ = 25000000, BAUD = 115200, TRANSMIT_FULL = 1, TRANSMIT_ON = 1 };
enum { SEMIHOSTING_EXIT = 0x18, EXIT_WELL = 0x20026, EXIT_BADLY = 0x20023 };

extern char data_in_flash[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
int main(void);

/* For printf, from here on newlib's names. */
int _write(int file, const char *text, int count) {
    (void)file;
    for (int i = 0; i < count; i++) {
        while (UART_STATE & TRANSMIT_FULL) {
        }
        UART_DATA = (uint8_t)text[i];
    }
    return count;
}

/* Ends QEMU; with a debugger on a real board it ends there. */
void _exit(int status) {
    register uint32_t what __asm__("r0") = SEMIHOSTING_EXIT;
    register uint32_t how __asm__("r1") = status == 0 ? EXIT_WELL : EXIT_BADLY;
    for (;;) {
        __asm__ volatile("bkpt 0xAB" : : "r"(what), "r"(how) : "memory");
    }
}

static void fault(void) {
    _exit(1);
}

void reset(void) {
    memcpy(data_start, data_in_flash, (size_t)(data_end - data_start));
    memset(bss_start, 0, (size_t)(bss_end - bss_start));
    UART_BAUD_DIVIDER = CLOCK_HZ / BAUD;
    UART_CONTROL = TRANSMIT_ON;
    setvbuf(stdout, NULL, _IONBF, 0); /* no buffer, and so no heap */
    _exit(main());
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (const void *)reset, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
};
