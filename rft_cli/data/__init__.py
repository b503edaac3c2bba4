"""Data files: JSONL line → Example."""

from rft_cli.data.dataset import Dataset, read_examples
from rft_cli.data.formats import FORMATS, Format, reference_of, solution_of
from rft_cli.data.overlap import Checked, Overlap, apply_overlap, find_overlap
from rft_cli.data.rows import Problems, Row, RowReader, read_rows, read_rows_from_bytes

__all__ = [
    "FORMATS",
    "Checked",
    "Dataset",
    "Format",
    "Overlap",
    "Problems",
    "Row",
    "RowReader",
    "apply_overlap",
    "find_overlap",
    "read_examples",
    "read_rows",
    "read_rows_from_bytes",
    "reference_of",
    "solution_of",
]
