"""The live page of a campaign: made anew from the store each time that a browser asks."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from softcert.errors import SoftcertError

if TYPE_CHECKING:
    from softcert.conformance.campaigns.drivers import Watch


def page(store: str, *, refresh: int | None = None, watch: Watch | None = None) -> str:
    """Return the page of a store as it stands.

    Raises
    ------
    RequestError : the store cannot be read, or jinja2 is not installed.
    """
    from softcert.conformance.campaigns.store_files import open_store
    from softcert.reports.campaigns import describe_campaign
    from softcert.reports.document_html import document_html

    with open_store(store, verified=False) as opened:
        return document_html(describe_campaign(opened, watch), refresh=refresh)


def server(store: str, host: str, port: int, seconds: int) -> ThreadingHTTPServer:
    """Return a server of the page, which is asked for again every so many seconds.

    Raises
    ------
    OSError : the address cannot be had.
    """
    from softcert.conformance.campaigns.drivers import Watch

    watch = Watch()

    class Handler(BaseHTTPRequestHandler):
        """Answers with the page, and with nothing else of this machine."""

        def do_GET(self) -> None:
            """Answer a request."""
            if self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                self._answer(HTTPStatus.OK, page(store, refresh=seconds, watch=watch), "text/html")
            except SoftcertError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n", "text/plain")

        def _answer(self, status: HTTPStatus, text: str, kind: str) -> None:
            body = text.encode("utf-8", errors="replace")
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the library's
            """Say nothing of requests that were answered."""

    return ThreadingHTTPServer((host, port), Handler)
