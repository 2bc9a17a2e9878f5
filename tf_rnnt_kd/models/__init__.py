"""Keras RNN-T models: encoders, predictors, joint, presets."""
