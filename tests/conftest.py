"""How hard property tests try: OLMILL_FUZZ=N has each try N examples, and cut tests cut everywhere.

And how TVM's threads wait: asleep. By default each spins 300,000 times after every kernel, which takes
from the tests beside it the processor that they share.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "0")

settings.register_profile("olmill", deadline=None)  # how long an example takes proves nothing
settings.load_profile("olmill")
if "OLMILL_FUZZ" in os.environ:
    settings.register_profile(
        "fuzz",
        max_examples=int(os.environ["OLMILL_FUZZ"]),
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("fuzz")
