/* What a machine gives to main.c. One folder implements it for one machine. */
#ifndef THIMBLE_MACHINE_H
#define THIMBLE_MACHINE_H

#include "thimble_server.h"

/* Of the serial port; host_tools/firmware_image.py may say another. */
#ifndef THIMBLE_BAUD
#define THIMBLE_BAUD 115200
#endif

/* Clocks, the serial port, the pin. Called once, before everything else. */
void machine_start(void);

/* The next byte from the serial port; sleeps until there is one. */
uint8_t machine_receive(void);

void machine_send(void *context, uint8_t byte);

/* Ticks of machine_tick_hz since machine_start_ticks. Starting sets the counter to 0, so that the same code always
 * takes the same number of ticks where the clock counts instructions. */
void machine_start_ticks(void);
uint32_t machine_ticks(void);
extern const uint32_t machine_tick_hz;

uint32_t machine_uptime_ms(void *context);

/* Microseconds, for MLPerf Tiny's timestamps; runs on while the ticks start again, and wraps at 32 bits. */
uint32_t machine_clock_us(void *context);

void machine_set_trigger(void *context, int on);

/* Where models live; ready after machine_start. */
extern thimble_flash machine_flash;

#endif
