"""Thimble packager: imports, compresses and writes models (host only)."""
