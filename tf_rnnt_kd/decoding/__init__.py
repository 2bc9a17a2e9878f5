"""Search over an RNN-T, batched and in graph."""
