"""The object cache: what is kept comes back whole, and nothing else ever does."""

import os
import subprocess
import sys
import threading
import time
import warnings

import pytest

from kcompile import flags
from kcompile.runtime import cache
from kcompile.target import X86_64_V3, X86_64_V4

KEY = "ab" * 32
OTHER = "cd" * 32
posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX owners and modes")


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """A cache of its own for each test."""
    cache._open.cache_clear()
    cache.counters.reset()
    place = tmp_path / "cache"
    with flags.scoped(cache=True, cache_dir=str(place), cache_bytes=1 << 20):
        yield place
    cache._open.cache_clear()


def entry(folder):
    (path,) = folder.iterdir()
    return path


def test_what_is_put_comes_back(folder):
    assert cache.get(KEY) is None
    cache.put(KEY, b"object code")
    assert cache.get(KEY) == b"object code"
    assert cache.get(OTHER) is None
    assert (cache.counters.hits, cache.counters.misses) == (1, 2)


@posix_only
def test_the_folder_and_its_files_are_private(folder):
    cache.put(KEY, b"x")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert entry(folder).stat().st_mode & 0o077 == 0


def test_get_or_compile_compiles_once(folder):
    made = []

    def compile_object():
        made.append(1)
        return b"code"

    assert [cache.get_or_compile(KEY, compile_object) for _ in range(3)] == [b"code"] * 3
    assert len(made) == cache.counters.compiles == 1
    assert cache.counters.hits == 2


def test_the_key_holds_everything_that_changes_the_code(monkeypatch):
    base = cache.key("ir", X86_64_V3, opt=3)
    assert base == cache.key("ir", X86_64_V3, opt=3) and len(base) == 64
    others = {cache.key("ir2", X86_64_V3), cache.key("ir", X86_64_V4), cache.key("ir", X86_64_V3, opt=2)}
    monkeypatch.setattr("kcompile.__version__", "999")
    others.add(cache.key("ir", X86_64_V3, opt=3))
    monkeypatch.undo()
    monkeypatch.setattr("kcompile.codegen.llvm.VERSION", "999")
    others.add(cache.key("ir", X86_64_V3, opt=3))
    assert base not in others and len(others) == 5


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 39, 40, 41, -1])
def test_a_truncated_entry_is_dropped_and_made_again(folder, cut):
    cache.put(KEY, b"some object code")
    path = entry(folder)
    path.write_bytes(path.read_bytes()[:cut])
    assert cache.get(KEY) is None
    assert not path.exists() and cache.counters.damaged == 1
    assert cache.get_or_compile(KEY, lambda: b"again") == b"again" == cache.get(KEY)


@pytest.mark.parametrize("position", [0, 6, 8, 39, 40, 55])
def test_one_flipped_bit_is_noticed(folder, position):
    cache.put(KEY, b"some object code")
    path = entry(folder)
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)
    assert cache.get(KEY) is None and not path.exists()


def test_appended_bytes_are_noticed(folder):
    cache.put(KEY, b"code")
    path = entry(folder)
    path.write_bytes(path.read_bytes() + b"more")
    assert cache.get(KEY) is None


def test_a_pickle_is_only_a_damaged_entry(folder):
    cache.put(KEY, b"code")
    entry(folder).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert cache.get(KEY) is None


@posix_only
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707, 0o702])
def test_a_folder_others_may_write_is_refused_with_one_warning(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match="other users may write there") as caught:
        cache.put(KEY, b"code")
        assert cache.get(KEY) is None
        assert cache.get_or_compile(KEY, lambda: b"code") == b"code"
    assert len(caught) == 1
    assert not list(folder.iterdir())


@posix_only
def test_a_folder_of_somebody_else_is_refused(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.warns(RuntimeWarning, match=f"belongs to user {me}"):
        cache.put(KEY, b"code")
    assert not list(folder.iterdir())


@posix_only
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_not_loaded(folder, mode):
    cache.put(KEY, b"code")
    entry(folder).chmod(mode)
    assert cache.get(KEY) is None and cache.counters.damaged == 1
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"


@posix_only
def test_a_pipe_in_an_entrys_place_stops_nobody(folder):
    cache.put(KEY, b"code")
    entry(folder).unlink()
    os.mkfifo(folder / f"{KEY}.kco")
    assert cache.get(KEY) is None


@posix_only
def test_a_planted_file_of_somebody_else_is_not_loaded(folder, monkeypatch):
    cache.put(KEY, b"code")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)  # after the folder was accepted
    assert cache.get(KEY) is None


@posix_only
def test_an_entry_that_is_a_link_is_not_followed(folder, tmp_path):
    cache.put(KEY, b"code")
    elsewhere = tmp_path / "elsewhere"
    entry(folder).rename(elsewhere)
    (folder / f"{KEY}.kco").symlink_to(elsewhere)
    assert cache.get(KEY) is None


def test_a_file_in_the_folders_place_costs_one_warning(folder):
    folder.write_text("not a folder")
    with pytest.warns(RuntimeWarning, match="without its disk cache"):
        assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None


def test_a_disk_that_refuses_costs_only_the_cache(folder, monkeypatch):
    cache.put(OTHER, b"code")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    assert [path.name for path in folder.iterdir()] == [f"{OTHER}.kco"], "no temporary file stays behind"


def test_switched_off(folder):
    with flags.scoped(cache=False):
        cache.put(KEY, b"code")
        assert cache.get(KEY) is None
    assert not folder.exists()


def test_entries_not_used_for_long_go_first(folder):
    data = bytes(1000)
    with flags.scoped(cache_bytes=10_500):
        keys = [f"{n:064x}" for n in range(10)]
        for age, key in enumerate(reversed(keys)):
            cache.put(key, data)
            then = time.time() - 86_400 * (1 + age)
            os.utime(folder / f"{key}.kco", (then, then))
        # keys[0] is the oldest now; using it makes it the newest
        assert cache.get(keys[0]) == data
        cache.put("f" * 64, data)
        kept = {path.stem for path in folder.iterdir()}
    assert {keys[0], "f" * 64} <= kept and keys[1] not in kept
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 10_500


def test_the_bound_holds_over_many_puts(folder):
    with flags.scoped(cache_bytes=20_000):
        for n in range(100):
            cache.put(f"{n:064x}", bytes(900))
            assert sum(path.stat().st_size for path in folder.iterdir()) <= 20_000
        cache.put("e" * 64, bytes(30_000))
        assert cache.get("e" * 64) is None, "larger than the whole bound"
        assert cache.get(f"{99:064x}") is not None


def test_temporary_files_of_dead_processes_are_swept(folder):
    cache.put(KEY, b"code")
    old, new = folder / ".new-1-aa", folder / ".new-2-bb"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1.0, 1.0))
    with flags.scoped(cache_bytes=500):
        for n in range(10):
            cache.put(f"{n:064x}", bytes(100))
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("name", ["../escape", "a/b", "", "a.b"])
def test_a_key_cannot_leave_the_folder(folder, name):
    with pytest.raises(ValueError, match="hex digest"):
        cache.put(name, b"code")


def test_threads_of_one_process(folder):
    wrong = []

    def work(seed):
        for n in range(60):
            key = f"{(seed + n) % 7:064x}"
            data = key.encode() * 50
            cache.put(key, data)
            if cache.get(key) not in (None, data):
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and cache.counters.damaged == 0


def test_writers_in_several_processes_never_show_half_an_entry(folder):
    script = """
import sys
from kcompile.runtime import cache
seed, wrong = int(sys.argv[1]), 0
for n in range(150):
    key = f"{(seed + n) % 5:064x}"
    data = key.encode() * (200 + n)  # several sizes under one key: a torn file could not check out
    cache.put(key, data)
    found = cache.get(key)
    wrong += found is not None and set(found.split(key.encode())) != {b""}
sys.exit(wrong or cache.counters.damaged)
"""
    environment = dict(os.environ, KCOMPILE_CACHE_DIR=str(folder), KCOMPILE_CACHE="1", KCOMPILE_CACHE_BYTES="100K")
    running = [subprocess.Popen([sys.executable, "-c", script, str(seed)], env=environment) for seed in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert not [path for path in folder.iterdir() if path.name.startswith(".new-")]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the XDG rules")
def test_the_default_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "kcompile"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / ".cache" / "kcompile"


def test_no_warning_in_ordinary_use(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(KEY, b"code")
        assert cache.get(KEY) == b"code"
