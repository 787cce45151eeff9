"""What the wheel holds: two host packages, the device package, the other device files as data, and the C core
as an extension.

The folders keep the names of the data path (firmware/, boards/), which must not become top-level packages of
an installation, so each is mapped: firmware/thimble is installed as `thimble`, the C sources and the board
files as data folders below `host_tools.data`. Everything else about the project is in pyproject.toml.
"""

import os
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent))  # an isolated build does not look here
from host_tools.native_extension import COMPILE, builder, include_folders, sources

DATA_FOLDERS = {
    "host_tools.data.boards": ("boards", ["*/board.toml", "*.md"]),
    "host_tools.data.core": ("firmware/core", ["**/*.h", "**/*.c", "**/*.mk", "**/*.md"]),
    "host_tools.data.meter": ("firmware/meter", ["*.py"]),
    "host_tools.data.platform": ("firmware/platform", ["**/*.h", "**/*.c", "**/*.ld"]),
    "host_tools.data.server": ("firmware/server", ["**/*.h", "**/*.c", "**/*.md"]),
}


class BuildExtension(build_ext):
    """In a checkout the extension would soon be older than its sources: it is compiled when it is needed."""

    def run(self):
        if not self.editable_mode:
            super().run()


def core_extension():
    """The C core for any Python from 3.10 on. Without a C compiler a wheel is built all the same; its core is
    compiled when it is needed."""
    return builder(
        sources=[os.path.relpath(path) for path in sources()],
        include_dirs=[os.path.relpath(path) for path in include_folders()],
        extra_compile_args=[] if sys.platform == "win32" else [*COMPILE],
        py_limited_api=True,
        define_macros=[("Py_LIMITED_API", "0x030A0000")],
        optional=True,
    ).distutils_extension(tmpdir="build")


setup(
    packages=[
        *find_packages(include=["model_packager", "model_packager.*", "host_tools", "host_tools.*"]),
        "thimble",
        *DATA_FOLDERS,
    ],
    package_dir={
        "thimble": "firmware/thimble",
        **{package: folder for package, (folder, _) in DATA_FOLDERS.items()},
    },
    package_data={
        "host_tools.report": ["style.css"],
        **{package: patterns for package, (_, patterns) in DATA_FOLDERS.items()},
    },
    include_package_data=False,
    ext_modules=[core_extension()],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
