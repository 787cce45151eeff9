# Goes onto MicroPython as `machine`: an I2C bus with an INA226 or INA228 on it, by the register maps of their
# data sheets (TI SBOS547 and SBOS963), and pins. The load follows the clock: in the last third of every 0.3 s
# the pin is on. tests/test_meter_ina.py fills in the chip.
CHIP, ADDRESS, SHUNT_OHMS = "@CHIP@", 0x44, 0.5
IDLE_AMPERES, ACTIVE_AMPERES, BUS_VOLTS = 0.004, 0.02, 3.21

import time  # noqa: E402


def is_active():
    return time.ticks_ms() % 300 >= 200


class Pin:
    IN, OUT = 0, 1

    def __init__(self, name, mode=None):
        self.name = name

    def __call__(self):
        if self.name != "GP9":
            raise ValueError("no trigger is wired to pin", self.name)
        return int(is_active())


class I2C:
    def __init__(self, bus, sda=None, scl=None, freq=0):
        if bus == 7:
            raise ValueError("I2C(7) doesn't exist")
        # After a reset: both chips measure bus and shunt slowly.
        self.config = {0x00: 0x4127} if CHIP == "INA226" else {0x00: 0, 0x01: 0xFB68}

    def scan(self):
        return [ADDRESS]

    def _register(self, register):
        """Its value and how many bytes it has."""
        amperes = ACTIVE_AMPERES if is_active() else IDLE_AMPERES
        shunt_volts = amperes * SHUNT_OHMS
        if CHIP == "INA226":
            mode, shunt_time, bus_time = (self.config[0] >> shift & 7 for shift in (0, 3, 6))
            is_fast = mode == 7 and shunt_time <= 2 and bus_time <= 2 and not self.config[0] >> 9 & 7
            values = {
                0x00: self.config[0],
                0x01: min(0x7FFF, round(shunt_volts / 2.5e-6)) if is_fast else 0,
                0x02: round(BUS_VOLTS / 1.25e-3) if is_fast else 0,
                0xFE: 0x5449,
                0xFF: 0x2260,
            }
            return values.get(register, 0), 2
        config = self.config[1]
        is_fast = config >> 12 == 0xB and config >> 9 & 7 <= 3 and config >> 6 & 7 <= 3 and not config & 7
        wide = {
            0x04: min(0x7FFFF, round(shunt_volts / 312.5e-9)) << 4 if is_fast else 0,
            0x05: round(BUS_VOLTS / 195.3125e-6) << 4 if is_fast else 0,
        }
        if register in wide:
            return wide[register], 3
        return {0x00: self.config[0], 0x01: config, 0x3E: 0x5449, 0x3F: 0x2281}.get(register, 0), 2

    def _check(self, address):
        if address != ADDRESS:
            raise OSError(19)  # ENODEV: nobody acknowledges

    def readfrom_mem_into(self, address, register, buffer):
        self._check(address)
        value, width = self._register(register)
        # What is read past a register's end is ones: the chip lets go of the line.
        data = value.to_bytes(width, "big") + b"\xff" * max(0, len(buffer) - width)
        buffer[:] = data[: len(buffer)]

    def readfrom_mem(self, address, register, count):
        buffer = bytearray(count)
        self.readfrom_mem_into(address, register, buffer)
        return bytes(buffer)

    def writeto_mem(self, address, register, data):
        self._check(address)
        if register not in self.config or len(data) != 2:
            raise ValueError("that register is not to be written", register)
        self.config[register] = int.from_bytes(data, "big")
