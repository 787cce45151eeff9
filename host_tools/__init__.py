"""Host side: the `thimble` command, and the client of the device server (see docs/PROTOCOL.md)."""
