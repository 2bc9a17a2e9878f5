"""Knowledge distillation for RNN-T speech recognition."""
