"""Buildings, plants, instruments, household things and vehicles: thirteen objects that are made or grow."""

from __future__ import annotations

import numpy as np

from fedclip_miniature.shapes import Jitter, Part, blob, capsule, dome, ellipse, part, polygon, rectangle, tube


def _window(x: float, y: float, size: float) -> list[Part]:
    bars = [
        rectangle(x - 0.014, y - size, x + 0.014, y + size),
        rectangle(x - size, y - 0.014, x + size, y + 0.014),
    ]
    return [part("light", rectangle(x - size, y - size, x + size, y + size)), part("dark", *bars)]


def house(jitter: Jitter) -> list[Part]:
    """Draw a house: gable roof with eaves, door, windows, often a chimney."""
    width, height, roof = jitter.near(0.55), jitter.near(0.4), jitter.near(0.42)
    door = jitter.between(-0.3, 0.3) * width
    parts = []
    if jitter.chance(0.65):
        parts.append(part("second", rectangle(width * 0.42, -height - roof * 0.85, width * 0.68, -height)))
    eaves = polygon(
        (-width * 1.22, -height + 0.02),
        (jitter.between(-0.12, 0.12), -height - roof),
        (width * 1.22, -height + 0.02),
    )
    entry = rectangle(door - 0.12, height - jitter.near(0.42), door + 0.12, height)
    parts += [
        part("main", rectangle(-width, -height, width, height)),
        part("second", eaves),
        part("wood", entry),
    ]
    parts.append(part("gold", ellipse(door + 0.07, height - 0.19, 0.024, 0.024, corners=8)))
    for x in (-width * 0.62, width * 0.62):
        if abs(x - door) > 0.27:
            parts += _window(x, -height * 0.18, 0.14)
    return parts


def castle(jitter: Jitter) -> list[Part]:
    """Draw a castle: two pointed towers, battlements, an arched gate."""
    width = jitter.near(0.42)
    teeth = [rectangle(x - 0.07, -0.17, x + 0.07, -0.04) for x in np.linspace(-width + 0.07, width - 0.07, 4)]
    towers, roofs, slits = [], [], []
    for side in (-1, 1):
        x, top = side * width, 0.15 - jitter.near(0.55)
        towers.append(rectangle(x - 0.17, top, x + 0.17, 0.55))
        roofs.append(polygon((x - 0.23, top + 0.02), (x, top - 0.4), (x + 0.23, top + 0.02)))
        slits.append(rectangle(x - 0.04, -0.12, x + 0.04, 0.08))
    gate = np.concatenate([polygon((0.14, 0.55), (-0.14, 0.55)), dome(0, 0.3, 0.14, 0.15)])
    return [
        part("main", rectangle(-width, -0.05, width, 0.55), *teeth),
        part("second", *towers),
        part("main", *roofs),
        part("dark", gate, *slits),
    ]


def tree(jitter: Jitter) -> list[Part]:
    """Draw a broad-leaved tree: trunk and a crown of clumps."""
    clumps = []
    for angle in np.arange(5) * 1.26 + jitter.between(0, 1.2):
        clumps.append(ellipse(0.28 * np.cos(angle), -0.3 + 0.23 * np.sin(angle), jitter.near(0.29), jitter.near(0.27)))
    trunk = capsule((0, 0.0), (jitter.between(-0.05, 0.05), 0.8), 0.085, 0.13)
    inner = blob((-0.28, -0.2), (-0.1, -0.42), (0.12, -0.3), (0.26, -0.42), (0.2, -0.12), (-0.1, -0.08))
    return [part("wood", trunk), part("main", *clumps), part("second", inner)]


def flower(jitter: Jitter) -> list[Part]:
    """Draw a flower: ring of petals, golden heart, stem with two leaves."""
    count, ring = int(jitter.rng.integers(5, 9)), jitter.near(0.3)
    petals = [
        ellipse(ring * np.cos(a), -0.25 + ring * np.sin(a), 0.2, 0.125, a) for a in 2 * np.pi * np.arange(count) / count
    ]
    leaves = [ellipse(0.17, 0.5, 0.18, 0.07, -0.5), ellipse(-0.17, 0.62, 0.18, 0.07, 0.5)]
    stem = tube([(0, 0), (jitter.between(-0.06, 0.06), 0.45), (jitter.between(-0.1, 0.1), 0.85)], 0.036, 0.036)
    return [part("leaf", stem, *leaves), part("main", *petals), part("gold", ellipse(0, -0.25, 0.16, 0.16))]


def mushroom(jitter: Jitter) -> list[Part]:
    """Draw a mushroom: spotted cap over a pale stalk."""
    width, height = jitter.near(0.56), jitter.near(0.5)
    stalk = capsule((0, 0), (jitter.between(-0.08, 0.08), 0.55), 0.15, 0.19)
    dots = [ellipse(x, y, 0.085, 0.07, corners=12) for x, y in ((-0.29, -0.1), (0.02, -0.28), (0.29, -0.09))]
    return [part("light", stalk), part("main", dome(0, 0.06, width, height)), part("light", *dots)]


def _strings(belly: float, chest: float, waist: float, neck: float) -> tuple[Part, Part, Part]:
    top = -0.85 - neck
    fretboard = part("wood", rectangle(-0.058, top, 0.058, 0.0))
    head = part("dark", polygon((-0.1, top), (0.1, top), (0.075, top - 0.22), (-0.075, top - 0.22)))
    right = [
        (chest * 0.8, -0.33),
        (chest, -0.12),
        (waist, 0.1),
        (belly * 0.95, 0.28),
        (belly, 0.5),
        (belly * 0.6, 0.74),
    ]
    body = blob((0, -0.4), *right, (0, 0.8), *((-x, y) for x, y in reversed(right)))
    return fretboard, head, part("main", body)


def guitar(jitter: Jitter) -> list[Part]:
    """Draw a guitar: waisted body, sound hole, bridge, long neck, strings."""
    neck = jitter.near(0.16, 0.6)
    fretboard, head, body = _strings(jitter.near(0.44), jitter.near(0.32), jitter.near(0.24), neck)
    bridge, hole = rectangle(-0.16, 0.46, 0.16, 0.53), ellipse(0, 0.12, 0.145, 0.145)
    cords = [rectangle(x - 0.009, -0.85 - neck, x + 0.009, 0.48) for x in (-0.028, 0.028)]
    pegs = [ellipse(s * 0.12, -0.96 - neck, 0.035, 0.03, corners=8) for s in (-1, 1)]
    rosette = ellipse(0, 0.12, 0.19, 0.19)
    return [
        part("light", *pegs),
        head,
        body,
        part("second", rosette),
        part("dark", hole),
        fretboard,
        part("dark", bridge),
        part("light", *cords),
    ]


def violin(jitter: Jitter) -> list[Part]:
    """Draw a violin: slim body, f-holes, tailpiece, and a bow beside it."""
    _, head, body = _strings(jitter.near(0.32), jitter.near(0.25), jitter.near(0.13), -0.1)
    holes = [tube([(s * 0.1, 0.1), (s * 0.15, 0.2), (s * 0.15, 0.36)], 0.022, 0.022) for s in (-1, 1)]
    board = polygon((-0.04, -0.75), (0.04, -0.75), (0.06, 0.08), (-0.06, 0.08))
    tailpiece = polygon((-0.07, 0.45), (0.07, 0.45), (0.035, 0.76), (-0.035, 0.76))
    low, high = jitter.between(0.4, 0.6), jitter.between(0.4, 0.7)
    bow = [capsule((low, -0.8), (high, 0.65), 0.02), capsule((low + 0.07, -0.78), (high + 0.07, 0.62), 0.008)]
    return [head, body, part("dark", *holes, board, tailpiece), part("wood", *bow)]


def cup(jitter: Jitter) -> list[Part]:
    """Draw a cup: handle, rim, a band of colour."""
    top, height, foot = jitter.near(0.4), jitter.near(0.42), jitter.near(0.29)
    handle = tube([(top * 0.85, -0.2), (top + 0.25, -0.2), (top + 0.25, 0.14), (foot * 1.05, 0.2)], 0.055, 0.05)
    band = polygon((-top * 0.95, -0.1), (top * 0.95, -0.1), (top * 0.9, 0.07), (-top * 0.9, 0.07))
    return [
        part("main", handle),
        part("main", polygon((-top, -height), (top, -height), (foot, height), (-foot, height))),
        part("light", band),
        part("second", ellipse(0, -height, top, 0.1)),
    ]


def chair(jitter: Jitter) -> list[Part]:
    """Draw a chair: ladder back, seat, four legs."""
    back, width, leg = jitter.near(0.66), jitter.near(0.34), jitter.near(0.5)
    far = [
        capsule((-width + 0.12, 0.1), (-width + 0.12, leg - 0.03), 0.04),
        capsule((width + 0.1, 0.02), (width + 0.1, leg - 0.05), 0.04),
    ]
    posts = [
        rectangle(-width, -back, -width + 0.08, 0.1),
        rectangle(-width + 0.22, -back - 0.04, -width + 0.29, 0.02),
    ]
    rungs = [
        polygon(
            (-width + 0.06, y),
            (-width + 0.25, y - 0.03),
            (-width + 0.25, y + 0.06),
            (-width + 0.06, y + 0.09),
        )
        for y in (-back * 0.92, -back * 0.62, -back * 0.32)
    ]
    seat = polygon((-width, 0.02), (-width + 0.2, -0.09), (width + 0.15, -0.09), (width, 0.02))
    near = [capsule((x, 0.1), (x, leg + 0.12), 0.05) for x in (-width + 0.05, width - 0.05)]
    return [
        part("second", *far, *rungs),
        part("main", *posts),
        part("second", rectangle(-width, 0.02, width, 0.12)),
        part("main", seat),
        part("main", *near),
    ]


def umbrella(jitter: Jitter) -> list[Part]:
    """Draw an open umbrella: scalloped canopy, crook handle."""
    width, height = jitter.near(0.72, 0.08), jitter.near(0.55)
    hem = polygon((width * 0.66, -0.1), (width * 0.33, 0), (0, -0.1), (-width * 0.33, 0), (-width * 0.66, -0.1))
    canopy = np.concatenate([dome(0, 0, width, height), hem])
    panel = polygon((0, -height), (width * 0.33, 0), (0, -0.1), (-width * 0.33, 0))
    stick = [
        capsule((0, -height - 0.08), (0, 0.62), 0.028),
        tube([(0, 0.6), (0.05, 0.76), (0.17, 0.76), (0.21, 0.62)], 0.032, 0.032),
    ]
    return [part("dark", *stick), part("main", canopy), part("second", panel)]


def car(jitter: Jitter) -> list[Part]:
    """Draw a car from the side: cabin with two windows, lamps, wheels."""
    length, height, x = jitter.near(0.75, 0.08), jitter.near(0.2), jitter.between(-0.15, 0.1)
    roof = -height - jitter.near(0.3)
    cabin = polygon((x - 0.42, -height), (x - 0.26, roof), (x + 0.24, roof), (x + 0.44, -height))
    panes = [
        polygon((x - 0.31, -height), (x - 0.2, roof + 0.07), (x - 0.01, roof + 0.07), (x - 0.01, -height)),
        polygon((x + 0.05, -height), (x + 0.05, roof + 0.07), (x + 0.2, roof + 0.07), (x + 0.32, -height)),
    ]
    hull = blob(
        (-length, -height * 0.8),
        (-length * 0.4, -height),
        (length * 0.6, -height),
        (length, -height * 0.3),
        (length, height),
        (0, height * 1.05),
        (-length, height),
    )
    tyres = [ellipse(s * 0.45, height, jitter.near(0.18, 0.08), 0.18) for s in (-1, 1)]
    hubs = [ellipse(s * 0.45, height, 0.075, 0.075, corners=12) for s in (-1, 1)]
    return [
        part("main", cabin, hull),
        part("light", *panes),
        part("gold", ellipse(length * 0.93, -0.01, 0.06, 0.06, corners=10)),
        part("dark", *tyres),
        part("light", *hubs),
    ]


def boat(jitter: Jitter) -> list[Part]:
    """Draw a sailing boat: mast, two sails, hull."""
    mast = jitter.near(0.8, 0.1)
    hull = polygon((-0.76, 0.16), (0.76, 0.16), (jitter.near(0.5), 0.48), (-0.5, 0.48))
    return [
        part("wood", rectangle(-0.03, -mast, 0.03, 0.2)),
        part("light", polygon((0.06, -mast * 0.95), (0.06, 0.08), (jitter.near(0.58), 0.08))),
        part("second", polygon((-0.06, -mast * 0.8), (-0.06, 0.08), (-jitter.near(0.45), 0.08))),
        part("main", hull),
    ]


def plane(jitter: Jitter) -> list[Part]:
    """Draw an aeroplane from the side: swept wings, fin, row of windows."""
    far = polygon((-0.1, -0.03), (-0.38, -jitter.near(0.48)), (-0.2, -0.48), (0.2, -0.03))
    fin = polygon((-0.58, 0), (-0.85, -jitter.near(0.36)), (-0.66, -0.36), (-0.42, -0.02))
    near = polygon((-0.05, 0.05), (-0.4, jitter.near(0.45)), (-0.18, 0.45), (0.25, 0.05))
    windows = [ellipse(x, -0.03, 0.036, 0.036, corners=8) for x in (-0.2, 0, 0.2, 0.4)]
    return [
        part("second", far, fin),
        part("main", ellipse(0, 0, 0.8, jitter.near(0.15))),
        part("second", near),
        part("light", *windows),
        part("dark", ellipse(0.62, -0.05, 0.08, 0.05)),
    ]
