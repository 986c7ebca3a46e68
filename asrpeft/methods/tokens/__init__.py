"""Virtual tokens: trained rows that the frozen network reads beside its own."""
