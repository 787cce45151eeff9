"""What the wheel holds: two host packages, the device package, and the other device files as data.

The folders keep the names of the data path (firmware/, boards/), which must not become top-level packages of
an installation, so each is mapped: firmware/thimble is installed as `thimble`, the C core and the board files
as data folders below `host_tools.data`. Everything else about the project is in pyproject.toml.
"""

from setuptools import find_packages, setup

DATA_FOLDERS = {
    "host_tools.data.boards": ("boards", ["*.toml", "*.md"]),
    "host_tools.data.core": ("firmware/core", ["**/*.h", "**/*.c", "**/*.mk", "**/*.md"]),
}

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
    package_data={package: patterns for package, (_, patterns) in DATA_FOLDERS.items()},
    include_package_data=False,
)
