"""Readings of an MPU-6050 accelerometer on a Raspberry Pi Pico: SDA at GP4, SCL at GP5, 3V3 and GND.

Registers as in InvenSense's RM-MPU-6000A: 0x6B wakes it up; from 0x3B on stand x, y and z, big-endian, 16384
for 1 g.
"""

import struct
import time

from machine import I2C, Pin

ADDRESS = 0x68
WAKE_UP, FIRST_READING = 0x6B, 0x3B
COUNTS_PER_G = 16384
# So that a gesture fills about the 128 readings of a window.
INTERVAL_MS = 20


def readings():
    """[x, y, z] in g, for ever, one every INTERVAL_MS."""
    bus = I2C(0, sda=Pin(4), scl=Pin(5), freq=400_000)
    bus.writeto_mem(ADDRESS, WAKE_UP, b"\x00")
    buffer = bytearray(6)
    due = time.ticks_ms()
    while True:
        bus.readfrom_mem_into(ADDRESS, FIRST_READING, buffer)
        yield [count / COUNTS_PER_G for count in struct.unpack(">hhh", buffer)]
        due = time.ticks_add(due, INTERVAL_MS)
        time.sleep_ms(max(0, time.ticks_diff(due, time.ticks_ms())))
