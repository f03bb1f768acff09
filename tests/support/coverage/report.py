"""Hand the lines that sitecustomize.py recorded to coverage: `report.py FOLDER`."""

import sys
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[3]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    data = coverage.CoverageData(str(ROOT / ".coverage"))
    data.erase()
    for source in (ROOT / "src").rglob("*.py"):
        marks = Path(f"{folder}{source}")
        marked = marks.read_bytes() if marks.exists() else b""
        lines = [number for number, mark in enumerate(marked) if mark]
        data.add_lines({str(source.relative_to(ROOT)): lines})
    data.write()
