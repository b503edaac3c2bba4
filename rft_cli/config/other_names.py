"""Other tools' names of our settings: `other_names.yaml`, read only for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rft_cli.config.keys import all_keys, flag_of

OURS = "rft"
"""The group of names that no tool has, and that people type."""
_NEAR = 0.85
"""How similar a mistyped name of another tool must be."""


@dataclass(frozen=True, slots=True)
class OtherName:
    """`name` of `tool` is our `setting`, None if there is none; `words` say what differs, or what there is."""

    tool: str
    name: str
    setting: str | None
    words: str | None = None

    def advice(self) -> str:
        """What to write instead."""
        words = f": {self.words}" if self.words else ""
        if self.setting is None:
            return f"{self.tool}'s {self.name} has no setting here{words}"
        same = self.setting.rpartition(".")[2] == self.name.rpartition(".")[2]
        if self.tool == OURS or (same and not words):
            return f"did you mean '{self.setting}'?"
        return f"{self.tool}'s {self.name} is {self.setting} here{words}"


@cache
def other_names() -> dict[str, OtherName]:
    """Every name in the table; where two tools have the same one, the first counts."""
    import yaml

    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    found: dict[str, OtherName] = {}
    for tool, names in yaml.safe_load(text).items():
        for name, meaning in names.items():
            setting, words = meaning if isinstance(meaning, list) else (meaning, None)
            found.setdefault(name, OtherName(tool, name, setting, words))
    return found


def find(key: str) -> OtherName | None:
    """What `key` is called here: by its full name, the end of a dotted one, or its last part."""
    names, key = other_names(), key.lstrip("+").lower().replace("-", "_")
    if key in names:
        return names[key]
    if "." in key:
        last = names.get(key.rpartition(".")[2])
        if last is not None and last.tool == OURS:
            return last
        ends = (found for name, found in names.items() if name.endswith(f".{key}"))
        return next(ends, last)
    return None


def near(key: str, own: Collection[str]) -> OtherName | None:
    """The same for a mistyped name, unless one of our `own` names is as near."""
    last = key.rpartition(".")[2].lower()
    plain = [name for name in other_names() if "." not in name]
    found = difflib.get_close_matches(last, plain, n=1, cutoff=_NEAR)
    if not found:
        return None
    likeness = difflib.SequenceMatcher(None, last, found[0]).ratio()
    nearer = difflib.get_close_matches(last, list(own), n=1, cutoff=likeness)
    return None if nearer else other_names()[found[0]]


@cache
def sections() -> frozenset[str]:
    """The dotted beginnings of names in the table."""
    parts = [name.split(".") for name in other_names()]
    return frozenset(".".join(name[:end]) for name in parts for end in range(1, len(name)))


def setting_of_option(option: str, flags: Collection[str]) -> str | None:
    """What to give instead of an unknown option that is the name of a setting, ours or another tool's.

    `flags`: the command's options.
    """
    name = option.lstrip("-").replace("-", "_")
    found = find(name)
    own = [key for key in all_keys() if key.rpartition(".")[2] == name]
    setting = own[0] if found is None and len(own) == 1 else None if found is None else found.setting
    if setting is None:
        return None if found is None else found.advice()
    flag = flag_of(setting)
    words = f": {found.words}" if found is not None and found.words else ""
    given = f"{flag} VALUE" if flag in flags else f"--set {setting}=VALUE"
    whose = (
        ""
        if found is None or found.tool == OURS
        else f"{found.tool}'s {found.name} is {setting} here{words}; "
    )
    return f"{whose}give {given}"
