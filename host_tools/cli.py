"""The `thimble` command: finds the subcommand, runs it, and turns every expected error into one sentence on
stderr.

Each module in host_tools/commands is one subcommand and has `HELP` (one line), `configure(parser)` and
`run(arguments) -> int`; its name is the module's name. Heavy imports belong into `run`, so that `--help` is
quick. Results go to stdout, as text for people or, with --json, for programs; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, NoReturn

from host_tools import commands
from host_tools.exit_codes import ExitCode, exit_code
from model_packager.errors import DeviceRefused, FormatError, ThimbleError
from model_packager.format_table import FORMAT_VERSION, PROTOCOL_VERSION

DESCRIPTION = (
    "Compress a trained neural network into one flat binary, and run, deploy and measure it on "
    "microcontrollers."
)
EPILOG = (
    "`thimble COMMAND --help` explains a command. A failure prints one sentence on stderr and exits non-zero."
)


class _Parser(argparse.ArgumentParser):
    """Bad arguments are one sentence too, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{message} (`{self.prog} --help` explains)")
        raise SystemExit(ExitCode.USAGE)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse's own, which is silent where the text cannot be written."""
        if message:
            (file or sys.stderr).write(message)


def version_text() -> str:
    """Versions of the package, of the file format and of the wire protocol."""
    try:
        package = version("thimble-runtime")
    except PackageNotFoundError:
        package = "(not installed)"
    return f"thimble {package}, format {FORMAT_VERSION}, protocol {PROTOCOL_VERSION}"


def command_modules() -> dict[str, ModuleType]:
    """Subcommand name -> module, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    return {name: importlib.import_module(f"{commands.__name__}.{name}") for name in names}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; the chosen module's `run` is in the namespace as `run_command`, its
    parser as `command_parser`."""
    parser = _Parser(prog="thimble", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=version_text())
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name, module in command_modules().items():
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.configure(subparser)
        subparser.set_defaults(run_command=module.run, command_parser=subparser)
    return parser


def _complain(sentence: str) -> None:
    print(f"thimble: {sentence}", file=sys.stderr)


def _sentence(error: ThimbleError, namespace: argparse.Namespace) -> str:
    """The error's own words; a loader's or a device's, which know bytes only, with the name of the file
    before them."""
    if not isinstance(error, FormatError) or getattr(namespace, "model", None) is None:
        return str(error)
    return f"{namespace.model}: {'the device says ' * isinstance(error, DeviceRefused)}{error}"


def _os_error_sentence(error: OSError) -> str:
    reason = error.strerror or str(error)
    if reason == os.strerror(errno.ENOENT):
        reason = "there is no such file"
    return f"{error.filename}: {reason}" if error.filename else reason


def _flush() -> None:
    """Write what stdout holds back; where that fails, keep the interpreter from trying again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _run(arguments: Sequence[str] | None, namespace: argparse.Namespace) -> int:
    """Fill the namespace and run the command; all that it prints is written when this returns."""
    try:
        _, unknown = build_parser().parse_known_args(arguments, namespace)
        if unknown:
            namespace.command_parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        code = int(namespace.run_command(namespace))
    except SystemExit as stop:  # argparse: --help, --version, bad arguments
        code = int(stop.code or 0)
    _flush()
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (host_tools/exit_codes.py)."""
    # A stream that the caller has closed is None here.
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be text, and a terminal need not know every character.
        sys.stdout.reconfigure(errors="replace")
    namespace = argparse.Namespace()
    try:
        return _run(arguments, namespace)
    except ThimbleError as error:
        _complain(_sentence(error, namespace))
        return int(exit_code(error))
    except BrokenPipeError:  # the reader of our output has gone, and knows why
        with suppress(OSError):
            _flush()
        return int(ExitCode.ERROR)
    except OSError as error:
        _complain(_os_error_sentence(error))
        with suppress(OSError):
            _flush()
        return int(ExitCode.ERROR)
    except MemoryError:
        _complain("this takes more memory than the machine has")
        return int(ExitCode.ERROR)
    except KeyboardInterrupt as interrupt:
        _complain("interrupted")
        return int(exit_code(interrupt))


if __name__ == "__main__":
    sys.exit(main())
