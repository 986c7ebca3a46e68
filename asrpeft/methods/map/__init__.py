"""Weight maps: W' as a function of W, multiplicative or normalizing."""
