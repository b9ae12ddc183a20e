"""A stand-in for the model hub: real files over loopback, as the hub's own client asks for them."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" + "0" * 34
LARGE = (".safetensors", ".parquet")


class Hub:
    """Serves the folders below one as repositories, each with a single commit.

    Args:
        folder: Folder of ``OWNER/NAME`` folders; data sets lie in ``datasets/OWNER/NAME``.

    Attributes:
        requests: Method, path and range of everything that was asked for.
        cut_at: Byte of a large file at which the connection breaks, ``cuts_left`` times.
        damaged: Names of files that are served with one byte changed.
        gated: Repositories of which nobody may know anything.
        locked: Repositories that everybody knows of, and whose files only the bearer of the token ``granted`` may read.
        tokens: Access tokens that came along.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut_at: int | None = None
        self.damaged: set[str] = set()
        self.gated: set[str] = set()
        self.locked: set[str] = set()
        self.tokens: set[str] = set()
        self.address = ""
        self.cuts_left = 0

    def downloads(self, name: str) -> list[str | None]:
        """List the ranges in which a file was asked for; ``None`` for the whole of it."""
        return [asked for method, path, asked in self.requests if method == "GET" and path.endswith(f"/{name}")]

    def info(self, repo: str) -> dict[str, object]:
        """Describe a repository as the hub does when asked with file metadata."""
        siblings = []
        for path in sorted((self.folder / repo).rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                entry: dict[str, object] = {
                    "rfilename": str(path.relative_to(self.folder / repo)),
                    "size": len(content),
                    "blobId": git_sha1(content),
                }
                if path.suffix in LARGE:
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
                siblings.append(entry)
        gated = "manual" if repo in self.locked else False
        known = {"id": repo, "sha": COMMIT, "private": False, "downloads": 0, "tags": [], "gated": gated}
        return {**known, "siblings": siblings}


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """Serve a folder until the block ends."""
    hub = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if token := self.headers.get("Authorization"):
            self.hub.tokens.add(token)
        may_read = self.headers.get("Authorization") == "Bearer granted"
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/auth-check", path):
            is_refused = match[1] in self.hub.locked and not may_read
            self._send(403, {"X-Error-Code": "GatedRepo"}, b"{}") if is_refused else self._send(200, {}, b"{}")
        elif match := re.fullmatch(
            r"/api/(?:models/|(?=datasets))((?:datasets/)?[^/]+/[^/]+)(?:/revision/([^/]+))?", path
        ):
            self._answer_info(match[1], match[2])
        elif match := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._answer_file(match[1], match[3], with_body=with_body)
        else:
            self._send(404, {}, b"")

    def _answer_info(self, repo: str, revision: str | None) -> None:
        if repo in self.hub.gated:
            self._send(403, {"X-Error-Code": "GatedRepo"}, b"{}")
        elif not (self.hub.folder / repo).is_dir():
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
        elif revision not in (None, "main", COMMIT):
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        else:
            self._send(200, {"Content-Type": "application/json"}, json.dumps(self.hub.info(repo)).encode())

    def _answer_file(self, repo: str, name: str, *, with_body: bool) -> None:
        path = self.hub.folder / repo / name
        if not path.is_file():
            self._send(404, {"X-Error-Code": "EntryNotFound"}, b"")
            return
        content = path.read_bytes()
        etag = hashlib.sha256(content).hexdigest() if path.suffix in LARGE else git_sha1(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if name in self.hub.damaged:
            content = bytes([content[0] ^ 1]) + content[1:]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if with_body and path.suffix in LARGE and self.hub.cuts_left:
            self.hub.cuts_left -= 1
            self._send(206 if asked else 200, headers, body, n_sent=max(0, (self.hub.cut_at or 0) - start))
            self.close_connection = True
            return
        self._send(206 if asked else 200, headers, body, n_sent=None if with_body else 0)

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, n_sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:n_sent] if n_sent is not None else body)
