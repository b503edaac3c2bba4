"""Data files: rows of JSONL, CSV, Parquet and hub data sets become Examples."""
