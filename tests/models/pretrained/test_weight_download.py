"""Names, links and files of checkpoints; downloads that continue, from a server in this process."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rsfoundation.core.errors import CheckpointError
from rsfoundation.models.pretrained import download as weight_files
from rsfoundation.models.pretrained.catalogue import WEIGHTS
from rsfoundation.models.pretrained.download import cache_folder, download, resolve
from rsfoundation.registry import MODELS

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """Serves CONTENT; `cut` bytes per answer if set, `ranges` as asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            self.server.asked.append(asked)
            start = int(asked[6:-1]) if asked and self.server.ranges else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            body = CONTENT[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: self.server.cut])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ranges, server.cut, server.asked = True, None, []
        server.url = f"http://127.0.0.1:{server.server_port}/weights.pth"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(weight_files.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_download_that_broke_off_is_continued(server, tmp_path):
    target = tmp_path / "folder" / "weights.pth"
    server.cut = 1000
    with pytest.raises(CheckpointError, match="broken off"):
        download(server.url, target, SHA256)
    assert not target.exists()
    server.cut = None
    assert download(server.url, target, SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_that_was_already_whole_or_cannot_be_continued(server, tmp_path, ranges):
    server.ranges = ranges
    target = tmp_path / "weights.pth"
    target.with_name("weights.pth.part").write_bytes(CONTENT)
    assert download(server.url, target, SHA256[:8]).read_bytes() == CONTENT


def test_another_hash_is_an_error_and_leaves_nothing(server, tmp_path):
    with pytest.raises(CheckpointError, match="SHA-256"):
        download(server.url, tmp_path / "weights.pth", "0" * 64)
    assert list(tmp_path.glob("weights*")) == []


def test_a_link_is_kept_in_the_cache(server, cache):
    first = resolve(server.url)
    assert first.is_relative_to(cache) and resolve(server.url) == first
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_names_the_place_to_save_to(cache):
    with pytest.raises(CheckpointError, match="save it as"):
        resolve("http://127.0.0.1:9/weights.pth")


def test_a_name_resolves_through_the_cache_and_checks_the_hash(cache):
    cache.mkdir()
    (cache / "lsknet_t-in1k.pth").write_bytes(b"not it")
    with pytest.raises(CheckpointError, match="published is 2ef8a593"):
        resolve("lsknet_t-in1k")
    (cache / "rsp_swin_t-millionaid.pth").write_bytes(b"no hash is published")
    assert resolve("rsp_swin_t-millionaid") == cache / "rsp_swin_t-millionaid.pth"


def test_weights_without_a_link_say_where_to_put_them(cache):
    with pytest.raises(CheckpointError, match="by hand") as caught:
        resolve("rsp_resnet50-millionaid")
    assert str(cache / "rsp_resnet50-millionaid.pth") in caught.value.fix


def test_an_unknown_name_gets_the_nearest(cache):
    with pytest.raises(CheckpointError, match="lsknet_s-in1k"):
        resolve("lsknet_s-im1k")
    with pytest.raises(CheckpointError, match="does not exist"):
        resolve("weights/nowhere.pth")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv(weight_files.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "rsfoundation" / "weights"


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=list(WEIGHTS))
def test_every_entry_names_a_backbone_and_says_its_licence(weights):
    assert MODELS.get(weights.backbone["type"]) is not None
    assert weights.licence and weights.trained_on and weights.page.startswith("https://")
    assert weights.url is None or weights.url.endswith(".pth")
