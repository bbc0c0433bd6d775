"""Write a list of images as CSV: ``python make_list.py``. The images are the built-in ones, patients are invented."""

import csv
from pathlib import Path

from fedclip_miniature import ensure_miniature

SITES = {"north": "art_painting", "south": "cartoon", "west": "photo", "east": "sketch"}

if __name__ == "__main__":
    root = ensure_miniature(Path(".fedclip/data"), 12, 1.0)
    with Path("images.csv").open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["file", "label", "site", "patient"])
        for site, domain in SITES.items():
            for number, path in enumerate(sorted((root / domain).glob("*/*.png"))):
                lines.writerow([path.resolve(), path.parent.name, site, f"{site}-{number // 3}"])
    print("images.csv")
