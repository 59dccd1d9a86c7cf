"""Remote caches on loopback: a large blob beside curl, and many small results.

    python bench/cache.py [MIB] [RESULTS]

Prints medians: seconds for a blob of MIB (default 1024) up to and down from nginx, by curl and by
us, which also hashes every byte; the same with buildbox-casd, which has no client to compare with;
and seconds and CPU seconds to look up RESULTS (default 10000) results of one output each, and to move
as many blobs of 1 KiB.
"""

import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cache import digest as digests  # noqa: E402  (after the path is set)
from cache.action import ActionResult  # noqa: E402  (after the path is set)
from cache.digest import Digest  # noqa: E402  (after the path is set)
from cache.parallel import each  # noqa: E402  (after the path is set)
from cache.remote.connect import connect  # noqa: E402  (after the path is set)
from cache.remote.credentials import Credentials  # noqa: E402  (after the path is set)
from cache.remote.store import RemoteStore  # noqa: E402  (after the path is set)
from tests.cache.servers import SERVERS, Server  # noqa: E402  (after the path is set)

ROUNDS = 5
CURL = shutil.which("curl") or "curl"


def seconds(run: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def large(server: Server, store: RemoteStore, place: Path, digest: Digest) -> None:
    """Move a blob up and down, by curl where the server speaks HTTP, and by us, in any order."""
    blob, got = place / "blob", place / "got"
    url = f"{server.address}/cas/{digest.hash}"

    def upload() -> None:
        with blob.open("rb") as source:
            store.upload(digest, source)

    def download() -> None:
        with got.open("w+b") as into:
            store.download(digest, into)

    def curl(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([CURL, "-sf", *arguments, url], check=True)

    ways: dict[str, Callable[[], object]] = {}
    if url.startswith("http"):
        ways |= {"curl up": curl("-T", str(blob)), "curl down": curl("-o", str(got))}
    ways |= {"up": upload, "down": download}
    times: dict[str, list[float]] = {way: [] for way in ways}
    upload()
    for _ in range(ROUNDS):
        # in any order: who writes just after another has given memory back pays less for it
        for way, run in random.sample(list(ways.items()), len(ways)):
            if way.endswith("up"):
                server.clear()  # so that it is stored again
            times[way].append(seconds(run))
            got.unlink(missing_ok=True)
    medians = {way: statistics.median(found) for way, found in times.items()}
    for way, median in medians.items():
        peer = medians.get(f"curl {way}")
        ratio = f", {peer / median:.2f} of curl's speed" if peer else ""
        print(f"  {way:9} {median:6.2f} s, {digest.size / median / 1e6:5.0f} MB/s{ratio}")


def small(server: Server, store: RemoteStore, count: int) -> None:
    """Look up many results."""
    server.clear()
    results = {
        digests.of_bytes(b"key %d" % number): ActionResult({"out": store.write(b"%d" % number)})
        for number in range(count)
    }
    each(lambda item: store.put_result(*item), list(results.items()))
    walls, cpus = [], []
    for _ in range(ROUNDS):
        cpu = time.process_time()
        walls.append(seconds(lambda: store.get_results(results)))
        cpus.append(time.process_time() - cpu)
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"  {count} results looked up: {wall:.2f} s, {cpu:.2f} CPU s")


def many(server: Server, store: RemoteStore, count: int) -> None:
    """Move many blobs of 1 KiB up and down."""
    server.clear()
    contents = {digests.of_bytes(data): data for data in map(_kibibyte, range(count))}

    def download() -> None:
        come = dict(store.download_many(contents))
        each(store.read, [digest for digest in contents if digest not in come])

    for way, move in (("up", lambda: store.upload_many(contents)), ("down", download)):
        cpu = time.process_time()
        wall = seconds(move)
        cpu = time.process_time() - cpu
        print(f"  {count} blobs of 1 KiB {way}: {wall:.2f} s, {cpu:.2f} CPU s")


def _kibibyte(number: int) -> bytes:
    return b"%1024d" % number


def main(mebibytes: int, count: int) -> None:
    """Measure on each server that is here."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        with (place / "blob").open("wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(1 << 20))
        digest = digests.of_file(place / "blob").digest
        for name in ("http", "grpc"):
            (place / name).mkdir()
            with (
                SERVERS[name](place / name) as server,
                contextlib.closing(connect(server.address, Credentials())) as store,
            ):
                print(name)
                large(server, store, place, digest)
                small(server, store, count)
                many(server, store, count)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3] or (1024, 10_000)))
