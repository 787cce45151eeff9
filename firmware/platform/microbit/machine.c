/* The micro:bit, first version (nRF51822): its USB serial port, TIMER 0, P0.03 (ring 0 of the edge connector) as
 * trigger, and the flash behind the program for models. */
#include "../machine.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART(offset) REGISTER(0x40002000 + (offset))
#define UART_START_RECEIVER UART(0x000)
#define UART_START_TRANSMITTER UART(0x008)
#define UART_RECEIVED UART(0x108)
#define UART_SENT UART(0x11C)
#define UART_INTERRUPT_ENABLE UART(0x304)
#define UART_ENABLE UART(0x500)
#define UART_SENDING_PIN UART(0x50C)
#define UART_RECEIVING_PIN UART(0x514)
#define UART_RECEIVED_BYTE UART(0x518)
#define UART_SENT_BYTE UART(0x51C)
#define UART_BAUD_RATE UART(0x524)
#define TIMER(offset) REGISTER(0x40008000 + (offset)) /* the only one of the three that has 32 bits */
#define TIMER_START TIMER(0x000)
#define TIMER_STOP TIMER(0x004)
#define TIMER_CLEAR TIMER(0x00C)
#define TIMER_CAPTURE TIMER(0x040)
#define TIMER_BIT_MODE TIMER(0x508)
#define TIMER_PRESCALER TIMER(0x510)
#define TIMER_CAPTURED TIMER(0x540)
#define FLASH_READY REGISTER(0x4001E400)
#define FLASH_CONFIG REGISTER(0x4001E504)
#define FLASH_ERASE_PAGE REGISTER(0x4001E508)
#define PINS_SET REGISTER(0x50000508)
#define PINS_CLEAR REGISTER(0x5000050C)
#define PINS_AS_OUTPUTS REGISTER(0x50000518)
#define INTERRUPT_ENABLE REGISTER(0xE000E100)
#define INTERRUPT_CLEAR REGISTER(0xE000E280)

enum { CLOCK_HZ = 16000000, SENDING_PIN = 24, RECEIVING_PIN = 25, TRIGGER_PIN = 3 };
/* As the reference manual rounds it: steps of 2^12 in a register that holds baud * 2^32 / clock. */
#define BAUD_REGISTER ((uint32_t)((((uint64_t)THIMBLE_BAUD << 32) / CLOCK_HZ + 0x800) & 0xFFFFF000))
enum { UART_ON = 4, RECEIVED_INTERRUPT = 4, UART_LINE = 2 };
enum { BITS_32 = 3, TICKS_PER_US = CLOCK_HZ / 1000000, READ_ONLY = 0, WRITABLE = 1, ERASABLE = 2 };
enum { PAGE_BYTES = 1024, UNIT_BYTES = 4 };

extern uint32_t store_start[], store_end[]; /* from the linker script */

const uint32_t machine_tick_hz = CLOCK_HZ;

static void wait_for_flash(void) {
    while (!FLASH_READY) {
    }
}

static int32_t erase(void *context, uint32_t offset) {
    (void)context;
    FLASH_CONFIG = ERASABLE;
    FLASH_ERASE_PAGE = (uint32_t)(uintptr_t)store_start + offset;
    wait_for_flash();
    FLASH_CONFIG = READ_ONLY;
    return store_start[offset / 4] == UINT32_MAX ? 0 : THIMBLE_ERROR_WRITE_FAILED;
}

static int32_t program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    (void)context;
    int32_t error = 0;
    FLASH_CONFIG = WRITABLE;
    for (uint32_t i = 0; i < length && error == 0; i += UNIT_BYTES) {
        volatile uint32_t *to = store_start + (offset + i) / 4;
        uint32_t word = data[i] | (uint32_t)data[i + 1] << 8 | (uint32_t)data[i + 2] << 16 | (uint32_t)data[i + 3] << 24;
        *to = word;
        wait_for_flash();
        error = *to == word ? 0 : THIMBLE_ERROR_WRITE_FAILED; /* a bit that was 0 stays 0 */
    }
    FLASH_CONFIG = READ_ONLY;
    return error;
}

thimble_flash machine_flash = {
    (const uint8_t *)store_start, 0, PAGE_BYTES, UNIT_BYTES, erase, program, 0,
};

void machine_start(void) {
    /* Interrupts stay masked: a pending one ends the sleep, and nothing is to be done in a handler. */
    __asm__ volatile("cpsid i");
    machine_flash.length = (uint32_t)((uintptr_t)store_end - (uintptr_t)store_start);
    PINS_AS_OUTPUTS = 1u << TRIGGER_PIN | 1u << SENDING_PIN;
    PINS_SET = 1u << SENDING_PIN;
    TIMER_BIT_MODE = BITS_32;
    TIMER_PRESCALER = 0;
    TIMER_START = 1;
    UART_SENDING_PIN = SENDING_PIN;
    UART_RECEIVING_PIN = RECEIVING_PIN;
    UART_BAUD_RATE = BAUD_REGISTER;
    UART_ENABLE = UART_ON;
    UART_INTERRUPT_ENABLE = RECEIVED_INTERRUPT;
    UART_START_TRANSMITTER = 1;
    UART_START_RECEIVER = 1;
    INTERRUPT_ENABLE = 1u << UART_LINE;
}

uint8_t machine_receive(void) {
    while (!UART_RECEIVED) {
        __asm__ volatile("wfi");
        INTERRUPT_CLEAR = 1u << UART_LINE;
    }
    UART_RECEIVED = 0;
    return (uint8_t)UART_RECEIVED_BYTE;
}

void machine_send(void *context, uint8_t byte) {
    (void)context;
    UART_SENT = 0;
    UART_SENT_BYTE = byte;
    while (!UART_SENT) {
    }
}

uint32_t machine_ticks(void) {
    TIMER_CAPTURE = 1;
    return TIMER_CAPTURED;
}

/* The clock goes on while the timer is cleared for each run: it is what the timer has counted up to the last look at it.
 * Whoever does not look for 268 s, after which the timer wraps, finds it late by as much. */
static uint32_t clock_us, ticks_in_clock;

uint32_t machine_clock_us(void *context) {
    (void)context;
    uint32_t us = (machine_ticks() - ticks_in_clock) / TICKS_PER_US;
    clock_us += us;
    ticks_in_clock += us * TICKS_PER_US;
    return clock_us;
}

void machine_start_ticks(void) {
    machine_clock_us(0);
    TIMER_STOP = 1;
    ticks_in_clock -= machine_ticks();
    TIMER_CLEAR = 1;
    TIMER_START = 1;
}

uint32_t machine_uptime_ms(void *context) {
    return machine_clock_us(context) / 1000;
}

void machine_set_trigger(void *context, int on) {
    (void)context;
    *(on ? &PINS_SET : &PINS_CLEAR) = 1u << TRIGGER_PIN;
}
