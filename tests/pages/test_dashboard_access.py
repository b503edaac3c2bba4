"""Who may ask the dashboard for what, over plain HTTP: token, Host, Origin, files; and how it starts and ends."""

import json
import os
import shutil
import signal
import socket
from urllib.parse import urlsplit

import pytest

from tests.command import rft
from tests.pages.conftest import hostile_run
from tests.pages.dashboards import dashboard
from tests.view.made_runs import line, make_run, sample

SECRET = "the secret of another folder"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two good runs, one whose every text attacks, and runs that are damaged, newer, or lead out of the folder."""
    base = tmp_path_factory.mktemp("dashboard")
    runs = base / "runs"
    rows = [sample(row, row / 4, f"completion {row}") for row in range(4)]
    for name in ("good", "linked", "cut", "newer", "damaged", "odd"):
        make_run(runs, name, lines=[line(1), line(2)], validations={0: rows, 2: rows}, best_step=2)
    hostile_run(runs, "hostile")
    (base / "secret.txt").write_text(SECRET)
    (runs / "linked" / "scorer" / "more.py").symlink_to(base / "secret.txt")
    make_run(base, "outside", lines=[line(1)], finish=False)
    (runs / "away").symlink_to(base / "outside")
    with (runs / "cut" / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "reward": 0.')
    (runs / "damaged" / "run.json").write_text('{"schema_version": 1, "status"')
    record = json.loads((runs / "newer" / "run.json").read_text())
    (runs / "newer" / "run.json").write_text(
        json.dumps({**record, "schema_version": 99, "versions": {"rft": "9.0"}})
    )
    (runs / "odd" / "metrics.jsonl").write_text("[1]\nnull\n{}\n" + '{"step": "x", "reward": {}}\n')
    (runs / "odd" / "pilot.json").write_text('{"max_completion_tokens": 5}')
    (runs / "odd" / "validation" / "step-000002.jsonl").write_text('{"row": 0}\n{"grade": 3}\nnot json\n')
    return runs


@pytest.fixture(scope="module")
def served(folder):
    with dashboard(folder) as started:
        yield started


def test_without_the_token_nothing_is_shown(served):
    wrong = f"rft_{served.port}=wrong"
    for cookie in ("", wrong, "rft_1=" + served.cookie.partition("=")[2], "x", f"{wrong}; a=\\"):
        for path in ("/", "/runs/good", "/runs/good/completions", "/compare", "/static/theme.js", "/nothing"):
            answer = served.ask(path, Cookie=cookie)
            assert answer.status == 403
            assert "good" not in answer.text.replace("good.", "")
    for token in ("wrong", "", "é", "x" * 5000):
        assert served.ask(f"/?token={token.encode('ascii', 'ignore').decode()}x", Cookie="").status == 403
    assert served.ask("/").status == 200


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_have_not(served):
    opened = served.ask("/?" + urlsplit(served.url).query, Cookie="")
    assert opened.status == 200
    attributes = {part.strip().lower() for part in opened.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    assert "domain" not in opened.headers["set-cookie"].lower()
    assert served.ask("/", Cookie="a=b; " + served.cookie).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403), ("evil.example:80", 403), ("127.0.0.1.evil.example", 403), ("", 403), ("0.0.0.0", 403),
        ("localhost@evil.example", 403), ("[::1", 403), ("192.168.0.1", 403),
        ("localhost:9000", 200), ("127.0.0.1", 200), ("LOCALHOST", 200),
    ],
)  # fmt: skip
def test_a_name_that_leads_here_by_rebinding_is_refused(served, host, status):
    assert served.ask("/", Host=host).status == status


@pytest.mark.parametrize(
    "origin",
    ["", "null", "http://evil.example", "http://localhost:1", "https://127.0.0.1", "http://127.0.0.1"],
)
def test_a_change_from_another_origin_is_refused(served, origin):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = served.ask("/", method, Origin=origin)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers


def test_a_change_from_its_own_page_reaches_the_routes(served):
    # the list takes no POST
    assert served.ask("/", "POST", Origin=served.origin).status == 405


def test_every_answer_forbids_scripts_of_a_run_frames_and_sniffing(served):
    for path in (
        "/",
        "/runs/good",
        "/runs/nothing",
        "/static/theme.js",
        "/compare",
        "/runs/hostile/completions",
    ):
        for cookie in (served.cookie, ""):
            headers = served.ask(path, Cookie=cookie).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self';")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["cache-control"] in ("no-store", "no-cache")


@pytest.mark.parametrize(
    "path",
    [
        "/runs/..", "/runs/../outside", "/runs/%2e%2e/outside", "/runs/..%2foutside", "/runs/%2Fetc", "/runs/.",
        "/runs/good%2f..%2f..%2foutside", "/runs/good%00", "/runs/latest", "/runs/good/run.json",
        "/runs/good/scorer/scorer.py", "/runs/good/../../secret.txt", "/static/../app.py", "/static/%2e%2e/app.py",
        "/static/..%2f..%2f..%2f..%2fsecret.txt", "//etc/passwd", "/runs/linked", "/runs/linked/completions",
        "/runs/linked/report.html", "/runs/away", "/compare?run=good&run=..%2foutside", "/compare?run=good&run=away",
        "/compare?run=good&run=linked",
    ],
)  # fmt: skip
def test_files_outside_of_the_folder_are_never_served(served, path):
    answer = served.ask(path)
    assert answer.status in (400, 404)
    assert SECRET not in answer.text
    assert "root:" not in answer.text


def test_a_damaged_or_newer_run_is_one_message_and_the_rest_goes_on(served):
    listed = served.ask("/").text
    assert "damaged/run.json can&#39;t be read" in listed
    assert "schema version 99, written by rft 9.0" in listed
    assert 'href="/runs/good"' in listed
    assert 'href="/runs/damaged"' not in listed
    assert served.ask("/runs/damaged").status == served.ask("/runs/newer").status == 404
    for name in ("linked", "away"):
        assert f'href="/runs/{name}"' not in listed
    assert "away is a link that leads out of" in listed
    assert "linked/scorer/more.py is a link that leads out of" in listed
    assert "take the rft that wrote it" in served.ask("/runs/newer").text
    for name in ("good", "cut", "odd"):
        for page in ("", "/completions", "/completions?split=test", "/report.html"):
            assert served.ask(f"/runs/{name}{page}").status == 200
    assert "1 damaged line left out" in served.ask("/runs/odd").text
    assert served.ask("/compare?run=good&run=odd&run=cut").status == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "no run is marked"), ("run=good", "one run is marked"), ("run=good&run=good", "one run is marked"),
        ("run=a&run=b&run=c&run=d&run=e&run=f", "6 runs are marked"), ("run=good&run=nothing", "there is no run"),
    ],
)  # fmt: skip
def test_a_comparison_that_can_not_be_made_says_why(served, query, said):
    answer = served.ask(f"/compare?{query}")
    assert answer.status in (400, 404)
    assert said in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "split=nothing", "show=nothing&order=x", "after=-1", "after=99999999999999999999", "row=abc", "row=999",
        "place=1:2:3", "place=-5", "place=99999", "place=0:999999", "split=training&place=4", "q=%00%ff%F0%9F",
        "split=training&q=" + "x" * 5000, "q=%22%3E%3Cscript%3E", "split=training&after=4&show=ungraded",
    ],
)  # fmt: skip
def test_an_address_that_was_typed_wrong_shows_a_list_all_the_same(served, query):
    for name in ("good", "hostile"):
        answer = served.ask(f"/runs/{name}/completions?{query}")
        assert answer.status == 200
        assert "<script>" not in answer.text


def test_a_page_that_has_not_changed_is_not_sent_again(served, folder):
    for path in (
        "/",
        "/runs/good",
        "/runs/good/completions",
        "/compare?run=good&run=cut",
        "/static/theme.js",
    ):
        etag = served.ask(path).headers["etag"]
        again = served.ask(path, **{"If-None-Match": etag})
        assert (again.status, again.text) == (304, "")


def test_a_run_that_is_deleted_is_gone_and_the_rest_goes_on(served, folder):
    shutil.copytree(folder / "good", folder / "brief")
    assert 'href="/runs/brief"' in served.ask("/").text
    assert served.ask("/runs/brief").status == 200
    shutil.rmtree(folder / "brief")
    (folder / "empty").mkdir()
    assert "newest runs in" in served.ask("/runs/empty").text
    assert str(folder) in served.ask("/runs/empty").text
    (folder / "empty").rmdir()
    gone = served.ask("/runs/brief")
    assert gone.status == 404
    assert "there is no run &#39;brief&#39;" in gone.text
    assert 'href="/runs/brief"' not in served.ask("/").text


def test_memory_stays_flat_however_much_was_sampled(served, folder):
    run = make_run(folder, "long", lines=[line(1)], finish=False)
    groups = [sample(row // 8, 0.5, f"word {row} " * 1500) for row in range(800)]
    for step in range(0, 12, 4):  # 30 MB
        run.write_rollouts(step, [found.to_json() for found in groups])
    asked = ["", "&q=nothing+has+this", "&q=word+799", "&show=ungraded", "&row=99", "&place=0:1000000"]
    served.ask("/runs/long/completions?split=training")
    before = served.memory_mb
    for query in asked * 2:
        assert served.ask(f"/runs/long/completions?split=training{query}").status == 200
    assert served.memory_mb < before + 20


def test_it_ends_by_ctrl_c_and_its_port_is_free_again(tmp_path):
    (tmp_path / "runs").mkdir()
    with dashboard(tmp_path / "runs") as started:
        assert "There are no runs in" in started.ask("/").text
        assert "rft create" in started.ask("/").text
        port = started.port
        taken = rft("dashboard", "--port", str(port), folder=tmp_path)
        assert (taken.code, taken.problems) == (2, [f"--port {port}: in use by another program"])
        assert started.end() == (0, "")
    with dashboard(tmp_path / "runs", "--port", str(port)) as started:
        assert started.port == port
        assert started.end(signal.SIGTERM)[1] == ""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))


def test_it_listens_on_this_machine_alone(served):
    import psutil

    listening = [
        c for c in psutil.Process(served.process.pid).net_connections("inet") if c.status == "LISTEN"
    ]
    assert [(c.laddr.ip, c.laddr.port) for c in listening] == [("127.0.0.1", served.port)]


BROWSER = '#!/bin/sh\necho "$1" > opened\n'


def test_the_browsers_address_opens_it_once(tmp_path, monkeypatch):
    """Other users of the machine can read a browser's command line."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "browser").write_text(BROWSER)
    (tmp_path / "browser").chmod(0o755)
    monkeypatch.setenv("BROWSER", str(tmp_path / "browser"))
    with dashboard(tmp_path / "runs", "--open") as started:
        opened = (tmp_path / "opened").read_text().strip()
        assert opened.startswith(started.origin)
        assert opened != started.url
        path = opened.removeprefix(started.origin)
        assert [started.ask(path, Cookie="").status for _ in range(2)] == [200, 403]
        assert started.ask("/").status == 200


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--output-dir", "nothing"], "--output-dir nothing: there is no such folder"),
        (["--port", "70000"], "--port"),
        (["--prot", "1"], "--prot"),
    ],
)
def test_what_was_typed_wrong_is_one_message(tmp_path, args, said):
    done = rft("dashboard", *args, folder=tmp_path)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_without_the_extra_the_message_names_it(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'starlette' else find(name, *more)\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", ""), os.getcwd()])
    done = rft("dashboard", folder=tmp_path, env={"PYTHONPATH": path})
    assert done.code == 2
    assert done.problems == ["rft dashboard needs starlette, not installed here"]
    assert "pip install 'rft-cli[dashboard]'" in done.err
