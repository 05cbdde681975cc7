"""The page of `nodegraph watch --open`, looked at in a real browser."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import PAINT, toys, write  # noqa: F401

from nodegraph import Engine
from nodegraph.cli.page import Page
from nodegraph.live import Live

PATIENCE = 30_000.0
SLOW = {**PAINT, "nodes": {**PAINT["nodes"], "show": {"use": "develop", "from": {"image": "dim.image"}, "with": {"steps": 2}}}}
SLOW["outputs"] = {"image": "show.image", "words": "note.text"}
SLOW["nodes"]["note"] = {"use": "text", "with": {"value": "<b>plain</b>"}}


@pytest.fixture
def page(toys: Path) -> Iterator[Page]:  # noqa: F811
    write(SLOW)
    with Engine() as engine:
        made = Page(engine)
        live = Live(engine, Path("w.json"), lambda workflow: (workflow, {}, {}, {}, []), [made], Path("out"))
        thread = threading.Thread(target=live.forever, daemon=True)
        thread.start()
        yield made
        live.close()
        thread.join()
        made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with api.sync_playwright() as playwright:
        if chromium is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("there is no Chromium: install it, or run: playwright install chromium")
        made = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def tab(page: Page, browser: Any) -> Iterator[Any]:
    """A tab on the page; no error may have come in it."""
    made = browser.new_page()
    made.set_default_timeout(PATIENCE)
    errors: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    made.on("request", lambda request: errors.append(request.url) if not request.url.startswith(("data:", page.url)) else None)
    made.goto(page.url)
    yield made
    made.close()
    assert errors == []


def save(flow: Any) -> None:
    write(flow, "aside.json")
    os.replace("aside.json", "w.json")


def states(tab: Any) -> dict[str, str]:
    return tab.evaluate(
        'Object.fromEntries([...document.querySelectorAll("#graph g.node")].map((one) => [one.dataset.node, one.dataset.state]))'
    )


def shown(tab: Any) -> str:
    """The address of the newest picture, when it has been loaded."""
    tab.wait_for_function("() => document.querySelector('#outputs img')?.naturalWidth === 8")
    return tab.get_attribute("#outputs img", "src")


def test_graph_and_outputs_are_shown(tab: Any) -> None:
    shown(tab)
    assert tab.inner_text("#outputs .text") == "words: <b>plain</b>"
    tab.wait_for_selector("#graph image >> nth=2", state="attached")  # the second drawing has the pictures
    assert states(tab) == dict.fromkeys(SLOW["nodes"], "cached")
    assert tab.inner_text("#status").startswith("ok in ")
    assert tab.locator("#graph svg").bounding_box()["width"] > 300


def test_it_updates_by_itself(tab: Any) -> None:
    before = shown(tab)
    save({**SLOW, "nodes": {**SLOW["nodes"], "dim": {"use": "darker", "from": {"image": "paint.image"}, "with": {"amount": 0.9}}}})
    tab.wait_for_function("(before) => document.querySelector('#outputs img')?.getAttribute('src') !== before", arg=before)
    shown(tab)
    assert tab.get_attribute("#earlier img", "src") == before
    assert tab.evaluate("document.querySelector('#earlier img').naturalWidth") == 8  # as it was, though the file was replaced
    assert tab.inner_text("#saved") == "saved: w.json"


def test_previews_come_while_a_node_works(tab: Any) -> None:
    shown(tab)
    save({**SLOW, "nodes": {**SLOW["nodes"], "show": {**SLOW["nodes"]["show"], "with": {"steps": 1000}}}})
    tab.wait_for_function("() => document.querySelector('#previews img')?.naturalWidth === 8")
    tab.wait_for_selector('#graph g.node[data-node="show"][data-state="running"]')
    assert tab.inner_text("#status") == "running"
    save(SLOW)  # cancels it
    tab.wait_for_function("() => document.querySelector('#status').textContent.startsWith('ok in')")
    assert tab.locator("#working").is_hidden()


def test_mistakes_are_shown_and_go(tab: Any) -> None:
    shown(tab)
    write("{", "w.json")
    tab.wait_for_selector("#problems:has-text('error[bad-json]')")
    assert tab.inner_text("#status") == "waiting for a save"
    save(SLOW)
    tab.wait_for_function("() => document.querySelector('#problems').textContent === ''")


def test_a_second_tab_catches_up(tab: Any, page: Page, browser: Any) -> None:
    first = shown(tab)
    other = browser.new_page()
    other.goto(page.url)
    assert shown(other) == first
    other.close()


def test_a_node_that_failed_stays_marked(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last drawing of the graph took the mark away: it shows what the cache has."""
    monkeypatch.setenv("NODEGRAPH_SECRET_TOKEN", "swordfish")
    shown(tab)
    failing = {**SLOW["nodes"], "bad": {"use": "spill", "from": {"token": "inputs.token"}}}
    save(
        {
            **SLOW,
            "inputs": {**SLOW["inputs"], "token": {"type": "secret"}},
            "nodes": failing,
            "outputs": {"image": "dim.image", "bad": "bad.text"},
        }
    )
    tab.wait_for_function("() => document.querySelector('#status').textContent.startsWith('failed in')")
    tab.wait_for_selector('#graph g.node[data-node="dim"][data-state="cached"]')  # the last drawing has come
    tab.wait_for_selector('#graph g.node[data-node="bad"][data-state="failed"]')


def test_a_tab_that_comes_amid_a_run_is_told_how_far_it_is(tab: Any, page: Page, browser: Any) -> None:
    shown(tab)
    save({**SLOW, "nodes": {**SLOW["nodes"], "show": {**SLOW["nodes"]["show"], "with": {"steps": 1000}}}})
    tab.wait_for_selector('#graph g.node[data-node="show"][data-state="running"]')
    joined, messages = page.join(), []
    while (message := joined.get(0)) and len(messages) < 20:
        messages.append(message)
    assert any(one.startswith("event: state") and '"node": "show", "state": "running"' in one for one in messages)


def test_a_tab_that_stands_still_holds_little(page: Page) -> None:
    """What a stopped client has not read was kept without end: graphs and outputs of every round."""
    tab = page.join()
    for number in range(3000):
        page._send("graph", {"svg": str(number)})
        page._send("preview", {"url": str(number)}, of="node")
    left = [message for _ in range(20) if (message := tab.get(0))]
    assert len(left) < 10
    assert '"svg": "2999"' in left[-2]
    assert '"url": "2999"' in left[-1]


# -- who may look ------------------------------------------------------------------------------------------------------


def asked(page: Page, path: str, host: str | None = None) -> http.client.HTTPResponse:
    where = urllib.parse.urlsplit(page.url)
    connection = http.client.HTTPConnection("127.0.0.1", where.port or 0, timeout=20)
    connection.request("GET", path, headers={"Host": host or where.netloc})
    return connection.getresponse()


def test_only_who_knows_the_token_and_names_this_host(page: Page) -> None:
    path = urllib.parse.urlsplit(page.url).path
    good = asked(page, path)
    assert good.status == 200
    assert "default-src 'none'" in (good.getheader("Content-Security-Policy") or "")
    assert asked(page, path, "evil.example").status == 403
    assert asked(page, path, f"evil.example:{urllib.parse.urlsplit(page.url).port}").status == 403
    for other in ("/", "/events", "/wrong/", "/wrong/events", "//", path[:-2] + "/"):
        assert asked(page, other).status == 403
    for other in ("files/../../w.json", "files/", "nothing"):
        assert asked(page, path + other).status == 404


def test_the_command_serves_it(toys: Path) -> None:  # noqa: F811
    write(PAINT)
    running = subprocess.Popen([sys.executable, "-m", "nodegraph", "watch", "w.json", "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    url = running.stdout.readline().removeprefix("page: ").strip()
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert b"EventSource" in answer.read()
    with urllib.request.urlopen(f"{url}events", timeout=20) as stream:
        lines = iter(stream.readline, b"")
        assert next(line for line in lines if line.startswith(b"event: graph"))
        assert b'data-node=\\"paint\\"' in next(lines)
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0


def test_the_port_is_of_this_machine_alone(page: Page) -> None:
    assert page._server.server_address[0] == "127.0.0.1"


def test_a_browser_that_goes_away_is_no_error(page: Page, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It printed a traceback into the tree."""
    (tmp_path / "large.png").write_bytes(bytes(20_000_000))
    where, others = urllib.parse.urlsplit(page.url), threading.enumerate()
    for path in (page._keep(tmp_path / "large.png"), "events", ""):
        with socket.create_connection(("127.0.0.1", where.port or 0)) as client:
            client.sendall(f"GET {where.path}{path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            client.recv(100)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes by a reset
    page._send("status", {"state": "ok", "text": "", "saved": []})
    until = time.monotonic() + 20
    while any(one not in others and one.name.endswith("(process_request_thread)") for one in threading.enumerate()):
        assert time.monotonic() < until
        page._send("status", {"state": "ok", "text": "", "saved": []})  # a tab that has gone is noticed when it is told something
        time.sleep(0.05)
    assert capfd.readouterr().err == ""
