"""Settings: the schema, and how YAML, environment, --set and flags become one RunConfig."""

from rft_cli.config.schema import RunConfig

__all__ = ["RunConfig"]
