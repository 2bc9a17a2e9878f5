"""Word error rates, delays, reports."""
