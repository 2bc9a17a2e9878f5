"""What a study found: systems over their seeds, and whether what was claimed holds."""

import statistics
from typing import Any

from tf_rnnt_kd.evaluation import wer
from tf_rnnt_kd.studies.plan import Study, dev_wer
from tf_rnnt_kd.studies.pooling import pooled, pooled_pair

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"
_SURE = 0.95


def summarise(study: Study, *, split: str = "test", seed: int = 0) -> dict[str, Any]:
    """The content of results.json.

    A system's rate is that of all its seeds' errors together; its interval is a bootstrap over utterances, each drawn
    with all its seeds, and its spread is between seeds. A claim holds where the paired probability of improvement over
    the pooled seeds is at least 0.95, does not where it is at most 0.05, and is undecided between.

    Args:
      study: with all its jobs done.
      split: of the corpus. seed: of the bootstrap.

    Returns:
      {title, question, split, utterances, words, seeds, systems: [{name, note, wer, interval, by_seed, spread, dev_wer,
      parameters, delay}], claims: [{text, better, worse, relative, probability, seeds_better, verdict}]}. Rates are
      fractions, `relative` is the share of the worse one's errors that the better one saves, delay is in seconds.

    Raises:
      ValueError: systems were measured on different utterances.
    """
    names = dict.fromkeys(system for system, where, _ in study.results if where == split)
    found = {name: study.measured(study.systems[name], split) for name in names}
    pools = {name: pooled(results) for name, results in found.items()}
    first = next(iter(found.values()))[0]
    return {
        "title": study.definition.title,
        "question": study.definition.question,
        "split": split,
        "utterances": first.utterances,
        "words": first.words,
        "seeds": len(study.seeds),
        "systems": [_system(study, name, results, pools[name], seed) for name, results in found.items()],
        "claims": [_claim(claim, found, seed) for claim in study.claims],
    }


def _system(study, name, results, pool, seed):
    rates = [result.wer for result in results]
    system = study.systems[name]
    delays = [result.delay["mean"] for result in results if result.delay]
    return {
        "name": name,
        "note": system.note,
        "wer": wer.word_error_rate(pool),
        "interval": wer.bootstrap_interval(pool, seed=seed),
        "by_seed": rates,
        "spread": statistics.stdev(rates) if len(rates) > 1 else None,
        "dev_wer": statistics.mean(dev_wer(folder) for folder in system.folders.values()),
        "parameters": results[0].parameters,
        "delay": statistics.mean(delays) if delays else None,
    }


def _claim(claim, found, seed):
    better, worse = found[claim.better], found[claim.worse]
    pools = pooled_pair(better, worse)
    probability = wer.probability_of_improvement(pools[0], baseline=pools[1], seed=seed)
    verdict = HOLDS if probability >= _SURE else FAILS if probability <= 1 - _SURE else OPEN
    rates = [wer.word_error_rate(pool) for pool in pools]
    return {
        "text": claim.text,
        "better": claim.better,
        "worse": claim.worse,
        "relative": 1.0 - rates[0] / rates[1] if rates[1] else None,
        "probability": probability,
        "seeds_better": [sum(a.wer < b.wer for a, b in zip(better, worse, strict=False)), min(len(better), len(worse))],
        "verdict": verdict,
    }
