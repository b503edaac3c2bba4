"""Opening a judge: what is wrong with endpoint, key, model or price is found before anything is graded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rft_cli.config.load import load_config
from rft_cli.config.schema import JudgeConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.judge.endpoint import OFFICIAL, find_endpoint
from rft_cli.grading.judge.grader import JudgeGrader
from rft_cli.grading.judge.session import JudgeSession
from tests.grading.judge.conftest import OpenJudge
from tests.grading.judge.servers import (
    KEY,
    MODEL,
    Act,
    JudgeServer,
    asks,
    score_spec,
    session_of,
    settings_of,
)

LIST = {
    "object": "list",
    "data": [{"id": "judge-mini", "object": "model"}, {"id": "other", "object": "model"}],
}


def refused(judge: OpenJudge, **settings: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        judge(**settings)
    assert KEY not in f"{caught.value.message} {caught.value.fix}"
    return caught.value


def test_a_listed_model_costs_no_request(server: JudgeServer, judge: OpenJudge) -> None:
    grader = judge()
    judge(score_spec(name="second"), grader._session)
    assert (server.listings, server.seen) == (1, [])


@pytest.mark.parametrize(
    "listing",
    [
        Act(body=LIST),
        Act(500, b"Internal Server Error"),  # what transformers serve says where its hub cache is empty
        Act(404, {"detail": "Not Found"}),
        Act(403, {"error": {"message": "key lacks model.read"}}),
        Act(200, b"<html>"),
        Act(200, {"data": None}),
        Act(200, {"data": [{"id": 3}, "x"]}),
    ],
)
def test_where_the_list_does_not_name_it_a_small_request_decides(
    server: JudgeServer, judge: OpenJudge, listing: Act
) -> None:
    server.models = listing
    grader = judge()
    assert len(server.seen) == 1
    assert server.seen[0]["max_completion_tokens"] == 16
    # It is counted: it costs.
    assert grader._session.usage.to_metrics()["judge_requests"] == 1


@pytest.mark.parametrize(
    ("act", "message", "fix"),
    [
        (
            Act(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
            "takes no requests with this key: HTTP 401: Incorrect API key provided: [key]",
            "check the key in OPENAI_API_KEY",
        ),
        (
            Act(403, {"error": {"message": "no access"}}),
            "takes no requests with this key: HTTP 403: no access",
            "check the key in OPENAI_API_KEY",
        ),
        (
            Act(404, {"error": {"message": "The model does not exist", "code": "model_not_found"}}),
            f"does not answer for the model '{MODEL}': HTTP 404: The model does not exist",
            "did you mean 'judge-mini'?; grader.judge.model names the model to ask",
        ),
        (
            Act(400, {"detail": "Server is pinned to 'x'"}),  # transformers serve
            f"does not answer for the model '{MODEL}': HTTP 400: Server is pinned to 'x'",
            "did you mean 'judge-mini'?; grader.judge.model names the model to ask",
        ),
        (
            Act(200, b"<!doctype html>"),
            "is not an OpenAI-compatible endpoint: the reply is not a chat completion: <!doctype html>",
            "check grader.judge.base_url; it often ends in /v1",
        ),
        (
            Act(500, {"error": {"message": "broken"}}),
            "does not answer: HTTP 500: broken",
            "start the server, or set grader.judge.base_url (or OPENAI_BASE_URL) to its address",
        ),
        (
            Act(429, {"error": {"message": "pay first", "code": "insufficient_quota"}}),
            "does not answer: HTTP 429: pay first",
            "start the server, or set grader.judge.base_url (or OPENAI_BASE_URL) to its address",
        ),
    ],
)
def test_an_endpoint_that_can_not_be_used_is_a_usage_error(
    server: JudgeServer, judge: OpenJudge, act: Act, message: str, fix: str
) -> None:
    server.models = Act(body=LIST)
    server.default = lambda _: act
    error = refused(judge)
    assert error.message == f"the judge at {server.url} {message}"
    assert error.fix == fix
    assert error.exit_code == 2


@pytest.mark.parametrize(
    "act",
    [
        Act(429, {"error": {"message": "slow down"}}),
        Act(400, {"error": {"message": "Could not finish the message because max_tokens was reached"}}),
    ],
)
def test_a_limit_that_is_met_shows_that_the_model_is_there(
    server: JudgeServer, judge: OpenJudge, act: Act
) -> None:
    server.models = Act(404, {})
    server.default = lambda _: act
    judge()


def test_an_old_server_learns_nothing_new_at_the_check(server: JudgeServer, judge: OpenJudge) -> None:
    server.models = Act(404, {})
    server.acts = [Act(400, {"error": "unknown field max_completion_tokens"})]
    judge(score_spec(sampling_params={"max_completions_tokens": 5})).grade(asks("a"))
    assert [body.get("max_tokens") for body in server.seen] == [None, 16, 5]


def test_a_server_that_is_not_there_is_out_of_reach(server: JudgeServer, judge: OpenJudge) -> None:
    server.close()
    error = refused(judge)
    assert error.message.startswith(f"the judge at {server.url} is out of reach: connection lost: ")
    assert error.fix == "start the server, or set grader.judge.base_url (or OPENAI_BASE_URL) to its address"


def test_a_server_that_hangs_is_out_of_reach(server: JudgeServer, judge: OpenJudge) -> None:
    server.models = Act(body=LIST, wait_s=0)
    server.default = lambda _: Act(wait_s=30)
    error = refused(judge, timeout_s=0.2)
    assert error.message == (
        f"the judge at {server.url} does not answer: no answer within 0.2 s (grader.judge.timeout_s)"
    )


def test_a_list_that_hangs_proves_nothing(server: JudgeServer, judge: OpenJudge) -> None:
    server.models = Act(body=LIST, drip=True)
    judge(timeout_s=0.5)
    assert len(server.seen) == 1


def test_the_key_goes_out_and_none_goes_out_without_one(
    server: JudgeServer, judge: OpenJudge, tmp_path: Path
) -> None:
    judge().grade(asks("a"))
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    keyless = session_of(settings_of(server, tmp_path, api_key_env="none", cache="none"))
    judge(session=keyless, api_key_env="none").grade(asks("a"))
    assert "authorization" not in server.headers[1]


def test_a_missing_key_names_its_variable(server: JudgeServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        JudgeSession(settings_of(server, tmp_path, api_key_env="MY_KEY"), env={"OPENAI_API_KEY": KEY})
    assert caught.value.message == (
        f"the judge at {server.url} needs a key: the environment variable MY_KEY is not set"
    )
    assert caught.value.fix == (
        "export MY_KEY=..., or for a server that needs no key: --set grader.judge.api_key_env=none"
    )
    assert server.listings == 0


def test_a_key_with_a_line_break_is_refused_unseen() -> None:
    with pytest.raises(UsageError, match=r"^OPENAI_API_KEY holds characters that no key has$"):
        find_endpoint(JudgeConfig(), {"OPENAI_API_KEY": "sk-a\nb"})


def test_where_the_endpoint_comes_from() -> None:
    env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://from-env:8000/v1/"}
    own = JudgeConfig(base_url="http://own/v1")
    assert find_endpoint(own, env).url == "http://own/v1"
    assert find_endpoint(JudgeConfig(), env).url == "http://from-env:8000/v1"
    assert find_endpoint(JudgeConfig(), {"OPENAI_API_KEY": KEY}).url == OFFICIAL
    assert KEY not in repr(find_endpoint(own, env))


def test_a_budget_in_dollars_needs_the_models_price(server: JudgeServer, judge: OpenJudge) -> None:
    error = refused(judge, max_cost=1.0, prices=["other=1/2"])
    assert error.message == f"grader.judge.max_cost can't be kept: '{MODEL}' has no price"
    assert (
        error.fix
        == f"add it: --set grader.judge.prices=[{MODEL}=INPUT/OUTPUT] in US dollars for a million tokens"
    )
    assert server.listings == 0


def test_an_address_in_the_environment_that_means_nothing() -> None:
    with pytest.raises(UsageError, match=r"^OPENAI_BASE_URL: must begin with http"):
        find_endpoint(JudgeConfig(), {"OPENAI_BASE_URL": "nonsense"})


def test_all_problems_of_the_settings_come_at_once() -> None:
    sets = ["base_url=localhost:8000", f"api_key_env={KEY}", "max_cost=1.0"]
    with pytest.raises(UsageErrors) as caught:
        load_config(None, sets=[f"grader.judge.{each}" for each in sets], env={})
    assert [problem.message for problem in caught.value.problems] == [
        "--set grader.judge.base_url: must begin with http:// or https:// and name a host",
        "--set grader.judge.api_key_env: must be the name of an environment variable, not the key",
        "--set grader.judge.max_cost: can't be kept without prices",
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("base_url=ftp://host/v1", "must begin with http:// or https:// and name a host"),
        ("base_url=http://", "must begin with http:// or https:// and name a host"),
        ("base_url=http://host:99999/v1", "is not a URL"),
        (
            "base_url=http://me:secret@host/v1",
            "must hold no user name, password, query or fragment: settings are stored",
        ),
        (
            "base_url=http://host/v1?key=secret",
            "must hold no user name, password, query or fragment: settings are stored",
        ),
        ("api_key_env=sk-secret", "must be the name of an environment variable, not the key"),
        ('prices={"m":[1,2]}', "'{\"m\":[1,2]}' is not a price"),
        ("prices=gpt-4o", "'gpt-4o' is not a price"),
        ("prices=gpt-4o=2.5", "'gpt-4o=2.5' is not a price"),
        ("prices=gpt-4o=2.5/-1", "'gpt-4o=2.5/-1' is not a price"),
        ("prices=gpt-4o=nan/1", "'gpt-4o=nan/1' is not a price"),
        ("prices==1/2", "'=1/2' is not a price"),
        ("prices=2.5/10", "'2.5/10' is not a price"),
        ("model=[a, b]", "must be one model's name, or pairs of names"),
        ("model=gpt-4o=", "must be one model's name, or pairs of names"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_with_its_place(setting: str, message: str) -> None:
    key = setting.partition("=")[0]
    with pytest.raises(UsageErrors) as caught:
        load_config(None, sets=[f"grader.judge.{setting}"], env={})
    assert str(caught.value) == f"--set grader.judge.{key}: {message}"
    assert "secret" not in f"{caught.value} {caught.value.problems[0].fix}"


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "grader:\n  judge:\n    base_url: http://127.0.0.1:8000/v1\n    api_key_env: none\n    cache: none\n"
        "    prices: [gpt-4o=2.5/10, o3=2/8]\n    model: served\n    max_cost: 5\n"
    )
    judge = load_config(str(file), env={}).config.grader.judge
    assert judge.prices == ["gpt-4o=2.5/10", "o3=2/8"]
    assert (judge.api_key_env, judge.cache, judge.model, judge.max_cost) == ("none", "none", "served", 5)


def test_a_folder_for_the_cache_that_can_not_be_made(server: JudgeServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught:
        session_of(settings_of(server, tmp_path, cache=str(tmp_path / "file" / "cache")))
    assert caught.value.message.startswith(f"grader.judge.cache: {tmp_path}/file/cache can't be used: ")
    assert caught.value.fix == "name another folder, or none"


def test_a_judge_that_fails_to_open_leaves_no_thread(server: JudgeServer, tmp_path: Path) -> None:
    server.close()
    config = settings_of(server, tmp_path)
    session = session_of(config)
    with pytest.raises(UsageError):
        JudgeGrader(score_spec(), session)
    assert session._client is None


def test_without_the_package_one_message_says_what_to_install() -> None:
    program = """
import sys
sys.modules["openai"] = None  # as where it is not installed
from rft_cli.config.schema import JudgeConfig
from rft_cli.errors import UsageError
from rft_cli.grading.judge.grader import JudgeGrader
from rft_cli.grading.judge.session import JudgeSession
from tests.grading.judge.servers import score_spec
spec = score_spec()
settings = JudgeConfig(base_url="http://127.0.0.1:9/v1", api_key_env="none", cache="none")
try:
    JudgeGrader(spec, JudgeSession(settings))
except UsageError as error:
    print(error.message, "|", error.fix)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    expected = "judges need the openai package, which is not installed | pip install 'rft-cli[judge]'\n"
    assert run.stdout == expected


def test_the_client_is_loaded_only_when_a_judge_opens() -> None:
    program = "import rft_cli.grading.judge, sys; print({'openai', 'torch'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "set()\n"
