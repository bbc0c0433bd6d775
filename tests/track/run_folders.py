"""Run folders as a server would have left them, made without the plugin."""

import json

HEADER = """# The resolved recipe of this run; it loads again as it is.
# digest: {digest}
# seed: 0
# code: 0123456789ab
# versions: python 3.11.7, fedclip-plugin 0.1.0, torch 2.15.0

common_args:
  training_type: cross_silo
train_args:
  comm_round: {rounds}
  learning_rate: 5.0e-05
fedclip_args:
  method: fedclip
  domains: [art, photo]
  target_domain: null
"""
SILOS = ("north clinic", "süd+1", "süd*1")


def line(number, **changes):
    """Return a round's line, with its line break; silos' names are such as folders have."""
    silos = {
        name: {
            "train_loss": 2.0 - 0.1 * number if number else None,
            "validation": 0.5 + 0.01 * number,
            "test": 0.5,
            "images": {"validation": 8, "test": 8},
        }
        for name in SILOS
    }
    if not number:
        for silo in silos.values():
            silo["zero_shot"] = {"validation": 0.4, "test": 0.45}
    record = {
        "round": number,
        "silos": silos,
        "train_loss": 2.0 - 0.1 * number if number else None,
        "validation": 0.5 + 0.01 * number,
        "test": 0.5,
        "answered": list(SILOS) if number else [],
        "dropped": {},
        "bytes_up": 1000 * number,
        "bytes_down": 900 * number,
        "seconds": {"train": 0.1, "round": 0.2},
        "target": None if number == 1 else 0.6,
        "best_round": number,
    }
    return json.dumps(record | changes) + "\n"


def write_run(path, rounds=3, done=None, digest="ab" * 32):
    """Write a run of ``rounds`` rounds after round 0, of which ``done`` are there (all), and return its folder."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "recipe.yaml").write_text(HEADER.format(digest=digest, rounds=rounds), encoding="utf-8")
    done = rounds if done is None else done
    (path / "metrics.jsonl").write_text("".join(line(number) for number in range(done + 1)), encoding="utf-8")
    folder = path / "adapters" / f"round_{done:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter.json").write_text('{"format_version": 2}\n', encoding="utf-8")
    (folder / "adapter.safetensors").write_bytes(b"weights")
    for name in ("best", "final"):
        link = path / "adapters" / name
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
    return path


def append(path, text):
    """Append to a run's metrics, as the server does."""
    with (path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)
