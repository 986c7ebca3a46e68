"""Weight methods: an additive ΔW for one matrix."""
