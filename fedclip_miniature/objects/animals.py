"""The four-legged objects: dog, elephant, giraffe, horse, cat, cow, all facing right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedclip_miniature.shapes import Jitter, Part, Point, Points, blob, capsule, ellipse, eye, part, polygon, tube


@dataclass(frozen=True)
class Build:
    """Proportions of a four-legged animal, in units of half the drawing."""

    length: float  # half the trunk's
    girth: float  # half the trunk's height
    leg: float  # below the trunk
    thickness: float  # half a leg's width
    neck: float
    rise: float  # the neck's angle above the horizontal, in radians
    neck_width: float  # half, at the head


@dataclass(frozen=True)
class Frame:
    """An animal's legs and trunk, and where the rest attaches."""

    far_legs: Part
    near_legs: tuple[Points, ...]
    hooves: Part
    trunk: Points
    neck: Points
    shoulder: Point
    head: Point
    rump: Point


def _leg(jitter: Jitter, x: float, top: float, foot: float, thickness: float) -> tuple[Points, Points]:
    swing = jitter.between(-0.12, 0.12)
    knee = (x + 0.2 * swing + jitter.between(-0.03, 0.03), (top + foot) / 2)
    leg = tube([(x, top), knee, (x + swing, foot)], thickness * 1.3, thickness * 0.85)
    return leg, ellipse(x + swing + 0.02, foot, thickness * 1.1, thickness * 0.7, corners=10)


def _frame(jitter: Jitter, build: Build) -> Frame:
    length, girth = jitter.near(build.length, 0.1), jitter.near(build.girth)
    top, foot = girth * 0.25, girth * 0.5 + jitter.near(build.leg)
    thick = jitter.near(build.thickness)
    back, front, back_far, front_far = (
        _leg(jitter, share * length, top, foot, thick) for share in (-0.74, 0.66, -0.5, 0.86)
    )
    trunk = blob(
        (-length, -girth * 0.45),
        (-length * 0.6, -girth),
        (0, -girth * 0.88),
        (length * 0.6, -girth * 1.02),
        (length * 1.02, -girth * 0.4),
        (length * 0.92, girth * 0.5),
        (length * 0.45, girth),
        (-length * 0.1, girth * 0.82),
        (-length * 0.6, girth * 0.92),
        (-length * 1.0, girth * 0.3),
    )
    rise, reach = build.rise + jitter.between(-0.18, 0.18), jitter.near(build.neck)
    shoulder = (length * 0.76, -girth * 0.42)
    head = (shoulder[0] + reach * float(np.cos(rise)), shoulder[1] - reach * float(np.sin(rise)))
    return Frame(
        far_legs=part("second", back_far[0], front_far[0]),
        near_legs=(back[0], front[0]),
        hooves=part("dark", *(leg[1] for leg in (back, front, back_far, front_far))),
        trunk=trunk,
        neck=capsule(shoulder, head, min(build.neck_width * 1.9, girth * 0.8), build.neck_width),
        shoulder=shoulder,
        head=head,
        rump=(-length * 0.95, -girth * 0.4),
    )


def _body(frame: Frame, *more: Points) -> Part:
    return part("main", *frame.near_legs, frame.trunk, frame.neck, *more)


def dog(jitter: Jitter) -> list[Part]:
    """Draw a dog: muzzle, hanging ear, collar, raised tail."""
    frame = _frame(jitter, Build(0.5, 0.2, 0.36, 0.075, 0.24, 0.9, 0.13))
    x, y = frame.head[0] + 0.07, frame.head[1] - 0.02
    rx, ry = frame.rump
    tail = [
        (rx, ry),
        (rx - 0.16, ry - 0.14),
        (rx - jitter.between(0.14, 0.3), ry - jitter.between(0.32, 0.5)),
    ]
    snout = capsule((x + 0.1, y + 0.05), (x + 0.12 + jitter.near(0.2), y + 0.09), 0.1, 0.075)
    skull = ellipse(x, y, jitter.near(0.2), jitter.near(0.185))
    ear = ellipse(x - 0.11, y + 0.09, 0.08, jitter.near(0.19), jitter.between(0, 0.5))
    collar = capsule((x - 0.26, y + 0.1), (x - 0.02, y + 0.24), 0.035)
    nose = ellipse(x + 0.38, y + 0.04, 0.055, 0.045, corners=10)
    return [
        frame.far_legs,
        part("main", tube(tail, 0.06, 0.035)),
        _body(frame),
        part("gold", collar),
        part("main", skull, snout),
        part("dark", nose),
        part("second", ear),
        *eye(x + 0.07, y - 0.05),
    ]


def cat(jitter: Jitter) -> list[Part]:
    """Draw a cat: pointed ears, whiskered round face, long curved tail."""
    frame = _frame(jitter, Build(0.45, 0.18, 0.28, 0.06, 0.15, 0.9, 0.1))
    x, y = frame.head[0] + 0.06, frame.head[1] - 0.04
    rx, ry = frame.rump
    tip = (rx + jitter.between(-0.05, 0.2), ry - jitter.between(0.5, 0.7))
    tail = tube([(rx, ry), (rx - 0.25, ry - 0.05), (rx - 0.32, ry - 0.35), tip], 0.055, 0.035)
    height = jitter.near(0.28)
    ears = [polygon((x + s * 0.2, y - 0.06), (x + s * 0.17, y - height), (x + s * 0.02, y - 0.14)) for s in (-1, 1)]
    whiskers = [capsule((x + 0.08, y + 0.06), (x + 0.3, y + dy), 0.008) for dy in (0.02, 0.1)]
    return [
        frame.far_legs,
        part("main", tail),
        _body(frame),
        part("second", *ears),
        part("main", ellipse(x, y, jitter.near(0.21), jitter.near(0.18))),
        part("light", ellipse(x + 0.06, y + 0.09, 0.1, 0.07)),
        part("dark", *whiskers),
        *eye(x - 0.05, y - 0.03),
        *eye(x + 0.11, y - 0.03),
        part("dark", ellipse(x + 0.05, y + 0.06, 0.03, 0.025)),
    ]


def horse(jitter: Jitter) -> list[Part]:
    """Draw a horse: long face, mane along the neck, flowing tail, hooves."""
    frame = _frame(jitter, Build(0.5, 0.22, 0.5, 0.06, 0.44, 0.95, 0.1))
    (x, y), (sx, sy), (rx, ry) = frame.head, frame.shoulder, frame.rump
    drop = jitter.between(0.4, 0.85)
    reach = jitter.near(0.36)
    nose = (x + 0.02 + reach * float(np.cos(drop)), y + reach * float(np.sin(drop)))
    mane = tube(
        [
            (x + 0.05, y - 0.13),
            (x - 0.14, y - 0.02),
            ((x + sx) / 2 - 0.17, (y + sy) / 2),
            (sx - 0.22, sy - 0.1),
        ],
        0.05,
        0.085,
    )
    tail = tube(
        [(rx, ry), (rx - 0.15, ry + 0.02), (rx - 0.2, ry + 0.25), (rx - 0.17, ry + jitter.near(0.55))],
        0.06,
        0.07,
    )
    ear = polygon((x - 0.06, y - 0.06), (x - 0.01, y - 0.23), (x + 0.06, y - 0.06))
    return [
        part("second", tail),
        frame.far_legs,
        frame.hooves,
        _body(frame, capsule((x, y), nose, 0.115, 0.075), ear),
        part("second", mane),
        part("dark", ellipse(nose[0] + 0.02, nose[1] - 0.01, 0.022, 0.022, corners=8)),
        *eye(x + 0.08, y, 0.026),
    ]


def giraffe(jitter: Jitter) -> list[Part]:
    """Draw a giraffe: very long neck, spots, two little horns."""
    frame = _frame(jitter, Build(0.36, 0.2, 0.56, 0.05, 0.86, 1.2, 0.075))
    (x, y), (sx, sy), (rx, ry) = frame.head, frame.shoulder, frame.rump
    spots = [
        ellipse(sx + (x - sx) * f + jitter.between(-0.02, 0.02), sy + (y - sy) * f, 0.05, 0.055, f, corners=8)
        for f in (0.06, 0.26, 0.46, 0.66, 0.84)
    ]
    for column, row in (
        (-0.26, -0.07),
        (-0.08, -0.09),
        (0.12, -0.08),
        (-0.18, 0.07),
        (0.0, 0.06),
        (0.2, 0.08),
    ):
        shift = jitter.between(-0.03, 0.03)
        spots.append(ellipse(column + shift, row - shift, 0.07, jitter.near(0.052), shift * 9, corners=8))
    horns = [capsule((x + dx, y - 0.05), (x + dx - 0.01, y - 0.18), 0.02, 0.032) for dx in (-0.04, 0.05)]
    ear = ellipse(x - 0.11, y - 0.04, 0.09, 0.035, 0.4, corners=10)
    tail = tube([(rx, ry), (rx - 0.09, ry + 0.12), (rx - 0.1, ry + 0.34)], 0.02, 0.045)
    return [
        part("second", tail),
        frame.far_legs,
        part("second", *horns),
        frame.hooves,
        _body(frame, capsule((x, y), (x + jitter.near(0.22), y + 0.09), 0.095, 0.065), ear),
        part("second", *spots),
        *eye(x + 0.05, y - 0.01, 0.026),
    ]


def elephant(jitter: Jitter) -> list[Part]:
    """Draw an elephant: trunk, tusk, one great ear, pillar legs."""
    frame = _frame(jitter, Build(0.54, 0.36, 0.34, 0.12, 0.12, 0.5, 0.2))
    x, y = frame.head[0] - 0.02, frame.head[1] - 0.02
    rx, ry = frame.rump
    curl = jitter.between(-0.08, 0.26)
    trunk = tube(
        [
            (x + 0.12, y + 0.02),
            (x + 0.33, y + 0.16),
            (x + 0.38, y + 0.46),
            (x + 0.38 + curl, y + jitter.near(0.68, 0.08)),
        ],
        0.14,
        0.055,
    )
    tusk = tube([(x + 0.2, y + 0.2), (x + 0.32, y + 0.32), (x + 0.46, y + 0.3)], 0.04, 0.014)
    ear = blob(
        (x - 0.02, y - 0.2),
        (x - 0.22, y - 0.27),
        (x - 0.36, y - 0.05),
        (x - 0.26, y + jitter.near(0.22)),
        (x - 0.1, y + 0.24),
        (x + 0.0, y + 0.05),
    )
    tail = tube([(rx, ry), (rx - 0.1, ry + 0.15), (rx - 0.1, ry + 0.36)], 0.022, 0.035)
    return [
        part("second", tail),
        frame.far_legs,
        _body(frame, ellipse(x, y, jitter.near(0.27), jitter.near(0.26)), trunk),
        part("light", tusk),
        part("second", ear),
        *eye(x + 0.12, y - 0.06, 0.028),
    ]


def cow(jitter: Jitter) -> list[Part]:
    """Draw a cow: patches, horns, broad light muzzle, udder."""
    frame = _frame(jitter, Build(0.55, 0.28, 0.33, 0.075, 0.16, 0.6, 0.15))
    (x, y), (rx, ry) = frame.head, frame.rump
    patches = [
        blob(
            *[
                (cx + jitter.near(0.13, 0.4) * np.cos(a), cy + jitter.near(0.1, 0.4) * np.sin(a))
                for a in np.arange(6) * 1.05
            ]
        )
        for cx, cy in ((-0.3, -0.08), (0.08, 0.02), (0.32, -0.14))
    ]
    horns = [
        tube([(x + s * 0.1, y - 0.13), (x + s * 0.2, y - 0.2), (x + s * 0.18, y - 0.33)], 0.032, 0.012) for s in (-1, 1)
    ]
    ears = [ellipse(x + s * 0.22, y - 0.09, 0.09, 0.045, s * -0.3, corners=10) for s in (-1, 1)]
    return [
        part("second", tube([(rx, ry), (rx - 0.12, ry + 0.1), (rx - 0.12, ry + 0.42)], 0.022, 0.045)),
        frame.far_legs,
        part("skin", ellipse(-0.08, 0.27, 0.12, 0.08)),
        frame.hooves,
        _body(frame),
        part("dark", *patches),
        part("light", *horns),
        part("second", *ears),
        part("main", ellipse(x, y, 0.19, jitter.near(0.19))),
        part("skin", ellipse(x + 0.08, y + 0.1, 0.14, 0.1)),
        *eye(x + 0.04, y - 0.05),
        part("dark", ellipse(x + 0.13, y + 0.09, 0.02, 0.025, corners=8)),
    ]
