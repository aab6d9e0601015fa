#!/usr/bin/env python3
"""A server that is told things: prints its port, then writes each request as a JSON line to the file that is named.

The path says how it answers: /ok, /slow (after 60 s), /500, /flaky (500 the first two times), /redirect (to /stolen),
/404. What begins with one of them answers so too.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN = {}
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def serve(self):
        """Writes it down and answers."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        word = self.path.split("/")[1].split("?")[0]
        with LOCK:
            SEEN[self.path] = SEEN.get(self.path, 0) + 1
            count = SEEN[self.path]
            with open(sys.argv[1], "a", encoding="utf-8") as file:
                file.write(json.dumps({"method": self.command, "path": self.path, "body": body,
                                       "type": self.headers.get("Content-Type"), "at": time.time()}) + "\n")
        if word == "slow":
            time.sleep(60)
        status = {"500": 500, "404": 404, "redirect": 302}.get(word, 200)
        if word == "flaky" and count <= 2:
            status = 503
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/stolen")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = serve

    def log_message(self, *_):
        """Says nothing."""


def main():
    """Serves until it is killed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
