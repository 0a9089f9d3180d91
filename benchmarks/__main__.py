"""Run the benchmark programs, print one table as rows come in, and keep it as benchmarks/results/latest.json."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.document import write_table
from benchmarks.programs import HERE, ProgramError, find_programs, run_program
from benchmarks.record import RESULTS, forget_programs, read_rows, replace_rows
from benchmarks.table import format_row, header, summarise

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line names, or everything; 1 if a program failed. Missed goals are listed only."""
    known = find_programs()
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"programs, all without any: {', '.join(known)}")
    parser.add_argument("--markdown", action="store_true", help="measure nothing; write the table into the docs")
    options = parser.parse_args(words)
    if unknown := set(options.names) - set(known):
        parser.error(f"no program {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options.markdown:
        write_table(PAGE)
        return 0
    forget_programs(known)
    return run(options.names or known)


def run(names: Sequence[str], folder: Path = HERE, results: Path = RESULTS) -> int:
    """Run programs one after the other; of one that fails, the rows before its end are kept. 1 if any failed."""
    failed = {}
    print(header())
    for name in names:
        rows = []
        try:
            for row in run_program(name, folder):
                rows.append(row)
                print(format_row(row), flush=True)
                replace_rows(name, rows, results)  # at once: some programs take an hour
        except ProgramError as error:
            failed[name] = str(error)
            print(f"{name} failed: {error}", flush=True)
            replace_rows(name, rows, results)
    print(summarise([row for row in read_rows(results) if row["program"] in names]))
    for name, reason in failed.items():
        print(f"  failed: {name}: {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
