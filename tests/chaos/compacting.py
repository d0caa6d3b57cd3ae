"""`sweep`, whose driver makes one file of all shards each time that it writes the manifest, and does so at once.

    python compacting.py run STUDY …

As it is, there must be hundreds of them, and some seconds in between.
"""

from functools import partial

from sweep.__main__ import main
from sweep.execution import driver
from sweep.storage.merge import gather

EAGER = {"SAVE_SECONDS": 0.0, "SAVE_SHARE": 1e9, "gather": partial(gather, many=1)}

if __name__ == "__main__":
    for name, value in EAGER.items():
        setattr(driver, name, value)
    raise SystemExit(main())
