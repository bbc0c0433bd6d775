"""The smaller animals and the figures: rabbit, bird, fish, butterfly, person, robot."""

from __future__ import annotations

import numpy as np

from fedclip_miniature.shapes import (
    Jitter,
    Part,
    Points,
    blob,
    capsule,
    dome,
    ellipse,
    eye,
    part,
    polygon,
    rectangle,
    tube,
)


def rabbit(jitter: Jitter) -> list[Part]:
    """Draw a sitting rabbit: tall ears, round haunch, tuft of a tail."""
    body, head = jitter.near(0.34), jitter.near(0.21, 0.1)
    x, y = jitter.between(0.16, 0.3), -0.26
    ears = [
        ellipse(x + s * 0.09, y - 0.38, 0.068, jitter.near(0.28), s * 0.15 + jitter.between(-0.25, 0.25))
        for s in (-1, 1)
    ]
    return [
        part("light", ellipse(-body, 0.36, 0.11, 0.11)),
        part("second", *ears),
        part("main", ellipse(0, 0.25, body, jitter.near(0.33)), capsule((0.18, 0.3), (0.26, 0.58), 0.085)),
        part("second", ellipse(-0.1, 0.48, 0.22, 0.13)),
        part("main", ellipse(x, y, head, head * 0.92)),
        *eye(x + 0.08, y - 0.03, 0.036),
        part("dark", ellipse(x + 0.2, y + 0.05, 0.03, 0.03, corners=8)),
    ]


def bird(jitter: Jitter) -> list[Part]:
    """Draw a bird: beak, wing, fanned tail, thin legs."""
    tilt, wing = jitter.between(-0.4, 0.1), jitter.between(-1.1, 0.5)
    feather = ellipse(-0.1 + 0.12 * np.cos(wing), -0.03 + 0.15 * np.sin(wing), jitter.near(0.3), 0.13, wing)
    legs = [capsule((dx, 0.2), (dx + 0.02, 0.52), 0.022) for dx in (-0.04, 0.1)]
    return [
        part(
            "second",
            polygon((-0.3, -0.05), (-0.82, -0.15 + jitter.between(-0.1, 0.1)), (-0.76, 0.14), (-0.3, 0.1)),
        ),
        part("dark", *legs),
        part(
            "main",
            ellipse(0, 0, jitter.near(0.42), jitter.near(0.25), tilt),
            ellipse(0.36, -0.24, 0.19, 0.18),
        ),
        part("gold", polygon((0.5, -0.33), (0.52 + jitter.near(0.24), -0.23), (0.5, -0.17))),
        part("second", feather),
        *eye(0.41, -0.29),
    ]


def fish(jitter: Jitter) -> list[Part]:
    """Draw a fish: forked tail, fins, stripes."""
    length, height, tail = jitter.near(0.5), jitter.near(0.28), jitter.near(0.3)
    fork = polygon((-length * 0.8, 0), (-length - tail, -height), (-length - tail * 0.7, 0), (-length - tail, height))
    fin = polygon((-0.18, -height * 0.8), (0.02, -height - jitter.near(0.2)), (0.25, -height * 0.7))
    stripes = [capsule((x, -height * 0.6), (x, height * 0.6), 0.03) for x in (-0.22, -0.04)]
    return [
        part("second", fork, fin),
        part("main", ellipse(0, 0, length, height)),
        part("light", *stripes),
        part("second", polygon((0.1, 0.05), (-0.1, 0.24), (0.14, 0.2))),
        *eye(length * 0.62, -0.06, 0.048),
    ]


def butterfly(jitter: Jitter) -> list[Part]:
    """Draw a butterfly from above: four wings, feelers."""
    upper, lower = jitter.near(0.35), jitter.near(0.27)
    wings, hind, dots, feelers = [], [], [], []
    for side in (-1, 1):
        wings.append(ellipse(side * 0.36, -0.24, upper, jitter.near(0.26), side * -0.5))
        hind.append(ellipse(side * 0.28, 0.26, lower, jitter.near(0.22), side * 0.5))
        dots.append(ellipse(side * 0.42, -0.27, 0.11, 0.09, corners=12))
        feelers.append(tube([(side * 0.03, -0.4), (side * 0.1, -0.55), (side * 0.2, -0.62)], 0.016, 0.016))
    return [
        part("second", *hind),
        part("main", *wings),
        part("light", *dots),
        part("dark", ellipse(0, 0, 0.06, 0.45), *feelers),
    ]


def _limbs(jitter: Jitter, width: float, height: float) -> dict[str, list[Points]]:
    limbs: dict[str, list[Points]] = {"legs": [], "shoes": [], "sleeves": [], "hands": []}
    length = jitter.near(0.52)
    for side in (-1, 1):
        foot = side * (width * 0.6 + jitter.between(0, 0.2))
        limbs["legs"].append(capsule((side * width * 0.5, height), (foot, height + length), 0.105, 0.075))
        limbs["shoes"].append(ellipse(foot + side * 0.04, height + length + 0.05, 0.12, 0.06, corners=12))
        lift = jitter.between(-0.9, 1.4)
        bend = lift + jitter.between(-0.8, 0.5)
        elbow = (side * (width + 0.06 + 0.22 * np.cos(lift)), -height + 0.13 + 0.26 * np.sin(lift))
        hand = (elbow[0] + side * 0.2 * np.cos(bend), elbow[1] + 0.24 * np.sin(bend))
        wrist = ((elbow[0] + hand[0]) / 2, (elbow[1] + hand[1]) / 2)
        limbs["sleeves"] += [
            capsule((side * width * 0.8, -height + 0.09), elbow, 0.08, 0.068),
            capsule(elbow, wrist, 0.068, 0.06),
        ]
        limbs["hands"].append(capsule(wrist, hand, 0.05, 0.062))
    return limbs


def person(jitter: Jitter) -> list[Part]:
    """Draw a person from the front: hair, face, shirt, trousers, shoes."""
    width, height = jitter.near(0.2), jitter.near(0.33)
    limbs = _limbs(jitter, width, height)
    shirt = polygon(
        (-width * 1.1, -height),
        (width * 1.1, -height),
        (width * 0.92, height * 1.1),
        (-width * 0.92, height * 1.1),
    )
    y = -height - 0.26
    fringe = dome(0, y - 0.05, 0.205, jitter.near(0.22))
    sides = [] if jitter.chance(0.6) else [capsule((s * 0.17, y - 0.05), (s * 0.18, y + 0.2), 0.06) for s in (-1, 1)]
    eyes = [ellipse(s * 0.075, y + 0.0, 0.026, 0.03, corners=8) for s in (-1, 1)]
    smile = tube([(-0.07, y + 0.1), (0, y + 0.13), (0.07, y + 0.1)], 0.014, 0.014)
    return [
        part("dark", *limbs["shoes"]),
        part("second", *limbs["legs"]),
        part("skin", *limbs["hands"]),
        part("skin", rectangle(-0.065, -height - 0.12, 0.065, -height + 0.04)),
        part("main", shirt, *limbs["sleeves"]),
        part("skin", ellipse(0, y, 0.19, jitter.near(0.21, 0.06))),
        part("dark", fringe, *sides),
        part("dark", *eyes, smile),
    ]


def robot(jitter: Jitter) -> list[Part]:
    """Draw a robot from the front: box head, aerial, chest panel, claw hands."""
    width, height, head = jitter.near(0.28), jitter.near(0.3), jitter.near(0.21)
    legs, feet, arms, hands = [], [], [], []
    for side in (-1, 1):
        x, leg = side * width * 0.55, jitter.near(0.4)
        legs.append(rectangle(x - 0.08, height, x + 0.08, height + leg))
        feet.append(rectangle(x - 0.13, height + leg - 0.05, x + 0.13, height + leg + 0.08))
        hand = (side * (width + jitter.between(0.12, 0.4)), -height + 0.12 + jitter.between(-0.3, 0.5))
        arms.append(capsule((side * (width + 0.05), -height + 0.1), hand, 0.055))
        hands.append(ellipse(*hand, 0.09, 0.09, corners=6))
    top = -height - 0.08
    mouth = rectangle(-0.1, top - 0.12, 0.1, top - 0.07)
    return [
        part("second", *legs, *arms, rectangle(-0.06, -height - 0.1, 0.06, -height)),
        part("dark", *feet, *hands),
        part("main", rectangle(-width, -height, width, height)),
        part("light", rectangle(-width * 0.6, -height * 0.6, width * 0.6, height * 0.2)),
        part("main", rectangle(-head, top - 0.37, head, top)),
        part("dark", capsule((0, top - 0.37), (0, top - 0.54), 0.022, 0.05)),
        *eye(-0.09, top - 0.22, 0.046),
        *eye(0.09, top - 0.22, 0.046),
        part("dark", mouth),
        part("gold", blob((-0.08, 0.18), (0, 0.1), (0.08, 0.18), (0, 0.26))),
    ]
