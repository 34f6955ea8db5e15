"""Files from the network, tried on a server of our own: right, wrong, cut, absent."""

import gzip
import hashlib
import http.server
import re
import struct
import threading

import numpy as np
import pytest

pytest.importorskip("pooch")

from minibig.data import downloads, fashion_mnist
from minibig.files import FileError

TEXT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 50


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
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
        running.files = {"/right": TEXT, "/wrong": TEXT[::-1], "/cut": TEXT[:100]}
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
        known = {"play": ("play.txt", hashlib.sha256(TEXT).hexdigest(), addresses)}
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


@pytest.mark.parametrize(
    ("bad", "reason"),
    [("/wrong", "other bytes than expected"), ("/missing", "HTTP status 404")],
)
def test_reason_is_said_for_each_address(bad, reason, offer, tmp_path):
    offer(bad, "/wrong")
    with pytest.raises(downloads.DownloadError) as error:
        downloads.download("play", tmp_path)
    reasons = re.findall(r"127\.0\.0\.1:\d+: ([^;)]*)", str(error.value))
    assert reasons == [reason, "other bytes than expected"]


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_file_in_place_of_the_folder_is_named_before_the_network(
    inside, offer, server, tmp_path
):
    offer("/right")
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(downloads.DownloadError, match=r"cache.* cannot be"):
        downloads.download("play", tmp_path / "cache" / inside)
    assert server.asked == []


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


def test_damaged_copy_is_named_where_no_other_can_be_had(offer, tmp_path):
    offer("/right", port=9)
    (tmp_path / "play.txt").write_bytes(b"damaged")
    with pytest.raises(downloads.DownloadError, match=r"play\.txt is damaged"):
        downloads.download("play", tmp_path)


def test_unknown_name_lists_those_that_are_known():
    with pytest.raises(KeyError, match="tiny-shakespeare"):
        downloads.download("tiny-shakespear")


def test_every_download_has_a_checksum_and_a_second_address():
    for name, (file_name, digest, addresses) in downloads.DOWNLOADS.items():
        assert re.fullmatch(r"[0-9a-f]{64}", digest), name
        assert re.fullmatch(r"[\w.-]+", file_name) and len(addresses) >= 2
        assert len({address.split("/")[2] for address in addresses}) == len(addresses)
    files = [file_name for file_name, _, _ in downloads.DOWNLOADS.values()]
    assert len(set(files)) == len(files)


# ---- Fashion-MNIST, a hundredth of it -----------------------------------------------


def fashion_files():
    """{part of the name: gzip bytes}: the four files with 600 and 100 pictures."""
    rng, files = np.random.default_rng(0), {}
    for part, count in (("train", 600), ("t10k", 100)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        images[:, 0, 0] = labels = (np.arange(count) % 10).astype("u1")
        head = struct.pack(">HBB3I", 0, 8, 3, count, 28, 28)
        files[f"{part}-images-idx3"] = gzip.compress(head + images.tobytes())
        head = struct.pack(">HBBI", 0, 8, 1, count)
        files[f"{part}-labels-idx1"] = gzip.compress(head + labels.tobytes())
    return files


@pytest.fixture
def fashion(server, monkeypatch):
    """Offers these files in the place of Fashion-MNIST's."""

    def offer(files):
        server.files |= {f"/{name}": body for name, body in files.items()}
        address = f"http://127.0.0.1:{server.server_port}/"
        known = {
            f"fashion-mnist-{name}": (
                f"{name}.gz", hashlib.sha256(body).hexdigest(), (address + name,)
            )
            for name, body in files.items()
        }  # fmt: skip
        monkeypatch.setattr(downloads, "DOWNLOADS", known)

    fashion_mnist.cache_clear()
    yield offer
    fashion_mnist.cache_clear()


def test_fashion_mnist_is_pictures_in_three_stratified_parts(fashion, server, tmp_path):
    fashion(fashion_files())
    clothes = fashion_mnist(tmp_path)
    parts = clothes.train, clothes.validation, clothes.test
    assert [part.features.shape for part in parts] == [
        (540, 1, 28, 28), (60, 1, 28, 28), (100, 1, 28, 28),
    ]  # fmt: skip
    for part in parts:
        assert part.features.dtype == np.float32 and part.targets.dtype == np.int64
        assert part.features.min() >= 0 and part.features.max() == 1
        assert not part.features.flags.writeable
        np.testing.assert_array_equal(
            np.rint(part.features[:, 0, 0, 0] * 255), part.targets
        )
        assert len(set(np.bincount(part.targets))) == 1  # as many of each kind
    rows = np.sort(np.concatenate(clothes.indices))
    np.testing.assert_array_equal(rows, np.arange(700))
    assert clothes.target_names[9] == "Ankle boot" and len(clothes.feature_names) == 784
    assert len(server.asked) == 4


def test_files_that_do_not_belong_together_are_refused(fashion, tmp_path):
    files = fashion_files()
    files["train-labels-idx1"] = files["t10k-labels-idx1"]
    fashion(files)
    with pytest.raises(FileError, match=r"uint8 of shape \(100,\)"):
        fashion_mnist(tmp_path)


def test_fashion_mnist_without_a_network_says_so(fashion, server, tmp_path):
    fashion(fashion_files())
    server.files.clear()
    with pytest.raises(FileError, match="fashion-mnist-train-images-idx3 could not be"):
        fashion_mnist(tmp_path)
