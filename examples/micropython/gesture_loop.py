"""Sensor loop: accelerometer readings go in, a line for each gesture that is recognised comes out.

On a board, with thimble, this file, gesture_small.thimble and accelerometer.py (an MPU-6050 on a Pico) on it:

    import gesture_loop, accelerometer
    gesture_loop.watch(accelerometer.readings())

On MicroPython's unix port, with readings from a file or a pipe, one "x y z" in g for each line:

    micropython gesture_loop.py < recording.txt

A window of 128 readings slides over them; every STEP readings the network looks at it.
"""

import sys

import thimble

MODEL = "gesture_small.thimble"
CLASSES = ("negative", "ring", "slope", "wing")
WINDOW, AXES = 128, 3
STEP = 16  # readings between two looks at the window
# Of the network's input and output; `thimble inspect gesture_small.thimble` prints them.
INPUT_SCALE, INPUT_ZERO_POINT = 0.014720074, -23
MARGIN = 10  # how far the best score is above the second, in steps of 0.1


def quantised(value_g):
    """A reading as the byte that the network takes."""
    step = round(value_g / INPUT_SCALE) + INPUT_ZERO_POINT
    return max(-128, min(127, step)) & 0xFF


def classify(network, window):
    """Number of the best class for a window of WINDOW x AXES bytes, and its margin over the second."""
    scores = [score - 256 if score > 127 else score for score in network.run(window)]  # int8
    best = scores.index(max(scores))
    second = max(scores[:best] + scores[best + 1 :])
    return best, scores[best] - second


def looks(network, readings):
    """(class, margin) at each look, once the first window is full."""
    window = bytearray(WINDOW * AXES)
    count = 0
    for reading in readings:
        # Moved in place: a new bytearray for each reading would keep the collector busy.
        window[:-AXES] = window[AXES:]
        for axis in range(AXES):
            window[axis - AXES] = quantised(reading[axis])
        count += 1
        if count >= WINDOW and (count - WINDOW) % STEP == 0:
            yield classify(network, window)


def watch(readings, network=None):
    """Print a gesture when it begins: the best class changes, and is clearly the best."""
    last = 0
    for best, margin in looks(network or thimble.load(MODEL), readings):
        if margin < MARGIN:
            continue
        if best != last and best != 0:
            print(CLASSES[best])
        last = best


def lines(stream):
    """Readings from text, until it ends."""
    while True:
        line = stream.readline()
        if not line:
            return
        if line.strip():
            yield [float(word) for word in line.split()]


if __name__ == "__main__":
    watch(lines(sys.stdin))
