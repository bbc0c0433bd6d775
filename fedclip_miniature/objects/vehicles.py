"""The vehicles: car, boat, plane."""

from __future__ import annotations

from fedclip_miniature.shapes import Jitter, Part, blob, ellipse, part, polygon, rectangle


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
