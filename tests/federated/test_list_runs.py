"""A list of images as a federation takes it: silos, a target, groups, and files that cannot be read."""

from fedclip_miniature import CLASSES, ensure_miniature
from fedclip_plugin.data import PARTS, silo_image_set, split_images
from fedclip_plugin.recipe import load_recipe
from tests.support.workshop import IMAGES_PER_CLASS

DOMAINS = ("art_painting", "cartoon", "photo", "sketch")
OF_A_LIST = {
    "data_args__dataset": "own",
    "fedclip_args__data_layout": "list",
    "fedclip_args__domains": None,
    "fedclip_args__images_per_class": None,
    "fedclip_args__silo_column": "style",
    "fedclip_args__group_column": "sheet",
}


def test_a_list_trains_with_whole_groups_and_a_target(workshop, fedml_of_the_session):
    root = ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0)
    lines = ["file;label;style;sheet"]
    for style in DOMAINS:
        for path in sorted((root / style).glob("*/*.png")):
            sheet = f"{style} {int(path.stem) % 4 if style != 'photo' else int(path.stem)}"
            lines.append(f"{path.parent.name}/{path.name};{path.parent.name};{style};{sheet}")
    lines.append("dog/gone.png;dog;cartoon;cartoon 9")
    (workshop.place / "images.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    file = workshop.recipe(
        "listed",
        **OF_A_LIST,
        fedclip_args__data_list=str(workshop.place / "images.csv"),
        fedclip_args__data_root=str(root / "{silo}"),
        fedclip_args__on_bad_image="skip",
        train_args__comm_round=2,
    )
    outcome = workshop.run_here(file)
    assert "images: art_painting 84, cartoon 85, photo 84; target sketch 84" in outcome.out
    assert "skipped unreadable images: cartoon 1" in outcome.out
    assert outcome.lines[0].images_target == 84
    recipe = load_recipe(file)
    for index, (name, silo) in enumerate(outcome.lines[-1].silos.items()):
        images = silo_image_set(recipe, index)
        readable = images.subset([i for i, path in enumerate(images.paths()) if path.exists()])
        parts = split_images(readable, 0)
        groups = [set(readable.groups[getattr(parts, part)]) for part in PARTS]
        assert sum(map(len, groups)) == len(set(readable.groups)), "no group is in two parts"
        assert len(readable) == IMAGES_PER_CLASS * len(CLASSES) == sum(parts.sizes().values())
        assert name == images.name
        assert silo.images == {part: parts.sizes()[part] for part in ("validation", "test")}
    assert outcome.lines[-1].silos["cartoon"].images != outcome.lines[-1].silos["photo"].images
