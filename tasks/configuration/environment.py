"""Variables of the environment that a build reads; one that nothing reads is a mistake, as any key."""

from __future__ import annotations

from collections.abc import Iterable

from olmo.errors import unknown
from tasks.configuration import cluster, remote_cache, trust
from tasks.errors import BuildError

CACHE_DIRECTORY = "OLMILL_CACHE_DIR"
MATRIX = "OLMILL_MATRIX"

# What actions and the programs that they run need not know: it is taken out of their environment.
SECRETS = (trust.SIGNING_KEY, remote_cache.TOKEN, cluster.TOKEN)
VARIABLES = (
    CACHE_DIRECTORY,
    MATRIX,
    remote_cache.ADDRESS,
    remote_cache.READ,
    remote_cache.WRITE,
    remote_cache.COMPRESSION,
    cluster.ADDRESS,
    trust.TRUSTED_KEYS,
    trust.BUILDER,
    *SECRETS,
)
_PREFIX = "OLMILL_"
_OF_TESTS = ("OLMILL_FUZZ", "OLMILL_SCREENSHOTS", "OLMILL_UPDATE_GOLDEN")


def check_variables(names: Iterable[str]) -> None:
    """Refuse variables that look like ours and are not: a misspelt one would silently do nothing.

    Raises BuildError.
    """
    for name in sorted(names):
        if name.startswith(_PREFIX) and name not in (*VARIABLES, *_OF_TESTS):
            error = unknown("variable of the environment", name, VARIABLES)
            raise BuildError(str(error), error.hint)
