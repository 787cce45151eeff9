"""Digit reader: images come over the serial line, one line of 64 grey levels (0 to 16) each; digits go back.

On a board, with thimble, this file and digits_int8.thimble on it; USB's console is the line:

    import digit_reader
    digit_reader.serve()

On MicroPython's unix port the line is standard input and output:

    micropython digit_reader.py < images.txt

examples/micropython/samples.py makes such lines.
"""

import sys

import thimble

MODEL = "digits_int8.thimble"
PIXELS, WHITE = 64, 16
# The network's input is quantised in steps of 1 / 255 from -128 on: `thimble inspect digits_int8.thimble`.
STEPS, DARKEST = 255, -128


def image(line):
    """The input for a line of PIXELS grey levels; ValueError where it is none."""
    levels = [int(word) for word in line.split()]
    if len(levels) != PIXELS or min(levels) < 0 or max(levels) > WHITE:
        raise ValueError("a line holds 64 numbers from 0 to 16")
    return bytearray((round(level * STEPS / WHITE) + DARKEST) & 0xFF for level in levels)


def serve(network=None, source=sys.stdin, sink=sys.stdout):
    """Answer each line with "digit score", or with "error: " and why not, until the line ends."""
    network = network or thimble.load(MODEL)
    while True:
        line = source.readline()
        if not line:
            return
        try:
            scores = [score - 256 if score > 127 else score for score in network.run(image(line))]  # int8
            best = max(scores)
            sink.write(f"{scores.index(best)} {best}\n")
        except ValueError as error:
            sink.write(f"error: {error}\n")


if __name__ == "__main__":
    serve()
