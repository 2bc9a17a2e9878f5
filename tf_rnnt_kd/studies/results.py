"""What a study found: systems over their seeds, and whether what was claimed holds."""

import statistics
from typing import Any

from tf_rnnt_kd.evaluation import wer
from tf_rnnt_kd.studies.curves import summarise_curve, verdict
from tf_rnnt_kd.studies.outcomes import dev_wer
from tf_rnnt_kd.studies.plan import Study
from tf_rnnt_kd.studies.pooling import pooled, pooled_pair


def summarise(study: Study, *, split: str | None = None, seed: int = 0) -> dict[str, Any]:
    """The content of results.json.

    A system's rate is that of all its seeds' errors together; its interval is a bootstrap over utterances, each drawn
    with all its seeds, and its spread is between seeds. A claim holds where the paired probability of improvement over
    the pooled seeds is at least 0.95, does not where it is at most 0.05, and is undecided between.

    Args:
      study: with all its jobs done.
      split: that the table is about; the first one on which all its systems were measured if not given.
      seed: of the bootstrap.

    Returns:
      {name, title, question, miniature, split, utterances, words, seeds, systems: [{name, note, wer, interval, by_seed,
      spread, dev_wer, parameters, delay, first_token, elsewhere: {where: {wer, interval, by_seed, spread}}}], claims:
      [{text, better, worse, where, relative, probability, seeds_better, verdict}], curves: of summarise_curve}. Rates
      are fractions (of curves per cent), `relative` is the share of the worse one's errors that the better one saves,
      delay and first_token are in seconds.

    Raises:
      ValueError: systems were measured on different utterances.
    """
    places: dict[str, dict[str, list]] = {}
    for name, where, _ in study.results:
        if name not in places.setdefault(where, {}):
            places[where][name] = study.measured(study.systems[name], where)
    main = split or max(places, key=lambda where: len(places[where]))
    found = places[main]
    first = next(iter(found.values()))[0]

    def pools(system, where):
        return pooled(places[where or main][system.name])

    systems = []
    for name, results in found.items():
        row = _system(study.systems[name], results, seed)
        row["elsewhere"] = {
            where: _rates(there[name], seed)
            for where, there in places.items()
            if where not in (main, study.dev) and name in there
        }
        systems.append(row)
    return {
        "name": study.definition.name,
        "title": study.definition.title,
        "question": study.definition.question,
        "miniature": study.miniature,
        "split": main,
        "utterances": first.utterances,
        "words": first.words,
        "seeds": list(study.seeds),
        "systems": systems,
        "claims": [_claim(claim, places[claim.where or main], claim.where or main, seed) for claim in study.claims],
        "curves": [summarise_curve(curve, pools=pools, seed=seed) for curve in study.curves],
    }


def _rates(results, seed):
    rates, pool = [result.wer for result in results], pooled(results)
    return {
        "wer": wer.word_error_rate(pool),
        "interval": wer.bootstrap_interval(pool, seed=seed),
        "by_seed": rates,
        "spread": statistics.stdev(rates) if len(rates) > 1 else None,
    }


def _system(system, results, seed):
    delays = [result.delay["mean"] for result in results if result.delay]
    first_tokens = [
        result.latency["first_tokens"]["mean"]
        for result in results
        if result.latency and result.latency.get("first_tokens")
    ]
    return {
        "name": system.name,
        "note": system.note,
        **_rates(results, seed),
        "dev_wer": statistics.mean(dev_wer(folder) for folder in system.folders.values()),
        "parameters": results[0].parameters,
        "delay": statistics.mean(delays) if delays else None,
        "first_token": statistics.mean(first_tokens) if first_tokens else None,
    }


def _claim(claim, found, where, seed):
    better, worse = found[claim.better], found[claim.worse]
    pools = pooled_pair(better, worse)
    probability = wer.probability_of_improvement(pools[0], baseline=pools[1], seed=seed)
    rates = [wer.word_error_rate(pool) for pool in pools]
    return {
        "text": claim.text,
        "better": claim.better,
        "worse": claim.worse,
        "where": where,
        "relative": 1.0 - rates[0] / rates[1] if rates[1] else None,
        "probability": probability,
        "seeds_better": [sum(a.wer < b.wer for a, b in zip(better, worse, strict=False)), min(len(better), len(worse))],
        "verdict": verdict(probability),
    }
