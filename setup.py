"""Which packages the distribution holds, and where they lie; all else is in ``pyproject.toml``."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["fedclip_plugin*", "fedclip_miniature*"]),
        *find_packages("export", include=["fedclip_export*"]),
        "fedclip_recipes",
    ],
    package_dir={
        "fedclip_export": "export/fedclip_export",
        "fedclip_recipes": "recipes",
        "fedclip_edge": "export/edge/fedclip_edge",  # for its version only; it is a distribution of its own
    },
)
