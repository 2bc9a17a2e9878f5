"""RNN-T and distillation losses, one value per utterance."""
