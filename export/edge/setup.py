"""Packaging of the device side: the base needs numpy only, everything else is an extra."""

from pathlib import Path

from setuptools import find_packages, setup

LOWEST_ONNXRUNTIME = "1.16"

setup(
    name="fedclip-edge",
    version="0.1.0",
    description="FedCLIP on a device: signed ONNX bundles, verified, served and updated; needs numpy only",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["fedclip_edge", "fedclip_edge.*"]),
    install_requires=["numpy>=1.24"],
    extras_require={
        # cpu, gpu and cuda own the same folder: exactly one of them.
        "cpu": [f"onnxruntime>={LOWEST_ONNXRUNTIME}"],
        "gpu": ["onnxruntime-gpu>=1.18"],  # the first with an option against TF32
        "cuda": ["onnxruntime-gpu[cuda,cudnn]>=1.21"],
        "image": ["pillow>=10"],
        "verify": ["cryptography>=42"],
    },
    entry_points={"console_scripts": ["fedclip-edge = fedclip_edge.cli:main"]},
)
