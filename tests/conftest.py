"""How hard property tests try: OLMILL_FUZZ=N has each try N examples, and cut tests cut everywhere."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("olmill", deadline=None)  # how long an example takes proves nothing
settings.load_profile("olmill")
if "OLMILL_FUZZ" in os.environ:
    settings.register_profile(
        "fuzz",
        max_examples=int(os.environ["OLMILL_FUZZ"]),
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("fuzz")
