"""Texts from the network, tried on a server of our own: right, wrong, cut, absent."""

import hashlib
import http.server
import threading

import pytest

pytest.importorskip("pooch")

from minibig.data import downloads
from minibig.files import FileError

TEXT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 50


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = {"/right": TEXT, "/wrong": TEXT[::-1], "/cut": TEXT[:100]}.get(self.path)
        self.send_response(200 if body else 404)
        length = len(TEXT) if self.path == "/cut" else len(body or b"")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def offer(server, monkeypatch):
    """Makes the text "play" known, at these paths of the server."""

    def offer(*paths, port=server.server_port):
        addresses = tuple(f"http://127.0.0.1:{port}{path}" for path in paths)
        known = {"play": (hashlib.sha256(TEXT).hexdigest(), addresses)}
        monkeypatch.setattr(downloads, "DOWNLOADS", known)

    return offer


def test_text_is_fetched_once_and_then_read_from_the_folder(offer, server, tmp_path):
    offer("/right")
    path = downloads.download("play", tmp_path)
    assert path.read_bytes() == TEXT
    assert downloads.download("play", tmp_path) == path
    assert server.asked == ["/right"]


@pytest.mark.parametrize("bad", ["/wrong", "/cut", "/missing"])
def test_second_address_is_asked_when_the_first_fails(bad, offer, server, tmp_path):
    offer(bad, "/right")
    assert downloads.download("play", tmp_path).read_bytes() == TEXT
    assert server.asked[-1] == "/right"


@pytest.mark.parametrize("bad", ["/wrong", "/cut", "/missing"])
def test_wrong_bytes_are_an_error_and_leave_no_file(bad, offer, tmp_path):
    offer(bad)
    with pytest.raises(downloads.DownloadError, match="play could not be fetched"):
        downloads.download("play", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_dead_network_is_one_clear_sentence(offer, tmp_path):
    offer("/right", port=9)  # the discard port: nobody listens
    with pytest.raises(FileError, match="works without a network") as error:
        downloads.download("play", tmp_path)
    assert "127.0.0.1" in str(error.value) and "\n" not in str(error.value)


def test_damaged_copy_in_the_folder_is_fetched_again(offer, tmp_path):
    offer("/right")
    path = downloads.download("play", tmp_path)
    path.write_bytes(b"damaged")
    assert downloads.download("play", tmp_path).read_bytes() == TEXT


def test_unknown_name_lists_those_that_are_known():
    with pytest.raises(KeyError, match="tiny-shakespeare"):
        downloads.download("tiny-shakespear")
