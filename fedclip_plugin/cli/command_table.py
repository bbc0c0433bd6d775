"""Every command by group: what it does, and an example of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command of ``fedclip``; its module in ``fedclip_plugin.cli`` has its name, with _ for -."""

    what: str
    example: str


GROUPS: Mapping[str, Mapping[str, Command]] = {
    "start": {
        "ls": Command("list the recipes that come with the package, or the methods", "fedclip ls --methods"),
        "init": Command(
            "look at a folder or list of images and write a recipe for it",
            "fedclip init data/PACS --target sketch > mine.yaml",
        ),
        "cp": Command(
            "copy a recipe or a study that comes with the package, to edit it",
            "fedclip cp pacs/vit_b32_fedclip mine.yaml",
        ),
        "completion": Command(
            "print what lets a shell complete commands, recipes and keys", 'eval "$(fedclip completion bash)"'
        ),
    },
    "look": {
        "check": Command(
            "look through a folder or list of images: counts, bad files, duplicates", "fedclip check data/PACS"
        ),
        "validate": Command("check recipes; every fault is named at once", "fedclip validate mine.yaml"),
        "partition": Command(
            "show how many images of each class every silo or client of a recipe has, and draw it",
            "fedclip partition mine.yaml --set data_args.partition_alpha=0.1 --picture clients.svg",
        ),
        "keys": Command("what the keys of a recipe mean, with type and default", "fedclip keys learning_rate"),
        "schema": Command("print the JSON schema of recipes, for editors", "fedclip schema > fedclip.schema.json"),
        "policy": Command(
            "hold a recipe against this machine's silo policy, or print one", "fedclip policy check mine.yaml"
        ),
        "silo-keys": Command(
            "make a silo's key for secure sums, or look at this machine's keys and roster for a recipe",
            "fedclip silo-keys new north",
        ),
        "doctor": Command("versions and clashes, MPI, GPU, caches", "fedclip doctor"),
    },
    "run": {
        "launch": Command(
            "check a recipe, print its mpirun command, and run it",
            "fedclip launch miniature/clip_tiny_fedclip --set train_args.comm_round=10",
        ),
        "run": Command(
            "be one rank of an mpirun job (launch does this for you)",
            "mpirun -np 4 fedclip run miniature/clip_tiny_fedclip",
        ),
        "study": Command(
            "run what is missing of a study in one mpirun job, and print its tables",
            "fedclip study studies/miniature --dry-run",
        ),
    },
    "result": {
        "evaluate": Command(
            "score an adapter, and zero-shot CLIP, on labelled images",
            "fedclip evaluate runs/demo/adapters/best data/PACS/sketch",
        ),
        "predict": Command(
            "label images with an adapter; exit code 2 when one cannot be read",
            "fedclip predict runs/demo/adapters/best picture.jpg",
        ),
        "export": Command(
            "turn an adapter into ONNX for devices: keys, bundles, updates",
            "fedclip export bundle --adapter runs/demo/adapters/best --out bundle --sign keys/release",
        ),
        "push": Command(
            "publish an adapter on the Hugging Face hub, with a card",
            "fedclip push runs/demo jane/sketches --private --license apache-2.0",
        ),
        "pull": Command(
            "fetch an adapter from the hub; then its name stands for it in every command", "fedclip pull jane/sketches"
        ),
        "audit": Command(
            "verify a silo's egress log, and tell what left; exit code 2 when it does not verify",
            "fedclip audit runs/demo/logs/egress_1.jsonl",
        ),
        "forget": Command(
            "the adapter of a run without one of its silos; of ridge, ncm and gda",
            "fedclip forget runs/demo --silo photo",
        ),
        "report": Command("write a page of figures and tables, of a run or of a study", "fedclip report runs/demo"),
    },
}
"""Group to command to what is told of it, in the order of ``fedclip --help``."""

COMMANDS: Mapping[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}
"""Every command."""


def overview() -> str:
    """Return the commands by group as lines of text."""
    width = max(map(len, COMMANDS))
    blocks = [
        "\n".join([f"{group}:", *(f"    {name:{width}}  {command.what}" for name, command in commands.items())])
        for group, commands in GROUPS.items()
    ]
    return "\n\n".join([*blocks, "fedclip COMMAND --help says more of a command, with an example."])
