"""The table of all settings in docs/configuration.md, made from the schema's docstrings.

`python -m rft_cli.config.table docs/configuration.md` writes it anew between the file's markers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rft_cli.config.keys import COLUMN_NAMES, Key, all_keys

BEGIN = "<!-- settings: made by `python -m rft_cli.config.table docs/configuration.md`, do not edit -->"
END = "<!-- end of settings -->"


def config_table_markdown() -> str:
    """A heading and a Markdown table for each section: setting, default, what it takes, what it does."""
    sections: dict[str, list[Key]] = {}
    for key in all_keys().values():
        sections.setdefault(key.name.partition(".")[0] if "." in key.name else "", []).append(key)
    # In the table settings without a section come first.
    ordered = sorted(sections, key=lambda section: section != "")
    return "\n\n".join(_section(section, sections[section]) for section in ordered)


def with_table(text: str) -> str:
    """The document with the current table between its markers. ValueError if it has no markers."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no markers {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{config_table_markdown()}\n\n{END}{tail}"


def _section(name: str, keys: Sequence[Key]) -> str:
    title = f"### `{name}`" if name else "### Top level"
    rows = [_row(key) for key in keys if not key.name.startswith("data.columns.")]
    if name == "data":
        rows.append(_columns_row(all_keys()["data.columns.prompt"]))
    return "\n".join([title, "", "| setting | default | takes | what it does |", "|---|---|---|---|", *rows])


def _row(key: Key) -> str:
    return _cells(key.name, _default(key.default), key.describe(), key.description)


def _columns_row(key: Key) -> str:
    return _cells("data.columns", "`{}`", f"names among {', '.join(COLUMN_NAMES)}", key.description)


def _default(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cells(name: str, *cells: str) -> str:
    texts = [" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in cells]
    return f"| `{name}` | {' | '.join(texts)} |"


def main() -> None:
    """Rewrite the table in the file named by the first argument."""
    file = Path(sys.argv[1])
    file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
