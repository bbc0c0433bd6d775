"""Train on images of one's own, from folders and from a data set in memory: ``python train.py FOLDER``.

FOLDER has ``<site>/<class>/<image>``. The last site trains from memory, as a torch data set would hand it on; the first
one is held out. The backbone is the built-in one, which knows drawings only; leave it
out for CLIP. Without images of your own, take the built-in ones:
``python -c 'from fedclip_miniature import ensure_miniature as draw; print(draw("data", 12, 1.0))'``
"""

import sys
from pathlib import Path

from PIL import Image

from fedclip_plugin import fit


class Pictures:
    """A data set as torch has them: a length, and pairs of an image and the number of its class."""

    def __init__(self, folder: Path) -> None:
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.paths = sorted(folder.glob("*/*.*"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path = self.paths[index]
        return Image.open(path), self.classes.index(path.parent.name)


if __name__ == "__main__":
    held_out, *folders, last = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
    silos = {folder.name: folder for folder in folders} | {last.name: Pictures(last)}
    result = fit(silos, target=held_out, backbone="clip-tiny", rounds=5, learning_rate=1e-3, progress=False)
    print(result)
    print("saved as", result.save("runs/own_data"))
