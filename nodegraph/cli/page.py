"""The page of `nodegraph watch --open`: the graph, previews and the newest outputs, updated by server-sent events.

It is served to this machine alone: bound to 127.0.0.1, below a random token, for requests that name this host (so that no other
page in the browser reaches it by a name of its own). It loads nothing from elsewhere.
"""

from __future__ import annotations

import base64
import io
import json
import mimetypes
import queue
import secrets
import sys
import threading
from collections.abc import Mapping
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.boxes import STATES
from nodegraph.cli import common
from nodegraph.drawing import draw
from nodegraph.errors import Problem, Problems, render
from nodegraph.events import Event
from nodegraph.glance import glance, looks

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.job import Result
    from nodegraph.live import Round

HOST = "127.0.0.1"
BEAT = 15.0
"""Seconds of silence after which a comment is sent, so that a closed tab is noticed."""
MAX_KEPT = 256 << 20
"""Bytes of outputs, the earlier ones too, that tabs can still ask for."""
POLICY = (
    "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; "
    "connect-src 'self'; base-uri 'none'"
)
HTML = Path(__file__).with_name("page.html")


class Page:
    """A view of a live workflow, and the server of its page."""

    def __init__(self, engine: Engine, port: int = 0):
        self._engine = engine
        self._token = secrets.token_urlsafe(16)
        self._tabs: list[_Tab] = []
        self._lock = threading.Lock()
        self._latest: dict[str, str] = {}  # the last message of each kind that a new tab is to have
        self._states: dict[str, dict[str, Any]] = {}  # of nodes, since the graph was drawn that a tab has
        self._files: dict[str, tuple[str, bytes]] = {}
        self._drawing = queue.SimpleQueue[Any]()
        self._server = _Server((HOST, port), self)
        self.url = f"http://{HOST}:{self._server.server_port}/{self._token}/"
        for target in (self._server.serve_forever, self._draw_forever):
            threading.Thread(target=target, daemon=True, name="nodegraph-page").start()

    def close(self) -> None:
        self._drawing.put(None)
        self._server.shutdown()
        self._server.server_close()

    # -- what happens ----------------------------------------------------------------------------------------------

    def begin(self, this: Round) -> None:
        self._states = {}
        self._send("status", {"state": "running", "text": "running", "saved": [common.shown_path(path) for path in this.changed]})
        self._send("problems", {"text": ""})
        self._drawing.put((this, False, self._states))

    def event(self, this: Round, event: Event) -> None:
        data = dict(event.data or {})
        preview = data.pop("preview", None)
        if preview is not None:
            self._send("preview", {"node": event.node, "url": _png_url(preview.pil()[0])}, of=event.node)
        state = _STATE_OF.get(event.kind)
        if not event.node or state is None:
            return
        note = f"{data.get('step')}/{data.get('total')}" if event.kind == "progress" else ""
        note = common.human_seconds(data["seconds"]) if event.kind == "finished" and "seconds" in data else note
        told = {"node": event.node, "state": state, "note": note, "color": STATES[state][0]}
        self._states[event.node] = told
        self._send("state", told, of=event.node)

    def end(self, this: Round, result: Result, files: Mapping[str, list[Path]], seconds: float) -> None:
        self._send("outputs", {"items": [self._output(name, value, files.get(name)) for name, value in result.outputs.items()]})
        self._send("problems", {"text": render(result.problems) if result.problems else ""})
        self._send("status", {"state": result.status, "text": f"{result.status} in {seconds:.2f} s", "saved": []})
        self._drawing.put((this, True, self._states))

    def wrong(self, problems: list[Problem], kept: bool) -> None:
        self._send("problems", {"text": render(problems)})
        text = "a pack is broken: its last good version stays in use" if kept else "waiting for a save"
        self._send("status", {"state": "failed", "text": text, "saved": []})

    def _output(self, name: str, value: Any, files: list[Path] | None) -> dict[str, Any]:
        if files is None:
            return {"name": name, "text": common.line(value)}
        return {"name": name, "files": [{"path": common.shown_path(path), "url": self._keep(path)} for path in files]}

    def _keep(self, path: Path) -> str:
        """The address of a file as it is now: it is shown even when the next run has replaced it."""
        raw = path.read_bytes()
        name = f"{secrets.token_hex(6)}{path.suffix}"
        with self._lock:
            self._files[name] = (mimetypes.guess_type(path.name)[0] or "application/octet-stream", raw)
            while len(self._files) > 1 and sum(len(one) for _, one in self._files.values()) > MAX_KEPT:
                del self._files[next(iter(self._files))]
        return f"files/{name}"

    # -- the graph -------------------------------------------------------------------------------------------------

    def _draw_forever(self) -> None:
        """Draw in a thread of its own: a run does not wait for its picture."""
        while (asked := self._drawing.get()) is not None:
            while not self._drawing.empty():  # only the newest is worth drawing
                later = self._drawing.get()
                if later is None:
                    return
                asked = later
            this, over, states = asked
            try:
                seen = looks(glance(self._engine, this.workflow, this.inputs, pictures=over))
                svg = draw(this.workflow, this.template, seen, this.shown)
            except Problems as error:
                svg = f"<p>{escape(error.problems[0].text)}</p>"
            except Exception as error:  # what cannot be drawn must not end the page
                svg = f"<p>the graph cannot be drawn: {escape(f'{type(error).__name__}: {error}')}</p>"
            self._send("graph", {"svg": svg})
            for node, told in list(states.items()):
                if over and told["state"] not in _AT_LAST:
                    del states[node]  # the graph shows how it ended
                else:
                    self._send("state", told, of=node)

    # -- tabs ------------------------------------------------------------------------------------------------------

    def _send(self, kind: str, data: Mapping[str, Any], of: str = "") -> None:
        """Tell all tabs; new ones too, but of what a node is doing (`of`), which they are told as it is when they come."""
        message = _message(kind, data)
        with self._lock:
            if not of:
                self._latest[kind] = message
            for tab in self._tabs:
                tab.put((kind, of), message)

    def join(self) -> _Tab:
        """A new tab: everything that it needs to catch up, and what comes."""
        tab = _Tab()
        with self._lock:
            for kind, message in self._latest.items():
                tab.put((kind, ""), message)
            for node, told in list(self._states.items()):
                tab.put(("state", node), _message("state", told))
            self._tabs.append(tab)
        return tab

    def leave(self, tab: _Tab) -> None:
        with self._lock:
            self._tabs.remove(tab)

    def file(self, name: str) -> tuple[str, bytes] | None:
        with self._lock:
            return self._files.get(name)

    def allows(self, host: str, path: str) -> bool:
        """Whether a request is from this machine's browser, and knows the token."""
        port = self._server.server_port
        given = path.split("/", 2)[1] if path.count("/") >= 2 else ""
        return host in (f"{HOST}:{port}", f"localhost:{port}") and secrets.compare_digest(given.encode(), self._token.encode())


_STATE_OF = {"started": "running", "progress": "running", "finished": "done", "cached": "cached", "failed": "failed", "skipped": "skipped"}

_AT_LAST = ("failed", "skipped")
"""States that say more of a run that is over than what the cache has."""


class _Tab:
    """What a tab is still to be told: of each thing the newest alone, so that one that is slow, or stands still, holds little."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], str] = {}
        self._some = threading.Condition()

    def put(self, about: tuple[str, str], message: str) -> None:
        with self._some:
            self._waiting.pop(about, None)  # what comes now comes after all that was said before
            self._waiting[about] = message
            self._some.notify()

    def get(self, timeout: float) -> str:
        """What comes next; nothing when there is none for so many seconds."""
        with self._some:
            if not self._some.wait_for(lambda: self._waiting, timeout):
                return ""
            return self._waiting.pop(next(iter(self._waiting)))


def _message(kind: str, data: Mapping[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(common.plain(data))}\n\n"


def _png_url(picture: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], page: Page):
        self.page = page
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away amid an answer is none: the terminal belongs to the tree."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the terminal belongs to the tree."""

    def do_GET(self) -> None:
        page = self.server.page
        if not page.allows(self.headers.get("Host", ""), self.path):
            self._answer(403, "text/plain", b"this page is for who started it")
            return
        inside = self.path.split("/", 2)[2].partition("?")[0]
        if inside == "":
            nonce = secrets.token_urlsafe(12)
            text = HTML.read_text(encoding="utf-8").replace("NONCE", nonce)
            self._answer(200, "text/html; charset=utf-8", text.encode(), POLICY.format(nonce=nonce))
        elif inside == "events":
            self._stream(page)
        elif inside.startswith("files/") and (found := page.file(inside.removeprefix("files/"))):
            self._answer(200, *found)
        else:
            self._answer(404, "text/plain", b"there is nothing here")

    def _answer(self, status: int, kind: str, body: bytes, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, page: Page) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        tab = page.join()
        try:
            while True:
                self.wfile.write((tab.get(BEAT) or ": still here\n\n").encode())
                self.wfile.flush()
        except OSError:  # the tab was closed
            pass
        finally:
            page.leave(tab)


__all__ = ["Page"]
