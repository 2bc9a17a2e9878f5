"""What can be wrong with a transcript."""


class TextError(ValueError):
    """A transcript that has no certain spelling as it was spoken. `reason` is one of `REASONS`, for counting."""

    def __init__(self, reason: str, message: str):
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not a known reason: {', '.join(REASONS)}")
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        # Exceptions are rebuilt from `args`, which hold the message alone; Beam sends them between processes.
        return type(self), (self.reason, str(self))


REASONS = {
    "digits": "digits whose reading depends on what they mean: years, ordinals, decimals, times",
    "symbols": "signs that are spoken in one way or another: % & @ + and currencies",
    "foreign_letters": "letters of another script than the language's",
    "no_text_profile": "no language profile for the utterance's domain",
}
