"""Power meters: one module per meter behind the protocol of host_tools/meters/meter.py."""
