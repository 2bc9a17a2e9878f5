"""The (t, u) grid of an RNN-T."""
