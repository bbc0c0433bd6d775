"""Small pictures in every format and colour mode that devices meet."""

import numpy as np
from PIL import Image


def scene(height=61, width=83, seed=0):
    """Return noise over gradients and squares, uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x * 215 // width, y * 215 // height, (x // 8 + y // 8) % 2 * 200], -1)
    return (planes + np.random.default_rng(seed).integers(0, 40, planes.shape)).astype(np.uint8)


def write_pictures(folder):
    """Write lossless pictures and return their paths."""
    image = Image.fromarray(scene())
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = image.copy()
    clear.putalpha(Image.fromarray(scene(seed=1)[..., 0]))
    wide = Image.fromarray((scene()[..., 0].astype(np.uint16) << 8) + 77)
    hard = image.copy()
    hard.putalpha(Image.fromarray((scene()[..., 2] > 90).astype(np.uint8) * 255))
    saved = {
        "rgb.png": (image, {}),
        "grey.png": (image.convert("L"), {}),
        "palette.png": (image.convert("P"), {}),
        "bits.png": (image.convert("1"), {}),
        "wide.png": (wide, {}),
        "turned.png": (image, {"exif": exif}),
        "lossless.webp": (image, {"lossless": True}),
        "plain.bmp": (image, {}),
        "large.png": (Image.fromarray(scene(700, 1000)), {}),
        "thin.png": (Image.fromarray(scene(3, 900)), {}),
        "cut-out.png": (hard, {}),
        "clear.png": (clear, {}),
        "clear-grey.png": (clear.convert("LA"), {}),
    }
    for name, (picture, options) in saved.items():
        picture.save(folder / name, **options)
    return [folder / name for name in saved]


def write_photos(folder):
    """Write JPEG files of several kinds and return their paths."""
    paths = []
    for seed in range(30):
        exif = Image.Exif()
        exif[0x0112] = 1 + seed % 8
        paths.append(folder / f"photo-{seed}.jpg")
        picture = Image.fromarray(scene(60 + 7 * seed, 90 + 3 * seed, seed))
        picture = picture.convert("L") if seed % 10 == 9 else picture
        picture.save(paths[-1], quality=95 - seed, progressive=seed % 3 == 0, subsampling=seed % 3, exif=exif)
    return paths
