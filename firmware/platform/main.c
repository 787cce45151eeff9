/* The firmware of every machine: a device server on its serial port, the rest of its RAM for models.
 *
 * Compile with -DTHIMBLE_BOARD_NAME="..." and -DTHIMBLE_MAX_PAYLOAD=bytes; host_tools/firmware_image.py does. With
 * -DTHIMBLE_MLPERF_ENERGY=0 or 1 the commands of MLPerf Tiny are answered too, without or with pulses on the pin. */
#include "machine.h"

#ifdef THIMBLE_MLPERF_ENERGY
#include "thimble_mlperf.h"
#endif

extern uint32_t heap_start[], heap_bytes[]; /* from the linker script; the address of heap_bytes is their number */

#define NS_PER_S 1000000000u
#define US_PER_S 1000000u

static uint32_t request_buffer[THIMBLE_SERVER_BUFFER_BYTES(THIMBLE_MAX_PAYLOAD) / 4];
static uint32_t reply_buffer[THIMBLE_SERVER_BUFFER_BYTES(THIMBLE_MAX_PAYLOAD) / 4];
static thimble_server server;
static uint32_t units_per_s; /* of the stopwatch */

static void start_stopwatch(void *context) {
    (void)context;
    machine_start_ticks();
}

static uint64_t ticks_in(uint32_t per_s) {
    return (uint64_t)machine_ticks() * per_s / machine_tick_hz;
}

static uint32_t read_stopwatch(void *context) {
    (void)context;
    uint64_t units = ticks_in(units_per_s);
    return units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
}

/* QEMU with `-icount shift=0` takes 1 ns for each instruction, so that the clock counts them. It does if two loops of two
 * instructions take the time that they then must. */
static int counts_instructions(void) {
    for (uint32_t turns = 20000; turns <= 60000; turns += 40000) {
        uint32_t left = turns;
        machine_start_ticks();
        __asm__ volatile(".syntax unified\n1: subs %0, %0, #1\n bne 1b" : "+l"(left)::"cc");
        uint64_t ns = ticks_in(NS_PER_S);
        if (ns < 2 * turns - 100 || ns > 2 * turns + 100) {
            return 0;
        }
    }
    return 1;
}

int main(void) {
    static thimble_board board = {
        THIMBLE_BOARD_NAME, machine_send, start_stopwatch, read_stopwatch, machine_uptime_ms, machine_set_trigger, 0, 0, 0,
    };
    static const thimble_server_setup setup = {
        &board, &machine_flash, &thimble_registry_all, heap_start, (uint32_t)(uintptr_t)heap_bytes, request_buffer,
        reply_buffer, THIMBLE_MAX_PAYLOAD,
    };
    machine_start();
    units_per_s = US_PER_S;
    if (counts_instructions()) {
        units_per_s = NS_PER_S;
        board.capabilities = THIMBLE_CAPABILITY_INSTRUCTIONS;
    }
    thimble_server_start(&server, &setup);
#ifdef THIMBLE_MLPERF_ENERGY
    static thimble_mlperf mlperf;
    thimble_mlperf_start(&mlperf, &server, machine_clock_us, THIMBLE_MLPERF_ENERGY);
    for (;;) {
        thimble_mlperf_receive(&mlperf, machine_receive());
    }
#else
    for (;;) {
        thimble_server_receive(&server, machine_receive());
    }
#endif
}
