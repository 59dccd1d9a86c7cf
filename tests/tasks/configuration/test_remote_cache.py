"""`[cache]` of the matrix and the environment over it."""

from pathlib import Path

import pytest

from cache.errors import CacheError
from cache.remote.http_transport import HttpTransport
from tasks.configuration.mistakes import Mistakes
from tasks.configuration.remote_cache import (
    RemoteCache,
    chosen,
    credentials,
    open_store,
    read_cache,
)
from tasks.errors import BuildError

ADDRESS = "https://cache.example.org/olmill"


def read(value: object) -> tuple[RemoteCache, list[str]]:
    mistakes = Mistakes()
    return read_cache(value, Path("/project"), mistakes), mistakes.lines


def test_no_table_is_no_remote_cache() -> None:
    assert read({}) == (RemoteCache(), [])


def test_every_key() -> None:
    table = {
        "remote": ADDRESS,
        "read": False,
        "write": True,
        "authority": "ca.pem",
        "certificate": "/etc/me.pem",
        "key": "me.key",
        "compression": False,
    }
    files = (Path("/project/ca.pem"), Path("/etc/me.pem"), Path("/project/me.key"))
    assert read(table) == (RemoteCache(ADDRESS, False, True, *files, compression=False), [])


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({"remot": ADDRESS}, "cache.remot: unknown key 'remot' (hint: did you mean 'remote'?)"),
        ({"remote": 1}, "cache.remote: expected a text"),
        ({"remote": "cache.example.org"}, "not the address of a remote cache"),
        ({"remote": "ftp://x"}, "it begins with one of http://"),
        ({"remote": "https://"}, "not the address of a remote cache"),
        ({"remote": "https://host:port/"}, "cache.remote: not the address of a remote cache"),
        ({"remote": "https://me:hunter2@host/"}, "put them into a netrc file"),
        ({"remote": "https://host/?q"}, "ends with its path"),
        ({"write": 1}, "cache.write: expected true or false"),
        ({"compression": "zstd"}, "cache.compression: expected true or false"),
        ({"key": ""}, "cache.key: expected a text"),
        ("x", "cache: expected a table, found str"),
    ],
)
def test_mistakes(table: object, mistake: str) -> None:
    (line,) = read(table)[1]
    assert mistake in line
    assert "hunter2" not in line


def test_the_environment_comes_first() -> None:
    settings = RemoteCache(ADDRESS, certificate=Path("/me.pem"))
    assert chosen(settings, {}) == settings
    assert chosen(settings, {"OLMILL_REMOTE_CACHE": ADDRESS}) == settings
    other = chosen(settings, {"OLMILL_REMOTE_CACHE": "http://x", "OLMILL_REMOTE_CACHE_WRITE": "1"})
    assert other == RemoteCache("http://x", write=True)
    assert chosen(settings, {"OLMILL_REMOTE_CACHE": ""}).address is None
    assert not chosen(settings, {"OLMILL_REMOTE_CACHE_READ": "0"}).read
    assert not chosen(settings, {"OLMILL_REMOTE_CACHE_COMPRESSION": "0"}).compression
    plain = chosen(RemoteCache(ADDRESS, compression=False), {"OLMILL_REMOTE_CACHE": "grpc://x"})
    assert plain == RemoteCache("grpc://x", compression=False)
    assert chosen(settings, {"OLMILL_REMOTE_CACHE": f" {ADDRESS}\n"}) == settings
    with pytest.raises(BuildError, match="OLMILL_REMOTE_CACHE_WRITE is 'yes'"):
        chosen(settings, {"OLMILL_REMOTE_CACHE_WRITE": "yes"})
    with pytest.raises(BuildError, match="OLMILL_REMOTE_CACHE: not the address of a remote cache"):
        chosen(settings, {"OLMILL_REMOTE_CACHE": "cache"})


@pytest.mark.parametrize("token", ["hunter2 x", "hunter2\nx", "hunter2\u00fc", "\x00hunter2"])
def test_a_token_that_no_header_could_hold_is_refused(token: str) -> None:
    with pytest.raises(CacheError, match="OLMILL_REMOTE_CACHE_TOKEN is no token") as caught:
        credentials(RemoteCache("http://x"), {"OLMILL_REMOTE_CACHE_TOKEN": token})
    assert "hunter2" not in str(caught.value)


def test_what_surrounds_a_token_is_no_part_of_it() -> None:
    found = credentials(RemoteCache("http://x"), {"OLMILL_REMOTE_CACHE_TOKEN": "hunter2\n"})
    assert found.authorization("x") == "Bearer hunter2"


def test_a_token_goes_to_the_server_and_into_no_text(tmp_path: Path) -> None:
    environment = {"OLMILL_REMOTE_CACHE_TOKEN": "secret"}
    store = open_store(tmp_path, RemoteCache("http://host"), environment)
    assert store.remote is not None
    transport = store.remote._transport.inner  # type: ignore[attr-defined]  # behind retries
    assert isinstance(transport, HttpTransport)
    assert transport._authorization == "Bearer secret"
    assert "secret" not in repr(transport)


def test_a_login_comes_from_netrc(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine host login me password hunter2\n")
    netrc.chmod(0o600)
    for host, expected in (("host", "Basic bWU6aHVudGVyMg=="), ("other", None)):
        store = open_store(tmp_path, RemoteCache(f"http://{host}"), {"NETRC": str(netrc)})
        assert store.remote is not None
        transport = store.remote._transport.inner  # type: ignore[attr-defined]  # behind retries
        assert transport._authorization == expected


@pytest.mark.parametrize("name", ["authority", "certificate"])
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    for path in (tmp_path / "x.pem", tmp_path / "nothing.pem"):
        store = open_store(tmp_path, RemoteCache("https://host", **{name: path}), {})
        with pytest.raises(CacheError, match=path.name) as caught:
            _ = store.remote
        assert caught.value.hint
