"""Where what is built on demand is kept: the native core and firmware images, by hashes of their sources."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder for this user; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thimble"
