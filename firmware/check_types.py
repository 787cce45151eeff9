"""Type-check the device package against the MicroPython stubs (called by `make lint`).

mypy cannot check it together with the host's code: the device's standard library is another one. The
packages micropython-rp2-stubs and micropython-stdlib-stubs (the dev extra) lay the latter out as a typeshed;
the modules of the port are copied out of site-packages, where mypy ignores stubs without a package.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

FIRMWARE = Path(__file__).resolve().parent
STUB_PACKAGES = ("micropython-rp2-stubs", "micropython-stdlib-stubs")


def copy_port_modules(target: Path) -> Path:
    """Copy the stubs of the port's modules into `target`; the folder that holds the stubs' standard library.

    Raises:
        importlib.metadata.PackageNotFoundError: a stub package is not installed.
    """
    site_packages = Path()
    for package in STUB_PACKAGES:
        for file in importlib.metadata.files(package) or []:
            name = PurePosixPath(file)
            if name.parts[0] == "stdlib":
                site_packages = Path(str(file.locate())).parents[len(name.parts) - 1]
            elif name.suffix == ".pyi" and name.parts[0] != "stubs":
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target / name)
    return site_packages


def main() -> int:
    """Run mypy over the device package; its exit code, or 1 with one sentence when the stubs are missing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            typeshed = copy_port_modules(Path(folder))
        except importlib.metadata.PackageNotFoundError as error:
            print(f"check_types: {error.name} is not installed (run `make setup`)", file=sys.stderr)
            return 1
        options = ["--config-file", "mypy.ini", "--custom-typeshed-dir", typeshed]
        environment = {**os.environ, "MYPYPATH": folder}
        return subprocess.run(
            [sys.executable, "-m", "mypy", *options], cwd=FIRMWARE, env=environment
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
