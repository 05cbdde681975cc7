"""A small client of a language server over its protocol (LSP, JSON-RPC on stdin and stdout): what an editor does."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any

PATIENCE = 60.0


class Editor:
    """One open file in an editor that talks to a JSON language server, with one schema for it."""

    def __init__(self, command: list[str], schema: dict[str, Any]):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._answers: dict[int, queue.SimpleQueue[Any]] = {}
        self._diagnostics: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._number = self._version = 0
        threading.Thread(target=self._read, daemon=True).start()
        markdown = {"documentationFormat": ["markdown", "plaintext"], "snippetSupport": True}
        capabilities = {"textDocument": {"completion": {"completionItem": markdown}, "hover": {"contentFormat": ["markdown"]}}}
        self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities, "initializationOptions": {}})
        self.tell("initialized", {})
        settings = {"json": {"validate": {"enable": True}, "schemas": [{"fileMatch": ["*.json"], "url": "x:workflow", "schema": schema}]}}
        self.tell("workspace/didChangeConfiguration", {"settings": settings})

    def close(self) -> None:
        self.ask("shutdown", None)
        self.tell("exit", None)
        self.process.wait(PATIENCE)

    # -- what a person does ----------------------------------------------------------------------------------------

    def complete(self, text: str) -> dict[str, dict[str, Any]]:
        """The completions at the mark `|` of a text, by label."""
        text, position = _marked(text)
        self._open(text)
        answer = self.ask("textDocument/completion", {"textDocument": {"uri": self.uri}, "position": position})
        return {item["label"].strip('"'): item for item in (answer["items"] if isinstance(answer, dict) else answer)}

    def hover(self, text: str) -> str:
        """What is shown for the word at the mark `|`."""
        text, position = _marked(text)
        self._open(text)
        answer = self.ask("textDocument/hover", {"textDocument": {"uri": self.uri}, "position": position})
        contents = answer["contents"] if answer else ""
        return "\n".join(str(one) for one in (contents if isinstance(contents, list) else [contents]))

    def problems(self, text: str) -> list[tuple[str, str]]:
        """(underlined text, message) of each mistake in a text."""
        while not self._diagnostics.empty():
            self._diagnostics.get()
        self._open(text)
        while True:
            found = self._diagnostics.get(timeout=PATIENCE)
            if found["uri"] == self.uri:
                return [(_within(text, one["range"]), one["message"]) for one in found["diagnostics"]]

    # -- the protocol ----------------------------------------------------------------------------------------------

    def _open(self, text: str) -> None:
        self._version += 1
        self.uri = f"file:///w{self._version}.json"
        self.tell("textDocument/didOpen", {"textDocument": {"uri": self.uri, "languageId": "json", "version": 1, "text": text}})

    def ask(self, method: str, parameters: Any) -> Any:
        self._number += 1
        answers = self._answers[self._number] = queue.SimpleQueue()
        self._send({"id": self._number, "method": method, "params": parameters})
        answer = answers.get(timeout=PATIENCE)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def tell(self, method: str, parameters: Any) -> None:
        self._send({"method": method, "params": parameters})

    def _send(self, message: dict[str, Any]) -> None:
        raw = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(raw), raw))
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            length = int(line.partition(b":")[2])
            while self.process.stdout.readline().strip():
                pass
            message = json.loads(self.process.stdout.read(length))
            if "method" not in message:
                self._answers[message["id"]].put(message)
            elif message["method"] == "textDocument/publishDiagnostics":
                self._diagnostics.put(message["params"])
            elif "id" in message:  # the server asks for configuration and such
                self._send({"id": message["id"], "result": None})


def find_server(folder: Path) -> list[str] | str:
    """The command of the server, installed by npm into a folder if need be; or why there is none."""
    import shutil

    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    script = folder / "node_modules" / "vscode-json-languageserver" / "bin" / "vscode-json-languageserver"
    if not script.is_file():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "vscode-json-languageserver@1.3.4"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            return f"npm cannot install vscode-json-languageserver: {done.stderr.strip()[-200:]}"
    return ["node", str(script), "--stdio"]


def _marked(text: str) -> tuple[str, dict[str, int]]:
    before, _, after = text.partition("|")
    return before + after, {"line": before.count("\n"), "character": len(before) - before.rfind("\n") - 1}


def _within(text: str, place: dict[str, Any]) -> str:
    lines = text.split("\n")
    start, end = place["start"], place["end"]
    if start["line"] != end["line"]:
        return lines[start["line"]][start["character"] :]
    return lines[start["line"]][start["character"] : end["character"]]
