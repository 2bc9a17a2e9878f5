"""SavedModel export, parity check."""
