"""Counts the zeros of a model's weights: what an export says of itself, and refuses to say falsely."""

import ml_collections
import numpy as np

from tf_rnnt_kd.training import blocks, sparsity


def true_sparsity(model, *, config=None):
    """The zeros that there are.

    Args:
      model: a built Keras model.
      config: the settings `sparsity` of its training, a mapping; None for a training that had none.

    Returns:
      A dictionary: zero_share of all the model's trainable weights, target (0 where nothing was pruned), block [rows,
      columns], pruned {path: share of zero blocks} of each matrix that was to be pruned, and pruned_share, that of all
      their blocks together (0 where there is none).

    Raises:
      ValueError: the zeros are fewer than the target promises.
    """
    config = ml_collections.ConfigDict(config or {"target": 0.0})
    weights = [(variable, np.asarray(variable.value)) for variable in model.trainable_variables]
    zeros, count = sum(int(np.sum(w == 0)) for _, w in weights), sum(w.size for _, w in weights)
    found = {"zero_share": zeros / count, "target": 0.0, "block": [1, 1], "pruned": {}, "pruned_share": 0.0}
    if not sparsity.check(config):
        return found
    shares, totals = {}, {}
    for variable in sparsity.selected(config, model.trainable_variables):
        shares[variable.path] = blocks.zero_share(np.asarray(variable.value), block=config.block)
        totals[variable.path] = int(np.prod(blocks.grid(variable.shape, config.block)))
    total = sum(totals.values())
    together = sum(share * totals[path] for path, share in shares.items()) / total
    promised = {"all pruned matrices": (together, total)}
    if config.scope == "tensor":
        promised = {path: (share, totals[path]) for path, share in shares.items()}
    for name, (share, number) in promised.items():
        # Numbers of blocks are rounded, from a product in float32.
        if share < config.target - 0.5 / number - 1e-6:
            raise ValueError(
                f"{name}: {100 * share:.2f} % of {number} blocks are zero and sparsity.target is "
                f"{100 * config.target:.2f} %: these weights are from before sparsity.end={config.end}, or were "
                "changed since; train to the end, or export a training without sparsity"
            )
    return {
        **found, "target": config.target, "block": list(config.block), "pruned": shares, "pruned_share": together,
    }
