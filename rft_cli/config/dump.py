"""A configuration as YAML that any working directory reads back to the same job."""

from __future__ import annotations

from typing import Any

import yaml

from rft_cli.config.paths import FILE_KEYS, absolute
from rft_cli.config.scalars import means_itself
from rft_cli.config.schema import RunConfig

_PATH_KEYS = (*FILE_KEYS, "grader.path", "model.path")


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same configuration, naming the same files in any working directory (but for `output_dir`)."""
    changed: dict[str, dict[str, str]] = {}
    for key in _PATH_KEYS:
        section, _, name = key.partition(".")
        value = getattr(getattr(config, section), name)
        if value is not None:
            changed.setdefault(section, {})[name] = absolute(key, value)
    sections = {name: getattr(config, name).model_copy(update=update) for name, update in changed.items()}
    return config.model_copy(update=sections)


def dump_config(config: RunConfig) -> str:
    """The whole configuration as YAML, paths absolute: loading it gives `with_absolute_paths(config)`."""
    tree = with_absolute_paths(config).model_dump()
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)


class _Dumper(yaml.SafeDumper):
    """Quotes text that would read back as something else, by YAML 1.1 or 1.2; writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if means_itself(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
