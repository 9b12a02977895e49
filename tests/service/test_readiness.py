"""Ready means that our own process answers, not whoever holds the port."""

import http.server
import subprocess
import sys
import threading

import pytest

from service.embedded import ComponentNotReady, pick_port, wait_for_http


def test_a_stranger_who_answers_at_the_port_is_not_taken_for_our_process():
    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", pick_port()), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ours = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
        try:
            with pytest.raises(ComponentNotReady):
                wait_for_http(
                    f"http://127.0.0.1:{server.server_port}/", process=ours, timeout_seconds=2
                )
        finally:
            ours.kill()
            ours.wait()
            server.shutdown()
