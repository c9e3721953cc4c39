"""Serves our pages over HTTP. TLS, and the world, are a proxy's business."""

import logging
import socket

from waitress.server import create_server

from dispatcher.servers.pages import Pages
from dispatcher.servers.pages.body import MAX_BYTES

_THREADS = 4
_SILENT_SECONDS = 30  # that a client may be


def serve(pages: Pages, listening: socket.socket) -> None:
    """Answer until a signal's handler raises SystemExit or KeyboardInterrupt, then finish what is in hand."""
    logging.getLogger("waitress").setLevel(logging.ERROR)  # it says of every busy moment that it is busy
    server = create_server(
        pages,
        sockets=[listening],
        threads=_THREADS,
        ident=None,
        channel_timeout=_SILENT_SECONDS,
        max_request_body_size=2 * MAX_BYTES,  # what is longer is not even kept; the pages refuse it from MAX_BYTES on
        clear_untrusted_proxy_headers=True,
    )
    try:
        server.run()
    finally:
        server.close()
