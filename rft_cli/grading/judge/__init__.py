"""Judges: models behind an OpenAI-compatible endpoint that grade, `score_model` and `label_model`."""
