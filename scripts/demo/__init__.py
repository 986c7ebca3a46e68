"""Makes `data/demo`: Swahili and unusual English speech that `data/mini` was never trained on."""
