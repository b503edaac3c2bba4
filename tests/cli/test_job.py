"""The job that every process reads: rows, references, hashes, versions."""

import hashlib

import pytest

from rft_cli import job as job_module
from rft_cli.config.load import load_config
from rft_cli.errors import UsageErrors
from rft_cli.grading.source import read_sources
from rft_cli.job import create_run, hashes, load_job, versions
from tests.cli.conftest import rows, write_jsonl


def config(**overrides):
    flags = {"data.train": "train.jsonl", "data.validation": "val.jsonl", "grader.path": "scorer.py:score"}
    flags |= {key.replace("__", "."): value for key, value in overrides.items()}
    return load_config(None, overrides=flags, env={}).config


def test_load_job_reads_all_rows_and_knows_references(files):
    job = load_job(config(data__test="test.jsonl"))
    assert job.test is not None
    assert (len(job.train.examples), len(job.validation.examples), len(job.test.examples)) == (6, 4, 4)
    assert job.reference(job.train.examples[2]) == "3"
    assert load_job(config()).test is None


def test_load_job_drops_overlapping_rows_in_every_process_alike(files):
    write_jsonl(files / "val.jsonl", rows(2, 2))
    job = load_job(config(data__overlap="drop"))
    assert [example.fields["output"] for example in job.train.examples] == ["1", "2", "5", "6"]


def test_load_job_raises_every_problem(files):
    (files / "train.jsonl").write_text("")
    with pytest.raises(UsageErrors) as caught:
        load_job(config(data__validation=None))
    assert [p.message for p in caught.value.problems] == [
        "no validation file is set",
        "train.jsonl: the file has no rows",
    ]


def test_hashes_are_those_of_the_files(files):
    expected = hashlib.sha256((files / "train.jsonl").read_bytes()).hexdigest()
    scorer = hashlib.sha256((files / "scorer.py").read_bytes()).hexdigest()
    job = load_job(config(data__test="test.jsonl"))
    found = hashes(job, read_sources(job.config.grader))
    assert list(found) == ["train", "validation", "test", "grader"]
    assert (found["train"], found["grader"]) == (expected, scorer)


def test_the_copy_of_the_grader_is_what_its_hash_is_of(files, monkeypatch):
    """Also where the file is edited while the run is made."""
    identity = job_module.base_identity

    def edited_meanwhile(*model):
        (files / "scorer.py").write_text("def score(text): return 2\n")
        return identity(*model)

    monkeypatch.setattr(job_module, "base_identity", edited_meanwhile)
    run = create_run(load_job(config(name="a")))
    copied = hashlib.sha256((run.path / "scorer" / "scorer.py").read_bytes()).hexdigest()
    assert run.info["hashes"]["grader"] == copied


def test_the_runs_config_means_the_same_job_anywhere(files, monkeypatch):
    run = create_run(load_job(config(name="a")))
    monkeypatch.chdir("/")
    again = load_config(
        str(run.path if run.path.is_absolute() else files / run.path) + "/config.yaml", env={}
    ).config
    assert load_job(again).train.path == str(files / "train.jsonl")
    assert again.grader.path == f"{files}/scorer.py:score"


def test_versions_name_what_is_missing(monkeypatch):
    def version(name):
        if name == "trl":
            raise job_module.metadata.PackageNotFoundError
        return "1.2"

    monkeypatch.setattr(job_module.metadata, "version", version)
    found = versions()
    assert (found["trl"], found["torch"], found["rft"]) == ("not installed", "1.2", "0.1.0")
