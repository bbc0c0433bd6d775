"""Where things lie in this checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPORT, EDGE = ROOT / "export", ROOT / "export" / "edge"
FEDERATIONS, DEVICES = ROOT / "tests" / "federations", ROOT / "tests" / "devices"
