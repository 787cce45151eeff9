/* ARM's MPS2 boards with the images AN385, AN386 and AN500, as QEMU emulates them: UART 0, timer 0 and the FPGA's
 * registers at 25 MHz. They have no flash; models live in the 16 MB of PSRAM, under the rules of flash. */
#include "../machine.h"

#include "../emulated_flash.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define TIMER_CONTROL REGISTER(0x40000000)
#define TIMER_VALUE REGISTER(0x40000004) /* counts down */
#define TIMER_RELOAD REGISTER(0x40000008)
#define UART_DATA REGISTER(0x40004000)
#define UART_STATE REGISTER(0x40004004)
#define UART_CONTROL REGISTER(0x40004008)
#define UART_INTERRUPT REGISTER(0x4000400C)
#define UART_BAUD_DIVIDER REGISTER(0x40004010)
#define FPGA_LEDS REGISTER(0x40028000) /* the trigger is LED 0 */
#define FPGA_CLOCK_100HZ REGISTER(0x40028014)
#define FPGA_COUNTER REGISTER(0x40028018)
#define FPGA_PRESCALER REGISTER(0x4002801C) /* of the counter: it takes a step in so many cycles, and one */
#define CONFIGURATION_ID REGISTER(0x4002FFFC) /* of the FPGA: bits 4 to 15 are the image's number */
#define INTERRUPT_ENABLE REGISTER(0xE000E100)
#define INTERRUPT_CLEAR REGISTER(0xE000E280)

enum { CLOCK_HZ = 25000000, CLOCK_MHZ = 25, TRANSMIT_FULL = 1, RECEIVE_FULL = 2 };
enum { TRANSMIT_ON = 1, RECEIVE_ON = 2, RECEIVE_INTERRUPT_ON = 8, RECEIVE_INTERRUPT = 2, UART_RECEIVE_LINE = 0 };
enum { AN500 = 0x500, STORE_BYTES = 16 << 20, PAGE_BYTES = 4096, UNIT_BYTES = 8 };

const uint32_t machine_tick_hz = CLOCK_HZ;
thimble_flash machine_flash;

void machine_start(void) {
    /* Interrupts stay masked: a pending one ends the sleep, and nothing is to be done in a handler. */
    __asm__ volatile("cpsid i");
    TIMER_RELOAD = UINT32_MAX;
    TIMER_CONTROL = 1;
    UART_BAUD_DIVIDER = CLOCK_HZ / THIMBLE_BAUD;
    UART_CONTROL = TRANSMIT_ON | RECEIVE_ON | RECEIVE_INTERRUPT_ON;
    INTERRUPT_ENABLE = 1u << UART_RECEIVE_LINE;
    uintptr_t store = (CONFIGURATION_ID >> 4 & 0xFFF) == AN500 ? 0x60000000 : 0x21000000;
    thimble_emulate_flash(&machine_flash, (void *)store, STORE_BYTES, PAGE_BYTES, UNIT_BYTES);
}

uint8_t machine_receive(void) {
    while (!(UART_STATE & RECEIVE_FULL)) {
        __asm__ volatile("wfi");
        /* In this order: were the line still up when its request is taken back, there would be no edge, and so no end of
         * sleep, for the next byte. */
        INTERRUPT_CLEAR = 1u << UART_RECEIVE_LINE;
        UART_INTERRUPT = RECEIVE_INTERRUPT;
    }
    return (uint8_t)UART_DATA;
}

void machine_send(void *context, uint8_t byte) {
    (void)context;
    while (UART_STATE & TRANSMIT_FULL) {
    }
    UART_DATA = byte;
}

void machine_start_ticks(void) {
    TIMER_VALUE = UINT32_MAX;
}

uint32_t machine_ticks(void) {
    return UINT32_MAX - TIMER_VALUE;
}

uint32_t machine_uptime_ms(void *context) {
    (void)context;
    return FPGA_CLOCK_100HZ * 10;
}

uint32_t machine_clock_us(void *context) {
    (void)context;
    FPGA_PRESCALER = CLOCK_MHZ - 1;
    return FPGA_COUNTER;
}

void machine_set_trigger(void *context, int on) {
    (void)context;
    FPGA_LEDS = (uint32_t)on;
}
