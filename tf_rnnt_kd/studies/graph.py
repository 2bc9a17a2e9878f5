"""Jobs whose folders are named after all that determines them."""

import hashlib
import json
import re

from tf_rnnt_kd.studies.jobs import Job


class Graph:
    """Collects jobs.

    Args:
      workdir: for everything that is made.

    Attributes:
      jobs: by key, in an order in which they can run.
    """

    def __init__(self, workdir: str):
        self.workdir = workdir.rstrip("/")
        self.jobs: dict[str, Job] = {}

    def _add(self, kind, name, title, *, arguments, size=1, config=None, digest_of=None, not_in_digest=()) -> str:
        """The job's folder. Jobs that are equal are one."""
        named = [argument for argument in arguments if argument not in not_in_digest]
        identity = json.dumps([kind, named, digest_of], sort_keys=True, default=str).replace(f"{self.workdir}/", "")
        # Folders stand in flags that commas and colons divide.
        name = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
        key = f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
        folder = f"{self.workdir}/{kind}/{key}"
        arguments = tuple(argument.replace("OUTPUT", folder) for argument in arguments)
        self.jobs.setdefault(key, Job(key, title, kind, arguments, size, config))
        return folder
