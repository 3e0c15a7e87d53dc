"""An authorisation switch for a card issuer."""

__version__ = "0.1.0"
