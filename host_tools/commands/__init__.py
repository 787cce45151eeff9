"""The subcommands of `thimble`, one module each (see host_tools/cli.py for what a module has)."""
