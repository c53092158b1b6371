"""get_file: from file:// and a loopback server, hashes, atomic downloads, archives that try to escape."""

import contextlib
import functools
import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile

import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, SavedFileError

get_file = keras.utils.get_file
TEXT = b"numbers and words\n" * 50


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def origin(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(TEXT)
    return path


@contextlib.contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path == "/short":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"only this")
            else:
                super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_once_into_the_cache(home, origin):
    path = get_file(origin=origin.as_uri())
    assert path == str(home / "datasets" / "data.bin")
    assert open(path, "rb").read() == TEXT
    origin.write_bytes(b"new")
    assert open(get_file(origin=origin.as_uri()), "rb").read() == TEXT
    assert open(get_file(origin=origin.as_uri(), force_download=True), "rb").read() == b"new"


def test_places(home, origin, tmp_path):
    given = get_file("name.txt", origin.as_uri(), cache_subdir="models", cache_dir=tmp_path / "other")
    assert given == str(tmp_path / "other" / "models" / "name.txt")
    with pytest.raises(ArgumentError, match="leads out of the cache"):
        get_file("../../name.txt", origin.as_uri())
    with pytest.raises(ArgumentError, match="origin"):
        get_file("name.txt")
    with pytest.raises(ArgumentError, match="URL"):
        get_file("name.txt", "name.txt")


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_hashes(home, origin, algorithm):
    right = hashlib.new(algorithm, TEXT).hexdigest()
    path = get_file("a", origin.as_uri(), file_hash=right)
    open(path, "wb").write(b"damaged")
    assert open(get_file("a", origin.as_uri(), file_hash=right, hash_algorithm=algorithm), "rb").read() == TEXT
    with pytest.raises(SavedFileError, match="hash"):
        get_file("b", origin.as_uri(), file_hash="0" * len(right))
    assert sorted(os.listdir(home / "datasets")) == ["a"]
    if algorithm == "md5":
        assert get_file("c", origin.as_uri(), md5_hash=right)


def test_over_http(home, origin, capsys):
    with served(origin.parent) as url:
        assert open(get_file(origin=f"{url}/data.bin"), "rb").read() == TEXT
        assert "Downloading data from" in capsys.readouterr().out
        with pytest.raises(OSError, match="404"):
            get_file(origin=f"{url}/nothing")
        with pytest.raises(OSError, match="9 of 100"):
            get_file(origin=f"{url}/short")
    with pytest.raises(OSError, match="URL fetch failure"):
        get_file(origin=f"{url}/other")
    assert os.listdir(home / "datasets") == ["data.bin"]


def pack_tar(path, name, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size, entry.linkname = kind, len(TEXT) if kind == tarfile.REGTYPE else 0, "/etc/passwd"
        tar.addfile(entry, io.BytesIO(TEXT))


def test_archives(home, tmp_path):
    packed = tmp_path / "a.tar.gz"
    pack_tar(packed, "inner/file.txt")
    folder = get_file(origin=packed.as_uri(), extract=True)
    assert open(os.path.join(folder, "inner", "file.txt"), "rb").read() == TEXT
    assert folder == str(home / "datasets" / "a.tar.gz_extracted")
    untarred = get_file("b", packed.as_uri(), untar=True)
    assert open(os.path.join(untarred, "inner", "file.txt"), "rb").read() == TEXT
    zipped = tmp_path / "c.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("x/y.txt", TEXT)
    assert os.listdir(get_file(origin=zipped.as_uri(), extract=True, archive_format="zip")) == ["x"]


@pytest.mark.parametrize("name", ["../out.txt", "/abs.txt", "a/../../out.txt", "a\\..\\..\\out.txt"])
def test_archives_stay_inside(home, tmp_path, name):
    packed, zipped = tmp_path / "evil.tar.gz", tmp_path / "evil.zip"
    pack_tar(packed, name)
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(name, TEXT)
    for path in (packed, zipped):
        with pytest.raises(SavedFileError, match="leads outside"):
            get_file(origin=path.as_uri(), extract=True)
    assert sorted(os.listdir(home / "datasets")) == ["evil.tar.gz", "evil.zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_archives_hold_no_links(home, tmp_path, kind):
    packed = tmp_path / "evil.tar.gz"
    pack_tar(packed, "inner", kind)
    with pytest.raises(SavedFileError, match="link or a device"):
        get_file(origin=packed.as_uri(), extract=True)
