"""MicroPython's unix port at its prompt, on a pseudo-terminal: what a freshly flashed board is to a host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from host_tools.transports import SerialTransport

PROMPT = b">>> "
START_WAIT_S = 10.0


@contextlib.contextmanager
def micropython_prompt(program: Path, folder: Path, *arguments: str) -> Iterator[str]:
    """The serial port of a MicroPython (or of a shell that starts one) that was started in `folder`, whose
    file system it has."""
    master, slave = os.openpty()
    tty.setraw(slave)
    port = os.ttyname(slave)
    # As on a board, the package comes from the file system.
    environment = {**os.environ, "MICROPYPATH": f":{folder}/lib:.frozen"}
    process = subprocess.Popen(
        [program, *arguments],
        stdin=master,
        stdout=master,
        stderr=master,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    try:
        transport = SerialTransport(port)
        heard, deadline = b"", time.monotonic() + START_WAIT_S
        while not heard.endswith(PROMPT):
            assert time.monotonic() < deadline, f"MicroPython shows no prompt, only {heard!r}"
            heard += transport.read(0.5)
        transport.close()
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(slave)
        os.close(master)


def evaluated(port: str, expression: str) -> bytes:
    """What the prompt answers to a line that a person types."""
    transport = SerialTransport(port)
    transport.write(expression.encode() + b"\r")
    answer = b""
    while not answer.endswith(PROMPT) and (data := transport.read(2.0)):
        answer += data
    transport.close()
    return answer.partition(expression.encode() + b"\r\n")[2].removesuffix(PROMPT).strip()
