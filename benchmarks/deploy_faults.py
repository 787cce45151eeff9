"""Deployments over a damaged wire, and with the power failing at every operation of the storage.

A fault of the wire is a piece that was lost, flipped, cut, doubled, held up, or came behind noise or an old
frame, on its way to the device or back. Power fails in each page erased and each unit programmed
(firmware/server on emulated flash, with sanitizers) and in each operation on a file (thimble.slots), in
several ways each, and again while the leftovers of earlier cuts are there. After each case the device must
answer with its old or the new model: by its SHA-256, and by outputs that the reference executor gives too.

    python benchmarks/deploy_faults.py [--seed N] [--faults N]

Prints `bar wire_faults COUNT`, the number of series in which the device had any other model, or none. Needs
gcc.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.deploy_faults import (
    MAX_PAYLOAD,
    CutFlash,
    CutSlots,
    cut_again_and_again,
    cut_at_every_operation,
    damage_the_wire,
)
from tests.device_models import packed_model, two_port_model
from tests.server_devices import CDevice, SlotDevice, build_c_server

SMALL = two_port_model(seed=5), two_port_model(seed=6)
LARGER = packed_model(seed=1, units=10), packed_model(seed=2, units=10)
FLASHES = ((128, 4), (1024, 8), (2048, 32))  # bytes of a page, of a unit
RATES = (0.1, 0.3, 0.5)
C_SHARE = 0.9  # of the faults on the wire: the C server is the faster one here
Step = Callable[[], str]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--faults", type=int, default=100_000, metavar="N", help="on the wire; default: %(default)s"
    )
    arguments = parser.parse_args()
    gcc = shutil.which("gcc")
    if gcc is None:
        print("no gcc here", file=sys.stderr)
        return 2
    gc.freeze()  # the Python server collects garbage at every load
    with tempfile.TemporaryDirectory(prefix="thimble-") as name:
        program = build_c_server(Path(gcc), Path(name))
        return _all(program, Path(name), arguments.seed, arguments.faults)


def _all(program: Path, folder: Path, seed: int, faults: int) -> int:
    wrong = total = 0

    def damaged(step: Callable[[], tuple[int, int]]) -> str:
        nonlocal total
        found, deployments = step()
        total += found
        return f"{found:,} faults in {deployments:,} deployments"

    steps: list[tuple[str, Step]] = []
    for rate in RATES:
        each = -(-faults // len(RATES))
        in_c = round(each * C_SHARE)
        for kind, share in (("c", in_c), ("python", each - in_c)):
            what = f"wire, {rate:.0%} damaged, {'firmware/server' if kind == 'c' else 'thimble.slots'}"

            def step(kind: str = kind, share: int = share, rate: float = rate) -> str:
                storage = _flash_device(program, folder) if kind == "c" else SlotDevice(_new(folder))
                return damaged(
                    lambda: damage_the_wire(lambda: storage.start(MAX_PAYLOAD), SMALL, share, rate, seed)
                )

            steps.append((what, step))
    for page, unit in FLASHES:
        for files in (SMALL, LARGER):
            what = f"flash of {page}/{unit} bytes, {len(files[1]):,} bytes"
            steps.append(
                (what, lambda p=page, u=unit, f=files: _cuts(_flash(program, folder, p, u), f, seed))
            )
    for files in (SMALL, LARGER):
        steps.append((f"files, {len(files[1]):,} bytes", lambda f=files: _cuts(_slots(folder), f, seed)))
    for what, step in steps:
        started = time.monotonic()
        try:
            result = step()
        except AssertionError as error:
            wrong += 1
            result = f"WRONG: {error}"
        print(f"{what:50} {result} ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"seed {seed}: {total:,} faults on the wire")
    print(f"bar wire_faults {wrong}")
    return 1 if wrong or total < faults else 0


def _new(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def _flash_device(program: Path, folder: Path, page: int = 1024, unit: int = 8) -> CDevice:
    return CDevice(program, _new(folder), page, unit)


def _flash(program: Path, folder: Path, page: int, unit: int) -> CutFlash:
    return CutFlash(_flash_device(program, folder, page, unit))


def _slots(folder: Path) -> CutSlots:
    return CutSlots(SlotDevice(_new(folder)))


def _cuts(device: CutFlash | CutSlots, files: tuple[bytes, bytes], seed: int) -> str:
    tried, came = cut_at_every_operation(device, *files, seeds=4 if isinstance(device, CutFlash) else 6)
    more = cut_again_and_again(device, files, 1000 if isinstance(device, CutFlash) else 100, seed)
    device.close()
    return f"{tried + more:,} power cuts, of {tried:,} the new model came after {came}"


if __name__ == "__main__":
    sys.exit(main())
