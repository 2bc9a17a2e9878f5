"""`make_utterances` as decoder processes run it, but for files whose names say what happens to the process."""

import os
import signal
import sys

from beam_pipelines.transforms import utterances


def make_utterances(job):
    name = job.sources[0].audio
    if "segfault" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "apache_beam" in sys.modules:
        raise RuntimeError("Apache Beam takes seconds to import, decoder processes have no use for it")
    return utterances.make_utterances(job)
