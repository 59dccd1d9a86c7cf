"""The server that docs/sharing.md sets up is a cache that all may read, and few may write."""

import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cache.action import ActionResult
from cache.digest import of_bytes
from cache.errors import CacheError
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from tests.cache.servers import NGINX, free_port, running

PAGE = Path(__file__).resolve().parents[2] / "docs/sharing.md"
AROUND = """
daemon off; master_process off; pid {place}/pid; events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p;
  fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  {server}
}}
"""


@pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: nginx-light)")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_all_may_read_and_who_has_the_password_may_write(tmp_path: Path) -> None:
    text, port = PAGE.read_text(encoding="utf-8"), free_port()
    here = {
        "/var/cache/olmill": str(tmp_path / "files"),
        "/etc/nginx/olmill.htpasswd": str(tmp_path / "htpasswd"),
        "8080": f"127.0.0.1:{port}",
        " && chown -R www-data: ": "; : ",
    }
    server, netrc = re.findall(r"```text\n((?:server|machine) .*?)```", text, re.DOTALL)
    (setup,) = re.findall(r"```sh\n(mkdir .*?)```", text, re.DOTALL)
    for known, own in here.items():
        server, setup = server.replace(known, own), setup.replace(known, own)
    subprocess.run(["/bin/sh", "-ec", setup], check=True)
    config = tmp_path / "nginx.conf"
    config.write_text(AROUND.format(place=tmp_path, server=server))
    logins = tmp_path / "netrc"
    logins.write_text(netrc.replace("cache.example.org", "127.0.0.1"))
    logins.chmod(0o600)
    command = [str(NGINX), "-p", str(tmp_path), "-c", str(config), "-e", str(tmp_path / "log")]
    with running(command, port, tmp_path / "output"):
        address = f"http://127.0.0.1:{port}"
        key = of_bytes(b"an action")
        with closing(connect(address, Credentials(netrc=logins))) as writer:
            result = ActionResult({"outputs/a": writer.write(b"made")})
            writer.put_result(key, result)
        with closing(connect(address, Credentials())) as reader:
            assert reader.get_result(key) == result
            assert reader.read(result.outputs["outputs/a"]) == b"made"
            with pytest.raises(CacheError, match="401"):
                reader.write(b"mine")
