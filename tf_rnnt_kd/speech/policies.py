"""Published SpecAugment policies by name, and the settings of a config as arguments of `spec_augment`.

| policy | from |
|---|---|
| LB, LD | LibriSpeech basic and double, Park et al. 2019 |
| SM, SS | Switchboard mild and strong, Park et al. 2019 |
| conformer | Conformer and noisy student training: adaptive size of the time masks, Gulati et al. 2020 |
| libri_full_adapt | LibriFullAdapt: adaptive number too, Park et al. 2020; p_M = p_S = 0.04 |
| light | none that was published: for some hours of speech |

The published time warps are part of the policies. p, the greatest share of an utterance that a time mask may cover, is
`time_ratio`.
"""

from collections.abc import Collection, Mapping
from typing import Any

_PAPERS = {"freq_width": 27, "freq_masks": 2, "time_masks_per_frame": 0.0, "time_warp": 0}

POLICIES: dict[str, dict[str, Any]] = {
    "light": _PAPERS | {"time_width": 40, "time_ratio": 0.05, "time_masks": 4},
    "LB": _PAPERS | {"time_warp": 80, "freq_masks": 1, "time_width": 100, "time_ratio": 1.0, "time_masks": 1},
    "LD": _PAPERS | {"time_warp": 80, "time_width": 100, "time_ratio": 1.0, "time_masks": 2},
    "SM": _PAPERS | {"time_warp": 40, "freq_width": 15, "time_width": 70, "time_ratio": 0.2, "time_masks": 2},
    "SS": _PAPERS | {"time_warp": 40, "time_width": 70, "time_ratio": 0.2, "time_masks": 2},
    "conformer": _PAPERS | {"time_width": None, "time_ratio": 0.05, "time_masks": 10},
    "libri_full_adapt": _PAPERS
    | {"time_warp": 80, "time_width": None, "time_ratio": 0.04, "time_masks": 20, "time_masks_per_frame": 0.04},
}


def policy_arguments(augment: Mapping[str, Any], *, time_aligned: Collection[str] = ()) -> dict[str, Any]:
    """Keyword arguments of `spec_augment`.

    Args:
        augment: `config.augment`: `policy`, `fill`, and settings of the policy, of which those that are not None are
            taken in place of the policy's own.
        time_aligned: what the losses compare frame by frame with the features as they are, such as stored lattices.

    Raises:
        ValueError: an unknown policy, or a time warp together with something that is `time_aligned`.
    """
    name = augment["policy"]
    if name not in POLICIES:
        raise ValueError(f"unknown augment.policy {name!r}: choose one of {', '.join(POLICIES)}")
    settings = {
        setting: value if augment[setting] is None else augment[setting] for setting, value in POLICIES[name].items()
    }
    if settings["time_warp"] and len(time_aligned):
        raise ValueError(
            f"augment.policy={name} warps the time axis by up to {settings['time_warp']} frames, but the losses "
            f"compare {', '.join(sorted(time_aligned))} frame by frame: set augment.time_warp=0"
        )
    settings["time_width_max"] = settings.pop("time_width")
    return {**settings, "fill": augment["fill"]}
