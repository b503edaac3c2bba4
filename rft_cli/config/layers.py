"""The layers of settings, each as a flat map from dotted key to value and place."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rft_cli.config.keys import (
    COLUMN_NAMES,
    OPEN,
    Key,
    all_keys,
    all_sections,
    flag_of,
    free_value,
    value_of_text,
)
from rft_cli.config.old_settings import REMOVED, RENAMED
from rft_cli.config.paths import resolve
from rft_cli.config.scalars import YES_NO
from rft_cli.config.suggest import as_word, closest
from rft_cli.config.yaml_tree import Node, read_yaml
from rft_cli.errors import UsageError

ENV_PREFIX = "RFT_"
RESERVED_ENV = frozenset({"RFT_DEBUG"})
"""Variables with our prefix that are not settings, like all that begin with `RFT_INTERNAL_`."""
_INTERNAL_ENV = "RFT_INTERNAL_"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it was set: `FILE:LINE:COLUMN`, a variable, `--set KEY` or a flag.

    `names_key`: the origin says which setting it is. `word`: the text of an unquoted YAML value.
    """

    value: Any
    origin: str
    names_key: bool = False
    word: str | None = None

    def place(self, key: str) -> str:
        """The beginning of a message on this value; names the key where the origin does not."""
        return self.origin if self.names_key else f"{self.origin}: {key}"


Layer = dict[str, Setting]


def yaml_layer(content: bytes, name: str, problems: list[UsageError]) -> Layer:
    """The settings of a YAML file, its relative paths resolved against its folder."""
    root = read_yaml(content, name, problems)
    layer: Layer = {}
    if root is not None:
        _flatten(root, "", name, layer, problems)
    return layer


def _flatten(section: Node, prefix: str, name: str, layer: Layer, problems: list[UsageError]) -> None:
    assert isinstance(section.value, dict)
    for word, node in section.value.items():
        key = RENAMED.get(prefix + word, prefix + word)
        place = f"{name}:{node.mark.line}:{node.mark.column}"
        if key in all_sections():
            if isinstance(node.value, dict):
                inner = _with_spec(node) if key == "grader" else node
                _flatten(inner, f"{key}.", name, layer, problems)
            elif node.value is not None:
                problems.append(
                    UsageError(f"{place}: {key} is a section", f"write its settings under '{word}:'")
                )
        elif isinstance(node.value, dict) and _is_other_section(key):
            # verl's: each of its settings has its line
            _flatten(node, f"{key}.", name, layer, problems)
        elif key in all_keys():
            _add_yaml(all_keys()[key], node, place, name, layer, problems)
        elif key in REMOVED:
            layer[key] = Setting(node.plain(), place)
        else:
            at = f"{name}:{node.key_mark.line}:{node.key_mark.column}"
            problems.append(unknown_key(at, key))


def _is_other_section(key: str) -> bool:
    # reads a file, for names that are not ours
    from rft_cli.config.other_names import sections

    return key in sections()


def _with_spec(section: Node) -> Node:
    """The grader section; if it is an OpenAI spec itself, its keys are moved under `spec`."""
    assert isinstance(section.value, dict)
    if "type" not in section.value or "spec" in section.value:
        return section
    names = {name.split(".")[1] for name in (*all_keys(), *RENAMED) if name.startswith("grader.")}
    settings = {word: node for word, node in section.value.items() if word in names}
    spec = {word: node for word, node in section.value.items() if word not in names}
    place = section.value["type"].key_mark
    return Node({**settings, "spec": Node(spec, place, place)}, section.mark, section.key_mark)


def _add_yaml(key: Key, node: Node, place: str, name: str, layer: Layer, problems: list[UsageError]) -> None:
    value = node.plain()
    if isinstance(value, str) and node.word is not None and value.lower() in YES_NO and key.takes(bool):
        value = YES_NO[value.lower()]
    ambiguous = _ambiguous(node)
    if ambiguous is not None and isinstance(value, str | list) and (key.takes(str) or key.takes(list)):
        reason = f"{place}: {key.name}: {ambiguous.word} without quotes means true or false in much YAML"
        problems.append(UsageError(reason, f'quote it: "{ambiguous.word}"'))
        return
    value = resolve(key.name, value, os.path.dirname(name))
    layer[key.name] = Setting(value, place, word=node.word)


def _ambiguous(node: Node) -> Node | None:
    """The unquoted yes, no, on or off in a value, or among the items of a list."""
    if isinstance(node.value, list):
        return next((found for found in map(_ambiguous, node.value) if found is not None), None)
    return node if node.word is not None and node.word.lower() in YES_NO else None


def environment_layer(env: Mapping[str, str], problems: list[UsageError]) -> Layer:
    """The settings in `RFT_SECTION__KEY` variables; an empty one counts as unset."""
    keys = {key: key for key in (*all_keys(), *REMOVED)} | RENAMED
    names = {ENV_PREFIX + key.replace(".", "__").upper(): name for key, name in keys.items()}
    layer: Layer = {}
    for name, text in env.items():
        if not name.startswith(ENV_PREFIX) or name in RESERVED_ENV or name.startswith(_INTERNAL_ENV):
            continue
        if name not in names:
            key = name.removeprefix(ENV_PREFIX).replace("__", ".").lower()
            near = closest(name, names)
            fix = _other_name(key, all_keys()) or (
                f"did you mean {near}?" if near else "unset it: variables named RFT_SECTION__KEY are settings"
            )
            problems.append(UsageError(f"{as_word(name)}: no such setting", fix))
        elif text:
            layer[names[name]] = _of_text(names[name], text, name)
    return layer


def set_layer(sets: Sequence[str], problems: list[UsageError]) -> Layer:
    """The settings of --set options; a later one replaces an earlier one of the same key."""
    layer: Layer = {}
    for item in sets:
        key, equals, text = item.partition("=")
        key = RENAMED.get(key.strip(), key.strip())
        if not equals:
            fix = "write --set KEY=VALUE, for example --set optim.learning_rate=1e-5"
            problems.append(UsageError(f"--set {as_word(item)}: has no '='", fix))
        elif key in all_sections():
            first = next(name for name in all_keys() if name.startswith(f"{key}."))
            problems.append(
                UsageError(f"--set {key}: is a section", f"set one of its keys, for example {first}")
            )
        elif (open_key := key.rpartition(".")[0]) in OPEN:
            inner = Setting({key.rpartition(".")[2]: free_value(text)}, f"--set {key}", names_key=True)
            _lay_over(layer, open_key, inner)
        elif key not in all_keys() and key not in REMOVED:
            problems.append(unknown_key("--set", key))
        else:
            layer[key] = _of_text(key, text, f"--set {key}")
    return layer


def laid_over(layers: Iterable[Layer]) -> Layer:
    """One layer of several: a later one wins, key by key also inside a setting that has keys of its own."""
    whole: Layer = {}
    for layer in layers:
        for key, setting in layer.items():
            _lay_over(whole, key, setting)
    return whole


def take_out_removed(settings: Layer) -> list[str]:
    """Drop settings of earlier versions; a note on each that somebody chose."""
    found = {key: settings.pop(key) for key in REMOVED if key in settings}
    return [
        f"{setting.place(key)}: no longer a setting, ignored: {REMOVED[key].instead}"
        for key, setting in found.items()
        if setting.value != REMOVED[key].default
    ]


def _lay_over(layer: Layer, key: str, setting: Setting) -> None:
    below = layer.get(key)
    if (
        key in OPEN
        and below is not None
        and isinstance(below.value, dict)
        and isinstance(setting.value, dict)
    ):
        setting = replace(setting, value={**below.value, **setting.value})
    layer[key] = setting


def flag_layer(overrides: Mapping[str, Any], problems: list[UsageError]) -> Layer:
    """The settings of flags, by dotted key; None means that the flag was not given."""
    layer: Layer = {}
    for key, value in overrides.items():
        if value is None:
            continue
        flag = flag_of(key)
        if key not in all_keys():
            problems.append(unknown_key(flag, key))
        elif isinstance(value, str | os.PathLike):
            layer[key] = _of_text(key, os.fspath(value), flag)
        else:
            given = list(value) if isinstance(value, tuple) else value
            layer[key] = Setting(resolve(key, given, ""), flag, names_key=True)
    return layer


def _of_text(key: str, text: str, origin: str) -> Setting:
    value = free_value(text) if key in REMOVED else value_of_text(all_keys()[key], text)
    return Setting(resolve(key, value, ""), origin, names_key=True)


def unknown_key(place: str, key: str) -> UsageError:
    """The problem of an unknown key, with the setting that it may mean."""
    section, _, name = key.rpartition(".")
    shown = as_word(key)
    if section == "data.columns":
        known = f"known names: {', '.join(COLUMN_NAMES)}"
        near = closest(name, COLUMN_NAMES)
        fix = f"did you mean '{near}'?" if near else known
        return UsageError(f"{place}: {shown}: unknown column", fix)
    names = [*all_keys(), *all_sections()]
    siblings = [other for other in names if other.rpartition(".")[0] == section]
    near = (
        _prefixed(section, closest(name, [other.rpartition(".")[2] for other in siblings]))
        or next((other for other in names if other.rpartition(".")[2] == name), None)
        or (None if section in all_sections() else closest(key, names))
        or _by_last_part(name, names)
    )
    ours = [other.rpartition(".")[2] for other in names]
    fix = _other_name(key, ours) or (f"did you mean '{near}'?" if near else _known(section, siblings))
    return UsageError(f"{place}: {shown}: unknown setting", fix)


def _other_name(key: str, ours: Collection[str]) -> str | None:
    """What to write instead, where another tool has a setting of that name."""
    from rft_cli.config import other_names

    found = other_names.find(key) or other_names.near(key, ours)
    return None if found is None else found.advice()


def _prefixed(section: str, name: str | None) -> str | None:
    return name if name is None or not section else f"{section}.{name}"


def _by_last_part(name: str, names: Iterable[str]) -> str | None:
    last = {other.rpartition(".")[2]: other for other in names}
    near = closest(name, last)
    return None if near is None else last[near]


def _known(section: str, siblings: Sequence[str]) -> str:
    if not siblings:
        return "see docs/configuration.md"
    where = f"in {section}" if section else "at the top level"
    return f"known {where}: {', '.join(other.rpartition('.')[2] for other in siblings)}"
