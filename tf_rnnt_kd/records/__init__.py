"""The record schema, its codecs and readers."""
