"""The entry point of `thimble` and of `python -m host_tools`: it imports next to nothing, so that Ctrl-C
while the command is still being imported ends it as Ctrl-C does later.
"""

import sys


def main() -> int:
    """Import the command line and run it; returns the exit code."""
    try:
        from host_tools.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("thimble: interrupted", file=sys.stderr)
        return 130  # ExitCode.INTERRUPTED, whose module may not be there yet


if __name__ == "__main__":
    sys.exit(main())
