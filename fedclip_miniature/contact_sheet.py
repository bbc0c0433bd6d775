"""The contact sheet: a few images of every domain and class on one page.

From the command line: ``python -m fedclip_miniature.contact_sheet --out PNG``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fedclip_miniature.dataset import DEFAULT_DIFFICULTY, DOMAINS, render_image
from fedclip_miniature.objects.catalogue import CLASSES

_MARGIN, _TITLE, _GAP, _GROUP = 12, 30, 3, 12
_LABEL = 116
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def draw_sheet(
    path: Path, per_cell: int = 3, difficulty: float = DEFAULT_DIFFICULTY, tile: int = 84, seed: int = 7
) -> Path:
    """Draw the first images of every domain (rows) and class (columns), and save them as one picture.

    The defaults show what a federation sees first; ``tile`` is the side of an image in pixels, and the suffix of the
    path chooses the format.
    """
    column = per_cell * (tile + _GAP) - _GAP + _GROUP
    size = (
        _LABEL + len(CLASSES) * column + _MARGIN - _GROUP,
        _TITLE + len(DOMAINS) * (tile + _GROUP) + _MARGIN - _GROUP,
    )
    sheet = Image.new("RGB", size, (252, 251, 248))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for i, class_name in enumerate(CLASSES):
        pen.text(
            (_LABEL + i * column + (column - _GROUP) / 2, _TITLE / 2),
            class_name,
            (50, 48, 54),
            font,
            anchor="mm",
        )
    for row, domain in enumerate(DOMAINS):
        top = _TITLE + row * (tile + _GROUP)
        pen.text((_LABEL - 10, top + tile / 2), domain, (50, 48, 54), font, anchor="rm")
        for i, class_name in enumerate(CLASSES):
            for index in range(per_cell):
                image = Image.fromarray(render_image(domain, class_name, index, difficulty, seed))
                spot = (_LABEL + i * column + index * (tile + _GAP), top)
                sheet.paste(image.resize((tile, tile), Image.Resampling.LANCZOS), spot)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the sheet and print where it is; return the exit code."""
    parser = argparse.ArgumentParser(prog="contact_sheet", description="Draw the built-in data set's contact sheet.")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), metavar="PNG", help="where to (sheet.png)")
    parser.add_argument("--per-cell", type=int, default=3, metavar="N", help="images per class and domain (3)")
    options = parser.parse_args(argv)
    if options.out.suffix.lower() not in _PICTURES:
        parser.error(f"{options.out}: the name of a picture must end in {', '.join(_PICTURES)}")
    print(draw_sheet(options.out, per_cell=options.per_cell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
