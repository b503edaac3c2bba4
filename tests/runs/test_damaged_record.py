"""run.json with values of another type than rft writes is told as damage, in one message."""

import json

import pytest

from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import resume_command


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"warnings": "x"}, 'warnings is "x", which it can\'t be'),
        ({"warnings": [1]}, "warnings is not a list of objects with a step"),
        ({"settings": 5}, "settings is 5, which it can't be"),
        ({"best_step": True}, "best_step is true, which it can't be"),
        ({"hashes": []}, "hashes is [], which it can't be"),
        ({"status": 3}, "status is 3, which it can't be"),
        ({"status": None}, "status is missing"),
        ({"status": None, "schema_version": None}, "schema_version and status are missing"),
    ],
)
def test_a_value_of_another_type_is_damage(tmp_path, fields, said):
    run = Run.create(tmp_path, "a", config_yaml="seed: 0\n", info={"model": "m"})
    (run.path / "run.json").write_text(json.dumps({**run.info, **fields}))
    with pytest.raises(UsageError) as caught:
        Run.open(run.path)
    assert caught.value.message == f"{run.path}/run.json can't be read: {said}"
    assert caught.value.fix == "the run is damaged; use another one"


def test_numbers_and_nulls_that_rft_writes_are_read(tmp_path):
    run = Run.create(tmp_path, "a", config_yaml="seed: 0\n", info={"model": "m"})
    for seconds in (3, 3.5):
        run.update(seconds=seconds, settings=None, warnings=[{"step": 2, "tripwire": "kl", "text": "t"}])
        assert Run.open(run.path).info["seconds"] == seconds


def test_commands_quote_a_path_with_a_space(tmp_path):
    assert resume_command(tmp_path / "my runs" / "a") == f"rft train --resume '{tmp_path}/my runs/a'"
    assert resume_command(tmp_path / "a") == f"rft train --resume {tmp_path}/a"
