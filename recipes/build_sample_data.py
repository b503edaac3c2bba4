"""Write `sample_data/*.jsonl`: `python -m recipes.build_sample_data [--out DIR]`."""

import argparse
import json
from pathlib import Path

from recipes.support_triage import sample_splits


def build(out: Path) -> None:
    """Write one JSONL file a split; the same rows each time."""
    out.mkdir(parents=True, exist_ok=True)
    for split, tickets in sample_splits().items():
        lines = [json.dumps(ticket.row(), ensure_ascii=False) + "\n" for ticket in tickets]
        (out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Parse the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("sample_data"))
    build(parser.parse_args().out)


if __name__ == "__main__":
    main()
