"""The device's side of MLPerf Tiny's text protocol (docs/MLPERF.md), on the line of the device server.

On a board: ``from thimble.mlperf import serve; serve()`` answers on the console; in the mode energy with a
pin and a line, ``serve(machine.UART(0, 9600), pin=machine.Pin("GP2", machine.Pin.OUT))``. Commands are text
and end with "%"; frames of docs/PROTOCOL.md are told from them by how they begin and go on to the server, so
that models are deployed on the same line.

Numbers are integers all the way, as in firmware/server/src/mlperf.c, which answers the same to the last
digit.
"""

import gc
import json
import struct
import sys
from time import sleep_us, ticks_diff, ticks_us

from micropython import const

from thimble import server, slots
from thimble.errors import ThimbleError
from thimble.loader import Program, Source

# generated:begin SectionKind:METADATA
# generated:also Struct:HEADER.BYTES,HEADER.FORMAT,SECTION_ENTRY.BYTES,SECTION_ENTRY.FORMAT
# generated:also Value:WIRE_DELIMITER,WIRE_RETURN,MLPERF_TERMINATOR,MLPERF_COMMAND_BYTES,MLPERF_PULSE_US
# generated:also Value:MLPERF_WARMUPS,MLPERF_PRINT_BYTES,MLPERF_LINE_BYTES,MLPERF_FRACTION,MLPERF_PROFILE
_SECTION_METADATA = const(3)
_HEADER_BYTES = const(40)
_HEADER_FORMAT = const("<4sBBHIIIIIIII")
_SECTION_ENTRY_BYTES = const(16)
_SECTION_ENTRY_FORMAT = const("<BBHIII")
_WIRE_DELIMITER = const(10)
_WIRE_RETURN = const(13)
_MLPERF_TERMINATOR = const(37)
_MLPERF_COMMAND_BYTES = const(80)
_MLPERF_PULSE_US = const(2)
_MLPERF_WARMUPS = const(10)
_MLPERF_PRINT_BYTES = const(16)
_MLPERF_LINE_BYTES = const(8)
_MLPERF_FRACTION = const(1000000)
_MLPERF_PROFILE = const(b"ULPMark for tinyML Firmware V0.0.1")
# generated:end

_IN_COMMAND = const(0)
_BEHIND_DELIMITER = const(1)
_IN_FRAME = const(2)
_FIRST_PRINTABLE = const(0x20)
_LAST_PRINTABLE = const(0x7E)
_LARGEST_NUMBER = const(0x7FFFFFFF)
_LARGEST_DIFFERENCE = const(1 << 28)
_REAL_BITS = const(16)  # of the fraction of an input or output that are compared
_SQUARE_BITS = const(24)  # of the fraction of the squares' sum
_HELP = """\
help         : Print this information
name         : Print the name of the device
profile      : Print the profile and the model's name
timestamp    : Generate a timestamp
db SUBCMD    : Manipulate a generic byte buffer
  load N     : Expect N bytes
  HH[HH]*    : Load hex bytes until there are N
  print [N=16] [offset=0]
             : Print N bytes at offset as hex
infer N [W=10]: Execute N inferences after W warm-ups
results      : Print the result of the last inference"""


def _name(text):
    """What is left of a text where it could not be taken for the end of a name or command."""
    return "".join([c for c in text if _FIRST_PRINTABLE <= ord(c) <= _LAST_PRINTABLE and c not in '[]%"\\'])


def _number(word):
    """A decimal number of at most 31 bits; -1 for any other word."""
    if not word or not all([48 <= ord(c) <= 57 for c in word]):
        return -1
    value = int(word)
    return value if value <= _LARGEST_NUMBER else -1


def _parts(bits):
    """(mantissa, exponent) of the absolute value of an IEEE 754 single, given by its bits."""
    exponent = bits >> 23 & 0xFF
    return (bits & 0x7FFFFF | (0x800000 if exponent else 0)), (exponent or 1) - 150


def _bits(scale):
    return struct.unpack("<I", struct.pack("<f", scale))[0]


def _product(steps, bits, unit):
    """round(steps * |a single| * unit), halves away from zero; 2^60 where it would be more."""
    mantissa, shift = _parts(bits)
    value = abs(steps) * mantissa * unit
    value = value << shift if shift >= 0 else (value + (1 << (-shift - 1))) >> -shift
    value = min(value, 1 << 60)
    return -value if steps < 0 else value


def _quantised(bits, scale_bits, zero_point):
    """The integer of a float, as its bits: the nearest to the exact quotient, halves away from zero."""
    mantissa, exponent = _parts(bits)
    divisor, scale_exponent = _parts(scale_bits)
    shift = exponent - scale_exponent
    if shift >= 0:
        mantissa <<= shift
    else:
        divisor <<= -shift
    steps = (2 * mantissa + divisor) // (2 * divisor)
    return max(-128, min(127, (-steps if bits >> 31 else steps) + zero_point))


def _signed(byte):
    return (byte ^ 128) - 128


class Grammar:
    """A line that keeps commands to itself and hands on the frames: to thimble.server.serve it is a stream.

    Args:
        stream: as of thimble.server.serve.
        pin: called with 0 or 1 for the mode energy, such as a machine.Pin; None is the mode performance.
    """

    _server: server.Server

    def __init__(self, stream=None, pin=None):
        self._source, self._sink = (stream, stream) if stream else (sys.stdin.buffer, sys.stdout.buffer)
        self._pin = pin
        self._place = _IN_COMMAND
        self._command = b""
        self._forget_input()

    def start(self, kind, path, max_payload):
        """Make the server, and say that the device is ready."""
        self._server = kind(path, max_payload)
        self._say("m-timestamp-mode-" + ("energy" if self._pin else "performance"))
        self._tell(self._stamp())
        self._say("m-init-done")
        self._say("m-ready")
        return self._server

    # ------------------------------------------------------------------------------------- the line

    def write(self, data):
        """Bytes of a frame for the host."""
        return self._sink.write(data)

    def readline(self, limit):
        """Bytes of a frame from the host. Commands that come before it are obeyed."""
        while True:
            byte = self._source.read(1)
            if not byte:
                return byte  # a UART's own time-out, or the end
            code = byte[0]
            if code == _WIRE_DELIMITER:
                self._place = _BEHIND_DELIMITER
                self._command = b""
                return byte
            if self._place == _BEHIND_DELIMITER and code < _FIRST_PRINTABLE and code != _WIRE_RETURN:
                self._place = _IN_FRAME  # it may change the model, or use its memory
                self._forget_input()
            if self._place == _IN_FRAME:
                line = byte + (self._source.readline(limit - 1) or b"")
                if line[-1] == _WIRE_DELIMITER:
                    self._place = _BEHIND_DELIMITER
                return line
            self._place = _IN_COMMAND
            if code == _MLPERF_TERMINATOR:
                self._end_command()
            elif code != _WIRE_RETURN and len(self._command) <= _MLPERF_COMMAND_BYTES:
                self._command += byte

    def _say(self, line):
        self._sink.write(line.encode() + b"\r\n")

    def _end_command(self):
        command, self._command = self._command, b""
        if len(command) > _MLPERF_COMMAND_BYTES:
            self._say("e-[Command is longer than %d bytes]" % _MLPERF_COMMAND_BYTES)
        else:
            # One character for each byte: noise need not be UTF-8.
            words = "".join([chr(byte or 32) for byte in command]).split(" ")
            self._obey([word for word in words if word])
        self._say("m-ready")

    def _obey(self, words):
        if not words:
            return
        command = words[0]
        if command == "name":
            name = getattr(sys.implementation, "_machine", sys.platform)
            self._say("m-name-dut-[%s]" % _name(name))
        elif command == "profile":
            self._say("m-profile-[%s]" % _MLPERF_PROFILE.decode())
            self._say("m-model-[%s]" % self._model_name())
        elif command == "timestamp":
            self._tell(self._stamp())
        elif command == "help":
            self._say(_MLPERF_PROFILE.decode())
            self._say("")
            for line in _HELP.split("\n"):
                self._say(line)
        elif command == "db":
            self._manipulate_buffer(words[1:])
        elif command == "infer":
            self._infer(words[1:])
        elif command == "results":
            self._results()
        else:
            self._say("e-[Unknown command: %s]" % _name(command))

    def _stamp(self):
        """The time; in the mode energy, a pulse."""
        pin = self._pin
        if pin:
            pin(1)
            sleep_us(_MLPERF_PULSE_US)
            pin(0)  # the falling edge is what a meter counts
            sleep_us(_MLPERF_PULSE_US)
            pin(1)
        return ticks_us()

    def _tell(self, started, us=0):
        """A time that does not wrap; apart from the stamp, so that what is measured does not take the line's
        time too."""
        if not self._pin:
            self._say("m-lap-us-%d" % (int(started) + us))  # type: ignore[call-overload]

    # ------------------------------------------------------------------------------------- the model

    def _model_name(self):
        """What the file's metadata says."""
        if not self._server._model:
            return ""
        with open(self._server._path, "rb") as file:
            for _ in range(struct.unpack(_HEADER_FORMAT, file.read(_HEADER_BYTES))[3]):
                entry = struct.unpack(_SECTION_ENTRY_FORMAT, file.read(_SECTION_ENTRY_BYTES))
                if entry[0] == _SECTION_METADATA:
                    file.seek(entry[3])
                    return _name(json.loads(file.read(entry[4])).get("name", ""))
        return ""

    def _ports(self):
        """[(bytes, zero point, scale as bits)] of the inputs, and of the outputs."""
        model = self._server._running()
        try:
            program = model.program
        except AttributeError:  # the network is in the C core
            program = Program(Source(self._server._path))
        ports = []
        for tensors, found in ((model.inputs, program.inputs), (model.outputs, program.outputs)):
            pairs = [(len(tensors[index]), found[index]) for index in range(len(found))]
            ports.append([(size, port[2], _bits(port[3])) for size, port in pairs])
        return ports

    # ------------------------------------------------------------------------------------- the input

    def _forget_input(self):
        self._input = bytearray(0)
        self._received = 0
        self._has_results = False

    def _manipulate_buffer(self, words):
        if not words:
            self._say("e-[Command 'db' requires a subcommand]")
        elif words[0] == "load":
            self._load(words[1:])
        elif words[0] == "print":
            self._print(words[1:])
        else:
            self._take_digits(words[0])

    def _load(self, words):
        size = _number(words[0]) if words else 0
        if not words:
            self._say("e-[Command 'db load' requires the # of bytes]")
        elif size <= 0:
            self._say("e-[Command 'db load' must be >0 bytes]")
        elif not self._server._model:
            self._say("e-[No model is loaded]")
        else:
            self._forget_input()
            gc.collect()
            room = max(0, gc.mem_free() // 2)  # the tensors that it becomes want some too
            try:
                if size <= room:
                    self._input = bytearray(size)
            except MemoryError:
                room = size - 1
            if size > room:
                self._say("e-[Supplied buffer size %d exceeds maximum of %d]" % (size, room))
            else:
                self._say("m-[Expecting %d bytes]" % size)

    def _take_digits(self, word):
        """Nothing of a line with a mistake is taken; digits behind the last byte are not looked at."""
        if not self._input:
            self._say("e-[Command 'db load' must come first]")
            return
        left = len(self._input) - self._received
        if not left:
            self._say("e-[All bytes are loaded]")
            return
        if len(word) & 1:
            self._say("e-[Insufficent number of hex digits]")
            return
        pairs = [word[at : at + 2] for at in range(0, min(len(word), 2 * left), 2)]
        for pair in pairs:
            if not all([c in "0123456789abcdefABCDEF" for c in pair]):
                self._say("e-[Invalid hex digit '%s']" % _name(pair))
                return
        for pair in pairs:
            self._input[self._received] = int(pair, 16)
            self._received += 1
        self._has_results = False
        if self._received == len(self._input):
            self._say("m-load-done")

    def _print(self, words):
        numbers = [_number(word) for word in words[:2]]
        if -1 in numbers:
            self._say("e-[Command 'db print' takes numbers]")
            return
        count, start = numbers + [_MLPERF_PRINT_BYTES, 0][len(numbers) :]
        end = min(start + count, self._received)
        for at in range(start, end, _MLPERF_LINE_BYTES):
            line = self._input[at : min(at + _MLPERF_LINE_BYTES, end)]
            self._say("m-buffer-" + "-".join(["%02x" % byte for byte in line]))

    # ------------------------------------------------------------------------------------- inference

    def _infer(self, words):
        count = _number(words[0]) if words else 1
        warmups = _number(words[1]) if len(words) > 1 else _MLPERF_WARMUPS
        if count <= 0:
            self._say("e-[Inference iterations must be >0]")
        elif warmups < 0:
            self._say("e-[Inference warmup must be >=0]")
        elif not self._server._model:
            self._say("e-[No model is loaded]")
        else:
            ports = self._ports()[0]
            expected = sum([port[0] for port in ports])
            if self._received == len(self._input) and self._received in (expected, 4 * expected):
                try:
                    self._measure(count, warmups, self._tensors(ports))
                except ThimbleError as error:
                    self._say("e-[Inference failed with error %d]" % error.code)
            else:
                given = (self._received, expected, 4 * expected)
                self._say("e-[Input db has %d bytes, expected %d or, as floats, %d]" % given)

    def _tensors(self, ports):
        """The input as int8 tensors: of bytes, of floats, or of unsigned bytes, where the least integer of a
        tensor stands for 0."""
        tensors = []
        at = 0
        has_floats = self._has_floats(ports)
        for size, zero_point, scale_bits in ports:
            if has_floats:
                tensor = bytearray(size)
                for index in range(size):
                    bits = struct.unpack_from("<I", self._input, at + 4 * index)[0]
                    tensor[index] = _quantised(bits, scale_bits, zero_point) & 255
                at += 4 * size
            else:
                tensor = self._input[at : at + size]
                if zero_point == -128:
                    for index in range(size):
                        tensor[index] ^= 128
                at += size
            tensors.append(tensor)
        return tensors

    def _has_floats(self, ports):
        return len(self._input) != sum([port[0] for port in ports])

    def _measure(self, count, warmups, tensors):
        self._has_results = False
        self._server._forget_tensors()
        gc.collect()
        self._say("m-warmup-start-%d" % warmups)
        self._run(tensors, warmups)
        self._say("m-warmup-done")
        self._say("m-infer-start-%d" % count)
        started = self._stamp()
        self._run(tensors, count)
        elapsed = ticks_diff(self._stamp(), started)
        self._tell(started)
        self._tell(started, elapsed)
        self._say("m-infer-done")
        self._has_results = True
        self._results()

    def _run(self, tensors, count):
        model = self._server._running()
        for _ in range(count):
            for index in range(len(tensors)):  # again, as the run before has used them up
                model.inputs[index][:] = tensors[index]
            model.invoke()

    def _results(self):
        if not self._has_results:
            self._say("e-[No inference has run]")
            return
        inputs, outputs = self._ports()
        if len(inputs) == len(outputs) == 1 and inputs[0][0] == outputs[0][0] > 1:
            values = [self._mean_square(inputs[0], outputs[0])]
        else:
            values = []
            for index in range(len(outputs)):
                _, zero_point, scale_bits = outputs[index]
                for byte in self._server._running().outputs[index]:
                    values.append(_product(_signed(byte) - zero_point, scale_bits, _MLPERF_FRACTION))
        texts = []
        for value in values:
            whole, fraction = divmod(abs(value), _MLPERF_FRACTION)
            texts.append("%s%d.%06d" % ("-" if value < 0 else "", whole, fraction))
        self._say("m-results-[%s]" % ",".join(texts))

    def _mean_square(self, given, found):
        """The mean of the squared differences between an input and an output of the same length."""
        size, zero_point, scale_bits = found
        has_floats = self._has_floats([given])
        flip = 128 if given[1] == -128 else 0
        total = 0
        for index in range(size):
            if has_floats:
                bits = struct.unpack_from("<I", self._input, 4 * index)[0]
                real = _product(-1 if bits >> 31 else 1, bits, 1 << _REAL_BITS)
            else:
                real = _product(_signed(self._input[index] ^ flip) - given[1], given[2], 1 << _REAL_BITS)
            byte = self._server._running().outputs[0][index]
            real -= _product(_signed(byte) - zero_point, scale_bits, 1 << _REAL_BITS)
            real = min(abs(real), _LARGEST_DIFFERENCE)
            total = min(total + (real * real >> 2 * _REAL_BITS - _SQUARE_BITS), 1 << 60)
        mean = total // size
        fraction = mean & (1 << _SQUARE_BITS) - 1
        whole = (mean >> _SQUARE_BITS) * _MLPERF_FRACTION
        return whole + (fraction * _MLPERF_FRACTION + (1 << _SQUARE_BITS - 1) >> _SQUARE_BITS)


def serve(stream=None, path="model.thimble", max_payload=0, kind=slots.SlotServer, pin=None):
    """Answer commands and frames until the stream ends or Ctrl-C.

    Args:
        stream, path, max_payload, kind: as of thimble.server.serve.
        pin: as of Grammar.
    """
    grammar = Grammar(stream, pin)
    server.serve(grammar, path, max_payload, lambda *given: grammar.start(kind, *given))
