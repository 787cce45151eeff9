"""An INA226 or INA228 as a power meter: a MicroPython board reads it, and streams what it reads with the
level of a pin to host_tools/meters/ina.py.

Nothing is installed: the driver sends this file to the board's prompt and calls `run`. The answer is a line
of text, ``INA226``, ``INA228`` or why there is none; after a byte ``s``, a record for each sample until the
next byte comes in:

    0xA5, microseconds (4), shunt register (3), bus register (3), pin (1), 0x5A

Microseconds are little-endian, modulo 2^30: a gap in them is a sample that was lost. The registers are the
chip's own bytes, of an INA226 two and a zero. Nothing is allocated for a record, so that no garbage
collection delays one.
"""

import select
import struct
import sys
import time

from machine import I2C, Pin

MANUFACTURER = 0x5449  # "TI"
# Registers: TI SBOS547 (INA226) and SBOS963 (INA228).
INA226_CONFIG, INA226_SHUNT, INA226_BUS, INA226_DIE = 0x00, 0x01, 0x02, 0xFF
INA228_ADC_CONFIG, INA228_SHUNT, INA228_BUS, INA228_DIE = 0x01, 0x04, 0x05, 0x3F
# Shunt and bus in turn without end, no averages: 332 us each, and 280 us each.
INA226_FAST = b"\x40\x97"
INA228_FAST = b"\xb6\xc0"
RECORD_BYTES = 13
START = b"s"
STOP_EVERY = 64  # records, after which it looks for a byte


def _word(bus, address, register):
    return int.from_bytes(bus.readfrom_mem(address, register, 2), "big")


def _chip(bus, address):
    """(name, shunt register, bus register, bytes of each) of the chip, set up; None where there is none."""
    if address not in bus.scan():
        return None
    if _word(bus, address, INA228_DIE) >> 4 == 0x228:
        bus.writeto_mem(address, INA228_ADC_CONFIG, INA228_FAST)
        return "INA228", INA228_SHUNT, INA228_BUS, 3
    if _word(bus, address, INA226_DIE) >> 4 == 0x226:
        bus.writeto_mem(address, INA226_CONFIG, INA226_FAST)
        return "INA226", INA226_SHUNT, INA226_BUS, 2
    return None


def _stream(bus, address, chip, pin, interval_us):
    _, shunt, volts, width = chip
    record = bytearray(RECORD_BYTES)
    record[0], record[12] = 0xA5, 0x5A
    view = memoryview(record)
    shunt_bytes, bus_bytes = view[5 : 5 + width], view[8 : 8 + width]
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    write = sys.stdout.buffer.write
    count = 0
    due = time.ticks_us()
    while True:
        time.sleep_us(max(0, time.ticks_diff(due, time.ticks_us())))
        now = time.ticks_us()
        bus.readfrom_mem_into(address, shunt, shunt_bytes)
        bus.readfrom_mem_into(address, volts, bus_bytes)
        record[11] = pin()
        struct.pack_into("<I", record, 1, now & 0x3FFFFFFF)  # type: ignore[operator]
        write(record)
        count += 1
        due = time.ticks_add(due, interval_us)
        if time.ticks_diff(now, due) > 0:
            due = now  # the host did not read for a while: those samples are lost
        if count % STOP_EVERY == 0:
            for _ in poll.ipoll(0):
                sys.stdin.buffer.read(1)
                return


def run(bus, sda, scl, address, trigger, interval_us):
    """Stream when told. `bus`: the number of the I2C; `sda`, `scl` and `trigger`: what machine.Pin takes, or
    None for the bus's own pins."""
    if sda is None:
        i2c = I2C(bus, freq=400_000)
    else:
        i2c = I2C(bus, sda=Pin(sda), scl=Pin(scl), freq=400_000)
    chip = _chip(i2c, address)
    if chip is None:
        print("no INA226 or INA228 at address", hex(address))
        return
    print(chip[0])
    if sys.stdin.buffer.read(1) == START:
        _stream(i2c, address, chip, Pin(trigger, Pin.IN), interval_us)
