"""Run every benchmark, print the table, and keep it as benchmarks/results/latest.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import extraction, store_read

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """All rows, as they are measured."""
    rows = []
    for module in (store_read, extraction):
        for row in module.measure():
            rows.append(asdict(row))
            print(f"{row.what}: {row.ours:.3g} {row.unit}, {row.against}: {row.other:.3g}, ratio {row.ratio:.2f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"Written: {RESULTS}")


if __name__ == "__main__":
    main()
