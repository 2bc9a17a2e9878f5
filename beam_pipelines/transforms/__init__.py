"""Typed PTransforms that the pipelines share."""
