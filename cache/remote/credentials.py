"""What a server is shown of who asks: a token, a netrc entry, a client certificate.

None of it is in any message, key or `repr`.
"""

from __future__ import annotations

import base64
import netrc
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cache.errors import CacheError


@dataclass(frozen=True)
class Credentials:
    """How to prove who asks, and whom to believe.

    token: sent as a bearer token. netrc: a file with logins by host, used where there is no
    token. authority: a PEM file of certificates that are trusted beside no other; None for those
    of the system. certificate, key: PEM files of the client's own certificate (mTLS); the key may
    be in the certificate's file.
    """

    token: str | None = field(default=None, repr=False)
    netrc: Path | None = None
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def authorization(self, host: str) -> str | None:
        """Return the value of an Authorization header for a host, or None.

        Raises:
            CacheError: the netrc file cannot be parsed.
        """
        if self.token:
            return f"Bearer {self.token}"
        if self.netrc is None or not self.netrc.is_file():
            return None
        try:
            found = netrc.netrc(str(self.netrc)).authenticators(host)
        except (netrc.NetrcParseError, OSError) as error:
            reason = error.msg if isinstance(error, netrc.NetrcParseError) else error.strerror
            raise CacheError(f"{self.netrc}: {reason}", "correct the file") from None
        if found is None:
            return None
        login, _, password = found
        return "Basic " + base64.b64encode(f"{login}:{password or ''}".encode()).decode()

    def context(self, *, own: bool) -> ssl.SSLContext:
        """Return how to speak TLS; with the client's own certificate only if `own`.

        Raises:
            CacheError: a file cannot be read, or is no certificate or key.
        """
        authority = str(self.authority) if self.authority else None
        try:
            context = ssl.create_default_context(cafile=authority)
        except OSError as error:
            raise _unreadable(self.authority, error, "authority") from None
        if own and self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except OSError as error:
                raise _unreadable(self.certificate, error, "certificate") from None
        return context

    def files(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return the content of `authority`, `key` and `certificate`, for who wants PEM text.

        Raises:
            CacheError: a file cannot be read.
        """
        key = self.key or self.certificate
        return _read(self.authority), _read(key), _read(self.certificate)


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, path.name) from None


def _unreadable(path: Path | None, error: OSError, what: str) -> CacheError:
    reason = error.strerror or "is not what it should be"
    return CacheError(f"{path}: {reason}", f"give a PEM file as the {what} of the remote cache")
