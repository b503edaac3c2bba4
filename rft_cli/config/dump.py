"""A configuration as YAML that any working directory reads back to the same job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from rft_cli.config.paths import FILE_KEYS, GRADER_KEYS, absolute
from rft_cli.config.scalars import means_itself
from rft_cli.config.schema import RunConfig

_PATH_KEYS = (*FILE_KEYS, *GRADER_KEYS, "grader.folder", "grader.judge.cache", "model.path")
SectionT = TypeVar("SectionT", bound=BaseModel)


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same configuration, naming the same files in any working directory (but for `output_dir`)."""
    if config.grader.folder is None and config.grader.shown is not None:
        grader = config.grader.model_copy(update={"folder": os.getcwd()})
        config = config.model_copy(update={"grader": grader})
    for key in _PATH_KEYS:
        config = _absolute_in(config, key, key.split("."))
    return config


def dump_config(config: RunConfig) -> str:
    """The whole configuration as YAML, paths absolute: loading it gives `with_absolute_paths(config)`."""
    tree = with_absolute_paths(config).model_dump()
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)


def _absolute_in(section: SectionT, key: str, words: Sequence[str]) -> SectionT:
    """The section with the value of `key` absolute, `words` being the key's parts from here on."""
    value = getattr(section, words[0])
    if value is None:
        return section
    new = _absolute_in(value, key, words[1:]) if words[1:] else absolute(key, value)
    return section.model_copy(update={words[0]: new})


class _Dumper(yaml.SafeDumper):
    """Quotes text that would read back as something else, by YAML 1.1 or 1.2; writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if means_itself(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
